"""Names of races and files of them: kernel.allocator.memory.litmus[/toolstack][@last].

Source: docs/races.md, "Configurations and their names".
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.base.json_text import parse_json, read_text
from p2mbatch.race.config import Config, parse_config

Programs = list[list[list[Any]]]

LITMUSES: dict[str, tuple[list[int], Programs]] = {
    "same-pfn": ([], [[["set", 0, 1]], [["set", 0, 2]]]),
    "same-leaf": ([], [[["set", 0, 1]], [["set", 1, 2]]]),
    "same-mid": ([], [[["set", 0, 1]], [["set", 2, 2]]]),
    "diff-top": ([], [[["set", 0, 1]], [["set", 4, 2]]]),
    "leaf-missing": ([0], [[["set", 2, 1]], [["set", 3, 2]]]),
    "leaf-missing-3": ([0], [[["set", 2, 1]], [["set", 3, 2]], [["set", 2, 3]]]),
    "leaf-present": ([0], [[["set", 0, 1]], [["set", 1, 2]]]),
    "second-top": ([0], [[["set", 4, 1]], [["set", 6, 2]]]),
    "reader": ([], [[["set", 0, 1]], [["get", 0]]]),
    "reader-hole": ([0], [[["set", 2, 1]], [["get", 3]]]),
    "read-back": ([], [[["set", 0, 1], ["get", 0]], [["set", 1, 2], ["get", 1]]]),
    "invalid-vs-set": ([], [[["set", 0, -1]], [["set", 0, 1]]]),
    "balloon-out": ([0, 1], [[["set", 0, -1]], [["set", 1, 2]]]),
    "two-each": ([], [[["set", 0, 1], ["set", 2, 2]], [["set", 1, 3], ["set", 3, 4]]]),
    "grow-then-set": ([0], [[["set", 4, 1], ["set", 2, 2]], [["set", 5, 3]]]),
    "reuse-tops": ([], [[["set", 0, 1], ["set", 4, 2]], [["set", 2, 3]]]),
    "reuse-mids": ([], [[["set", 0, 1], ["set", 6, 2]], [["set", 2, 3]]]),
    "t-leaf": ([0], [[["set", 2, 1]]]),
    "t-leaf-2": ([0], [[["set", 2, 1]], [["set", 3, 2]]]),
    "t-top": ([0], [[["set", 4, 1]]]),
    "t-top-2": ([0], [[["set", 4, 1]], [["set", 5, 2]]]),
    "t-two-tops": ([0], [[["set", 4, 1], ["set", 2, 2]]]),
    "t-split-2": ([0], [[["set", 2, 1]], [["set", 4, 2]]]),
    "t-present": ([0], [[["set", 1, 1]]]),
    "t-empty": ([], [[["set", 0, 1]]]),
    "t-empty-2": ([], [[["set", 5, 1]]]),
    "t-out": ([0, 4], [[["set", 4, -1]]]),
    "three-one-leaf": ([], [[["set", 0, 1]], [["set", 1, 2]], [["set", 0, 3]]]),
    "three-two-leaves": ([], [[["set", 0, 1]], [["set", 1, 2]], [["set", 2, 3]]]),
    "three-two-tops": ([], [[["set", 0, 1]], [["set", 1, 2]], [["set", 4, 3]]]),
    "four": ([], [[["set", 0, 1]], [["set", 1, 2]], [["set", 2, 3]], [["set", 3, 4]]]),
}
"""Litmus name -> PFNs populated first, each CPU's operations."""

_NAME = re.compile(
    r"(?P<kernel>\w+)\.(?P<allocator>\w+)\.(?P<memory>\w+)\.(?P<litmus>[a-z0-9-]+)"
    r"(?:/(?P<toolstack>[a-z-]+))?(?:@(?P<last>[0-9]+))?"
)
_MAX_FILE_BYTES = 64 << 20


