"""The house's floors: a module imports only from floors below, heavy libraries live where they may.

Read with `ast`, so imports inside functions and under TYPE_CHECKING count too; the exceptions stand
here with their reasons.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "p2mbatch"

# The ground floor first. A module may import from floors below its own and from its own floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors"),
    ("geometry", "_jit", "presets", "handout", "files"),
    ("bijection", "tables", "provenance", "schema"),
    ("hosts", "kernels_rows"),
    ("kernels", "kernels_plain"),
    ("kernels_rebuild", "kernels_save"),
    ("kernels_build", "kernels_set"),
    ("kernels_bulk", "kernels_ceilings"),
    ("life",),
    ("placement",),
    ("trace",),
    ("guestfile",),
    ("placement_guest",),
    ("replay", "cell", "guest"),
    ("scenario", "axes", "specfile"),
    ("complaints",),
    ("spec",),
    ("dumps",),
    ("journal", "costs"),
    ("results", "progress"),
    ("export", "summary", "engines"),
    ("driver",),
    ("plots_style",),
    ("plots_outcomes", "plots_costs", "plots_tree", "plots_dump", "plots_bench"),
    ("plots",),
    ("page", "compare"),
    ("report_tables",),
    ("report", "dump_page"),
    ("bench",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR = {name: index for index, names in enumerate(FLOORS) for name in names}

# (importer, imported): why the one may name the other, which is above it.
ALLOWED_UP = {("cell", "scenario"): "only the type of an argument, under TYPE_CHECKING"}

# Library: the modules (or prefixes ending in *) that may import it.
HEAVY = {
    # engines: only numba's version, which a remote worker must share.
    "numba": {"_jit", "kernels*", "bijection", "hosts", "engines", "bench*"},
    "llvmlite": {"_jit"},
    "matplotlib": {"plots*", "page", "bench*", "dump_page"},
    "click": {"cli"},
    "scipy": {"compare", "bench*"},
    "jinja2": {"page"},
    "pandas": {
        "results", "export", "summary", "driver", "compare", "plots*", "report*", "bench*",
    },
    "sqlite3": {"journal", "results"},
    "distributed": {"engines"},
}  # fmt: skip


def module_of(path: Path) -> str:
    """Return the name that a file's floor goes by: its own, or its subpackage's."""
    first = path.relative_to(PACKAGE).parts[0]
    name = first.removesuffix(".py")
    return "bench" if name.startswith("bench") else name


def imports(path: Path) -> set[str]:
    """Return every module that the file imports, dotted, from wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            module = str(node.module)
            found.add(module)
            # `from p2mbatch import tables` names a module too.
            found |= {f"{module}.{a.name}" for a in node.names if module == "p2mbatch"}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if "_data" not in p.parts)


def test_every_module_has_a_floor() -> None:
    assert {module_of(path) for path in FILES} <= set(FLOOR) | {"_native"}
    assert [name for name in FLOOR if not any(module_of(p) == name for p in FILES)] == []


def inner_imports(path: Path) -> set[str]:
    """Return the floors' names of p2mbatch's own modules that the file imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("p2mbatch.")}
    names = {"bench" if name.startswith("bench") else name for name in names}
    return names & set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    name = module_of(path)
    if name in ("__init__", "_native"):
        return
    for imported in inner_imports(path):
        if imported == name or (name, imported) in ALLOWED_UP:
            continue
        assert FLOOR[imported] <= FLOOR[name], f"{name} imports {imported}, which is above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_where_they_may_be(path: Path) -> None:
    name = module_of(path)
    for library in {imported.split(".")[0] for imported in imports(path)} & set(HEAVY):
        allowed = HEAVY[library]
        assert name in allowed or any(
            name.startswith(prefix[:-1]) for prefix in allowed if prefix.endswith("*")
        ), f"{name} imports {library}"


def test_the_check_sees_every_way_to_import(tmp_path: Path) -> None:
    source = "import numba.core\nfrom p2mbatch import tables\ndef f():\n    import p2mbatch.cli\n"
    (tmp_path / "m.py").write_text(source)
    found = imports(tmp_path / "m.py")
    assert {"numba.core", "p2mbatch.tables", "p2mbatch.cli"} <= found
