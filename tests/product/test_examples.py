"""The examples of the docs are run: what stands under a command is what it prints."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from p2mbatch.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))
EXAMPLES = importlib.import_module("examples")

MEASURES = {"bench"}
"""What it prints is measured, minutes long: docs/performance.md and the README have its figures."""


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_command_has_an_example() -> None:
    assert {"index.md", "cookbook.md"} <= set(EXAMPLES.PAGES)
    shown = {
        example.command.split()[1]
        for name in EXAMPLES.PAGES
        for example in EXAMPLES.examples_of(text_of(name))
        if example.command.startswith("p2mbatch ")
    }
    assert shown == set(COMMANDS) - MEASURES


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES.PAGES)
def test_what_stands_under_a_command_is_what_it_prints(name: str, tmp_path: Path) -> None:
    ran = EXAMPLES.run_page(text_of(name), tmp_path)
    assert len(ran) > 0
    assert EXAMPLES.unforeseen(ran) == []
    for one in ran:
        # Short, so that pytest shows where they differ.
        if not one.agrees:
            assert one.printed == one.example.printed, "run: python docs/examples.py"


PAGE = """
```console
$ p2mbatch policies \\
    --json
$ p2mbatch --version
p2mbatch, version …
$ p2mbatch nonsense
…
$ echo $?
3
```
"""


def test_an_example_that_says_something_else_is_found(tmp_path: Path) -> None:
    ran = EXAMPLES.run_page(PAGE, tmp_path)
    assert [one.agrees for one in ran] == [False, True, True, False]
    assert [one.code for one in ran] == [0, 0, 2, 0]
    assert ran[-1].printed == "2\n"
    assert EXAMPLES.unforeseen(ran) == []
    (failed,) = EXAMPLES.unforeseen(ran[:3])
    assert failed.startswith("p2mbatch nonsense: ended with 2: p2mbatch: error: ")
