"""A policy's kernels and the toolstack's, as values that a compiled batch of lives is handed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from p2mbatch.base.geometry import geometry
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import looks
from p2mbatch.compiled import save as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.batch.lives import Calls
from p2mbatch.compiled.batch.room import Room, Size, make_room
from p2mbatch.compiled.inspect import count_identity, count_stale
from p2mbatch.compiled.jit import function_value
from p2mbatch.compiled.judge import compare_leaves, odd_leaves
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.restore import move
from p2mbatch.model.policies import Policy


def calls_of(policy: Policy) -> Calls:
    """Return what the life of a guest of a policy calls, loaded or compiled."""
    return _calls_of(policy.operations, policy.is_linear)


@functools.cache
def _calls_of(does: Operations, is_linear: bool) -> Calls:
    saves = _flat_saves() if is_linear else _tree_saves()
    return Calls(**_the_toolstacks(), **saves, **_the_policys(does), more=())


def more_calls_of(policy: Policy) -> Calls:
    """Do `calls_of` for the life of a guest that may get more pages once it has booted."""
    return _more_calls_of(policy.operations, policy.is_linear)


@functools.cache
def _more_calls_of(does: Operations, is_linear: bool) -> Calls:
    from p2mbatch.compiled.batch.more import MoreCalls

    room, t, h = _some_tables()
    saves = _flat_saves() if is_linear else _live_tree_saves()
    more = MoreCalls(
        set_runs=function_value(does.set_runs, t, h, np.zeros((0, 3), np.int64), 0),
        get=function_value(does.get, t, h, room.work, room.work),
    )
    return Calls(**_the_toolstacks(), **saves, **_the_policys(does), more=more)


def make_toolstack_ready() -> None:
    """Load or compile what the lives of all policies call."""
    _the_toolstacks()
    _tree_saves()


def make_policy_ready(policy: Policy) -> None:
    """Load or compile what is a policy's own of what its lives call."""
    _the_policys(policy.operations)


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
        "odd_leaves": values(odd_leaves, t, h, room.odd, room.bits),
        "move": values(move, t, h, h, room.work, 0),
        "compare_leaves": values(
            compare_leaves, t, h, room.odd, room.bits, 0, 0, room.marks, room.row, room.counts
        ),
        "count_stale": values(count_stale, t, h, room.counts, np.zeros(1, np.int64)),
        "count_identity": values(count_identity, t, 0),
    }


@functools.cache
def _tree_saves() -> dict[str, Any]:
    return _saves(ks.save_walk, looks.find_nothing, looks.look_at_nothing)


@functools.cache
def _live_tree_saves() -> dict[str, Any]:
    return _saves(ks.save_walk, looks.find_by_list, looks.look_again)


@functools.cache
def _flat_saves() -> dict[str, Any]:
    # Its functions are the linear policies' alone, and so compiled with those.
    from p2mbatch.compiled.flat_walk import flat_walk
    from p2mbatch.compiled.table_walk import find_flat, look_again_flat

    return _saves(flat_walk, find_flat, look_again_flat)


def _saves(save_walk: Any, find: Any, look_again: Any) -> dict[str, Any]:
    """Return what a save calls, plain and step by step."""
    room, t, h = _some_tables()
    walk = looks.Walk(room.work, room.mfns, room.found, room.pages, room.levels)
    return {
        "save_walk": function_value(save_walk, t, h, room.work),
        "find": function_value(find, t, h, walk),
        "look_again": function_value(look_again, t, h, walk, 0),
    }


def _some_tables() -> tuple[Room, tb.P2MTables, tb.HostTables]:
    """Return arguments of the types that a batch's kernels are called with."""
    room = make_room(geometry(8), Size(1, 1, 1, 1, 0))
    t = tb.P2MTables(**{name: getattr(room, name) for name in tb.P2MTables._fields})
    return room, t, tb.HostTables(room.first_par, room.m2p, room.first_owned, room.domain)
