"""Hosts for random lives: each names a frame for every PFN that the life may set.

What goes wrong after a migration is rare on a host drawn blindly: an old frame that is the guest's
own again, or a neighbour's whose PFN is that of one of the guest's tables. So structures are aimed
at. Frame 0 is given to nobody: it is Xen's own.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.compiled.dice import below, between, one_in, one_of
from p2mbatch.compiled.hunt.kinds import Kind
from p2mbatch.compiled.hunt.places import any_page, structure
from p2mbatch.compiled.hunt.program import (
    KEEPING_XENS,
    MAX_DOMAIN,
    MAX_FOREIGN,
    NOT_SAID,
    XENS,
    Program,
    copy_host,
)
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline

MOST_FRAMES_APART = 8192
"""Only hosts of fewer frames lie wholly apart from one before."""

MOST_FRAMES_KEEPING = 1 << 19
"""Only hosts of fewer frames keep the words of frames that are freed."""

_NUM_XENS = len(XENS)
_CUTS = np.array([0, 0, 1, 2, 3, 4])
_GAPS = np.array([0, 0, 1, 1, 9, 40])
_SPARE = np.array([2, 9, 70, 70, 300])
_SWAPS = np.array([0, 0, 0, 1, 1, 3])
_AIMED = np.array([0, 0, 1, 1, 2, 4])

_PLACED, _LIKE, _APART = range(3)
_SHAPES = np.array([_PLACED, _PLACED, _LIKE, _APART, _APART])
_SHAPES_UNBUILT = np.array([_PLACED, _LIKE, _LIKE, _LIKE, _APART])
"""Of a list that is never rebuilt only a host that gives the same frames gets past the checks."""


@inner_kernel
def draw_host(
    kind: Kind, dice: UInt64Array, program: Program, i: int, taken: Int64Array, num_taken: int
) -> None:
    """Draw the `i`-th host; those before it are drawn."""
    never_inline()
    shape = as_int(_PLACED)
    if i > 0:
        shape = one_of(dice, _SHAPES if kind.rebuilds != 0 else _SHAPES_UNBUILT)
    host = program.hosts[i]
    before = below(dice, max(i, 1))
    if shape == _LIKE:
        copy_host(program, before, program, i)
        host.frames += 12 * below(dice, 2)
    else:
        first = as_int(1)
        if shape == _APART and program.hosts[before].frames <= MOST_FRAMES_APART // 2:
            first = program.hosts[before].frames
        _place(dice, program, i, first, taken, num_taken)
    for _ in range(one_of(dice, _SWAPS)):
        a = any_page(dice, program, taken, num_taken)
        _swap(program, i, a, any_page(dice, program, taken, num_taken))
    if shape != _LIKE and one_in(dice, 2):
        _draw_neighbours(dice, program, i, before, taken, num_taken)
    if i > 0:
        for _ in range(one_of(dice, _AIMED)):
            _aim(dice, program, i, taken, num_taken)
    _draw_map(dice, program, i)


@inner_kernel
def _place(
    dice: UInt64Array, program: Program, i: int, mfn: int, taken: Int64Array, num_taken: int
) -> None:
    """Give the PFNs frames from `mfn` on: pieces in any order, with spare frames between."""
    never_inline()
    host, domain = program.hosts[i], program.domain[i]
    reach = program.guest[0].reach
    cuts = one_of(dice, _CUTS)
    domain[0, 0] = 0
    count = as_int(1)
    for _ in range(cuts):
        # Kept in order as they come.
        pfn = any_page(dice, program, taken, num_taken)
        at = count
        while at > 0 and domain[at - 1, 0] > pfn:
            at -= 1
        if domain[at - 1, 0] == pfn:
            continue
        for k in range(count, at, -1):
            domain[k, 0] = domain[k - 1, 0]
        domain[at, 0] = pfn
        count += 1
    for k in range(count):
        stop = domain[k + 1, 0] if k + 1 < count else reach
        domain[k, 2] = stop - domain[k, 0]
        domain[k, 1] = -1
    mfn += one_of(dice, _GAPS)
    for left in range(count, 0, -1):
        turn = below(dice, left)
        for k in range(count):
            if domain[k, 1] < 0:
                if turn == 0:
                    domain[k, 1] = mfn
                    mfn += domain[k, 2] + one_of(dice, _GAPS)
                    break
                turn -= 1
    host.num_domain = count
    host.num_foreign = 0
    host.frames = mfn + one_of(dice, _SPARE)


@inner_kernel
def frame_of(domain: Int64Array, count: int, pfn: int) -> int:
    """Return the frame that a host's runs name for a PFN, or -1."""
    for k in range(count):
        if domain[k, 0] <= pfn < domain[k, 0] + domain[k, 2]:
            return domain[k, 1] + pfn - domain[k, 0]
    return as_int(-1)


@inner_kernel
def _pfn_of(domain: Int64Array, count: int, mfn: int) -> int:
    """Return the PFN that a host's runs name a frame for, or -1."""
    for k in range(count):
        if domain[k, 1] <= mfn < domain[k, 1] + domain[k, 2]:
            return domain[k, 0] + mfn - domain[k, 1]
    return as_int(-1)


@inner_kernel
def _split(program: Program, i: int, pfn: int) -> int:
    """Make PFN `pfn` a run of its own; return which, or -1 where no run has it or more fit."""
    never_inline()
    host, domain = program.hosts[i], program.domain[i]
    if host.num_domain + 2 > MAX_DOMAIN:
        return as_int(-1)
    k = as_int(0)
    while k < host.num_domain and domain[k, 0] + domain[k, 2] <= pfn:
        k += 1
    if k == host.num_domain:
        return as_int(-1)
    if domain[k, 0] < pfn:
        _break(program, i, k, pfn - domain[k, 0])
        k += 1
    if domain[k, 2] > 1:
        _break(program, i, k, as_int(1))
    return k


