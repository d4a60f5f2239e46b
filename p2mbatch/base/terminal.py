"""What a terminal is: how wide, and whether words of it may be coloured.

Colour is never alone in meaning: what is coloured are words. `NO_COLOR` (no-color.org), a stream
that is no terminal and `TERM=dumb` turn it off; the command's `--color` is above all of them.
"""

from __future__ import annotations

import os
import re
import sys
from typing import IO, Any

Mode = str
"""`auto`, `always` or `never`."""

MIN_WIDTH = 40

_FATES = {
    "survived": 32,
    "silently corrupted": 35,
    "stuck": 33,
    "aborted": 36,
    "crashed": 31,
    "moved wrong": 31,
}
"""Fates, which are a floor above this one (a test compares), and their colours (SGR)."""

# None is the beginning of another, so that their order does not matter.
_NAMES = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _FATES))})(?![\w-])")

_state: dict[str, Mode] = {"mode": "auto"}


def set_color(mode: Mode) -> None:
    """Colour words `always`, `never`, or as the stream and the environment have it (`auto`)."""
    _state["mode"] = mode


def has_color(stream: IO[str] | None = None) -> bool:
    """Return whether words on `stream` (stdout) may be coloured."""
    if _state["mode"] != "auto":
        return _state["mode"] == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(sys.stdout if stream is None else stream)


def is_terminal(stream: Any) -> bool:
    """Return whether `stream` is one: a closed one is none."""
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:
        return False


def width() -> int | None:
    """Return how many columns stdout has, 40 at least; None where it is no terminal.

    COLUMNS, where it is set, says so of any stdout.
    """
    # Loaded where it is needed: with it come all archives that it knows.
    import shutil

    if not os.environ.get("COLUMNS", "").isdecimal() and not is_terminal(sys.stdout):
        return None
    return max(shutil.get_terminal_size().columns, MIN_WIDTH)


def tinted(text: str, stream: IO[str] | None = None) -> str:
    """Return `text`, already made printable, its fates coloured where `stream` has colours."""
    if not has_color(stream):
        return text
    return _NAMES.sub(lambda match: f"\x1b[{_FATES[match[0]]}m{match[0]}\x1b[0m", text)
