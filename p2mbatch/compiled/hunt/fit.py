"""What a set may do in a guest's present state: the world that a hunt keeps to.

Sets take frames that are nobody's, on no structure or pool page, each once in an event; identity
comes by whole leaves. A run that asks for more is shortened, given other frames, or left out, in
place: what is written out as a trace is what was lived.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hunt.kinds import FLAT, Kind
from p2mbatch.compiled.hunt.places import first_taken
from p2mbatch.compiled.hunt.program import Program
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.tables import HostTables

MOST_LOOKS = 4096
"""Frames that are looked at for free ones."""

FRAME, HOLE, FOREIGN, IDENTITY = range(4)


@inner_kernel
def meaning(kind: Kind, word: int) -> int:
    """Return what kind of word a set writes."""
    if word == INVALID:
        return as_int(HOLE)
    if word & kind.foreign_bit != 0:
        return as_int(FOREIGN)
    if word & kind.identity_bit != 0:
        return as_int(IDENTITY)
    return as_int(FRAME)


@inner_kernel
def fit_set(
    kind: Kind, program: Program, k: int, h: HostTables, taken: Int64Array, num_taken: int
) -> int:
    """Fit the runs of event `k` to a guest on host `h`; return how many are left."""
    never_inline()
    event, runs = program.events[k], program.runs[k]
    left = as_int(0)
    for r in range(event.num_runs):
        runs[left, 0], runs[left, 1], runs[left, 2] = runs[r, 0], runs[r, 1], runs[r, 2]
        if _fits(kind, program, runs, left, h, taken, num_taken):
            left += 1
    event.num_runs = left
    return left


@inner_kernel
def _fits(
    kind: Kind,
    program: Program,
    runs: Int64Array,
    r: int,
    h: HostTables,
    taken: Int64Array,
    num_taken: int,
) -> bool:
    """Fit run `r`, those before it being fit; return whether anything of it is left."""
    never_inline()
    reach = program.guest[0].reach
    run = runs[r]
    what = meaning(kind, run[1])
    if not 0 <= run[0] < reach:
        return False
    end = first_taken(taken, num_taken, run[0], min(run[0] + run[2], reach))
    if what == IDENTITY:
        n = as_int(4096 // kind.word_bytes)
        run[2] = (end - run[0]) // n * n
        run[1] = run[0] | kind.identity_bit
        return bool(
            run[2] > 0 and run[0] & (n - 1) == 0 and (kind.marks != 0 or kind.family == FLAT)
        )
    run[2] = end - run[0]
    if run[2] <= 0:
        return False
    return what != FRAME or _free_frames(runs, r, h)


@inner_kernel
def _free_frames(runs: Int64Array, r: int, h: HostTables) -> bool:
    """Give run `r` frames that are nobody's, from those it asks for on; whether there are any."""
    never_inline()
    frames = h.par[0].frames
    run = runs[r]
    mfn = run[1] if 1 <= run[1] < frames else as_int(1)
    begin = mfn
    length = as_int(0)
    for _ in range(MOST_LOOKS):
        if mfn + length >= frames:
            mfn, length = as_int(1), as_int(0)
        at = mfn + length
        if h.owned[at] != 0 or h.m2p[at] != INVALID or _is_given(runs, r, at):
            mfn, length = at + 1, as_int(0)
        else:
            length += 1
            if length == run[2]:
                run[1] = mfn
                return True
        if mfn + length == begin:
            break
    # No stretch as long: one page, if there is any.
    if run[2] == 1:
        return False
    run[2] = 1
    return _one_frame(runs, r, h)


@inner_kernel
def _one_frame(runs: Int64Array, r: int, h: HostTables) -> bool:
    """Give run `r` of one page a frame that is nobody's; return whether there is one."""
    frames = h.par[0].frames
    begin = runs[r, 1] if 1 <= runs[r, 1] < frames else as_int(1)
    for step in range(min(frames, as_int(MOST_LOOKS))):
        mfn = begin + step
        if mfn >= frames:
            mfn -= frames - 1
        is_free = mfn < frames and h.owned[mfn] == 0 and h.m2p[mfn] == INVALID
        if is_free and not _is_given(runs, r, mfn):
            runs[r, 1] = mfn
            return True
    return False


@inner_kernel
def _is_given(runs: Int64Array, r: int, mfn: int) -> bool:
    """Return whether a run before `r` gives a frame already."""
    given = False
    for k in range(r):
        given = given or 0 <= runs[k, 1] <= mfn < runs[k, 1] + runs[k, 2]
    return given
