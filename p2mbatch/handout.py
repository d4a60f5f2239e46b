"""What comes with p2mbatch for its users to take: the notebooks."""

from __future__ import annotations

import shutil
from pathlib import Path

from p2mbatch.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def notebook_dir() -> Path:
    """Return where the notebooks are: the wheel's copy, or `notebooks` of the source tree."""
    installed = _PACKAGE / "_data" / "notebooks"
    return installed if installed.is_dir() else _PACKAGE.parent / "notebooks"


def copy_notebooks(target: str | Path) -> list[tuple[Path, bool]]:
    """Copy the notebooks into the directory `target`; return (path, whether it was copied) each.

    A file that is there already may hold somebody's work and is kept. Raises `InputError` where
    `target` is a file or can't be written.
    """
    directory = Path(target)
    done = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source in sorted(notebook_dir().glob("*.ipynb")):
            path = directory / source.name
            is_new = not path.exists()
            if is_new:
                shutil.copyfile(source, path)
            done.append((path, is_new))
    except OSError as error:
        raise InputError(f"{target}: notebooks can't be copied there: {error.strerror}") from None
    return done
