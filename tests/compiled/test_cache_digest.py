"""What the cache of compiled kernels is named after: everything that decides the machine code."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import p2mbatch
from p2mbatch.compiled import jit

PACKAGE = Path(str(p2mbatch.__file__)).parent
FOLDER = PACKAGE / "compiled"
SOURCES = sorted(str(path.relative_to(PACKAGE)) for path in FOLDER.rglob("*.py"))
BELOW = ["base/arrays.py", "base/geometry.py"]

TELLS = {"base/errors.py", "base/say.py", "base/signals.py"}
"""What tells a person of a cache or a setting: no compiled function calls it."""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package that the digest is taken of."""
    for room in ("base", "compiled"):
        shutil.copytree(
            PACKAGE / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "compiled" / "jit.py"))
    return tmp_path


def test_a_copy_has_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = jit.digest()
    shutil.copytree(PACKAGE, tmp_path / "p", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "p" / "compiled" / "jit.py"))
    assert jit.digest() == own


@pytest.mark.parametrize("source", [*SOURCES, *BELOW])
def test_a_change_of_any_source_changes_it(copy: Path, source: str) -> None:
    before = jit.digest()
    with (copy / source).open("a", encoding="utf-8") as file:
        file.write("\nONE_MORE = 1\n")
    assert jit.digest() != before


@pytest.mark.parametrize("name", ["anything.py", "policies/theirs.py", "new/room/deep.py"])
def test_a_file_of_any_name_in_any_folder_counts(copy: Path, name: str) -> None:
    new = copy / "compiled" / name
    new.parent.mkdir(parents=True, exist_ok=True)
    found = [jit.digest()]
    for text in ("STEP = 1\n", "STEP = 2\n"):
        new.write_text(text, encoding="utf-8")
        found.append(jit.digest())
    assert len(set(found)) == 3


def test_what_lies_elsewhere_does_not_count(copy: Path) -> None:
    before = jit.digest()
    (copy / "base" / "errors.py").write_text("", encoding="utf-8")
    assert jit.digest() == before


@pytest.mark.parametrize(
    ("option", "value"), [("boundscheck", "other"), ("error_model", "python"), ("fastmath", True)]
)
def test_options_count(monkeypatch: pytest.MonkeyPatch, option: str, value: object) -> None:
    before = jit.digest()
    monkeypatch.setitem(jit._OPTIONS, option, value)
    assert jit.digest() != before


def test_compiled_code_takes_nothing_from_files_that_do_not_count() -> None:
    """What compiled code imports is part of it: all that is not in the digest is named here."""
    counted = {(PACKAGE / path).resolve() for path in (*SOURCES, *BELOW)}
    assert {path.resolve() for path in jit.compiled_files()} == counted
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("p2mbatch."):
                base = PACKAGE.joinpath(*str(node.module).split(".")[1:])
                for alias in node.names:
                    file = base / f"{alias.name}.py"
                    file = file if file.exists() else base.with_suffix(".py")
                    if file.exists() and file.resolve() not in counted:
                        found.add(str(file.relative_to(PACKAGE)))
    assert found <= TELLS, "compiled code depends on a file that its cache's name leaves out"
