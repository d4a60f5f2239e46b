"""The two-level file as 2.6.30 to 2.6.32 have it: no other file can call what builds its list."""

from __future__ import annotations

from pathlib import Path

_BUILD = "void xen_build_mfn_list_list(void)\n{"


def written(folder: Path) -> Path:
    """Write the file into a folder; return where."""
    text = (Path(__file__).parent / "two_level.c").read_text("utf-8")
    assert text.count(_BUILD) == 1
    path = folder / "two_level_none.c"
    path.write_text(text.replace(_BUILD, f"static __init {_BUILD}"), "utf-8")
    return path
