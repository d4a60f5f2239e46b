"""What a pointer is told at a figure's marks: numbers of the table, and nothing that isn't text."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from p2mbatch import plots
from p2mbatch.plots.style import new_figure, style
from p2mbatch.plots.tips import MAX_TIPS, point_tip, with_tips
from p2mbatch.report.page import inline
from p2mbatch.store.fates import fates, last_rows
from report_support import made_up


def tips(svg: str) -> list[str]:
    found = re.findall(r'<g pointer-events="all"[^>]*><title>(.*?)</title>', svg, re.DOTALL)
    return [unescape(text) for text in found]


@pytest.mark.parametrize("name", [name for name in plots.PLOTS if name != "tree"])
def test_every_mark_has_its_value(name: str, tmp_path: Path) -> None:
    plots.save(plots.draw(name, made_up(60, 4)), tmp_path / "f.svg")
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert len(tips(svg)) >= 4 and all(": " in text for text in tips(svg))
    assert "tip:" not in svg


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


def test_a_large_grid_has_no_tips() -> None:
    frame = made_up(10_000, 1, 120)
    tiles = plots.draw("outcomes", frame, x="seed", y="neighbours")
    assert len(tips(inline(tiles, "f", "f"))) <= MAX_TIPS


def test_a_name_with_marks_stays_text() -> None:
    with style():
        figure, ax = new_figure((3, 2))
        for text in ("a <b> & 'c'", 'a "quoted" one', "both \" and '"):
            point_tip(ax, 0.5, 0.5, text)
    svg = inline(figure, "f", "f")
    assert tips(svg) == ["a <b> & 'c'", 'a "quoted" one', "both \" and '"]
    assert "<b>" not in svg and with_tips(svg) == svg
