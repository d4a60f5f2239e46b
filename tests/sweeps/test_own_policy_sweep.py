"""Sweeps with a policy of a file: named in a spec, kept in the store, taken to other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.cli import main
from p2mbatch.model import policies
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

pytestmark = pytest.mark.thorough

# Little is its own, and so little has to be compiled.
MINE = """\
from p2mbatch.linux import *
class Mine(Tracked):
    def xen_post_suspend(self):
        super().xen_post_suspend()
"""
SPEC = """\
[grid]
memory = "64MiB"
policies = ["tracked", "mine.py"]
migrations = 2
seeds = 2
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec and its policy in a folder that is not the working directory."""
    monkeypatch.setattr(policies, "_REGISTRY", dict(policies._REGISTRY))
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    (folder / "mine.toml").write_text(SPEC, encoding="utf-8")
    return folder / "mine.toml"


def test_a_spec_names_a_file_beside_it(spec: Path, tmp_path: Path) -> None:
    result = sweep(spec, tmp_path / "out", progress="quiet")
    # Cells are in the store as they were finished.
    frame = result.frame.sort_values(["seed", "migration"])
    (name,) = set(frame["policy"]) - {"tracked"}
    assert name.startswith(f"{spec.parent / 'mine.py'}#")
    assert result.policies == {name: MINE}
    measured = [c for c in frame.columns if c.endswith("_ns")]
    ours, theirs = (
        frame[frame["policy"] == policy].drop(columns=["policy", "cell", *measured])
        for policy in ("tracked", name)
    )
    assert ours.reset_index(drop=True).equals(theirs.reset_index(drop=True))
    again = sweep(spec, tmp_path / "out", progress="quiet")
    assert again.progress.num_rows == result.progress.num_rows
    (spec.parent / "mine.py").write_text(MINE + "LIMIT = 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="was made for another spec"):
        sweep(spec, tmp_path / "out", progress="quiet")


def test_where_it_lies_is_not_part_of_a_spec(spec: Path, tmp_path: Path) -> None:
    before = SweepSpec.from_file(spec)
    elsewhere = tmp_path / "elsewhere"
    spec.parent.rename(elsewhere)
    after = SweepSpec.from_file(elsewhere / "mine.toml")
    assert before.digest == after.digest
    assert list(before.cell_ids()) == list(after.cell_ids())


def test_a_stores_spec_is_read_without_the_file(spec: Path, tmp_path: Path) -> None:
    plain = json.loads(json.dumps(SweepSpec.from_file(spec).to_dict()))
    policies._REGISTRY.popitem()
    read = SweepSpec.from_dict(plain)
    assert read.num_cells == 4
    with pytest.raises(InputError, match="was not read here: name its file, as --policy"):
        read.check()


_WORKER = """
import sys, json
from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.model.own.policy import Carried
from p2mbatch.store.blocks import cells_of
from p2mbatch.sweeps.engine import run_batch
cells, carried = json.loads(sys.stdin.read())
cells = cells_of([cell for cell, _ in cells], [tuple(values) for _, values in cells])
found = run_batch(cells, "auto", (__version__, MODEL_VERSION), [Carried(*one) for one in carried])
print(json.dumps([found.num_rows.tolist(), len(found.failed.cells)]))
"""


def test_another_process_is_sent_the_text(spec: Path) -> None:
    """As a worker elsewhere, where there is no such file."""
    from p2mbatch.model.own.policy import carried

    parsed = SweepSpec.from_file(spec)
    cells = list(zip(parsed.cell_ids(), parsed.expand(), strict=True))
    sent = carried(policies._REGISTRY)
    (spec.parent / "mine.py").unlink()
    done = subprocess.run(
        [sys.executable, "-c", _WORKER], input=json.dumps([cells, sent]), text=True,
        capture_output=True, check=True, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert json.loads(done.stdout) == [[3] * 4, 0]


WRONG = MINE.replace("super().xen_post_suspend()", "top = self.p2m_top\n        top += 'x'")


@pytest.mark.parametrize("text", [WRONG, MINE.replace("super()", "supper()")])
def test_what_is_wrong_with_it_ends_a_command(
    text: str, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text == WRONG and os.environ.get("NUMBA_DISABLE_JIT"):
        pytest.skip("there is no compiler")
    path = spec.parent / "mine.py"
    path.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as caught:
        main(["sweep", "--memory", "64MiB", "--policy", f"tracked,{path}", "-q", "-o", str(out)])
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and f"{path}, line " in said[0]
    assert not SweepResult.open(out).progress.num_rows if out.exists() else True
