"""What comes with p2mbatch, found in the wheel or in the source tree: sweeps and notebooks."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import BinaryIO

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole
from p2mbatch.base.paths import is_dir, is_there

_PACKAGE = Path(__file__).resolve().parents[1]


def preset_dir() -> Path:
    """Return where the presets are: the wheel's copy, or `data/sweeps` of the source tree."""
    installed = _PACKAGE / "_data" / "sweeps"
    return installed if is_dir(installed) else _PACKAGE.parent / "data" / "sweeps"


def preset_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.stem for path in preset_dir().glob("*.toml"))


def find_spec(text: str) -> Path:
    """Return the file that `text` names: a path, or else a preset's name.

    Raises `InputError` with the presets' names where there is neither.
    """
    path = Path(text)
    if is_dir(path):
        raise InputError(f"{text}: is a directory: name a spec file in it")
    if is_there(path):
        # Pipes too: a spec may come from another program.
        return path
    names = preset_names()
    if text in names:
        return preset_dir() / f"{text}.toml"
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean the preset {near[0]!r}?" if near else f"presets: {', '.join(names)}"
    raise InputError(f"{text}: no such spec file and no preset of that name; {hint}")


def notebook_dir() -> Path:
    """Return where the notebooks are: the wheel's copy, or `notebooks` of the source tree."""
    installed = _PACKAGE / "_data" / "notebooks"
    return installed if is_dir(installed) else _PACKAGE.parent / "notebooks"


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
            is_new = not is_there(path)
            if is_new:
                write_whole(path, partial(_copy, source))
            done.append((path, is_new))
    except OSError as error:
        raise InputError(f"{target}: notebooks can't be copied there: {error.strerror}") from None
    return done


def _copy(source: Path, file: BinaryIO) -> None:
    file.write(source.read_bytes())
