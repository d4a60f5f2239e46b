"""Figures: nothing overlaps at any grid size, one cell and ten thousand work, empty ones say so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from p2mbatch import Guest, plots
from p2mbatch.base.errors import InputError
from p2mbatch.cli.plot import FIGURES
from p2mbatch.model import policies
from p2mbatch.model.fates import (
    ABORTED,
    BY_OUTCOME,
    CORRUPTED,
    DAMAGE,
    FATES,
    MOVED_WRONG,
    STUCK,
    SURVIVED,
)
from p2mbatch.plots.costs import copy_ns
from p2mbatch.plots.powers import power_text
from p2mbatch.plots.style import FATE_LOOKS, LAYOUT_LOOKS, style
from p2mbatch.store.alive import alive_of
from p2mbatch.store.columns import LAYOUTS, OUTCOMES
from p2mbatch.store.fates import fates, telling_migration
from p2mbatch.store.results import SweepResult
from p2mbatch.store.statistics import list_bytes, quantiles, silent_shares
from p2mbatch.store.survival import survival
from report_support import made_up, run
from sweep_support import one_line, p2mbatch

TABLE_PLOTS = [name for name in plots.PLOTS if name != "tree"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return run(tmp_path_factory.mktemp("plots") / "s", policy=["tracked", "stale"])


def texts(figure: Figure) -> list[tuple[str, Any]]:
    """Return every text that is really drawn, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    drawn: list[Text] = []
    draw = Text.draw

    def recording(self: Text, renderer: Any, *args: Any, **options: Any) -> None:
        drawn.append(self)
        draw(self, renderer, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", recording)
        canvas.draw()
    renderer = canvas.get_renderer()
    return [
        (artist.get_text(), artist.get_window_extent(renderer))
        for artist in dict.fromkeys(drawn)
        if artist.get_visible() and artist.get_text().strip()
    ]


def assert_readable(figure: Figure) -> None:
    """Assert that no two texts overlap and none leaves the figure."""
    found = texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in found:
        assert box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2, text
    for (text, box), (other, other_box) in itertools.combinations(found, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        down = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert across <= 1 or down <= 1, f"{text!r} overlaps {other!r}"


@pytest.fixture(autouse=True)
def _no_bandwidth_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2mbatch.plots.costs.copy_ns", lambda num_bytes: num_bytes / 10)


@pytest.mark.parametrize("name", TABLE_PLOTS)
@pytest.mark.parametrize(
    ("num_cells", "migrations", "num_sizes"),
    [(1, 0, 1), (1, 1, 1), (12, 2, 2), (300, 4, 17), (500, 1000, 3), (10_000, 2, 120)],
)
def test_texts_never_overlap(name: str, num_cells: int, migrations: int, num_sizes: int) -> None:
    if migrations == 1000:
        frame = made_up(60, 60, num_sizes)
    else:
        frame = made_up(num_cells, max(migrations, 1), num_sizes)
    if migrations == 0:
        frame = frame[frame["migration"] == 0].assign(migrations=0)
    assert_readable(plots.draw(name, frame))


@pytest.mark.parametrize("y", ["sparsity", "neighbours", "layout", "seed"])
def test_outcome_maps_of_many_tiles_are_readable(y: str) -> None:
    assert_readable(plots.draw("outcomes", made_up(10_000, 2, 120), y=y, policy="stale"))


@pytest.mark.parametrize("name", list(plots.PLOTS))
def test_an_empty_selection_says_so(name: str) -> None:
    figure = plots.draw(name, made_up(3).head(0))
    assert any("no " in text for text, _ in texts(figure))
    assert_readable(figure)


def test_a_policy_or_migration_that_is_not_there_says_so() -> None:
    frame = made_up(1)
    for options in ({"policy": "stale"}, {"policy": "tracked", "migration": 9}):
        figure = plots.draw("outcomes", frame, **options)
        assert any("no guests" in text for text, _ in texts(figure))


@pytest.mark.parametrize(
    ("memory", "kind"),
    [
        ("64MiB", {}),
        ("630MiB", {}),
        ("6GiB", {"layout": "extents", "sparsity": 0.5}),
        ("80GiB", {}),
    ],
)
@pytest.mark.parametrize("policy", ["stale", "tracked"])
def test_trees_of_all_sizes_are_readable(memory: str, policy: str, kind: dict[str, Any]) -> None:
    guest = Guest.boot(memory, policy, seed=3, **kind)
    before = guest.snapshot()
    event = guest.migrate()
    after = guest.snapshot(event=event)
    for shots in ([before, after], [after]):
        figure = plots.draw("tree", shots)
        assert_readable(figure)
    said = " ".join(text for text, _ in texts(figure))
    view = after.view
    shared = policy == "stale" and int(view.mid_exists.sum()) > 1
    assert ("one page for all mids" in said) == shared == bool(view.shares_list_page.any())
    if event.outcome == "ok":
        assert f"{len(view.list_true) - int(view.stale_list.sum()):,}" in said
        assert (f"{event.stray_writes:,} stray writes" in said) == (event.stray_writes > 0)
    else:
        assert event.outcome in said


def test_the_tree_of_a_run_is_that_of_the_cell_asked_for(small: SweepResult) -> None:
    stale = small.frame[small.frame["policy"] == "stale"]
    cell = str(stale["cell"].iloc[0])
    figure = plots.draw("tree", small, cell=cell[:12])
    said = " ".join(text for text, _ in texts(figure))
    row = stale[(stale["cell"] == cell) & (stale["migration"] == 1)].iloc[0]
    assert f"seed {row['seed']}" in said and "stale" in said
    if row["outcome"] == "ok":
        assert f"{row['stray_writes']:,} stray writes into" in said
    with pytest.raises(InputError, match="0 cells begin with 'zz'"):
        plots.draw("tree", small, cell="zz")


def test_survival_lines_are_what_the_summary_counts(small: SweepResult) -> None:
    entries = survival(small)
    for policy in ("tracked", "stale"):
        found = alive_of(small.frame, policy)
        own = [entry for entry in entries if entry.policy == policy]
        assert found.share.tolist() == pytest.approx([e.num_survived / e.num_guests for e in own])
        assert np.all(found.low <= found.share + 1e-12) and np.all(
            found.share <= found.high + 1e-12
        )
        assert sum(s.sum() for s in found.ends.values()) == pytest.approx(1 - found.share[-1])


def test_survival_counts_only_guests_whose_plan_reaches_that_far() -> None:
    frame = made_up(4, 3).query("policy == 'tracked'")
    short = frame[frame["migration"] <= 1].assign(migrations=1)
    short["cell"] = "short" + short["cell"].str[5:]
    lost = short["migration"] == 1
    short.loc[lost, "outcome"] = "bug"
    found = alive_of(pd.concat([frame, short], ignore_index=True), "tracked")
    assert found.share.tolist() == [1.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("damaged", DAMAGE)
def test_fates_remember_corruption_for_as_long_as_the_guest_lives(damaged: str) -> None:
    frame = pd.DataFrame(dict.fromkeys(DAMAGE, [0] * 8))
    frame["cell"] = ["a"] * 5 + ["b"] * 3
    frame[damaged] = [0, 5, 0, 0, 0, 0, 0, 0]
    frame["outcome"] = ["ok", "ok", "ok", "save-failed", "ok", "ok", "save-failed", "misdirected"]
    frame["detail"] = pd.array([None] * 6 + ["p2m-generation-changed 3", "-"], dtype="string")
    assert fates(frame).tolist() == [
        SURVIVED, CORRUPTED, CORRUPTED, STUCK, CORRUPTED, SURVIVED, ABORTED, MOVED_WRONG,
    ]  # fmt: skip


def test_every_outcome_is_a_fate_and_every_fate_and_policy_has_a_look_of_its_own() -> None:
    assert set(OUTCOMES) == set(BY_OUTCOME)
    assert tuple(FATE_LOOKS) == FATES
    assert set(BY_OUTCOME.values()) | {CORRUPTED, ABORTED} == set(FATES)
    looks = [FATE_LOOKS[fate] for fate in FATE_LOOKS]
    assert len({look.color for look in looks}) == len({look.hatch for look in looks}) == len(looks)
    from p2mbatch.plots.style import policy_look

    assert set(LAYOUT_LOOKS) == set(LAYOUTS)

    for group in ({name: policy_look(name) for name in policies.names()}, LAYOUT_LOOKS):
        assert len({look.marker for look in group.values()}) == len(group)
        assert len({str(look.dashes) for look in group.values()}) == len(group)


def test_the_telling_migration_is_that_of_the_widest_mix() -> None:
    frame = made_up(300, 3).query("policy == 'stale'")
    assert telling_migration(frame) in (1, 2)
    assert telling_migration(frame[frame["migration"] == 0]) == 0


def test_the_floor_is_a_copy_of_the_list() -> None:
    frame = pd.DataFrame({"leaves": [10, 10], "word_bytes": [8, 4]})
    assert list_bytes(frame).tolist() == [80, 40]
    assert 0 < copy_ns(1 << 12) < copy_ns(1 << 26)


def test_a_floor_measured_on_another_machine_says_so(small: SweepResult) -> None:
    def labels(result: Any) -> str:
        legend = plots.draw("cost", result).axes[0].get_legend()
        assert legend is not None
        return " ".join(text.get_text() for text in legend.get_texts())

    assert "not the run's machine" not in labels(small)
    moved = SweepResult.open(small.path)
    moved.__dict__["provenance"] = {**small.provenance, "cpu": "Quick 9000"}
    assert "not the run's machine" in labels(moved)


def test_each_takes_and_returns_axes_and_leaves_the_callers_style_alone() -> None:
    before = dict(mpl.rcParams)
    figure = Figure()
    for index, name in enumerate(TABLE_PLOTS):
        ax = figure.add_subplot(4, 2, index + 1)
        assert plots.PLOTS[name].function(made_up(5), ax=ax) is ax
    assert dict(mpl.rcParams) == before


@pytest.fixture
def _closing() -> Iterator[None]:
    mpl.use("Agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.usefixtures("_closing")
def test_without_axes_a_pyplot_figure_is_made() -> None:
    import matplotlib.pyplot as plt

    ax = plots.plot_survival(made_up(5))
    assert ax.figure is plt.gcf()


@pytest.mark.parametrize("name", TABLE_PLOTS)
@pytest.mark.parametrize("of_caller", [False, True])
def test_a_name_with_dollars_is_no_formula(name: str, of_caller: bool) -> None:
    frame = made_up(40, 2, 3)
    policy = "/x/a$_^$b.py#" + 16 * "a"
    frame["policy"] = frame["policy"].replace("none", policy)
    frame["guest"] = "/x/$g_$.json#" + 64 * "b"
    options = {"policy": policy} if name == "outcomes" else {}
    if of_caller:
        figure = Figure()
        plots.PLOTS[name].function(frame, ax=figure.add_subplot(), **options)
    else:
        figure = plots.draw(name, frame, **options)
    found = [text for text, _ in texts(figure)]
    assert "mathdefault" not in " ".join(found)
    if name in ("outcomes", "survival", "corruption"):
        assert any("a$_^$b" in text for text in found)


def test_labels_of_powers_are_plain() -> None:
    labels = [power_text(x) for x in (0.001, 1, 2000, 1e12, 0.25)]
    assert labels == ["10⁻³", "10⁰", "2×10³", "10¹²", "2.5×10⁻¹"]


def test_an_axis_that_no_sweep_has_is_named() -> None:
    with pytest.raises(InputError, match="'colour' is no axis"):
        plots.draw("outcomes", made_up(5), x="colour")
    with pytest.raises(InputError, match="'pie' is no figure: use tree, survival"):
        plots.draw("pie", made_up(5))


@pytest.mark.parametrize("ending", plots.FORMATS)
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        plots.save(plots.draw("overhead", made_up(30)), tmp_path / f"{name}.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert first == (tmp_path / f"b.{ending}").read_bytes() and len(first) > 5000


def test_the_command_draws_every_figure_of_the_registry(small: SweepResult, tmp_path: Path) -> None:
    assert list(plots.PLOTS) == list(FIGURES)
    done = p2mbatch("plot", str(small.path), "tree", "-o", str(tmp_path / "t.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    done = p2mbatch("plot", str(small.path), "survival", "-o", str(tmp_path / "t.gif"))
    one_line(done, 2, "t.gif", ".svg, .png, .pdf")
    done = p2mbatch("plot", str(small.path), "cost", "--cell", "a", "-o", str(tmp_path / "t.svg"))
    one_line(done, 2, "--cell", "cost")
    assert not (tmp_path / "t.gif").exists() and not (tmp_path / "t.svg").exists()


def test_the_check_for_overlaps_sees_one() -> None:
    figure = plots.draw("overhead", made_up(5))
    figure.axes[0].text(0.5, 0.5, "one", transform=figure.axes[0].transAxes)
    figure.axes[0].text(0.5, 0.51, "two", transform=figure.axes[0].transAxes)
    with pytest.raises(AssertionError, match="overlaps"):
        assert_readable(figure)


def test_statistics_are_of_each_policy_and_size() -> None:
    frame = pd.DataFrame(
        {"policy": list("aaab"), "memory_bytes": [1, 1, 2, 1], "stray_writes": [0, 8, 3, 0]}
    ).assign(**{name: 0 for name in DAMAGE if name != "stray_writes"})
    found = quantiles(frame, "stray_writes", "memory_bytes", (0.25, 0.5))
    assert found.to_numpy().tolist() == [[0, 0], [3, 3]]
    assert silent_shares(frame).to_dict() == {("a", 1): 0.5, ("a", 2): 1, ("b", 1): 0}


def test_what_a_backend_sets_while_the_style_holds_stays_set() -> None:
    was = mpl.is_interactive()
    try:
        mpl.interactive(False)
        with style():
            mpl.interactive(True)
        assert mpl.is_interactive()
        assert mpl.rcParams["savefig.dpi"] != 160
    finally:
        mpl.interactive(was)
