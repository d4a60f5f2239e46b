"""The toolstack's tree walk: the mfn list list as Xen 4.7 reads and checks it, or an older one."""

from __future__ import annotations

from oracle.ends import SaveFailed
from oracle.eras.machine import Found, Machine

MASK64 = (1 << 64) - 1


def contents(guest: Machine, mfn: int) -> list[int]:
    """The words of the page that one of the guest's own frames holds."""
    return guest.page(guest.host.m2p[mfn])


def tree_walk(guest: Machine, fll_mfn: int, shared_max_pfn: int) -> tuple[int, list[int]]:
    """Return the max_pfn that stands after the trim, and the MFN of each leaf.

    4.6 trims nothing, and those before look at no number but a 0 of the list list (history.md
    section 11).
    """
    looks, trims = guest.tool != "legacy", guest.tool in ("4.7", "tree")
    n, frames, owned = guest.n, guest.host.frames, guest.host.owned
    max_pfn = (shared_max_pfn - 1) & MASK64
    if max_pfn // n**2 + 1 > n:
        raise SaveFailed(f"max_pfn-too-large {max_pfn}")
    if fll_mfn == 0 or (looks and not 0 < fll_mfn <= frames):
        raise SaveFailed(f"bad-fll-mfn {fll_mfn}")
    if fll_mfn not in owned:
        raise SaveFailed(f"map-fll-failed {fll_mfn}")
    fll = contents(guest, fll_mfn)[: max_pfn // n**2 + 1]
    for x, mfn in enumerate(fll):
        if looks and not 0 < mfn <= frames:
            raise SaveFailed(f"bad-mfn-in-fll {x}")
    start = len(fll) - 1
    while trims and start > 0 and fll[start - 1] == fll[-1]:
        start -= 1
    max_pfn = min(max_pfn, (start + 1) * n**2 - 1)
    fll = fll[: max_pfn // n**2 + 1]
    for x, mfn in enumerate(fll):
        if mfn not in owned:
            raise SaveFailed(f"map-fl-failed {x}")
    fl = [word for mfn in fll for word in contents(guest, mfn)][: max_pfn // n + 1]
    for x, mfn in enumerate(fl):
        if looks and not 0 < mfn <= frames:
            raise SaveFailed(f"bad-mfn-in-fl {x}")
    return max_pfn, fl


def names_itself(guest: Machine, mfn: int, max_pfn: int, leaves: list[int]) -> bool:
    """Whether m2p gives a PFN for `mfn` that the p2m, read through these leaves, gives it for."""
    pfn = guest.host.m2p.get(mfn, guest.invalid)
    return pfn <= max_pfn and guest.page(leaves[pfn // guest.n])[pfn % guest.n] == mfn


def map_leaves(guest: Machine, max_pfn: int, frames: list[int]) -> Found:
    """The checks that every walk ends in."""
    for x, mfn in enumerate(frames):
        if mfn not in guest.host.owned:
            raise SaveFailed(f"map-leaves-failed {x}")
    leaves = [guest.host.m2p[mfn] for mfn in frames]
    for x, mfn in enumerate(frames):
        if not names_itself(guest, mfn, max_pfn, leaves):
            raise SaveFailed(f"bad-mfn-in-p2m-frame-list {x}")
    return Found(max_pfn, leaves)
