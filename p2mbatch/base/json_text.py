"""Small files of text and JSON from strangers: bounded reads, one line for whatever is wrong."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from typing import Any

from p2mbatch.base.errors import InputError

Pairs = Callable[[list[tuple[str, Any]]], Any]


def read_text(path: str | os.PathLike[str], max_bytes: int, *, name: str = "") -> str:
    """Return the UTF-8 text of the plain file at `path`.

    Raises `InputError` that names the file (or `name`) where it is no plain file, can't be read, is
    longer than `max_bytes` or is no UTF-8.
    """
    name = name or os.fspath(path)
    try:
        # Nobody waits for a pipe that has no writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InputError(f"{name}: can't be read: is not a plain file")
            with os.fdopen(fd, "rb", closefd=False) as file:
                raw = file.read(max_bytes + 1)
        finally:
            os.close(fd)
    except ValueError:
        raise InputError(f"{name!r}: is no file's name") from None
    except OSError as error:
        raise InputError(f"{name}: can't be read: {error.strerror or error}") from None
    if len(raw) > max_bytes:
        raise InputError(f"{name}: expected at most {max_bytes} bytes, found more")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8") from None


def parse_json(text: str | bytes, name: str, pairs: Pairs | None = None) -> Any:
    """Return the value of JSON text from `name`; `pairs` makes an object of its keys and values.

    Raises `InputError` naming the line where it is none, is nested too deeply, or has a number that
    is too long.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: line {error.lineno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{name}: {unread(error)}") from None


def unread(error: Exception) -> str:
    """Return what is wrong with JSON text of which Python says `error`, in words for a person."""
    if isinstance(error, RecursionError):
        return "not JSON that is read: it is nested too deeply"
    if "int_max_str_digits" in str(error):
        return "not JSON that is read: it has a number of thousands of digits"
    return f"not JSON: {error}"


def read_json(path: str | os.PathLike[str], max_bytes: int, *, name: str = "") -> Any:
    """Return the JSON value in a plain file, as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, max_bytes, name=name), name or os.fspath(path))
