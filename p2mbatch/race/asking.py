"""What a user asks the explorer for: races by name, from files, or put together from options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.base.paths import is_file
from p2mbatch.race.config import Config, parse_config
from p2mbatch.race.names import LITMUSES, litmus, name_of, parse_name, read_file

Races = dict[str, tuple[Config, dict[str, Any]]]
"""Name -> configuration and the results that stand beside it in its file, if any."""


def races_of(wanted: Sequence[str], options: Mapping[str, Any]) -> Races:
    """Return the races that `wanted` and `options` ask for.

    Args:
        wanted: full names, files of races, or at most one bare litmus name.
        options: kernel, allocator, memory, toolstack, last, populated_first and cpus, None or empty
            where they were not given. They stand alone or beside a bare litmus name.

    Raises `InputError` where something is asked for twice, or not at all.
    """
    given = {key: value for key, value in options.items() if value not in (None, ())}
    if not wanted or (len(wanted) == 1 and wanted[0] in LITMUSES):
        return _by_options(wanted[0] if wanted else None, given)
    if given:
        raise InputError(
            f"--{_option(next(iter(given)))}: {wanted[0]} says that already; options go alone or "
            f"with a litmus's bare name, such as same-leaf"
        )
    races: Races = {}
    for one in wanted:
        found = read_file(one) if _is_file(one) else {one: (parse_name(one), {})}
        for name, entry in found.items():
            if name in races:
                place = name if one == name else f"{one}: {name}"
                raise InputError(f"{place}: is asked for twice")
            races[name] = entry
    return races


def _is_file(text: str) -> bool:
    return text.endswith(".json") or ("/" not in text.strip("./") and is_file(text))


def _option(key: str) -> str:
    return {"cpus": "cpu", "populated_first": "populate"}.get(key, key)


def _by_options(litmus_name: str | None, given: Mapping[str, Any]) -> Races:
    config = {"kernel": "old", **given}
    if litmus_name is not None:
        for key in ("cpus", "populated_first"):
            if key in given:
                raise InputError(f"--{_option(key)}: the litmus {litmus_name} says that already")
        config.update(litmus("race", litmus_name))
    elif "cpus" not in given:
        raise InputError("race: name a race (--list lists the litmuses), a file, or use --cpu")
    checked = parse_config("race", config)
    name = name_of(checked, litmus_name or "options")
    return {name: (checked, {})}


_CALL = re.compile(r"get\s+(?P<get>\d+)|set\s+(?P<pfn>\d+)\s+(?P<value>\d+|invalid)", re.IGNORECASE)


def parse_program(text: str) -> list[list[Any]]:
    """Return the operations that an option's text says: `set PFN VALUE` and `get PFN`, by commas.

    VALUE is a number or `invalid`. Raises `InputError`.
    """
    operations: list[list[Any]] = []
    for part in text.split(","):
        found = _CALL.fullmatch(part.strip())
        if not found:
            raise InputError(
                f"--cpu: {part.strip()!r} is not `set PFN VALUE` (VALUE may be `invalid`) or "
                f"`get PFN`"
            )
        if found["get"]:
            operations.append(["get", int(found["get"])])
        else:
            value = -1 if found["value"].lower() == "invalid" else int(found["value"])
            operations.append(["set", int(found["pfn"]), value])
    return operations


def parse_pfns(text: str) -> list[int]:
    """Return the PFNs in an option's text, separated by commas. Raises `InputError`."""
    pfns = []
    for part in text.split(","):
        if not re.fullmatch(r"[0-9]{1,3}", part.strip()):
            raise InputError(f"--populate: {part.strip()!r} is not a PFN, 0 to 7")
        pfns.append(int(part))
    return pfns
