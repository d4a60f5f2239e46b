"""What a path leads to, where pathlib's own questions end in an error of the system's.

`Path.is_file` and its like raise for a directory that may not be searched and, before Python 3.14,
for a name that is too long: every command that asks would have to say so. Here the first is one
line for a person, and what can't be a path is simply not there.
"""

from __future__ import annotations

import errno
import os
import stat

from p2mbatch.base.errors import InputError

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENAMETOOLONG)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a plain file is there; raises `InputError` where that can't be looked up."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_dir(path: str | os.PathLike[str]) -> bool:
    """Return whether a directory is there; raises `InputError` where that can't be looked up."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether anything is there; raises `InputError` where that can't be looked up."""
    return _mode(path) is not None


def _mode(path: str | os.PathLike[str]) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - no Path of what may be no path
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise InputError(f"{os.fspath(path)}: can't be looked up: {error.strerror}") from None
    except ValueError:
        return None  # a zero byte
