"""Cells lived through as a batch: scenarios as columns in, rows as columns out.

`stepped` tells what one cell's rows are, event by event; a batch gives the same rows without
Python for a cell. What it does not cover (`covered`) is lived step by step, and its rows
join the others.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError, StoppedError
from p2mbatch.base.geometry import geometry
from p2mbatch.base.words import Columns, Words, plain, taken
from p2mbatch.compiled.batch.cells import CONTROL, ROW, Batch, Control
from p2mbatch.compiled.batch.lives import Calls, live_cells
from p2mbatch.compiled.batch.room import Room, Size, make_room
from p2mbatch.compiled.child.layout import R_CHILD
from p2mbatch.compiled.records import OneRecord
from p2mbatch.compiled.status import MORE_ROOM, OK
from p2mbatch.compiled.tables import STATIC_WORDS
from p2mbatch.guests.batch.cells import (
    are_consistent,
    are_held,
    cell_records,
    covered,
    gets_more_pages,
    values_at,
    wanted,
)
from p2mbatch.guests.batch.columns import Lived, Part, joined
from p2mbatch.guests.batch.needs import memory_bytes, needs_of, with_more
from p2mbatch.guests.batch.one import live_one
from p2mbatch.guests.batch.rows import row_columns
from p2mbatch.model.calls import calls_of, more_calls_of
from p2mbatch.model.host_map import map_of
from p2mbatch.model.placing import Placements, place_each
from p2mbatch.model.policies import Policy, find

_KEPT_BYTES = 1 << 28
"""A workspace larger than this is not kept for the next batch."""

_NO_MAP = np.zeros(0, np.int64)

_ROOMS = threading.local()


def new_control() -> OneRecord[Control]:
    """Return what stops a batch, from another thread, by its field `stop`."""
    made: OneRecord[Control] = np.zeros(1, CONTROL)
    return made


def live(
    cells: Columns, resident: str = "auto", control: OneRecord[Control] | None = None
) -> Lived:
    """Live through `cells`, columns by the names of `FIELDS`; return rows, and what failed.

    `control` is how another thread stops it: raises `StoppedError`, and nothing was done. Raises
    `PolicyError` where a policy of the user's own does not work.
    """
    control = new_control() if control is None else control
    lived, left = live_covered(cells, resident, control)
    if not len(left):
        return lived
    ones = []
    for k in left.tolist():
        if control[0].stop:
            raise StoppedError
        ones.append(live_one(k, values_at(cells, k), resident, lambda: bool(control[0].stop)))
    failures = [failure for _, failure in ones if failure is not None]
    every = np.flatnonzero(lived.num_rows)
    num_rows = lived.num_rows[every].astype(np.int64)
    done = Part(every, num_rows, lived.duration_ns[every], lived.rows)
    return joined(len(lived.num_rows), [done, *(part for part, _ in ones)], failures)


def live_covered(
    cells: Columns, resident: str = "auto", control: OneRecord[Control] | None = None
) -> tuple[Lived, Int64Array]:
    """Do `live` of what a batch covers; return also which cells are left to be lived one by one.

    Among these are those that can't be placed, whose failure is told best by placing them.
    """
    control = new_control() if control is None else control
    good = covered(cells)
    parts: list[Part] = []
    left = [np.flatnonzero(~good)]
    for policy, width, known, places in _groups(cells, good):
        group = _Group(policy, width, resident == "all", known)
        found, others = group.live(_some(cells, places), places, control)
        parts += found
        left.append(others)
    return joined(len(good), parts, []), np.sort(np.concatenate(left))


def needed_bytes(cells: Columns, resident: str = "auto") -> tuple[Int64Array, BoolArray]:
    """Return about what each cell needs while it runs, in bytes, and whether a batch knows it.

    One that no guest can be needs nothing: it fails before it starts.
    """
    good = covered(cells)
    found = np.zeros(len(good), np.int64)
    for policy, width, _, places in _groups(cells, good):
        some = _some(cells, places)
        placed = _Group(policy, width, resident == "all").place(some)
        made, _ = cell_records(some, placed, policy)
        needs = needs_of(placed, made, policy, width)
        found[places] = memory_bytes(placed, made, needs, width) * placed.fits
    return found, good


def _some(cells: Columns, places: Int64Array) -> Columns:
    """Return the cells at `places`, which are ascending."""
    if len(places) == len(cells["seed"]):
        return cells
    return {name: taken(column, places) for name, column in cells.items()}


def _groups(cells: Columns, good: BoolArray) -> Iterator[tuple[Policy, int, str, Int64Array]]:
    """Yield (policy, width, neighbour map, places) of the cells that are `good` and have them."""
    policies, maps = cells["policy"], cells["neighbour_map"]
    assert isinstance(policies, Words) and isinstance(maps, Words)
    for (code, name), width, (at, known) in itertools.product(
        enumerate(policies.words), (8, 4), enumerate(maps.words)
    ):
        here = good & (policies.codes == code) & (plain(cells["word_bytes"]) == width)
        if len(maps.words) > 1:
            here &= maps.codes == at
        if here.any():
            yield find(name), width, known, np.flatnonzero(here)


class _Group:
    """Cells of one policy and one width: what one compiled call lives."""

    def __init__(
        self, policy: Policy, word_bytes: int, resident: bool, neighbour_map: str = ""
    ) -> None:
        self.policy = policy
        self.neighbour_map = neighbour_map
        self.word_bytes = word_bytes
        self.resident = resident

    def place(self, columns: Columns) -> Placements:
        """Return where the cells' guests go."""
        return place_each(
            wanted(columns, self.policy), self.policy, self.word_bytes, resident=self.resident
        )

    def live(
        self, columns: Columns, places: Int64Array, control: OneRecord[Control]
    ) -> tuple[list[Part], Int64Array]:
        """Live through cells that are at `places`; return their rows and the places left."""
        known = _NO_MAP
        if self.neighbour_map:
            try:
                known = map_of(self.neighbour_map).m2p
            except InputError:
                return [], places
        placed = self.place(columns)
        made, sizes = cell_records(columns, placed, self.policy)
        good = placed.fits & are_held(placed, made, sizes)
        good &= are_consistent(columns, self.policy, self.word_bytes)
        if not good.any():
            return [], places
        parts = []
        needs = needs_of(placed, made, self.policy, self.word_bytes)
        for some in self._alike(made, good):
            try:
                size = needs.largest(some)
                parts.append(self._run(made[some], sizes, size, places[some], known, control))
            except MemoryError:
                # Cell by cell, so that one that is too large does not take the others with it.
                good &= ~some
        return parts, places[~good]

    def _alike(self, made: np.ndarray[Any, Any], good: BoolArray) -> Iterator[BoolArray]:
        """Yield which of the cells that are `good` one compiled call lives, of each such call.

        A kernel in C has arrays of one length.
        """
        kinds = gets_more_pages(made)
        if self.policy.own is not None:
            kinds = kinds + 2 * made["max_domain_pages"]
        for kind in np.unique(kinds[good]):
            yield good & (kinds == kind)

    @contextlib.contextmanager
    def _child(self, size: Size, bound: int, control: OneRecord[Control]) -> Iterator[int]:
        """Have the child that the policy's kernel runs in, as R_CHILD has it; 0 where none.

        `bound` is `max_domain_pages` of its p2m.
        """
        own = self.policy.own
        held = own.hold(self.word_bytes, size.directmap, bound) if own is not None else None
        if held is None:
            yield 0
            return
        held.stops_at(control)
        try:
            yield held.address
        finally:
            held.release()

    def _run(
        self,
        made: np.ndarray[Any, Any],
        sizes: Int64Array,
        size: Size,
        places: Int64Array,
        known: Int64Array,
        control: OneRecord[Control],
    ) -> Part:
        """Live through the CELL records `made`; `known` is a real host's m2p, or empty."""
        live_them, calls = _live_by(self.policy, bool(gets_more_pages(made[:1])[0]))
        batch = Batch(
            cells=made,
            sizes=sizes,
            rows=np.empty(int(made["migrations"].sum()) + len(made), ROW),
            ends=np.empty(len(made), np.int64),
            took_ns=np.empty(len(made), np.int64),
            statics=np.empty((len(made), STATIC_WORDS if self.policy.own else 0), np.int64),
            control=control,
        )
        control["cell"] = control["rows"] = 0
        status = MORE_ROOM
        with self._child(size, int(made[0]["max_domain_pages"]), control) as child:
            while status == MORE_ROOM:
                room = _room(self.word_bytes, size)._replace(m2p=known)
                room.first_statics[R_CHILD] = child
                status = live_them(batch, self.resident, room, calls)
                if status == MORE_ROOM:
                    size = with_more(size, room)
                # Before a larger one is made.
                del room
        if status != OK:
            raise StoppedError
        num_rows = np.diff(batch.ends, prepend=0)
        rows = batch.rows[: batch.ends[-1]]
        columns = row_columns(rows, num_rows, made, self.policy, self.word_bytes, batch.statics)
        return Part(places, num_rows, batch.took_ns, columns)


def _live_by(policy: Policy, gets_more: bool) -> tuple[Callable[..., int], Calls]:
    """Return what lives a batch, with the kernels that it calls."""
    if not gets_more:
        return live_cells, calls_of(policy)
    # With compiled code that most sweeps don't need.
    from p2mbatch.compiled.batch.more import live_more_cells

    return live_more_cells, more_calls_of(policy)


def _room(word_bytes: int, size: Size) -> Room:
    """Return this thread's workspace for guests of a width, made anew where it is too small."""
    kept: dict[tuple[int, bool], tuple[Size, Room]] = _ROOMS.__dict__.setdefault("kept", {})
    # Guests that get more pages have a workspace of another type.
    key = word_bytes, size.present > 0
    if key in kept:
        has, room = kept[key]
        if all(a <= b for a, b in zip(size, has, strict=True)):
            return room
        # Two at once would be twice the memory.
        del kept[key], room
        size = Size(*(max(a, b) for a, b in zip(size, has, strict=True)))
    room = make_room(geometry(word_bytes), size)
    if sum(np.asarray(array).nbytes for array in (*room[:-1], *room.more)) <= _KEPT_BYTES:
        kept[key] = size, room
    return room
