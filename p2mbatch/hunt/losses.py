"""Rule 4: which pages a migration lost or added, and what kind of page that was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.hunt.look import Pages, ghost_pages, lost_pages
from p2mbatch.hunt.unset import Unset
from p2mbatch.model.life import Life


def lost_by_place(
    life: Life, before: Pages, after: Pages, reported: int, was_hit: bool
) -> Iterator[tuple[str, Int64Array]]:
    """Yield (where, PFNs) of the pages that were populated before and are not after.

    `reported` is the end that the guest had reported (a count): what lies past it was never to be
    saved. What lies below it and past the save's walk (`State.walked_max_pfn`) was trimmed away.
    """
    lost = lost_pages(before, after)
    walked = life.scalar("walked_max_pfn")
    past, trimmed = lost >= reported, (lost < reported) & (lost > walked)
    within = "hit by strays" if was_hit else "below the end"
    for where, which in (("past the end", past), ("trimmed away", trimmed)):
        if which.any():
            yield where, lost[which]
    if len(rest := lost[~past & ~trimmed]):
        yield within, rest


def ghosts_by_place(
    unset: Unset, before: Pages, after: Pages, was_hit: bool
) -> Iterator[tuple[str, Int64Array]]:
    """Yield (where, PFNs) of the pages that m2p names after and that were not populated before."""
    ghosts = ghost_pages(before, after)
    if was_hit and len(ghosts):
        yield "hit by strays", ghosts
        return
    places = np.array([unset.place_of(pfn) for pfn in ghosts.tolist()])
    for where in dict.fromkeys(places.tolist()):
        yield where, ghosts[places == where]
