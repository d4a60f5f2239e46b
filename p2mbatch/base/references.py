"""Files that a cell names as "PATH#DIGEST": the digest is of what counts, the path where it lay."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from p2mbatch.base.errors import InputError
from p2mbatch.base.paths import is_file

DIGEST_DIGITS = 16

_REFERENCE = re.compile(rf"(?s)(.+)#([0-9a-f]{{{DIGEST_DIGITS}}})")


class Referred(Protocol):
    """What was read of such a file."""

    @property
    def digest(self) -> str:
        """What tells it from another, wherever it lies."""


F = TypeVar("F", bound=Referred)


def split_reference(text: str) -> tuple[str, str]:
    """Return (path, digest) of "PATH#DIGEST"; the digest is empty where `text` has none."""
    match = _REFERENCE.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def find_referred(
    text: str,
    directories: Sequence[Path],
    load: Callable[[str, tuple[int, int]], F],
    *,
    what: str,
    kind: str,
) -> F:
    """Return what `load(path, stamp)` makes of the file that `text` names: a path or a reference.

    A relative path is looked for in `directories`, then in the working directory; `stamp` says when
    it was written and how long it is. Raises `InputError` where there is no such file, and where it
    is not that of the digest any more; `what` and `kind` are its words.
    """
    if not text or "\0" in text:
        raise InputError(f"{text!r} is not the name of {what}")
    path, digest = (text, "") if is_file(text) else split_reference(text)
    here = [directory / path for directory in directories if is_file(directory / path)]
    path = str(here[0] if here else path)
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from None
    known = load(path, (found.st_mtime_ns, found.st_size))
    if digest and known.digest != digest:
        raise InputError(
            f"{path}: is {kind} {known.digest} now, not {digest}: bring the file back, or sweep "
            "the new one into another --out"
        )
    return known
