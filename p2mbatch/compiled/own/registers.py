"""Where a policy of one's own keeps its static variables, and how a call of it is stopped.

`P2MTables.statics` begins with registers (`R_`): what the last reads were, so that the next store
can be told from a stray one, and where in the user's file a call stopped. Behind them lie the
pointers that the model knows too (`K_`), kept as addresses, and then the user's own variables.
"""

from __future__ import annotations

from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.pages import address, room_left
from p2mbatch.compiled.status import FAULT_TOP, OK, OWN
from p2mbatch.compiled.tables import (
    NO_PAGE,
    STATIC_WORDS,
    P2MTables,
)

# R_STEPS: loops' rounds that are left. R_STATUS, R_LINE, R_SITE: why a call stopped, in which line
# of the user's file, at which BUG. R_STRAY_LINE: the line of the event's first stray write.
# R_FOUND: the address that `mfn_to_virt` returned last; R_FOUND_TOP: the top index whose entry of
# `p2m_top_mfn` it was asked for. R_TOP, R_TOP_WORD: the entry of `p2m_top_mfn` read last.
# R_PAGE, R_MFN: the page that `virt_to_mfn` was asked for last, and its answer; R_PAGE_2, R_MFN_2:
# those of the time before. R_COUNTED: the entry of `p2m_top_mfn` that was counted last.
# R_OWN_TREE: 1 under a policy that looks PFNs up in its own way; R_DIRTY: 1 where what its lookups
# go through has changed; R_MARK: 1 while its way is being found out; R_LAST: the page read last.
# R_SET_PFN, R_SET_MFN: the entry that is being set, or -1. R_MAX_DOMAIN: `MAX_DOMAIN_PAGES` where
# it is another than by default. R_SLOTS: how many slots the tables may have when the call ends.
(
    R_STEPS,
    R_STATUS,
    R_LINE,
    R_SITE,
    R_STRAY_LINE,
    R_FOUND,
    R_FOUND_TOP,
    R_TOP,
    R_TOP_WORD,
    R_PAGE,
    R_MFN,
    R_PAGE_2,
    R_MFN_2,
    R_COUNTED,
    R_OWN_TREE,
    R_DIRTY,
    R_MARK,
    R_LAST,
    R_SET_PFN,
    R_SET_MFN,
    R_MAX_DOMAIN,
    R_SLOTS,
) = range(22)

(
    K_MISSING,
    K_MID_MISSING,
    K_TOP,
    K_MID_MISSING_MFN,
    K_TOP_MFN_P,
    K_TOP_MFN,
    K_OWN,
) = range(24, 31)

MAX_OWN = STATIC_WORDS - K_OWN
"""Static variables that a policy of one's own may have."""

# Why a call stopped, beside the codes of `status`.
OWN_BUG, OWN_FAULT, OWN_OUT_OF_PAGE, OWN_STEPS, OWN_ROOM = range(OWN, OWN + 5)

_STEPS, _STEPS_A_LEAF = 1 << 24, 1 << 10

ROOM = 256
"""Pages that one call of a policy may hit, and one more for each top index."""

_MOST_AT_ONCE = 6
"""Slots that hitting one page may take."""

NOWHERE = 1
"""No address of a page, for registers that hold one."""


class Stopped(Exception):
    """A call that does not go on: `statics[R_STATUS]` says why."""


@inner_kernel
def stop(t: P2MTables, status: int, line: int) -> None:
    """End the policy's call with `status` in a line of the user's file."""
    never_inline()
    t.statics[R_STATUS] = status
    t.statics[R_LINE] = line
    raise Stopped


@inner_kernel
def begin(t: P2MTables) -> None:
    """Make all ready for one call of the policy."""
    s, state = t.statics, t.state[0]
    s[R_STEPS] = _STEPS + _STEPS_A_LEAF * state.num_leaves
    s[R_STATUS] = OK
    s[R_SLOTS] = len(t.words)
    s[R_FOUND] = NOWHERE
    s[R_FOUND_TOP] = -1
    s[R_TOP] = -1
    s[R_COUNTED] = -1
    s[R_MFN] = FAULT_TOP
    s[R_MFN_2] = FAULT_TOP
    s[R_SET_PFN] = -1
    s[R_MARK] = 0
    _known(t, K_MISSING, state.missing)
    _known(t, K_MID_MISSING, state.mid_missing)
    _known(t, K_TOP, state.top)
    _known(t, K_MID_MISSING_MFN, state.mid_missing_mfn)
    _known(t, K_TOP_MFN_P, state.top_mfn_p)
    _known(t, K_TOP_MFN, state.top_mfn)


@inner_kernel
def call_room(t: P2MTables) -> int:
    """Return the slots that one call of the policy may take.

    It can't be stopped half way and gone on with. What strays does so once for each top index.
    """
    return ROOM + _MOST_AT_ONCE + (t.state[0].num_leaves >> t.state[0].entries_shift)


@inner_kernel
def bound_hits(t: P2MTables) -> None:
    """Let the call that begins hit so many pages, however much room the guests before it took."""
    t.statics[R_SLOTS] = t.state[0].num_slots + call_room(t)


@inner_kernel
def may_hit(t: P2MTables) -> bool:
    """Return whether the call may hit one more page."""
    return room_left(t) and t.state[0].num_slots + _MOST_AT_ONCE <= t.statics[R_SLOTS]


@inner_kernel
def _known(t: P2MTables, known: int, page: int) -> None:
    """Set the pointer to a structure, which stays NULL while there is none."""
    if page != NO_PAGE:
        t.statics[known] = address(t, page)


@inner_kernel
def step(t: P2MTables, line: int) -> None:
    """Count one round of a loop, so that one without an end is found."""
    t.statics[R_STEPS] -= 1
    if t.statics[R_STEPS] < 0:
        stop(t, OWN_STEPS, line)
