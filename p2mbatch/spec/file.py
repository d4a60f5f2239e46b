"""Spec files: TOML or JSON text to plain values, and the line on which each key stands.

Neither of the standard parsers says where it found a key, so a second, forgiving scan of the same
text does. It is used for messages only: what a spec means is what the parsers returned.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from p2mbatch.base.collection import without_collection
from p2mbatch.base.errors import InputError
from p2mbatch.base.json_text import unread
from p2mbatch.base.limits import check_json_values

KeyPath = tuple[str | int, ...]

MAX_KEY_PARTS = 64
"""Parts of a dotted key. The standard parser takes a time that grows with their square."""

MAX_TOML_TABLES = 1 << 19
MAX_TOML_VALUES = 1 << 21
"""Of TOML, which takes some 13 µs to read for a table of four keys; JSON may hold more."""

MAX_SPEC_BYTES = 64 << 20
"""More than any spec that a person or a script writes; a guard against being handed a dump."""

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
    r"|#[^\n]*|\n|[\[\]{},=:.]|[^\s\[\]{},=:.\"'#]+|[\"']",
    re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        if not token.startswith("#"):
            yield _Token(token, line)
        line += token.count("\n")


def _name(token: str) -> str:
    return token[1:-1] if token[:1] in "\"'" else token


def _scan_values(tokens: list[_Token], at: int, path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """Record the keys inside the value that starts at `tokens[at]`; return where it ends."""
    opening = tokens[at].text
    if opening not in ("{", "["):
        return at + 1
    at += 1
    index = 0
    while at < len(tokens) and tokens[at].text not in ("}", "]"):
        token = tokens[at]
        if token.text == ",":
            index += 1
        elif token.text != "\n":
            if opening == "[":
                lines.setdefault((*path, index), token.line)
                at = _scan_values(tokens, at, (*path, index), lines)
                continue
            if at + 1 < len(tokens) and tokens[at + 1].text in ("=", ":"):
                here = (*path, _name(token.text))
                lines.setdefault(here, token.line)
                at += 2
                while at < len(tokens) and tokens[at].text == "\n":
                    at += 1
                if at < len(tokens):
                    at = _scan_values(tokens, at, here, lines)
                continue
        at += 1
    return at + 1


def _dotted(tokens: list[_Token], at: int, stop: str) -> tuple[list[str], int]:
    names = []
    while at < len(tokens) and tokens[at].text not in (stop, "\n"):
        if tokens[at].text != ".":
            names.append(_name(tokens[at].text))
        at += 1
    return names, at


def _scan_toml(tokens: list[_Token], lines: dict[KeyPath, int]) -> None:
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text == "\n":
            at += 1
        elif token.text == "[":
            many = at + 1 < len(tokens) and tokens[at + 1].text == "["
            names, at = _dotted(tokens, at + 1 + many, "]")
            table = tuple(names)
            if many:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, token.line)
            while at < len(tokens) and tokens[at].text != "\n":
                at += 1
        else:
            names, at = _dotted(tokens, at, "=")
            here = (*table, *names)
            for depth in range(len(table) + 1, len(here) + 1):
                lines.setdefault(here[:depth], token.line)
            if at + 1 < len(tokens) and tokens[at].text == "=":
                at = _scan_values(tokens, at + 1, here, lines)


def key_lines(text: str, *, is_json: bool) -> dict[KeyPath, int]:
    """Return the line (from 1) of each key's path in `text`, such as ("grid", 0, "memory")."""
    lines: dict[KeyPath, int] = {}
    tokens = list(_tokens(text))
    if is_json:
        tokens = [token for token in tokens if token.text != "\n"]
        if tokens:
            _scan_values(tokens, 0, (), lines)
    else:
        _scan_toml(tokens, lines)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of the nearest thing around it that the scan saw.

    A section that may be written once or as a list is addressed with or without its index.
    """
    while path:
        for candidate in (path, tuple(part for part in path if not isinstance(part, int))):
            if candidate in lines:
                return lines[candidate]
        path = path[:-1]
    return None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise _Twice(key)
        seen[key] = value
    return seen


class _Twice(ValueError):
    """A key of a JSON object that it has already."""


def _line_of_twice(text: str, key: str) -> int:
    """Return the line in JSON `text` on which an object has `key` for a second time."""
    open_objects: list[list[str]] = []
    tokens = [token for token in _tokens(text) if token.text != "\n"]
    for token, following in itertools.pairwise(tokens):
        if token.text in ("{", "["):
            open_objects.append([])
        elif token.text in ("}", "]"):
            open_objects.pop()
        elif following.text == ":":
            if _name(token.text) == key and key in open_objects[-1]:
                return token.line
            open_objects[-1].append(_name(token.text))
    return 1


def _decode(path: Path, raw: bytes) -> str:
    try:
        # Some editors begin a file with a byte order mark.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 text at byte {error.start}: save it as UTF-8"
        ) from None


def _parse_json(path: Path, text: str) -> Any:
    check_json_values(text, str(path))
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InputError(f"{path}: is empty: not a spec") from None
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except _Twice as error:
        line = _line_of_twice(text, str(error))
        raise InputError(f"{path}, line {line}: the key {str(error)!r} is there twice") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {unread(error)}") from None


_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column \d+\)")


def _num_dots(line: str) -> int:
    return line.count(".")


def _check_key_parts(path: Path, text: str) -> None:
    """Raise `InputError` where a TOML key has more than `MAX_KEY_PARTS` parts."""
    # A key ends with its line, and the scan of all tokens takes longer than the parser.
    if max(map(_num_dots, text.splitlines()), default=0) < MAX_KEY_PARTS:
        return
    num = 0
    for token in _tokens(text):
        if token.text in ("\n", "=", ",", "[", "]", "{", "}"):
            num = 0
        num += token.text == "."
        if num >= MAX_KEY_PARTS:
            raise InputError(f"{path}, line {token.line}: a key of more than {MAX_KEY_PARTS} parts")


_TOML_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def _check_toml_size(path: Path, text: str) -> None:
    """Raise `InputError` where TOML may hold more than is read, told by what begins each part."""
    num_tables = sum(1 for _ in _TOML_TABLE.finditer(text))
    num_values = text.count("=") + text.count(",")
    for num, most, what in (
        (num_tables, MAX_TOML_TABLES, "tables"),
        (num_values, MAX_TOML_VALUES, "values"),
    ):
        if num > most:
            raise InputError(
                f"{path}: expected at most {most} {what} of TOML, found some {num}: "
                "a spec may be JSON, too"
            )


def _parse_toml(path: Path, text: str) -> Any:
    _check_key_parts(path, text)
    _check_toml_size(path, text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_PLACE.fullmatch(str(error))
        if not found:
            raise InputError(f"{path}: not TOML: {error}") from None
        what, line = found[1], int(found[2])
        written = text.splitlines()[line - 1].strip()
        if what.startswith(("Cannot overwrite a value", "Cannot declare")):
            key = written.partition("=")[0].strip()
            raise InputError(f"{path}, line {line}: {key} is there twice") from None
        raise InputError(f"{path}, line {line}: not TOML: {what}: {written[:80]!r}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not TOML that a spec can be read from: {error}") from None


def parse(path: Path) -> tuple[dict[str, Any], Mapping[KeyPath, int]]:
    """Return the table that the spec file at `path` holds and the line of each of its keys.

    A name that ends in .json is JSON, any other TOML. Raises `InputError` naming the file, and the
    line where the text is not of its format.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if len(raw) > MAX_SPEC_BYTES:
        raise InputError(f"{path}: larger than {MAX_SPEC_BYTES} bytes: not a spec file")
    text = _decode(path, raw)
    is_json = path.suffix.lower() == ".json"
    with without_collection():
        data = _parse_json(path, text) if is_json else _parse_toml(path, text)
    if not isinstance(data, dict):
        raise InputError(f"{path}: a spec is a table with grid, cells or sample, not {data!r:.40}")
    return data, _Lines(text, is_json)


class _Lines(Mapping[KeyPath, int]):
    """The lines of a text's keys, found when somebody asks: only messages do."""

    def __init__(self, text: str, is_json: bool) -> None:
        self._text, self._is_json = text, is_json

    @cached_property
    def _found(self) -> dict[KeyPath, int]:
        try:
            return key_lines(self._text, is_json=self._is_json)
        except RecursionError:
            return {}

    def __getitem__(self, path: KeyPath) -> int:
        return self._found[path]

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
