"""A restore of `p2m_identity` on a function host, once a `set` has written into it.

Source: policies-spec P0 and P4. That page is read at each leaf which the list names it for, and
written at each of them, the last one staying. So one frame there asks for one on the new host for
every 1:1 PFN at its place, and each of those gets it; `HostTables.owned` tells whose they are.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.loops import all_invalid
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import page_code, page_word
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.save import is_shared
from p2mbatch.compiled.tables import SHARED_OWN, HostTables, P2MTables


@inner_kernel
def is_dirty(t: P2MTables) -> bool:
    """Return whether there is a `p2m_identity` and not all of it is INVALID."""
    slot = page_code(t, t.state[0].identity)
    return slot >= 0 and not all_invalid(t.words[slot])


@inner_kernel
def identity_without_frame(
    t: P2MTables, h: HostTables, to: HostTables, old: Int64Array, max_pfn: int
) -> int:
    """Return the lowest 1:1 PFN up to `max_pfn` that is sent and has no frame on `to`.

    `max_pfn` + 1 where there is none. `old` (int64[n]) gets the words that are sent, INVALID
    elsewhere.
    """
    never_inline()
    state = t.state[0]
    n = t.words.shape[1]
    slot = page_code(t, state.identity)
    state.identity_mfn = mfn_of(t, h, state.identity)
    none_sent = True
    for i in range(n):
        sent = own_pfn(t, h, t.words[slot, i]) >= 0
        old[i] = t.words[slot, i] if sent else INVALID
        none_sent = none_sent and not sent
    if none_sent:
        return max_pfn + 1
    for x in range(max_pfn // n + 1):
        if not _was_found(t, h, x):
            continue
        for i in range(min(n, max_pfn + 1 - x * n)):
            if old[i] != INVALID and given_frame(to.par[0], x * n + i) == INVALID:
                return x * n + i
    return max_pfn + 1


@inner_kernel
def restore_identity(t: P2MTables, to: HostTables, old: Int64Array, max_pfn: int) -> None:
    """Overwrite `p2m_identity` as each leaf that the list named it for; `old` is what was sent."""
    never_inline()
    n = t.words.shape[1]
    slot = page_code(t, t.state[0].identity)
    for x in range(max_pfn // n + 1):
        if not _was_found(t, to, x):
            continue
        for i in range(min(n, max_pfn + 1 - x * n)):
            t.words[slot, i] = INVALID
            if old[i] != INVALID:
                t.words[slot, i] = given_frame(to.par[0], x * n + i)
                if x * n + i < len(to.owned):
                    to.owned[x * n + i] |= SHARED_OWN


@inner_kernel
def _was_found(t: P2MTables, h: HostTables, x: int) -> bool:
    """Return whether the list that was saved names `p2m_identity` for leaf `x`.

    The list's pages are ordinary ones to a restore: they name what they named.
    """
    state = t.state[0]
    if x >= state.num_leaves or not is_shared(t, as_int(t.leaf_page[x])):
        return False
    shift = state.entries_shift
    word = page_word(t, h, t.true_mid_mfn[x >> shift], x & ((1 << shift) - 1))
    return word == state.identity_mfn
