"""What is told to a person: the only place that prints, and makes harmless what it prints.

Names, questions, messages and file names come from strangers, and a terminal obeys what it is sent:
an escape sequence clears the screen, renames the window or answers as if it had been typed. So no
control character passes; each is shown as Python writes it. A line that is said of one thing stays
one line: `one_line` is for names inside it.
"""

from __future__ import annotations

import errno
import re
import sys
from typing import IO, Any

from p2mbatch.base.terminal import tinted

_CONTROLS = re.compile(
    # C0 but for tab and end of line, DEL and C1; what turns text around or is not seen; halves of
    # characters, which stand for bytes that were no text.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)

_NOT_IN_LINES = re.compile(r"[\t\n]")

_MARKDOWN = re.compile(
    # Where a line begins: lists, rules, underlined titles. Anywhere a bare address becomes a link,
    # a name behind an "@" a call for somebody.
    r"^[-+=]|[\\`*_\[\]<>|#~&$@]|:(?=//)|(?<=\bwww)\.",
    re.IGNORECASE,
)

_LIST_NUMBER = re.compile(r"^(\d+)([.)])")


_MOST_CHARS, _END_CHARS = 2000, 400
"""Of a line that says what is wrong: what is right stands at its end."""


def _written(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def printable(text: object) -> str:
    """Return `text` with every control character as an escape (`\\x1b`); ends of lines stay."""
    return _CONTROLS.sub(_written, str(text))


def one_line(text: object) -> str:
    """Return `text` as `printable` does, with ends of lines and tabs as escapes too."""
    return _NOT_IN_LINES.sub(_written, printable(text))


def in_short(line: str) -> str:
    """Return a line of at most some 2,000 characters: of a longer one, how it begins and ends."""
    if len(line) <= _MOST_CHARS:
        return line
    left_out = len(line) - _MOST_CHARS
    return f"{line[: -_END_CHARS - left_out]} [… {left_out} characters …] {line[-_END_CHARS:]}"


def markdown(text: object) -> str:
    """Return `text` as one line of Markdown that shows it as it is, without any meaning."""
    line = _MARKDOWN.sub(r"\\\g<0>", one_line(" ".join(str(text).split())))
    return _LIST_NUMBER.sub(r"\1\\\2", line)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things with its noun: "1 cell", "2,000 cells"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def say(
    text: object = "",
    *,
    err: bool = False,
    end: str = "\n",
    file: IO[str] | None = None,
    fates: bool = False,
) -> None:
    """Print `text` made printable to stdout, to stderr (`err`) or to `file`.

    With `fates` the names of fates are coloured, where the terminal has colours.
    """
    stream = file or (sys.stderr if err else sys.stdout)
    if stream is None:
        # Closed before the command began.
        raise OSError(errno.EIO, "it is closed")
    shown = printable(text)
    stream.write((tinted(shown, stream=stream) if fates else shown) + end)
    stream.flush()


def say_above(bar: Any, text: object, file: IO[str] | None = None) -> None:
    """Print `text` made printable above a progress bar (tqdm's class, or one of its bars)."""
    bar.write(printable(text), file=file)