@inner_kernel
def _break(program: Program, i: int, k: int, at: int) -> None:
    """Break run `k` of a host's domain in two, the first of `at` pages."""
    host, domain = program.hosts[i], program.domain[i]
    for j in range(host.num_domain, k, -1):
        for c in range(3):
            domain[j, c] = domain[j - 1, c]
    host.num_domain += 1
    domain[k, 2] = at
    domain[k + 1, 0] += at
    domain[k + 1, 1] += at
    domain[k + 1, 2] -= at


@inner_kernel
def _swap(program: Program, i: int, a: int, b: int) -> None:
    """Let two PFNs change frames, if there is room for the runs."""
    never_inline()
    if a == b or program.hosts[i].num_domain + 4 > MAX_DOMAIN:
        return
    domain = program.domain[i]
    _split(program, i, a)
    y = _split(program, i, b)
    x = _split(program, i, a)
    if x >= 0 and y >= 0:
        domain[x, 1], domain[y, 1] = domain[y, 1], domain[x, 1]


@inner_kernel
def _is_free(program: Program, i: int, mfn: int) -> bool:
    """Return whether a frame is neither the guest's by any run nor another domain's."""
    host = program.hosts[i]
    if not 0 < mfn < host.frames or _pfn_of(program.domain[i], host.num_domain, mfn) >= 0:
        return False
    for k in range(host.num_foreign):
        run = program.foreign[i, k]
        if run[0] <= mfn < run[0] + run[2]:
            return False
    return True


@inner_kernel
def _add_foreign(program: Program, i: int, mfn: int, pfn: int, count: int) -> None:
    """Give frames to another domain, whose PFNs count up from `pfn`."""
    host = program.hosts[i]
    if host.num_foreign == MAX_FOREIGN or count <= 0:
        return
    run = program.foreign[i, host.num_foreign]
    run[0] = mfn
    run[1] = pfn
    run[2] = count
    host.num_foreign += 1


@inner_kernel
def _draw_neighbours(
    dice: UInt64Array, program: Program, i: int, before: int, taken: Int64Array, num_taken: int
) -> None:
    """Give gaps between the guest's frames to others, so that an old frame leads to our choice."""
    never_inline()
    host, domain = program.hosts[i], program.domain[i]
    mfn = as_int(1)
    while mfn < host.frames:
        # The end of the gap that begins here, if one does.
        stop = host.frames
        inside = False
        for k in range(host.num_domain):
            first = domain[k, 1]
            if first <= mfn < first + domain[k, 2]:
                inside = True
                stop = first + domain[k, 2]
            elif mfn < first and not inside:
                stop = min(stop, first)
        if not inside and not one_in(dice, 3):
            # Some frames at the end of each gap stay nobody's: sets take them.
            count = stop - mfn - min(between(dice, 0, 8), (stop - mfn) // 2)
            _fill_gap(dice, program, i, before, mfn, count, taken, num_taken)
        mfn = stop


@inner_kernel
def _fill_gap(
    dice: UInt64Array,
    program: Program,
    i: int,
    before: int,
    mfn: int,
    count: int,
    taken: Int64Array,
    num_taken: int,
) -> None:
    """Give `count` frames from `mfn` on to another domain."""
    guest = program.guest[0]
    pfn = below(dice, guest.nr_pages)
    if i > 0:
        page = structure(dice, taken, num_taken)
        old = frame_of(program.domain[before], program.hosts[before].num_domain, page)
        aimed = any_page(dice, program, taken, num_taken) - (old - mfn)
        if aimed >= 0 and mfn <= old < mfn + count:
            pfn = aimed
    _add_foreign(program, i, mfn, pfn, count)


@inner_kernel
def _aim(dice: UInt64Array, program: Program, i: int, taken: Int64Array, num_taken: int) -> None:
    """Make a frame that a structure had on a host before lead to a page of our choice."""
    never_inline()
    before = below(dice, i)
    page = structure(dice, taken, num_taken)
    old = frame_of(program.domain[before], program.hosts[before].num_domain, page)
    target = any_page(dice, program, taken, num_taken)
    host = program.hosts[i]
    holder = _pfn_of(program.domain[i], host.num_domain, old)
    if holder >= 0:
        _swap(program, i, holder, target)
    elif _is_free(program, i, old):
        _add_foreign(program, i, old, target, as_int(1))


@inner_kernel
def _draw_map(dice: UInt64Array, program: Program, i: int) -> None:
    """Draw what is said of the m2p, mostly nothing."""
    never_inline()
    host = program.hosts[i]
    host.xen = below(dice, _NUM_XENS) if one_in(dice, 4) else as_int(0)
    # An m2p that keeps words is cleared whole for the next life: of large hosts some keep them, of
    # the largest none.
    is_large = host.frames > MOST_FRAMES_APART and not one_in(dice, 8)
    if 1 <= host.xen <= KEEPING_XENS and (is_large or host.frames > MOST_FRAMES_KEEPING):
        host.xen = as_int(0)
    host.m2p_order = NOT_SAID
    host.m2p_entries = NOT_SAID
    if one_in(dice, 12):
        host.m2p_order = between(dice, 12, 32)
    if one_in(dice, 10):
        host.m2p_entries = between(dice, 1, host.frames)
