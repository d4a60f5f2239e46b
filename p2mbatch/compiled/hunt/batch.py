"""Many random lives in one call: no Python for a life, no lock held."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.dice import throw
from p2mbatch.compiled.hunt.draw_events import draw_program
from p2mbatch.compiled.hunt.kinds import Kind
from p2mbatch.compiled.hunt.life import Told, live
from p2mbatch.compiled.hunt.program import Bank, program_of
from p2mbatch.compiled.hunt.room import Room
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.records import OneRecord, record_dtype
from p2mbatch.compiled.status import OK, STOPPED


@dataclasses.dataclass(slots=True, kw_only=True)
class Control:
    """How far a batch is, and whether it is to stop."""

    stop: int = 0
    """Not 0: give up before the next life. Any thread may set it."""
    life: int = 0
    """Lives that are done."""


CONTROL = record_dtype(Control)


@kernel
def live_range(
    kind: OneRecord[Kind],
    key: np.uint64,
    first: int,
    count: int,
    program: Bank,
    room: Room,
    calls: Calls,
    told: OneRecord[Told],
    breaks: Any,
    control: OneRecord[Control],
) -> int:
    """Draw, live and judge lives `first` ... `first` + `count` - 1 under `key`.

    `program` is a bank of one life, a workspace that holds the last one after the call, `told`
    (TOLD[MAX_EVENTS]) what its events came to; `breaks` is BREAK[count, 7]. Returns OK or STOPPED.
    """
    plan = program_of(program, 0)
    for k in range(count):
        if control[0].stop != 0:
            return STOPPED
        throw(room.dice, key, first + k)
        draw_program(kind[0], room.dice, plan, room.pieces, room.taken)
        live(kind[0], plan, room, calls, told, breaks[k])
        control[0].life += 1
    return OK
