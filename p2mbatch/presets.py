"""The sweeps that come with p2mbatch: found in the wheel or in the source tree, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from p2mbatch.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def preset_dir() -> Path:
    """Return where the presets are: the wheel's copy, or `data/sweeps` of the source tree."""
    installed = _PACKAGE / "_data" / "sweeps"
    return installed if installed.is_dir() else _PACKAGE.parent / "data" / "sweeps"


def preset_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.stem for path in preset_dir().glob("*.toml"))


def find_spec(text: str) -> Path:
    """Return the file that `text` names: a path, or else a preset's name.

    Raises `InputError` with the presets' names where there is neither.
    """
    path = Path(text)
    if path.is_dir():
        raise InputError(f"{text}: is a directory: name a spec file in it")
    if path.exists():
        # Pipes too: a spec may come from another program.
        return path
    names = preset_names()
    if text in names:
        return preset_dir() / f"{text}.toml"
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean the preset {near[0]!r}?" if near else f"presets: {', '.join(names)}"
    raise InputError(f"{text}: no such spec file and no preset of that name; {hint}")
