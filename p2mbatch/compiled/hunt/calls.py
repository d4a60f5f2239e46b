"""The compiled functions that a life calls: a policy's own, and those of every guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Calls(NamedTuple):
    """Functions of one type each, so that a life is compiled once for all policies."""

    load_mfn_list: Callable[..., None]
    load_domain: Callable[..., None]
    boot: Callable[..., int]
    boot_flat: Callable[..., int]
    """A linear p2m's, which takes more; what a tree's boot does in its place is never called, nor
    the other way round."""
    set_runs: Callable[..., int]
    rebuild: Callable[..., int]
    report: Callable[..., int]
    get: Callable[..., None]
    save_walk: Callable[..., int]
    settle_sent: Callable[..., int]
    restore: Callable[..., int]
    frame_lists_of: Callable[..., int]
    listed_leaves: Callable[..., int]
    map_leaves: Callable[..., int]
    compare_leaves: Callable[..., int]
    restore_found: Callable[..., int]
    count_identity: Callable[..., int]
