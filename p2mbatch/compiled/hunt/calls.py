"""The compiled functions that a life calls: a policy's own, and those of every guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Calls(NamedTuple):
    """Functions of one type each, so that a life is compiled once for all policies."""

    load_mfn_list: Callable[..., None]
    load_domain: Callable[..., None]
    boot: Callable[..., int]
    set_runs: Callable[..., int]
    rebuild: Callable[..., int]
    report: Callable[..., int]
    get: Callable[..., None]
    save_walk: Callable[..., int]
    settle_sent: Callable[..., int]
    restore: Callable[..., int]
    find: Callable[..., int]
    look_again: Callable[..., int]
    """The two halves of a save, of an era's or of a linear p2m (`table_walk`)."""
    restore_found: Callable[..., int]
    count_identity: Callable[..., int]
