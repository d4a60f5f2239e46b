"""The notebooks run from top to bottom, hold no outputs, and can be handed out."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from p2mbatch.base.shipped import copy_notebooks, notebook_dir
from sweep_support import one_line, p2mbatch

NOTEBOOKS = sorted(notebook_dir().glob("*.ipynb"))
CHAPTERS = [
    "01_the_tree",
    "02_the_bug",
    "03_a_sweep",
    "04_reading_a_run",
    "05_performance",
    "06_races",
    "07_fifteen_years",
]


_PLOTS = re.compile(r"\bplots\.plot_\w+\(|\bplt\.subplots\(|\.plot\.\w+\(|\bSVG\(")
"""The calls of a cell that show a figure each."""


def _num_figures(cell: Any) -> int:
    shown = [out.get("data", {}) for out in cell.outputs]
    return sum("image/png" in data or "image/svg+xml" in data for data in shown)


def test_all_chapters_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == CHAPTERS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert notebook.cells[0].source.startswith(f"# {int(path.stem[:2])}. ")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_runs_and_draws(path: Path, tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    print(f"{path.stem}: {time.monotonic() - start:.1f} s")
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert {cell.id: _num_figures(cell) for cell in code} == {
        cell.id: len(_PLOTS.findall(cell.source)) for cell in code
    }
    assert sum(_num_figures(cell) for cell in code) > 0
    stderr = [out.text for out in outputs if out.get("name") == "stderr"]
    assert stderr == []


def test_copies_keep_what_is_there(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "02_the_bug.ipynb").write_text("my work")
    done = copy_notebooks(mine)
    assert [(path.stem, copied) for path, copied in done] == [
        (name, name != "02_the_bug") for name in CHAPTERS
    ]
    assert (mine / "02_the_bug.ipynb").read_text() == "my work"
    assert (mine / "01_the_tree.ipynb").read_bytes() == NOTEBOOKS[0].read_bytes()


def test_the_command_copies_or_says_why_not(tmp_path: Path) -> None:
    done = p2mbatch("notebooks", str(tmp_path / "nb"))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "nb").glob("*.ipynb"))) == len(CHAPTERS)
    (tmp_path / "file").touch()
    one_line(p2mbatch("notebooks", str(tmp_path / "file")), 2, str(tmp_path / "file"))
