"""A failing life made smaller: the same kind, within the world, the same every time."""

from __future__ import annotations

import pytest

from hunt import built
from hunt.test_judge import KINDS, LIVES
from p2mbatch.hunt.judge import judge
from p2mbatch.hunt.kinds import kind_of
from p2mbatch.hunt.shrink import shrink
from p2mbatch.model.trace_file import parse_trace

MOST_EVENTS = 6


@pytest.mark.parametrize("name", LIVES)
def test_shrinks_to_a_few_events_of_the_same_kind(name: str) -> None:
    life, kind = LIVES[name][0], KINDS[name]
    least = shrink(life, kind).life
    found = judge(parse_trace(least))
    assert found.outside is None
    assert kind in {kind_of(one) for one in found.broken}
    assert len(least["events"]) <= min(MOST_EVENTS, len(life["events"]))
    assert len(least["hosts"]) <= 2
    assert least["guest"]["nr_pages"] < 30
    assert all(len(host["domain"]) == 1 for host in least["hosts"])
    assert life == LIVES[name][0]


def test_the_same_life_shrinks_to_the_same_and_no_further() -> None:
    name = "tracked-past-the-end"
    least = shrink(LIVES[name][0], KINDS[name]).life
    assert shrink(LIVES[name][0], KINDS[name]).life == least
    assert shrink(least, KINDS[name]).life == least


def test_stops_after_so_many_tries_and_where_it_is_told_to() -> None:
    life, kind = LIVES["linear-null-list-page"][0], KINDS["linear-null-list-page"]
    few = shrink(life, kind, most_tries=5)
    assert kind in {kind_of(one) for one in judge(parse_trace(few.life)).broken}
    assert few.tries == 5
    assert shrink(life, kind, stop=lambda: True).life == life


def test_a_life_that_breaks_nothing_of_the_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="breaks nothing of kind"):
        shrink(built.lives()["tracked-tail"][0], "stray-writes-resume")
