"""The house: files of a size to be read, contracts for the imports that cover every folder."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 450

# Contract -> the folders that may import its libraries.
MAY = {
    "numba": {"compiled"},
    "pandas": {"store", "sweeps", "plots", "report", "cli"},
    "matplotlib": {"plots", "report", "cli"},
    "click": {"cli"},
}


def folders() -> set[str]:
    return {p.parent.name for p in (ROOT / "p2mbatch").glob("*/__init__.py")}


def contracts() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / ".importlinter", encoding="utf-8")
    return found


def test_no_file_is_longer_than_can_be_read() -> None:
    files = [p for suffix in ("py", "c", "j2") for p in (ROOT / "p2mbatch").rglob(f"*.{suffix}")]
    files += [p for folder in ("benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    lines = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in files}
    assert {name: num for name, num in lines.items() if num > MAX_LINES} == {}


def test_array_types_are_said_once() -> None:
    names = re.compile(r"NDArray\[np\.\w+\d+\]|NDArray\[np\.bool")
    said = [p.name for p in (ROOT / "p2mbatch").rglob("*.py") if names.search(p.read_text("utf-8"))]
    assert said == ["arrays.py"]


@pytest.mark.parametrize("contract", sorted(MAY))
def test_a_contract_names_every_folder_that_may_not(contract: str) -> None:
    text = contracts()[f"importlinter:contract:{contract}"]["source_modules"]
    named = {line.removeprefix("p2mbatch.") for line in text.split()}
    assert named == folders() - MAY[contract]


def test_every_exception_stands_with_its_reason() -> None:
    lines = (ROOT / ".importlinter").read_text("utf-8").splitlines()
    told = [i for i, line in enumerate(lines) if " -> " in line]
    assert told
    assert all(lines[i - 1].lstrip().startswith("#") for i in told)


GUIDES = ("docs/architecture.md", "CONTRIBUTING.md", "README.md", "docs/performance.md",
          "docs/fuzzing.md", "docs/data-dictionary.md", ".pre-commit-config.yaml")  # fmt: skip


@pytest.mark.parametrize("guide", GUIDES)
def test_what_a_guide_points_to_is_there(guide: str) -> None:
    text = (ROOT / guide).read_text("utf-8")
    named = re.findall(r"\b(?:p2mbatch|tests|docs|data|benchmarks|notebooks)/[\w./-]*\w", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_guide_has_the_floors_that_imports_are_held_to() -> None:
    layers = contracts()["importlinter:contract:floors"]["layers"].split("\n")
    held = [[name.strip(" ()") for name in line.split("|")] for line in layers if line.strip()]
    held = [sorted(set(floor) & folders()) for floor in held]
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = re.findall(r"^\| (\d+) \| (.*?) \|", text, re.MULTILINE)
    told = [sorted(re.findall(r"`(\w+)/`", rooms)) for _, rooms in table]
    assert told == [floor for floor in held if floor]
    assert [int(number) for number, _ in table] == list(range(len(told), 0, -1))
    assert {room for rooms in told for room in rooms} == folders()


def test_names_in_recipes_are_where_they_say() -> None:
    """A `NAME` that stands before "in `file`" is defined in that file."""
    text = " ".join((ROOT / "docs/architecture.md").read_text("utf-8").split())
    pairs = re.findall(r"`(\w+)` (?:in|\()\s?`(p2mbatch/[\w/]+\.py)`", text)
    assert len(pairs) > 10
    for name, file in pairs:
        source = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^(?:def|class) {name}\b|^{name}\b.*=", source, re.MULTILINE), (
            name,
            file,
        )
