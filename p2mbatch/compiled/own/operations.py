"""The operations of a policy of one's own: the seam's functions around those of the user's file.

This file's text is run once for each policy, in the module that holds the user's functions
(`assemble`); the names with a capital letter are theirs. What it defines is a function of its own
each time, and so has a place of its own in the cache.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.boot import booted, build_tree
from p2mbatch.compiled.grow import populate_each, set_each
from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.own.registers import R_STATUS, begin
from p2mbatch.compiled.status import MORE_ROOM, NO_MEMORY, OK
from p2mbatch.compiled.tables import (
    S_NUM_LEAVES,
    S_NUM_SLOTS,
    S_POSITION,
    HostTables,
    P2MTables,
)


def _of_the_policy(*arguments: object) -> bool:
    """Stand for a function of the user's, which takes this name's place."""
    raise NotImplementedError


XEN_BUILD_MFN_LIST_LIST = _of_the_policy
XEN_POST_SUSPEND = _of_the_policy
XEN_SETUP_MFN_LIST_LIST = _of_the_policy
ALLOC_P2M = _of_the_policy

ROOM = 256
"""Slots that one call of a policy may take: it can't be stopped half way and gone on with."""


@inner_kernel
def _call_build(t: P2MTables, h: HostTables) -> int:
    """Build the list at boot; return OK or why it stopped."""
    begin(t)
    try:
        XEN_BUILD_MFN_LIST_LIST(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _call_resume(t: P2MTables, h: HostTables) -> int:
    """Do what a resume does with the list; return OK or why it stopped."""
    begin(t)
    try:
        XEN_POST_SUSPEND(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _call_report(t: P2MTables, h: HostTables) -> int:
    """Report the list; return OK or why it stopped."""
    begin(t)
    try:
        XEN_SETUP_MFN_LIST_LIST(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Make leaf `x`; return OK, NO_MEMORY or why it stopped."""
    never_inline()
    begin(t)
    try:
        done = ALLOC_P2M(t, h, x * t.words.shape[1])
    except Exception:
        return t.statics[R_STATUS]
    return OK if done else NO_MEMORY


def boot(t: P2MTables, h: HostTables) -> int:
    """Do `Operations.boot`."""
    status = build_tree(t, h)
    if status == OK:
        status = _call_build(t, h)
    if status == OK:
        status = booted(t, h)
    return status


def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `Operations.rebuild`."""
    if x == 0:
        room = min(ROOM, t.state[S_NUM_LEAVES] + 64)
        if t.state[S_NUM_SLOTS] + room > len(t.words):
            t.state[S_POSITION] = 0
            return MORE_ROOM
    return _call_resume(t, h)


def report(t: P2MTables, h: HostTables) -> int:
    """Do `Operations.report`."""
    return _call_report(t, h)


def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `Operations.set_runs`."""
    return set_each(t, h, runs, done, _grow)


def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `Operations.grow_leaves`."""
    return populate_each(t, h, leaves, lazy, first, _grow)
