"""What a wrong spec is told: one line with the file, the line, the key, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from p2mbatch.guests.wording import wording
from p2mbatch.spec import file as specfile
from p2mbatch.spec.file import KeyPath

OPTIONS = "options"
"""The source of a spec that was given by options of the command line."""

_NAMED = re.compile(r"(\w+): ")
"""A complaint about a whole section begins with the key that it is about."""


def placed(source: str, line: int | None) -> str:
    """Return where a complaint is about: a file, with the line where it is known."""
    return f"{source}, line {line}" if line else source


def complaint(
    error: ValidationError,
    source: str,
    lines: Mapping[KeyPath, int],
    keys_of: Callable[[str | None], Sequence[str]],
) -> str:
    """Return pydantic's first complaint about a spec as one line.

    `lines` says where the keys of the file `source` stand, `keys_of` which keys a section has
    (None: the spec itself).
    """
    first: dict[str, Any] = dict(error.errors(include_url=False)[0])
    path: KeyPath = tuple(first["loc"])
    section = next((part for part in path if isinstance(part, str)), None)
    if first["type"] == "extra_forbidden":
        where = placed(source, specfile.line_of(lines, path))
        return f"{where}: {_unknown(path, section, keys_of)}"
    text = _text(first, path)
    named = _NAMED.match(text)
    if named and named[1] in keys_of(section):
        path, text = (*path, named[1]), text[named.end() :]
    where = placed(source, specfile.line_of(lines, path))
    place = ".".join(str(part) for part in path if isinstance(part, str))
    key = str(path[-1]) if path else ""
    if source == OPTIONS:
        where = ""
        # What is about the spec itself, and no axis, comes from Python.
        about = key if path[:1] and path[0] in ("question", "answer") else ""
        place = option_of(key) if key in keys_of("grid") else about
        text = text.replace('memory is required, such as memory = "128GiB"', _MEMORY_REQUIRED)
    return ": ".join(part for part in (where, place, text) if part)


_MEMORY_REQUIRED = "--memory is required, such as --memory 128GiB"


def option_of(key: str) -> str:
    """Return the option of the command line that stands for a spec's key."""
    name = key.removesuffix("_bytes") if key != "word_bytes" else key
    return "--" + ("seeds" if name == "seed" else name).replace("_", "-")


def _text(first: Mapping[str, Any], path: KeyPath) -> str:
    """Return what is wrong and what would be right, without the place."""
    if first["type"] == "missing":
        return "is required: how many cells to draw" if path[-1:] == ("n",) else "is required"
    name = path[-1] if path else ""
    if name in ("grid", "sample") and first["type"] in ("list_type", "model_type", "dict_type"):
        return f"is a table of axes, [{name}], or a list of them, not {first['input']!r}"
    if first["type"] in ("list_type", "model_type", "dict_type"):
        return f"is a list of tables, [[cells]], not {first['input']!r}"
    return wording(first)


def _unknown(
    path: KeyPath, section: str | None, keys_of: Callable[[str | None], Sequence[str]]
) -> str:
    key = str(path[-1])
    inside = section if len(path) > 1 else None
    known = keys_of(inside)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif inside is None and key in keys_of("grid"):
        hint = "axes stand in a section: write [grid] above them"
    else:
        hint = f"the keys are {', '.join(known)}"
    return f"unknown key {key!r}{f' in {inside}' if inside else ''}: {hint}"
