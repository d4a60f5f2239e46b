"""Events for random lives. What they may not do in a guest's present state is left out as they
are lived (`fit`)."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.dice import below, between, one_in, one_of
from p2mbatch.compiled.hunt.draw_guest import draw_guest
from p2mbatch.compiled.hunt.draw_hosts import draw_host, frame_of
from p2mbatch.compiled.hunt.fit import FOREIGN, FRAME, HOLE, IDENTITY
from p2mbatch.compiled.hunt.kinds import FLAT, Kind
from p2mbatch.compiled.hunt.places import edge, note_taken
from p2mbatch.compiled.hunt.program import (
    BOOT,
    FAIL_ALLOC,
    MAX_EVENTS,
    MAX_HOSTS,
    MAX_RUNS,
    MIGRATE,
    SET,
    Program,
    new_plan,
)
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline

_NUM_HOSTS = np.array([2, 2, 2, 3, 3, 4])
_NUM_EVENTS = np.array([2, 2, 3, 3, 4, 4, 5, 6, 7, 8])
_OPS = np.array([MIGRATE, MIGRATE, MIGRATE, SET, SET, SET, FAIL_ALLOC])
_FAILED = np.array([0, 0, 1, 1, 1, 2, 3, 4])
_NUM_RUNS = np.array([1, 1, 1, 2, 2, 3])
_COUNTS = np.array([1, 1, 2, 3, 4, 40])

_VALUES = np.array([FRAME] * 6 + [HOLE] * 3 + [FOREIGN] + [IDENTITY] * 2)


@inner_kernel
def draw_program(
    kind: Kind, dice: UInt64Array, program: Program, pieces: Int64Array, taken: Int64Array
) -> None:
    """Draw a whole life. `pieces` (int64[14, 2]) and `taken` (int64[16, 2]) are workspaces."""
    never_inline()
    new_plan(program)
    draw_guest(kind, dice, program, pieces)
    num_taken = note_taken(kind, program, taken)
    guest = program.guest[0]
    guest.num_hosts = min(one_of(dice, _NUM_HOSTS), MAX_HOSTS)
    for i in range(guest.num_hosts):
        draw_host(kind, dice, program, i, taken, num_taken)
    boot = program.events[0]
    boot.op = BOOT
    boot.host = boot.at = boot.num_runs = 0
    guest.num_events = min(1 + one_of(dice, _NUM_EVENTS), MAX_EVENTS)
    here = as_int(0)
    for k in range(1, guest.num_events):
        here = draw_event(kind, dice, program, k, here)


@inner_kernel
def draw_event(kind: Kind, dice: UInt64Array, program: Program, k: int, here: int) -> int:
    """Draw the `k`-th event of a guest that is on host `here`; return where it is then."""
    never_inline()
    event = program.events[k]
    event.op = one_of(dice, _OPS)
    event.host = event.at = event.num_runs = 0
    if event.op == MIGRATE:
        last = program.guest[0].num_hosts - 1
        event.host = min(here + 1, last) if not one_in(dice, 5) else between(dice, 0, last)
        return event.host
    if event.op == FAIL_ALLOC:
        event.at = one_of(dice, _FAILED)
        return here
    event.num_runs = min(one_of(dice, _NUM_RUNS), MAX_RUNS)
    for r in range(event.num_runs):
        draw_run(kind, dice, program, program.runs[k, r], here)
    return here


@inner_kernel
def draw_run(kind: Kind, dice: UInt64Array, program: Program, run: Int64Array, here: int) -> None:
    """Draw one run of a set of a guest that is on host `here`."""
    never_inline()
    guest = program.guest[0]
    n = 4096 // kind.word_bytes
    where = below(dice, 5)
    if where == 0:
        pfn = below(dice, guest.nr_pages)
    elif where == 1:
        pfn = below(dice, guest.reach)
    else:
        pfn = edge(kind, dice, program)
    count = one_of(dice, _COUNTS)
    if one_in(dice, 40):
        count = n
    value = one_of(dice, _VALUES)
    if value == IDENTITY and kind.identity_bit != 0 and (kind.marks != 0 or kind.family == FLAT):
        run[0] = pfn // n * n
        run[1] = run[0] | kind.identity_bit
        run[2] = n * between(dice, 1, 2)
        return
    run[0] = pfn
    run[2] = count
    if value == HOLE:
        run[1] = INVALID
    elif value == FOREIGN:
        run[1] = below(dice, program.hosts[here].frames) | kind.foreign_bit
        run[2] = min(count, 4)
    else:
        # What is not free when it comes to it gives way to the next frames that are.
        run[1] = max(frame_of(program.domain[here], program.hosts[here].num_domain, pfn), 1)
        if one_in(dice, 3):
            run[1] = between(dice, 1, program.hosts[here].frames - 1)
