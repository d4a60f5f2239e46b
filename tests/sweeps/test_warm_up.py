"""What is compiled before the first cell: said once for each kind of cells, and not again."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2mbatch.compiled import jit
from p2mbatch.model import beside
from p2mbatch.sweeps import ready
from p2mbatch.sweeps.progress import ProgressReport
from p2mbatch.sweeps.ready import Kind, warm_up

PLAIN = Kind("tail", "tracked", "4.7")


class Notices(ProgressReport):
    """What a user is told."""

    def __init__(self) -> None:
        self.said = list[str]()

    def notice(self, text: str) -> None:
        self.said.append(text)


def test_what_a_new_kind_of_cells_compiles_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "cache_dir", lambda own="": tmp_path)
    monkeypatch.setattr(beside, "compile_policies", lambda names: None)
    monkeypatch.setattr(ready, "_live_one", lambda kind: None)
    kinds = [
        PLAIN,
        PLAIN._replace(live="yes"),
        PLAIN._replace(grow_bytes=4096, cpus=2),
        PLAIN._replace(policy="stale"),
    ]
    for kind in kinds:
        for times in (2, 0):
            report = Notices()
            warm_up(report, [kind])
            assert len(report.said) == times
    report = Notices()
    warm_up(report, [PLAIN._replace(grow_bytes=4096), *kinds])
    assert not report.said
