"""What a run says of guests that grow while they move: lines, sentence, table, figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2mbatch.plots.gallery import draw, save
from p2mbatch.report.asked import answers
from p2mbatch.report.costs import costs_of
from p2mbatch.report.live import live_table, live_told
from p2mbatch.report.sweep import html
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.live import live_lines
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

USUAL: dict[str, Any] = {
    "memory": ["24620KiB", "28884KiB"],
    "sparsity": 0.4,
    "live": True,
    "churn": ["4KiB", "256KiB", "4MiB"],
    "grow_where": ["within", "beyond"],
    "stuck": "stay",
    "migrations": 5,
    "seeds": 3,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    grid = USUAL | {"linux": ["2.6.36", "2.6.37", "5.10", "6.1"]}
    spec = SweepSpec.from_dict({"question": "?", "answer": "live", "grid": grid})
    return sweep(spec, tmp_path_factory.mktemp("live") / "run", jobs=1)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    spec = SweepSpec.from_dict({"grid": {"memory": "16MiB", "policy": ["tracked", "none"]}})
    return sweep(spec, tmp_path_factory.mktemp("still") / "run", jobs=1)


def test_each_kernel_and_place_has_its_line(run: SweepResult) -> None:
    """Against rows counted one by one, cell by cell."""
    frame = run.frame
    lines = live_lines(run.compact)
    assert [(line.where, line.kernel) for line in lines] == [
        (where, kernel)
        for where in ("within", "beyond")
        for kernel in ("2.6.36", "2.6.37", "5.10", "6.1")
    ]
    for line in lines:
        for k, churn in enumerate(line.churn_bytes.tolist()):
            rows = frame[
                (frame["linux"] == line.kernel)
                & (frame["grow_where"] == line.where)
                & (frame["churn_bytes"] == churn)
                & (frame["migration"] > 0)
            ]
            wrong = {row.cell for row in rows.itertuples() if row.outcome == "misdirected"}
            ok = [row for row in rows.itertuples() if row.outcome == "ok"]
            given_up = [r for r in rows.itertuples() if r.detail == "p2m-generation-changed"]
            assert line.num_guests[k] == 6
            assert line.wrong[k] == len(wrong) / 6
            if ok:
                assert line.lost_pages[k] == sum(row.lost_pages for row in ok) / len(ok)
                assert line.tries[k] == (len(ok) + len(given_up)) / len(ok)
            else:
                assert np.isnan(line.lost_pages[k])
                assert np.isinf(line.tries[k]) if given_up else np.isnan(line.tries[k])


def test_the_sentence_tells_each_kind_of_end(run: SweepResult, still: SweepResult) -> None:
    first, *details = live_told(run.compact)
    assert first == (
        "A guest may get 4 MiB more in each round while it moves, and lose nothing: "
        "within its memory under 6.1; beyond the end that it booted with under none."
    )
    said = " ".join(details)
    assert said.startswith("Growing within its memory: 2.6.36 lost ")
    assert "2.6.37 moved " in said and " wrong " in said
    assert "6.1 lost nothing at the first try, with up to 4 MiB more in each round" in said
    assert "came through none of 5 tries from 4 MiB on" in said
    assert live_told(still.compact) == []
    assert live_table(still.compact) is None
    assert live_lines(still.compact) == []


def test_it_is_what_the_report_answers_first(run: SweepResult, still: SweepResult) -> None:
    frame = run.compact
    told = answers("live", frame, [], costs_of(frame), [])
    assert told.about == "live"
    assert [told.first, *told.others[:2]] == live_told(frame)
    assert told.figures[0] == "live"
    other = answers("live", still.compact, [], costs_of(still.compact), [])
    assert other.about == "survival"
    assert "live" not in other.figures


def test_page_and_table_have_it(run: SweepResult) -> None:
    page = html(run)
    assert "Growing while it moves" in page
    table = live_table(run.compact)
    assert table is not None
    assert table.num_rows == 4 * 2 * 3
    assert any("none of 5" in row for row in table.rows())


def test_figure_has_a_tip_for_each_value(run: SweepResult, tmp_path: Path) -> None:
    save(draw("live", run), tmp_path / "live.svg")
    svg = (tmp_path / "live.svg").read_text(encoding="utf-8")
    assert "6.1, 4 MiB: none moved in 5 tries" in svg
    assert "2.6.37" in svg
    for kernel in ("2.6.36", "5.10"):
        assert any(kernel in part and "pages lost" in part for part in svg.split("<title>"))


def test_guests_of_nearly_one_size_are_drawn_side_by_side(run: SweepResult, tmp_path: Path) -> None:
    """Sizes a few pages apart: what stands beside another stays within the axis."""
    frame = run.frame
    frame["memory_bytes"] = (1 << 28) + frame["seed"] * 4096
    save(draw("corruption", frame), tmp_path / "corruption.svg")
