"""What Python users meet: names of the command line, one-line mistakes, what notebooks show."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import p2mbatch
from p2mbatch import Guest, InputError, Scenario, SweepResult, SweepSpec, load_trace
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.fates import FATES
from p2mbatch.store.fates import fates, last_rows
from report_support import run as small_sweep

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return small_sweep(tmp_path_factory.mktemp("run") / "<b>", policy=["tracked", "stale"])


def test_a_scenario_has_the_command_lines_names_and_says_what_is_not_usual() -> None:
    one = Scenario(memory="1GiB", policy="stale", host_memory="8GiB")
    assert one == Scenario(memory_bytes=1 << 30, policy="stale", host_memory_bytes=8 << 30)
    assert repr(one) == (
        "Scenario(memory_bytes=1073741824, policy='stale', host_memory_bytes=8589934592)"
    )
    assert eval(repr(one)) == one


def test_a_spec_is_made_as_on_the_command_line_and_loaded_by_name() -> None:
    spec = SweepSpec(memory="1GiB,4GiB", policy=["tracked", "stale"], seeds=3, question="Why?")
    assert (spec.num_cells, spec.question) == (12, "Why?")
    assert SweepSpec(memory="1GiB", answer="cost").answer == "cost"
    loaded = SweepSpec.load("headline")
    assert SweepSpec(**loaded.to_dict()).digest == loaded.digest


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Scenario(memory="much"), "scenario: memory_bytes: 'much' is not a size"),
        (lambda: Scenario(memry="1GiB"), "scenario: memry: is not a field of a scenario"),
        (lambda: Scenario(memory="1GiB", memory_bytes=4096), "memory: is short for memory_bytes"),
        (lambda: SweepSpec(memory="much"), "--memory: 'much' is not a size"),
        (lambda: SweepSpec(memry="1GiB"), "unknown key 'memry' in grid: did you mean 'memory'?"),
        (lambda: SweepSpec(grid={"memory": "x"}), "spec: grid.memory: 'x' is not a size"),
        (lambda: Scenario("1GiB"), "Scenario: '1GiB': say what it is"),
        (lambda: Scenario(memory="1GiB", cls=1), "scenario: cls: is not a field"),
        (lambda: SweepSpec(memory="1GiB", question=5), "question: should be text, not 5"),
        (lambda: SweepSpec(cells=[]), "there is no cell in it"),
        (lambda: SweepSpec.load("headlin"), "did you mean the preset 'headline'?"),
    ],
)
def test_no_error_of_pydantics_gets_out(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_result_is_summed_up_and_has_its_cells(result: SweepResult) -> None:
    summary = result.summary()
    assert list(summary.columns) == ["policy", "migration", "guests", *FATES]
    assert (summary[list(FATES)].sum(axis=1) == summary["guests"]).all()
    apart = SweepResult.open(result.path)
    cells = apart.cells
    assert len(cells) == 12 and cells["cell"].is_unique
    assert "frame" not in vars(apart), "all of the table was read for the ends of the lives"
    frame = result.frame
    last = last_rows(frame.assign(fate=fates(frame).astype(str))).reset_index(drop=True)
    assert last[list(cells.columns)].astype(cells.dtypes).equals(cells)
    assert {"memory_bytes", "policy", "outcome", "detail", "fate"} <= set(cells.columns)
    last = summary[summary["migration"] == 2].set_index("policy")
    for policy, own in cells.groupby("policy", observed=True):
        for fate in FATES:
            assert (own["fate"] == fate).sum() == last.loc[policy, fate]


def test_notebooks_show_tables_and_nothing_of_what_they_hold_is_markup(
    result: SweepResult,
) -> None:
    guest = Guest.boot("64MiB")
    trace = load_trace(TRACES / "dense-64-0.json.gz")
    for shown in (result, guest, trace, Scenario(memory="1GiB"), explain_trace(trace)):
        text = shown._repr_html_()
        assert text.startswith("<table") and "<b>" not in text
    assert html.escape("<b>") in result._repr_html_()
    assert "12 finished, 0 failed" in result._repr_html_()


def test_dir_shows_what_is_public() -> None:
    for package in (p2mbatch, p2mbatch.plots, p2mbatch.dumps, p2mbatch.bench, p2mbatch.report):
        assert dir(package) == sorted(package.__all__)
