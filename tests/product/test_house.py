"""The house: files of a size to be read, contracts for the imports that cover every folder."""

from __future__ import annotations

import configparser
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
    files += (ROOT / "benchmarks").rglob("*.py")
    assert len(files) > 100
    lines = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in files}
    assert {name: num for name, num in lines.items() if num > MAX_LINES} == {}


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
