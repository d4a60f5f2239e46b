"""The two-level file as other releases have it."""

from __future__ import annotations

from pathlib import Path

TEXT = (Path(__file__).parent / "two_level.c").read_text("utf-8")
_BUILD = "void xen_build_mfn_list_list(void)\n{\n"
_REPORT = "void xen_setup_mfn_list_list(void)\n{\n"
_CALL = "\txen_build_mfn_list_list();\n"


def never_rebuilt(folder: Path) -> Path:
    """Write that of 2.6.30 to 2.6.32: no other file can call what builds its list."""
    assert TEXT.count(_BUILD) == 1
    path = folder / "two_level_none.c"
    path.write_text(TEXT.replace(_BUILD, f"static __init {_BUILD}"), "utf-8")
    return path


def built_by_report(folder: Path) -> Path:
    """Write that of 2.6.27 to 2.6.29: its list is built where it is reported."""
    first = TEXT.index(_BUILD)
    end = TEXT.index("\n}\n", first)
    loops = TEXT[first + len(_BUILD) : end]
    text = TEXT[:first] + TEXT[end + 3 :]
    assert text.count(_REPORT) == text.count(_CALL) == 1
    path = folder / "two_level_first.c"
    path.write_text(text.replace(_CALL, "").replace(_REPORT, f"{_REPORT}{loops}\n"), "utf-8")
    return path
