"""The tables of a guest whose p2m lies elsewhere than in the tree of three levels.

Traces and scenarios make them alike: what is cached of each leaf is as long as that p2m is.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import tables as tb
from p2mbatch.model.policies import Policy


def may_share_anywhere(policy: Policy) -> bool:
    """Return whether a guest of any shape may store into the leaf that 1:1 PFNs share.

    What it then owns is to be noted from the beginning: a kernel of the user's does as it likes.
    """
    return policy.own is not None and policy.is_era and not policy.is_two_level


def static_pages(word_bytes: int, max_domain_pages: int) -> dict[str, int]:
    """Return how many pages each static array of a p2m of two levels has, by its name (P1)."""
    tops = max_domain_pages // (PAGE_BYTES // word_bytes) ** 2
    return {"p2m_missing": 1, "p2m_top": tops, "p2m_top_mfn": tops, "p2m_top_mfn_list": 1}


def static_places(word_bytes: int, max_domain_pages: int, first: int) -> dict[str, int]:
    """Return the first page of each static array, one behind the other from page `first` on."""
    places = {}
    for name, count in static_pages(word_bytes, max_domain_pages).items():
        places[name] = first
        first += count
    return places


def with_static(
    tables: tb.P2MTables, static: dict[str, int], max_domain_pages: int
) -> tb.P2MTables:
    """Return the tables of a guest with a p2m of two levels, whose arrays begin at `static`."""
    state = tables.state[0]
    state.max_domain_pages = max_domain_pages
    state.missing, state.static_top = static["p2m_missing"], static["p2m_top"]
    state.static_top_mfn = static["p2m_top_mfn"]
    state.static_list = static["p2m_top_mfn_list"]
    # Pages of mfn_list past what the p2m holds are loaded too, and belong to no leaf.
    booted = -(-state.nr_pages >> state.entries_shift)
    num_leaves = max_domain_pages >> state.entries_shift
    return _with_leaves(tables, num_leaves, max(num_leaves, booted))


def with_area(tables: tb.P2MTables, num_leaves: int) -> tb.P2MTables:
    """Return the tables of a guest with a linear p2m of which so many leaves are cached."""
    return _with_leaves(tables, num_leaves, num_leaves)


def _with_leaves(tables: tb.P2MTables, num_leaves: int, cached: int) -> tb.P2MTables:
    tables.state[0].num_leaves = num_leaves
    leaf_slot, leaf_page = (np.zeros(cached, np.int32) for _ in range(2))
    return tables._replace(leaf_slot=leaf_slot, leaf_page=leaf_page)