def litmus(where: str, name: str) -> dict[str, Any]:
    """Return the part of a configuration that litmus `name` gives; `InputError` for no litmus."""
    if name not in LITMUSES:
        near = difflib.get_close_matches(name, LITMUSES, 3)
        right = f"perhaps {' or '.join(near)}" if near else f"one of {', '.join(LITMUSES)}"
        raise InputError(f"{where}: there is no litmus {name!r}; {right}")
    populated, programs = LITMUSES[name]
    return {"populated_first": populated, "cpus": programs}


def parse_name(name: str, where: str | None = None) -> Config:
    """Return the configuration that a full name says; `where` names its place in complaints.

    Raises `InputError` for any other text.
    """
    where = where or name
    found = _NAME.fullmatch(name)
    if not found:
        raise InputError(
            f"{where}: not a name of a race, which is kernel.allocator.memory.litmus, such as "
            f"old.never.sc.same-leaf, and perhaps /tree or /list and @ with the last PFN"
        )
    given = {key: found[key] for key in ("kernel", "allocator", "memory")}
    toolstack = found["toolstack"]
    return parse_config(
        where,
        {
            **given,
            **litmus(where, found["litmus"]),
            "toolstack": None if toolstack in (None, "-") else toolstack,
            "last": int(found["last"] or 8),
        },
    )


def name_of(config: Config, litmus_name: str) -> str:
    """Return the full name of `config`, whose programs are those of `litmus_name`."""
    name = f"{config.kernel}.{config.allocator}.{config.memory}.{litmus_name}"
    if config.toolstack or config.last != 8:
        name += f"/{config.toolstack or '-'}"
    return name if config.last == 8 else f"{name}@{config.last}"


def read_file(path: str | os.PathLike[str]) -> dict[str, tuple[Config, dict[str, Any]]]:
    """Return the races in a JSON file: name -> configuration and the results that stand beside it.

    The file is one object: name -> an object with `config` and perhaps results, or the
    configuration itself, or an empty object where the name says it all. Raises `InputError`.
    """
    where = os.fspath(path)
    try:
        given = parse_json(read_text(path, _MAX_FILE_BYTES), where, _no_name_twice)
    except _Twice as error:
        raise InputError(f"{where}: {error}") from None
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"{where}: an object of name -> configuration is needed")
    for name in given:
        if not name.isprintable() or not name.strip():
            raise InputError(f"{where}: {name!r}: a race's name has to be readable characters")
    return {name: _entry(where, name, entry) for name, entry in given.items()}


class _Twice(Exception):
    """An object of a file has one key twice."""


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return found


def _entry(where: str, name: str, entry: Any) -> tuple[Config, dict[str, Any]]:
    place = f"{where}: {name}"
    if not isinstance(entry, Mapping):
        raise InputError(f"{place}: an object with a configuration is needed")
    if not entry:
        return parse_name(name, place), {}
    if "config" not in entry:
        return parse_config(place, entry), {}
    results = {key: value for key, value in entry.items() if key != "config"}
    return parse_config(place, entry["config"]), _checked_results(place, results)


_NUMBERS = ("states", "transitions", "terminal_states", "schedules")
_CLASS_KEYS = ("schedules", "states", "witness_len", "probability", "witness")


def _checked_results(place: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return `results`; raise `InputError` where they are not of the form that races have."""
    for key, value in results.items():
        if key in _NUMBERS:
            if value is not None and type(value) is not int:
                raise InputError(f"{place}: {key}: {value!r} is not a whole number")
        elif key != "classes":
            raise InputError(f"{place}: {key!r} is not one of config, classes, {_NUMBERS}")
    classes = results.get("classes", {})
    if not isinstance(classes, Mapping):
        raise InputError(f"{place}: classes: an object of class -> results is needed")
    for name, entry in classes.items():
        if not isinstance(entry, Mapping) or any(key not in _CLASS_KEYS for key in entry):
            raise InputError(
                f"{place}: classes: {name}: an object of {', '.join(_CLASS_KEYS)} is needed"
            )
    return results
