"""From a dump of a guest with a linear p2m list to its boot (linear-spec L3).

Where the file shows the page tables, leaves and tables lie where it has them; what it does not show
is placed in pages that the guest has.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, signed_word
from p2mbatch.dumps.audit.area import AreaTables
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.importing.boot_pages import MISSING, ONE_TO_ONE, REAL, LinearBoot, boot_order
from p2mbatch.dumps.importing.boot_state import BootState, first_named
from p2mbatch.dumps.importing.pool import SPARE_POOL_PAGES
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.linear_shape import BLOCK_PFNS, USUAL_VADDR
from p2mbatch.model.policies import Policy
from p2mbatch.model.runs import page_runs, true_runs
from p2mbatch.model.trace_linear import IDENTITY, LinearLayout

_LEAF = 512

_INVALID_WORD = (1 << 64) - 1


def with_identity(guest: DumpGuest, area: AreaTables | None, entries: Int64Array) -> None:
    """Write into `entries` (int64[span]) the 1:1 values of the slots that map `p2m_identity`.

    That page's own words, which a reader finds, are INVALID.
    """
    if area is None or guest.shared_info is None:
        return
    identity = area.identity_page(guest.shared_info.max_pfn)
    slots = area.leaves[: entries.size // _LEAF]
    for slot in np.flatnonzero(slots == identity).tolist() if identity >= 0 else []:
        first = slot * _LEAF
        entries[first : first + _LEAF] = np.arange(first, first + _LEAF) | IDENTITY


def linear_boot(
    guest: DumpGuest,
    walk: Walk,
    policy: Policy,
    area: AreaTables | None,
    entries: Int64Array,
    own: BoolArray,
) -> BootState:
    """Return how `guest` boots under a linear `policy`.

    `entries` int64[span] are the file's, `own` bool[span] those that are frames of the guest's.
    Raises `InputError` where the guest has not the pages that its boot takes, and where its list
    lies where the kernel's can't.
    """
    if not own.any():
        raise InputError(f"{guest.name}: no page is populated: there is no guest to import")
    end = entries.size
    vaddr = walk.linear.vaddr if walk.linear is not None else USUAL_VADDR
    if vaddr % (1 << 21) or vaddr + 8 * max(end, BLOCK_PFNS) >= 1 << 64:
        raise InputError(
            f"{guest.name}: its linear list begins at {vaddr:#x}: Linux has it at a multiple of "
            "2 MiB, with room behind"
        )
    identity = entries == np.arange(end) | IDENTITY
    boot = _boot(policy, entries, identity, area, vaddr, _grown_past(guest, policy, area, end))
    named = first_named(entries[: boot.nr_pages], own[: boot.nr_pages])
    booted = np.where(named, entries[: boot.nr_pages], INVALID)
    others = (entries[: boot.nr_pages] != INVALID) & ~identity[: boot.nr_pages] & ~named
    others[boot.lone] = True
    top = int(entries.max(where=own, initial=0)) + 1
    booted[others] = top + np.arange(np.count_nonzero(others))
    marked = identity.copy()
    marked[boot.lone], marked[boot.size :] = False, False
    after = np.full(end, INVALID, np.int64)
    after[: boot.nr_pages] = booted
    after[marked] = entries[marked]
    after[boot.size :] = np.arange(boot.size, end) | IDENTITY
    for first, count in boot.extra.tolist():
        after[first : first + count] = INVALID
    layout = _layout(guest, walk, policy, boot, area, true_runs(marked), named)
    frames = top + int(np.count_nonzero(others))
    return BootState(layout, booted, frames, after)


def _boot(
    policy: Policy,
    entries: Int64Array,
    identity: BoolArray,
    area: AreaTables | None,
    vaddr: int,
    past: int,
) -> LinearBoot:
    """Return what boots, what is extra memory: so that the kernel reports the file's max_pfn.

    Source: linear-spec L3 and L5, the hint. A 4.3 kernel reports the first extra PFN of the last
    slot that its extra memory made grow; `past` is how much extra memory there is from there on.
    """
    end = entries.size
    whole = end // _LEAF * _LEAF if policy.ends_within else end
    shown = np.flatnonzero(entries[:whole] != INVALID)
    if not shown.size:
        shown, whole = np.flatnonzero(entries != INVALID), end
    nr_pages = int(shown[-1]) + 1
    size = -(-nr_pages // _LEAF) * _LEAF
    runs = [(size, whole - size)]
    if past and end >= size:
        runs.append((end, past))
    extra = np.array([run for run in runs if run[1] > 0], np.int64).reshape(-1, 2)
    reach = int(extra.sum(axis=1).max(initial=size))
    num_blocks = max(-(-reach // BLOCK_PFNS), area.num_blocks if area is not None else 0)
    kinds = np.zeros(size // _LEAF, np.int64)
    filled = np.append(entries[:size], np.full(max(size - end, 0), INVALID, np.int64))
    slots = filled.reshape(-1, _LEAF)
    kinds[(slots == INVALID).all(axis=1)] = MISSING
    marked = np.append(identity[:size], np.zeros(max(size - end, 0), np.bool_))
    kinds[marked.reshape(-1, _LEAF).all(axis=1)] = ONE_TO_ONE
    has_leaf = np.zeros(kinds.size, np.bool_)
    if area is not None:
        known = min(kinds.size, area.shared.size)
        has_leaf[:known] = ~area.shared[:known]
    # A set takes the frame away again: the slot is uniform, and the file has a leaf of its own.
    lone = np.flatnonzero(has_leaf & (kinds != REAL))
    kinds[has_leaf] = REAL
    lone = lone[lone < nr_pages // _LEAF] * _LEAF
    return LinearBoot(nr_pages, extra, num_blocks, kinds, vaddr, lone)


def _grown_past(guest: DumpGuest, policy: Policy, area: AreaTables | None, end: int) -> int:
    """Return how many pages from PFN `end` on, the guest's max_pfn, are extra memory in its leaf.

    0 where the kernel reports the end of a leaf, or the file shows that none lies there.
    """
    if not policy.ends_within:
        return 0
    slot, first = end // _LEAF, end % _LEAF
    if area is None or slot >= area.leaves.size or area.leaves[slot] < 0:
        return int(first > 0)
    if area.shared[slot]:
        return 0
    page = guest.pages.read(int(area.leaves[slot]))
    if page is None or not page.complete:
        return 1
    others = np.flatnonzero(page.words[first:] != INVALID)
    return max(int(others[0]) if others.size else _LEAF - first, 1)


def _layout(
    guest: DumpGuest,
    walk: Walk,
    policy: Policy,
    boot: LinearBoot,
    area: AreaTables | None,
    identity: Int64Array,
    named: BoolArray,
) -> LinearLayout:
    """Return the layout; `named` bool[nr_pages] are pages that boot with their own frame."""
    shared = guest.shared_info
    no_list = (
        not policy.whole_area and shared is not None and shared.frame_list_list_mfn == _INVALID_WORD
    )
    limit = guest.geometry.direct_map_limit_pages
    directmap = min(max(guest.max_p2m_pfn, boot.nr_pages), limit)
    free = named.copy()
    free[directmap:] = False
    wanted = np.array(boot_order(guest, policy, boot, area, listed=not no_list), np.int64)
    wanted = np.append(wanted, area.pages[4, 0] if area is not None else -1)
    # Of pages named twice the first counts; what the guest has not, or booted without, never.
    good = (wanted >= 0) & (wanted < boot.nr_pages)
    good[good] = free[wanted[good]]
    repeated = np.ones(wanted.size, np.bool_)
    repeated[np.unique(wanted, return_index=True)[1]] = False
    wanted[~good | repeated] = -1
    free[wanted[wanted >= 0]] = False
    num_list = -(-boot.nr_pages // _LEAF)
    stretches = true_runs(free)
    fitting = stretches[stretches[:, 1] >= num_list]
    if not len(fitting):
        raise InputError(
            f"{guest.name}: a boot with {boot.nr_pages} pages needs {num_list} populated pages in "
            f"a row, the guest has {int(stretches[:, 1].max(initial=0))} at most"
        )
    mfn_list = int(fitting[0, 0])
    free[mfn_list : mfn_list + num_list] = False
    # The first pages of a real guest are taken by what the builder put there: they come last.
    spare = np.flatnonzero(free)
    spare = np.roll(spare, -int(np.searchsorted(spare, mfn_list)))
    lacking = np.flatnonzero(wanted < 0)
    if lacking.size > spare.size:
        raise InputError(
            f"{guest.name}: its boot takes {wanted.size} pages, and only "
            f"{wanted.size - lacking.size + spare.size} are free for that below PFN {boot.nr_pages}"
        )
    wanted[lacking] = spare[: lacking.size]
    pool = spare[lacking.size :][: SPARE_POOL_PAGES + 3 + boot.num_blocks]
    return LinearLayout(
        word_bytes=8,
        nr_pages=boot.nr_pages,
        max_p2m_pfn=boot.num_blocks * BLOCK_PFNS,
        mfn_list_pfn=mfn_list,
        brk_pfn=0,
        brk_pages=0,
        page_pool=page_runs(pool),
        directmap_pages=directmap,
        pgd_pfn=int(wanted[-1]),
        boot_pool=page_runs(wanted[:-1]),
        p2m_vaddr=signed_word(boot.vaddr),
        virt_p2m_4tools=no_list,
        identity=identity,
        extra=boot.extra,
    )
