"""What a pointer is told at a figure's marks: numbers of the table, and nothing that isn't text."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import pandas as pd
import pytest

from p2mbatch import plots
from p2mbatch.plots.style import new_figure, style
from p2mbatch.plots.tips import MAX_TIPS, Mark, point_tip, with_tips
from p2mbatch.report.page import inline
from p2mbatch.store.fates import fates, last_rows
from report_support import made_up


def tips(svg: str) -> list[str]:
    found = re.findall(r'<g pointer-events="all"[^>]*><title>(.*?)</title>', svg, re.DOTALL)
    return [unescape(text) for text in found]


def alive(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its guests living on while they are sent."""
    churn = 4096 + 4096 * (frame["seed"] % 3)
    return frame.assign(live="yes", grow_where="within", churn_bytes=churn)


@pytest.mark.parametrize("name", [name for name in plots.PLOTS if name != "tree"])
def test_every_mark_has_its_value(name: str, tmp_path: Path) -> None:
    frame = alive(made_up(60, 4)) if name == "live" else made_up(60, 4)
    plots.save(plots.draw(name, frame), tmp_path / "f.svg")
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert len(tips(svg)) >= 4 and all(": " in text for text in tips(svg))
    assert "tip:" not in svg and "mathdefault" not in svg


def test_a_tile_tells_what_became_of_its_guests() -> None:
    frame = made_up(90, 3)
    figure = plots.draw("outcomes", frame, policy="stale", migration=3)
    own = frame[frame["policy"] == "stale"]
    ends = last_rows(own.assign(fate=fates(own)))["fate"].value_counts()
    counted: dict[str, int] = {}
    for text in tips(inline(figure, "f", "f")):
        for number, fate in re.findall(r"(\d+) ([a-z ]+)", text.rpartition(": ")[2]):
            counted[fate] = counted.get(fate, 0) + int(number)
    assert counted == ends[ends > 0].to_dict()


def among(cells: pd.DataFrame, query: str) -> pd.DataFrame:
    """Return the cells that a report lists for an address's query."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "_cell":
            continue
        low, dots, high = value.partition("..")
        if not dots:
            number = pd.api.types.is_numeric_dtype(cells[name])
            cells = cells[cells[name] == (float(value) if number else value)]
            continue
        cells = cells[cells[name] >= float(low or "-inf")]
        under = high.startswith("<")
        high = high.removeprefix("<") or "inf"
        cells = cells[cells[name] < float(high) if under else cells[name] <= float(high)]
    return cells


@pytest.mark.parametrize("num_sizes", [9, 120])
@pytest.mark.parametrize("name", [name for name in plots.PLOTS if name != "tree"])
def test_a_mark_names_one_of_the_cells_that_it_leads_to(name: str, num_sizes: int) -> None:
    frame = made_up(400, 4, num_sizes)
    frame = alive(frame) if name == "live" else frame
    frame["cell"] = frame["cell"].str[-10:]
    last = last_rows(frame)
    cells = last.assign(
        survived=last["migration"] - (last["outcome"] != "ok"), policy=last["policy"].astype(object)
    )
    svg = inline(plots.draw(name, frame), "f", "f")
    found = re.findall(r'data-cells="([^"]*)"><title>.*?first cell (\w{10})', svg, re.DOTALL)
    assert len(found) >= 4
    for query, cell in found:
        listed = among(cells, unescape(query))
        assert cell in {name[:10] for name in listed["cell"]}, query
    if name == "outcomes":
        # Each cell is in one tile.
        policy = dict(parse_qsl(unescape(found[0][0])))["policy"]
        number = sum(len(among(cells, unescape(query))) for query, _ in found)
        assert number == (cells["policy"] == policy).sum()


def test_a_large_grid_has_no_tips() -> None:
    frame = made_up(10_000, 1, 120)
    tiles = plots.draw("outcomes", frame, x="seed", y="neighbours")
    assert len(tips(inline(tiles, "f", "f"))) <= MAX_TIPS


def test_a_name_with_marks_stays_text() -> None:
    with style():
        figure, ax = new_figure((3, 2))
        for text in ("a <b> & 'c'", 'a "quoted" one', "both \" and '"):
            point_tip(ax, 0.5, 0.5, Mark(text))
    svg = inline(figure, "f", "f")
    assert tips(svg) == ["a <b> & 'c'", 'a "quoted" one', "both \" and '"]
    assert "<b>" not in svg and with_tips(svg) == svg
