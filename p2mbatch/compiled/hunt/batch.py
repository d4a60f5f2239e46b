"""Many random lives in one call: no Python for a life, no lock held."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int16Array, UInt64Array
from p2mbatch.compiled.dice import below, one_in, throw
from p2mbatch.compiled.hunt.breed import breed
from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.draw_events import draw_program
from p2mbatch.compiled.hunt.draw_guest import one_in_wide
from p2mbatch.compiled.hunt.kinds import Kind
from p2mbatch.compiled.hunt.life import Told, live
from p2mbatch.compiled.hunt.program import Bank, copy_program, program_of
from p2mbatch.compiled.hunt.room import Room
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.records import OneRecord, record_dtype
from p2mbatch.compiled.status import OK, STOPPED


@dataclasses.dataclass(slots=True, kw_only=True)
class Control:
    """Whether a batch is to stop."""

    stop: int = 0
    """Not 0: give up before the next life. Any thread may set it."""


CONTROL = record_dtype(Control)


ONE_IN_NEW = 3
"""One life in so many is drawn from nothing, though there are lives to be bred on."""

_TURNS = 4


@kernel
def keep(program: Bank, bank: Bank, k: int) -> None:
    """Copy the life of a bank of one over the `k`-th of another."""
    copy_program(program_of(program, 0), program_of(bank, k))


@inner_kernel
def _parent(kind: Kind, dice: UInt64Array, parents: Bank, num_parents: int) -> int:
    """Draw which life is bred on; -1 where one is to be drawn from nothing."""
    if num_parents == 0 or one_in(dice, ONE_IN_NEW):
        return as_int(-1)
    n = 4096 // kind.word_bytes
    for _ in range(_TURNS):
        k = below(dice, num_parents)
        # Those of far PFNs take longer, and are among the first that reach anything new.
        if parents.guest[k].reach <= n * n or one_in(dice, one_in_wide(kind)):
            return k
    return as_int(-1)


@kernel
def live_range(
    kind: OneRecord[Kind],
    key: np.uint64,
    first: int,
    count: int,
    parents: Bank,
    num_parents: int,
    program: Bank,
    room: Room,
    calls: Calls,
    told: OneRecord[Told],
    breaks: Any,
    features: Int16Array,
    control: OneRecord[Control],
) -> int:
    """Draw, live and judge lives `first` ... `first` + `count` - 1 under `key`.

    Some are children of the first `num_parents` of `parents`. `program` is a bank of one life, a
    workspace that holds the last one after the call, `told` (TOLD[MAX_EVENTS]) what its events came
    to; `breaks` is BREAK[count, 7], `features` int16[count, MAX_FEATURES]. Returns OK or STOPPED.
    """
    plan = program_of(program, 0)
    for k in range(count):
        if control[0].stop != 0:
            return STOPPED
        throw(room.dice, key, first + k)
        parent = _parent(kind[0], room.dice, parents, num_parents)
        if parent >= 0:
            copy_program(program_of(parents, parent), plan)
            breed(kind[0], room.dice, plan, room.taken)
        else:
            draw_program(kind[0], room.dice, plan, room.pieces, room.taken)
        live(kind[0], plan, room, calls, told, breaks[k], features[k])
    return OK
