"""What a report answers first: who came through, what it costs, or which policy fares better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from p2mbatch.base.errors import InputError
from p2mbatch.model.fates import CRASHED, STUCK, SURVIVED
from p2mbatch.report.asked import answers
from p2mbatch.report.costs import LONG_LIFE, costs_of, of_time
from p2mbatch.report.pairs import pair_sentence, pair_table, paired, pairs_of
from p2mbatch.report.sweep import to_markdown
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survival import survival
from p2mbatch.sweeps.driver import sweep
from report_support import made_up, run


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    path = tmp_path_factory.mktemp("answers") / "s"
    return run(path, policy=["tracked", "stale", "none"], sparsity=[0, 0.5])


def test_the_interval_is_the_exact_one_of_those_that_differ() -> None:
    left = np.array([SURVIVED] * 60 + [STUCK] * 40, object)
    right = np.array([SURVIVED] * 50 + [CRASHED] * 10 + [SURVIVED] * 2 + [STUCK] * 38, object)
    found = paired("a", "b", left, right)
    assert (found.num_pairs, found.num_differ, found.only_a, found.only_b) == (100, 12, 10, 2)
    assert found.difference == pytest.approx(-0.08)
    # Clopper and Pearson by their own definition: where a tail is 2.5 %.
    low, high = ((end * 100 / 12 + 1) / 2 for end in (found.low, found.high))
    assert stats.binom.sf(1, 12, low) == pytest.approx(0.025)
    assert stats.binom.cdf(2, 12, high) == pytest.approx(0.025)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(2, 12, 0.5))
    assert found.low < found.difference < found.high


def test_the_same_guests_are_paired_and_no_others(result: SweepResult) -> None:
    frame = result.frame
    ends = frame.loc[frame.groupby("cell")["migration"].idxmax()]
    key = ["memory_bytes", "sparsity", "seed"]
    damaged = frame.groupby("cell")["stray_writes"].sum()
    intact = (ends["outcome"] == "ok") & (ends["cell"].map(damaged) == 0)
    wide = ends.assign(intact=intact).pivot(index=key, columns="policy", values="intact")
    found = {(p.a, p.b): p for p in pairs_of(result.compact)}
    assert len(found) == 3
    for (a, b), pairs in found.items():
        assert pairs.num_pairs == len(wide) == 12
        assert pairs.only_a == (wide[a] & ~wide[b]).sum()
        assert pairs.only_b == (wide[b] & ~wide[a]).sum()
    table = pair_table(list(found.values()))
    assert table is not None and table.num_rows == 3
    # Without the other's guests there is nothing in common.
    compact = result.compact
    apart = compact[
        ((compact["policy"] == "tracked") == (compact["sparsity"] == 0)).to_numpy()
    ].assign(policy=lambda rows: rows["policy"].astype(str))
    apart = apart[(apart["policy"] != "none").to_numpy()]
    alone = pairs_of(apart)
    assert [p.num_pairs for p in alone] == [0]
    assert "nothing in common" in pair_sentence(alone[0])


def long_lives(slower: float) -> pd.DataFrame:
    """Return made-up lives of which the second half is so much slower."""
    frame = made_up(30, 2 * LONG_LIFE)
    half = (frame["migration"] > LONG_LIFE).to_numpy()
    for name in ("rebuild_ns", "save_walk_ns", "restore_ns"):
        frame[name] = np.where(half, 1000 * slower, 1000).astype(np.int64)
    return frame


def test_whether_cost_stays_is_told_of_those_that_came_through() -> None:
    frame = long_lives(1.0)
    through = frame[frame["policy"] == "tracked"]["cell"].nunique()
    said = of_time(frame)
    assert said.startswith("Cost stays within 10 % over 40 migrations: in the last 4 a rebuild")
    assert f"of the {through} tracked guests" in said and "takes 1 times" in said
    assert of_time(long_lives(1.5)).startswith("Cost changes over 40 migrations")
    assert "takes 1.5 times as long as in the first 4 [1.5, 1.5]" in of_time(long_lives(1.5))
    assert of_time(made_up(30, LONG_LIFE - 1)) == ""


def test_what_holes_cost_is_of_the_mended_kernel(result: SweepResult) -> None:
    frame = result.frame
    own = frame[(frame["policy"] == "tracked") & (frame["sparsity"] == 0.5)]
    share = float(own[own["migration"] == 2]["structure_overhead"].median())
    said = costs_of(result.compact).of_holes
    assert said.startswith(f"With 50 % of the span in holes the tables take {share * 100:.3g} %")
    assert "a rebuild of 2 GiB takes" in said
    # Of several policies it is said whose guests these are, of one there is nothing to tell apart.
    assert said.endswith("; all under tracked.")
    compact = result.compact
    alone = costs_of(compact[(compact["policy"] == "tracked").to_numpy()]).of_holes
    assert alone == said.replace("; all under tracked", "")


def about(frame: pd.DataFrame, result: SweepResult, asked: Any) -> tuple[str, str, str]:
    found = answers(asked, frame, survival(result), costs_of(frame), pairs_of(frame))
    assert len(set(found.figures)) == len(found.figures)
    return found.about, found.first, found.figures[0]


def test_what_is_asked_is_answered_first(result: SweepResult, tmp_path: Path) -> None:
    frame = result.compact
    assert about(frame, result, "")[0::2] == ("survival", "tree")
    kind, first, figure = about(frame, result, "cost")
    assert (kind, figure) == ("cost", "overhead") and first.startswith("With 50 %")
    kind, first, _ = about(frame, result, "compare")
    assert kind == "compare" and first.startswith("The same 12 guests under tracked and under ")
    well = run(tmp_path / "w", policy="tracked", memory="630MiB")
    kind, first, figure = about(well.compact, well, "")
    assert (kind, figure) == ("cost", "cost")
    assert first.startswith("In guests of 630 MiB a rebuild takes ")


def test_a_spec_says_what_it_asks_and_means_the_same_cells(tmp_path: Path) -> None:
    grid = {"memory": "630MiB", "policy": ["tracked", "stale"]}
    asked = SweepSpec.from_dict({"answer": "compare", "grid": grid})
    assert asked.digest == SweepSpec.from_dict({"grid": grid}).digest
    assert SweepSpec.from_dict(asked.to_dict()).answer == "compare"
    with pytest.raises(InputError, match="answer"):
        SweepSpec.from_dict({"answer": "speed", "grid": grid})
    found = sweep(asked, tmp_path / "c", progress="quiet")
    assert found.spec.answer == "compare"
    assert to_markdown(found).startswith("# The same guest under tracked and under stale: ")
