"""What the toolstack does with a guest: the save's checks, and the restore on the next host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle.ends import Fault, Misdirected, RestoreFailed, SaveFailed
from oracle.hosts import Host

if TYPE_CHECKING:
    from oracle.reference import Machine


def is_bad(guest: Machine, mfn: int) -> bool:
    """Whether the toolstack refuses a number before it tries to map it; max_mfn is `frames`.

    One of Xen 4.5 or older (history.md section 11) looks at none.
    """
    if guest.tool == "legacy":
        return False
    return mfn == 0 or mfn == guest.invalid or mfn > guest.host.frames


def save(guest: Machine) -> tuple[int, list[int]]:
    """Return max_pfn as the toolstack has it at the end, and the leaf PFNs that it found."""
    n, host = guest.n, guest.host

    def contents(mfn: int) -> list[int]:
        return guest.page(host.pfn_of(mfn))

    max_pfn = guest.shared_max_pfn - 1
    if max_pfn // n**2 + 1 > n:
        raise SaveFailed(f"max_pfn-too-large {max_pfn}")
    # The oldest wait for a number that is not 0, and give up.
    if is_bad(guest, guest.shared_fll) or guest.shared_fll == 0:
        raise SaveFailed(f"bad-fll-mfn {guest.shared_fll}")
    if guest.shared_fll not in host.owned:
        raise SaveFailed(f"map-fll-failed {guest.shared_fll}")
    fll = contents(guest.shared_fll)[: max_pfn // n**2 + 1]
    for x, mfn in enumerate(fll):
        if is_bad(guest, mfn):
            raise SaveFailed(f"bad-mfn-in-fll {x}")
    start = len(fll) - 1
    while guest.tool == "4.7" and start > 0 and fll[start - 1] == fll[-1]:
        start -= 1
    max_pfn = min(max_pfn, (start + 1) * n**2 - 1)
    fll = fll[: max_pfn // n**2 + 1]
    for x, mfn in enumerate(fll):
        if mfn not in host.owned:
            raise SaveFailed(f"map-fl-failed {x}")
    fl = [word for mfn in fll for word in contents(mfn)][: max_pfn // n + 1]
    for x, mfn in enumerate(fl):
        if is_bad(guest, mfn):
            raise SaveFailed(f"bad-mfn-in-fl {x}")
    for x, mfn in enumerate(fl):
        if mfn not in host.owned:
            raise SaveFailed(f"map-leaves-failed {x}")
    for x, mfn in enumerate(fl):
        pfn = host.pfn_of(mfn)
        if pfn > max_pfn or contents(fl[pfn // n])[pfn % n] != mfn:
            raise SaveFailed(f"bad-mfn-in-p2m-frame-list {x}")
    return max_pfn, [host.pfn_of(mfn) for mfn in fl]


def check_leaves(guest: Machine, leaves: list[int]) -> None:
    """Compare the leaf pages that the toolstack found with those of the guest's own tree."""
    for x, found in enumerate(leaves):
        try:
            pointer = guest.leaf_pointer(x * guest.n)
            guest.reach(pointer, "p2m_mid entry")
        except Fault:
            raise Misdirected("-") from None
        if guest.pfn_at(pointer) != found:
            raise Misdirected("-")


def restore(guest: Machine, max_pfn: int, leaves: list[int], host: Host) -> None:
    """Move the guest to `host`, or refuse before anything has changed."""
    n, machine, source = guest.n, guest.machine, guest.host
    # Read all before writing any: a page may be found for more than one leaf.
    old = [guest.page(leaf)[: max_pfn + 1 - x * n] for x, leaf in enumerate(leaves)]
    new: list[list[int]] = []
    got: list[tuple[int, int]] = []
    for x, words in enumerate(old):
        new.append([guest.invalid] * len(words))
        if words.count(guest.invalid) == len(words):
            continue
        for i, word in enumerate(words):
            if machine.only_own_frames_are_sent:
                sent = word in source.owned
            else:
                sent = word != guest.invalid
            if not sent:
                continue
            pfn = x * n + i
            if pfn in host.domain:
                new[x][i] = host.domain[pfn]
                got.append((pfn, host.domain[pfn]))
            elif machine.each_sent_page_needs_a_frame:
                raise RestoreFailed(f"populate-failed {pfn}")

    guest.host = host
    for pfn, mfn in got:
        host.give(pfn, mfn)
    guest.present = {pfn for pfn, _ in got}
    for leaf, words in zip(leaves, new, strict=True):
        guest.page(leaf)[: len(words)] = words
    if machine.restore_clears_frame_list_list:
        guest.shared_fll = 0
