"""Which trace files a command line names: files, and all in directories."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from p2mbatch.base.errors import InputError
from p2mbatch.base.paths import is_dir

_ENDINGS = (".json", ".json.gz")


def trace_files(names: Iterable[str]) -> list[str]:
    """Return the files of `names`, each directory replaced by the traces in and below it, sorted.

    Raises `InputError` for a directory that has none, or can't be read. Directories below it that
    can't be read are passed over.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if not is_dir(path):
            found.append(name)
            continue
        try:
            next(path.iterdir(), None)
        except OSError as error:
            raise InputError(f"{name}: can't be read: {error.strerror}") from None
        found_below = (p for p in path.rglob("*") if p.name.endswith(_ENDINGS))
        here = sorted(str(p) for p in found_below if os.path.isfile(p))  # noqa: PTH113
        if not here:
            raise InputError(f"{name}: no traces are here: they end in {' or '.join(_ENDINGS)}")
        found += here
    return found
