"""A policy's kernels and the toolstack's, as values that a compiled batch of lives is handed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from p2mbatch.base.geometry import geometry
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import save as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.batch.lives import Calls
from p2mbatch.compiled.batch.room import Room, Size, make_room
from p2mbatch.compiled.inspect import count_stale
from p2mbatch.compiled.jit import function_value
from p2mbatch.compiled.judge import compare_leaves, odd_leaves
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.restore import move


@functools.cache
def calls_of(does: Operations) -> Calls:
    """Return what the life of a guest of one policy calls, loaded or compiled."""
    return Calls(**_the_toolstacks(), **_the_policys(does))


def make_toolstack_ready() -> None:
    """Load or compile what the lives of all policies call."""
    _the_toolstacks()


def make_policy_ready(does: Operations) -> None:
    """Load or compile what is a policy's own of what its lives call."""
    _the_policys(does)


def _the_policys(does: Operations) -> dict[str, Any]:
    room, t, h = _some_tables()
    values = function_value
    return {
        "boot": values(does.boot, t, h, room.marked),
        "grow_leaves": values(does.grow_leaves, t, h, room.grown, False, 0),
        "rebuild": values(does.rebuild, t, h, 0),
        "report": values(does.report, t, h),
    }


@functools.cache
def _the_toolstacks() -> dict[str, Any]:
    room, t, h = _some_tables()
    values = function_value
    return {
        "load_mfn_list": values(kb.load_mfn_list, t, h, 0, 0),
        "save_walk": values(ks.save_walk, t, h, room.work),
        "odd_leaves": values(odd_leaves, t, h, room.odd, room.bits),
        "move": values(move, t, h, h, room.work, 0),
        "compare_leaves": values(
            compare_leaves, t, h, room.odd, room.bits, 0, 0, room.marks, room.row, room.counts
        ),
        "count_stale": values(count_stale, t, h, room.counts, np.zeros(1, np.int64)),
    }


def _some_tables() -> tuple[Room, tb.P2MTables, tb.HostTables]:
    """Return arguments of the types that a batch's kernels are called with."""
    room = make_room(geometry(8), Size(1, 1, 1, 1, 0))
    t = tb.P2MTables(**{name: getattr(room, name) for name in tb.P2MTables._fields})
    return room, t, tb.HostTables(room.first_par, room.m2p, room.freed, room.domain)
