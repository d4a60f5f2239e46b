"""The kind of a failure: what a kernel's developer would call one bug, as a readable slug."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import read_whole
from p2mbatch.hunt.judge import Broken

# In this order: of two that begin alike the longer is first. A dash between letters is none.
_OPERATORS = {
    "!=": " not ", "==": " is ", "||": " or ", "&&": " and ", "<<": " shifted left ",
    ">>": " shifted right ", "<=": " at most ", ">=": " at least ", "<": " below ",
    ">": " above ", "!": " no ", "~": " not ", "&": " and ", "|": " or ", "^": " xor ",
    "+": " plus ", " - ": " minus ", "/": " by ", "%": " mod ", "*": " ",
}  # fmt: skip

_SAID = re.compile(r"[A-Za-z0-9\s_.,:;()\[\]'\"-]*")
"""Texts of which a slug says all that tells one from another."""

_DIGITS = 6
"""Of a digest, behind a slug that does not say all of its text."""

_MOST_BYTES = 1 << 20

_MOST_LETTERS = 80

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def kind_of(broken: Broken) -> str:
    """Return the kind: stable, of small letters, digits and dashes; safe as a file's name."""
    return _slug(f"{broken.what} {broken.where}")


def is_kind(text: str) -> bool:
    """Return whether `text` can be a kind."""
    return len(text) <= _MOST_LETTERS and _SLUG.fullmatch(text) is not None


def _slug(text: str) -> str:
    said = text
    for sign, word in _OPERATORS.items():
        said = said.replace(sign, word)
    slug = "-".join(re.findall(r"[a-z0-9]+", said.lower()))
    if len(slug) <= _MOST_LETTERS and _SAID.fullmatch(said):
        return slug
    digits = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return f"{slug[: _MOST_LETTERS - _DIGITS - 1].strip('-')}-{digits}"


def sentence(broken: Broken) -> str:
    """Return in one sentence what was broken."""
    place, what = broken.where, broken.what
    act, _, how = what.rpartition("-")
    if how in ("bug", "fault"):
        return f"a {act} ends in a {'BUG' if how == 'bug' else how}: {place}"
    detail = f" ({broken.detail})" if broken.detail else ""
    return _SENTENCES[what].format(place=place.replace("-", " ")) + detail


_SENTENCES = {
    "wrong-list": "after a resume the list is wrong: {place}",
    "stray-writes": "a {place} stores into pages that are not the list's",
    "shared-page-writes": "a set stores into {place}, a page that many PFNs share",
    "lost-pages": "a migration loses pages {place}",
    "ghost-pages": "a migration gives the guest pages {place} that it did not have",
    "restore-refused": "a restore wants a frame for a PFN {place} that never had one",
    "misdirected": "the toolstack takes other pages for the p2m: {place}",
    "save-refused": "a save is refused: {place}",
    "set-fails": "a set fails {place}",
    "not-read-back": "a set does not read back: {place}",
    "unset-entry": "an entry that was never set reads as a frame {place}",
}


def read_known(path: str | Path) -> frozenset[str]:
    """Return the kinds that a file lists, one a line; blank lines and what follows a # don't count.

    Raises `InputError` with the file and the line of what can't be a kind.
    """
    try:
        text = read_whole(path, _MOST_BYTES, lambda head: None).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text: a list of kinds is, one a line") from None
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        kind = line.partition("#")[0].strip()
        if kind and not is_kind(kind):
            raise InputError(
                f"{path}: line {number}: {kind!r} is no kind: one is written as "
                "wrong-list-leaf-entry is, one a line"
            )
        if kind:
            found.add(kind)
    return frozenset(found)
