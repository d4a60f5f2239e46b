"""A child of a life that reached something new: the same life but for a change or three."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.compiled.dice import below, between, one_in, one_of
from p2mbatch.compiled.hunt.draw_events import draw_event, draw_run
from p2mbatch.compiled.hunt.draw_hosts import draw_host
from p2mbatch.compiled.hunt.kinds import FLAT, Kind
from p2mbatch.compiled.hunt.places import edge, note_taken
from p2mbatch.compiled.hunt.program import (
    FAIL_ALLOC,
    MAX_EVENTS,
    MAX_HOSTS,
    MAX_RUNS,
    MIGRATE,
    SET,
    Program,
    copy_event,
)
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline

_CHANGES = np.array([1, 1, 1, 2, 2, 3])

_MORE, _OTHER, _DROP, _TWICE, _HOST, _NUDGE, _GUEST = range(7)
_WHAT = np.array(
    [_MORE, _MORE, _OTHER, _DROP, _TWICE, _HOST, _HOST, _NUDGE, _NUDGE, _NUDGE, _GUEST]
)


@inner_kernel
def breed(kind: Kind, dice: UInt64Array, program: Program, taken: Int64Array) -> None:
    """Change a life, a copy of its parent's, in place; `taken` (int64[16, 2]) is a workspace."""
    never_inline()
    num_taken = note_taken(kind, program, taken)
    for _ in range(one_of(dice, _CHANGES)):
        _change(kind, dice, program, taken, num_taken)


@inner_kernel
def _change(
    kind: Kind, dice: UInt64Array, program: Program, taken: Int64Array, num_taken: int
) -> None:
    """Make one change."""
    never_inline()
    guest = program.guest[0]
    what = one_of(dice, _WHAT)
    k = between(dice, 1, max(guest.num_events - 1, 1))
    if what == _GUEST:
        _change_guest(kind, dice, program)
    elif what == _HOST:
        _change_host(kind, dice, program, taken, num_taken)
    elif what == _MORE or guest.num_events < 2:
        if guest.num_events < MAX_EVENTS:
            guest.num_events += 1
            draw_event(kind, dice, program, guest.num_events - 1, _host_at(program, k))
    elif what == _OTHER:
        draw_event(kind, dice, program, k, _host_at(program, k))
    elif what == _DROP:
        for at in range(k, guest.num_events - 1):
            copy_event(program, at + 1, program, at)
        guest.num_events -= 1
    elif what == _TWICE:
        if guest.num_events < MAX_EVENTS:
            for at in range(guest.num_events, k, -1):
                copy_event(program, at - 1, program, at)
            guest.num_events += 1
    else:
        _nudge(kind, dice, program, k)


@inner_kernel
def _host_at(program: Program, k: int) -> int:
    """Return which host the guest is on when event `k` comes."""
    here = as_int(program.events[0].host)
    for at in range(1, k):
        if program.events[at].op == MIGRATE:
            here = as_int(program.events[at].host)
    return here


@inner_kernel
def _change_host(
    kind: Kind, dice: UInt64Array, program: Program, taken: Int64Array, num_taken: int
) -> None:
    """Draw a host anew, or one more that a migration then goes to."""
    guest = program.guest[0]
    i = below(dice, guest.num_hosts)
    if guest.num_hosts < MAX_HOSTS and one_in(dice, 2):
        i = as_int(guest.num_hosts)
        guest.num_hosts += 1
    draw_host(kind, dice, program, i, taken, num_taken)
    for k in range(1, guest.num_events):
        if program.events[k].op == MIGRATE and one_in(dice, 2):
            program.events[k].host = i


@inner_kernel
def _nudge(kind: Kind, dice: UInt64Array, program: Program, k: int) -> None:
    """Change a number of an event."""
    event = program.events[k]
    if event.op == FAIL_ALLOC:
        event.at = max(event.at + between(dice, -1, 1), 0)
    elif event.op == MIGRATE:
        event.host = below(dice, program.guest[0].num_hosts)
    elif event.op == SET:
        here = _host_at(program, k)
        if event.num_runs < MAX_RUNS and one_in(dice, 3):
            event.num_runs += 1
            draw_run(kind, dice, program, program.runs[k, event.num_runs - 1], here)
            return
        run = program.runs[k, below(dice, event.num_runs)]
        what = below(dice, 4)
        if what == 0:
            run[0] = edge(kind, dice, program)
        elif what == 1:
            run[0] += between(dice, -2, 2)
        elif what == 2:
            run[2] = between(dice, 1, 5)
        else:
            draw_run(kind, dice, program, run, here)


@inner_kernel
def _change_guest(kind: Kind, dice: UInt64Array, program: Program) -> None:
    """Change a number of the guest that its hosts need not know of."""
    never_inline()
    guest = program.guest[0]
    what = below(dice, 4)
    n = as_int(4096 // kind.word_bytes)
    if what == 0 and guest.num_pool > 0:
        pool = program.pool[below(dice, guest.num_pool)]
        pool[1] = between(dice, 1, pool[1])
    elif what == 1 and guest.num_pool > 0:
        guest.num_pool -= 1
    elif what == 2 and kind.family != FLAT and kind.two_level == 0:
        span = max(edge(kind, dice, program), guest.nr_pages)
        guest.max_p2m_pfn = min(span, guest.reach)
    elif what == 2 and kind.family == FLAT and kind.whole_area == 0:
        guest.told = 1 - guest.told
    elif guest.num_ranges > 0 and kind.family != FLAT:
        # Only up: behind a range's start there is no structure.
        bound = program.ranges[below(dice, guest.num_ranges)]
        step = n if one_in(dice, 2) else n * n
        stop = (bound[1] + step - 1) // step * step
        if stop <= 3 * n * n:
            bound[1] = stop
