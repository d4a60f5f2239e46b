"""The least life that still breaks in the same way: fewest events, smallest guest, plainest hosts.

Each pass proposes simpler lives and takes those that still break; passes are repeated until none
helps or so many lives were tried. What is tried goes by the life alone, so the same life shrinks to
the same.
"""

from __future__ import annotations

from collections.abc import Callable

from p2mbatch.hunt.fewer_events import cut, lower_pfns, make_plain, shorten_sets, take_fewer_hosts
from p2mbatch.hunt.layouts import Json
from p2mbatch.hunt.least import Enough, Least
from p2mbatch.hunt.smaller_guest import shrink_guest, shrink_marks

MOST_TRIES = 1500

_PASSES = (
    cut, make_plain, take_fewer_hosts, shorten_sets, shrink_guest, shrink_marks, lower_pfns,
)  # fmt: skip


def _never() -> bool:
    return False


def shrink(
    life: Json, kind: str, most_tries: int = MOST_TRIES, stop: Callable[[], bool] = _never
) -> Least:
    """Return the least life that breaks as `life` does, found in at most so many replays.

    `life` is a trace file's JSON object, `kind` a kind that it breaks (`kinds.kind_of`); a life
    tried that does not, or that leaves the hunt's world, is dropped. `stop` says when there is no
    more time: the least life so far is returned then. Raises ValueError where `life` breaks nothing
    of that kind.
    """
    least = Least(life, kind, most_tries, stop)
    try:
        before = None
        while before != least.life:
            before = least.life
            for one in _PASSES:
                one(least)
    except Enough:
        pass
    return least
