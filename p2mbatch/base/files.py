"""Files, in and out: reads that a hostile file can't make large, writes of all or nothing."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from p2mbatch.base.errors import InputError
from p2mbatch.base.limits import gzip_excess
from p2mbatch.base.paths import is_dir
from p2mbatch.base.signals import removed_at_end

_CHUNK_BYTES = 1 << 20

GZIP_MAGIC = b"\x1f\x8b"


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill the file at `path`, gzipped where its name ends in .gz; all or nothing.

    The bytes go to a file beside it that takes its place at the end; where `path` is a link, the
    file that it leads to is replaced. Devices, pipes and sockets are written into: a file must not
    take the place of /dev/null. Raises `InputError` where the place can't be written to.
    """
    target = Path(os.path.realpath(path))
    try:
        if is_special(path):
            # By the name as given: /dev/stdout leads to names that can't be opened.
            with Path(path).open("wb") as raw:
                _fill(raw, False, write)
            return
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with removed_at_end(os.fspath(part)):
                with part.open("wb") as raw:
                    _fill(raw, target.suffix == ".gz", write)
                part.replace(target)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise  # the reader has gone: no error of ours
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)}: can't be written there: {error.strerror or error}"
        ) from None


def _fill(raw: BinaryIO, packed: bool, write: Callable[[BinaryIO], object]) -> None:
    if not packed:
        write(raw)
        return
    # No name and no time in the header: the same bytes every time, and nothing told of the writer.
    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        write(file)  # type: ignore[arg-type]


def is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is there and neither a file nor a directory."""
    with contextlib.suppress(OSError):
        mode = Path(path).stat().st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


def check_target(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Raise `InputError` where `target` can't follow from `source`, before any work is done.

    That is where it is the very file that is read, or a directory, or its own one is not there.
    """
    name, parent = os.fspath(target), Path(target).parent
    if not is_dir(parent):
        raise InputError(f"{name}: can't be written there: {parent} is not a directory")
    if is_dir(target):
        raise InputError(f"{name}: can't be written there: Is a directory")
    if os.fspath(source) == "-":
        return
    with contextlib.suppress(OSError):
        if Path(source).samefile(target) and not is_special(target):
            raise InputError(f"{name}: is the file that is read, and would be lost: name another")


def read_whole(
    path: str | os.PathLike[str], max_bytes: int, check_start: Callable[[bytes], None]
) -> bytes:
    """Return the bytes of the file at `path`, unpacked if it is gzip by content.

    `check_start` sees the first bytes before the rest is read, and may raise. Raises `InputError`
    where the file can't be read, is no whole gzip file, unpacks to more than `base/limits.py`
    allows, or is longer than `max_bytes`.
    """
    name = os.fspath(path)
    data = bytearray()
    try:
        with Path(path).open("rb") as raw:
            magic = raw.peek(2)[:2]
            packed = magic == GZIP_MAGIC
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            while piece := file.read(_CHUNK_BYTES):
                if not data:
                    check_start(piece)
                data += piece
                if len(data) > max_bytes:
                    raise InputError(f"{name}: expected at most {max_bytes} bytes, found more")
                if packed and (excess := gzip_excess(raw.tell(), len(data))):
                    raise InputError(f"{name}: {excess}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name}: is not a whole gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: can't be read: {error.strerror or error}") from None
    return bytes(data)


def make_folder(path: str, option: str) -> Path:
    """Make the directory `path`, if need be, and return it.

    Raises `InputError` that names the `option` which said it.
    """
    if not path:
        raise InputError(f"{option}: an empty name: say which directory")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}: {path}: can't be made: {error.strerror}") from None
    return folder
