"""A policy as the compiled core takes it: what its lives are like, and the functions they call."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from p2mbatch.base.errors import PolicyError
from p2mbatch.base.geometry import geometry, signed_word
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import found
from p2mbatch.compiled import save as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.draw_guest import MOST_BESIDE_BRK
from p2mbatch.compiled.hunt.kinds import ERA, FLAT, KIND, TREE, Kind
from p2mbatch.compiled.hunt.room import make_room
from p2mbatch.compiled.inspect import count_identity
from p2mbatch.compiled.jit import function_value
from p2mbatch.compiled.looks import Walk, find_by_list, look_again
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.records import OneRecord
from p2mbatch.compiled.restore import restore, settle_sent
from p2mbatch.compiled.table_walk import find_flat, look_again_flat
from p2mbatch.hunt.world import flags_of, most_tops
from p2mbatch.model.policies import Policy


def check_size(policy: Policy, word_bytes: int) -> None:
    """Raise `PolicyError` where a user's kernel has larger tables than a drawn guest has pages."""
    most = geometry(word_bytes).entries - MOST_BESIDE_BRK
    pages = policy.brk_pages(1, word_bytes)
    if policy.own is not None and pages > most:
        raise PolicyError(
            f"{policy.short}: boots with {pages} pages of tables on {8 * word_bytes}-bit guests: "
            f"those of a hunt have room for {most}, so its arrays must be of fewer words"
        )


def kind_of(policy: Policy, word_bytes: int) -> OneRecord[Kind]:
    """Return what drawing and living lives asks of a policy, as an array of one record."""
    foreign, identity = flags_of(policy, word_bytes)
    family = FLAT if policy.is_linear else ERA if policy.is_era else TREE
    said = Kind(
        family=family,
        word_bytes=word_bytes,
        marks=policy.marks,
        two_level=most_tops(policy),
        whole_area=policy.whole_area,
        takes_bootmem=policy.bootmem,
        moves=policy.moves_leaves(word_bytes),
        rebuilds=policy.rebuilds,
        brk_one=policy.brk_pages(1, word_bytes),
        foreign_bit=signed_word(foreign),
        identity_bit=identity,
    )
    return np.array([dataclasses.astuple(said)], KIND)


@functools.cache
def calls_of(does: Operations, is_linear: bool) -> Calls:
    """Return what a life of one policy calls, loaded or compiled; whether its p2m is linear."""
    room = make_room(geometry(8))
    t = tb.P2MTables(**{name: getattr(room, name) for name in tb.P2MTables._fields})
    h = tb.HostTables(room.par[0], room.m2p[0], room.owned[0], np.zeros((0, 3), np.int64))
    walk = Walk(room.work, room.mfns, room.found, room.pfns, room.frames)
    values = function_value
    return Calls(
        load_mfn_list=values(kb.load_mfn_list, t, h, 0, 0),
        load_domain=values(kb.load_domain, t, h),
        boot=values(does.boot, t, h, np.zeros((0, 2), np.int64)),
        set_runs=values(does.set_runs, t, h, np.zeros((0, 3), np.int64), 0),
        rebuild=values(does.rebuild, t, h, 0),
        report=values(does.report, t, h),
        get=values(does.get, t, h, room.pfns, room.entries),
        save_walk=values(ks.save_walk, t, h, room.work),
        settle_sent=values(settle_sent, t, h, h),
        restore=values(restore, t, h, room.work),
        find=values(find_flat if is_linear else find_by_list, t, h, walk),
        look_again=values(look_again_flat if is_linear else look_again, t, h, walk, 0),
        restore_found=values(found.restore_found, t, h, h, room.found, room.work, True, True),
        count_identity=values(count_identity, t, 0),
    )
