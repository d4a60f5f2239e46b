"""Exploring classes only: safe steps merged, pages named by who takes them, dead locals forgotten.

Source: docs/races.md, "Reduced exploration".
"""

from __future__ import annotations

import numpy as np

from p2mbatch.compiled.race import layout as at
from p2mbatch.compiled.race import reduce
from p2mbatch.race.config import Config
from p2mbatch.race.explorer import EndClass, Exploration, Step, class_name, step_of
from p2mbatch.race.graph import (
    DEFAULT_MAX_BYTES,
    Array,
    Limit,
    Progress,
    as_bytes,
    check_status,
    grown,
    moves_from,
    table_for,
)
from p2mbatch.race.plan import Plan, make_plan

_REPAIRED = ("loser", "relax", "new")
"""Kernels that never use a page after freeing it: which page an allocator hands out is only a
number there."""
_MAX_LOG = 4096
_STATES_A_CALL = 20_000


def reduced_plan(config: Config) -> Plan:
    """Return the plan that a reduced exploration of `config` runs on."""
    named = config.allocator == "never" or config.kernel in _REPAIRED
    return make_plan(config, named_pages=named)


class _Search:
    """The states of a reduced exploration and how they were found."""

    def __init__(self, plan: Plan, limit: Limit) -> None:
        self.plan, self.limit = plan, limit
        words, moves = plan.row_words, plan.max_moves
        block = reduce.REDUCE_BLOCK
        self.room = max(1024, 2 * block * moves)
        self.rows = np.empty(self.room * words, np.uint64)
        first = plan.first.copy()
        self.first_log = np.zeros(_MAX_LOG, np.int64)
        self.first_logged = reduce.settle_first(first.view(np.uint8), plan.fields, self.first_log)
        check_status(self.first_logged)
        self.rows[:words] = first
        self.parents = np.zeros(self.room, np.uint32)
        self.out = np.empty((block * moves + 1) * words, np.uint64)
        self.moves = np.empty(block * moves, np.int64)
        self.notes = np.empty(block * moves, np.uint64)
        self.classes = np.empty((4 * block, 2), np.int64)
        self.state = np.array([1, 0, 0, 0, 0], np.int64)
        self.slots = table_for(self.rows, 1, words, self.room)

    def run(self, progress: Progress | None) -> None:
        """Visit every state; raise `ResourceError` where there is no room for them."""
        words = self.plan.row_words
        nothing = np.empty(0, np.int64)
        while True:
            status = reduce.explore_classes(
                self.plan.fields, self.rows, self.slots, self.parents, self.out,
                as_bytes(self.out, words), self.moves, self.notes, nothing, self.classes,
                self.state, _STATES_A_CALL,
            )  # fmt: skip
            check_status(status)
            num_states = int(self.state[reduce.D_STATES])
            if progress:
                progress("states", num_states)
            if status == reduce.REDUCED:
                return
            if status == reduce.REDUCE_MORE_STATES:
                self._grow(num_states)
            elif status == reduce.REDUCE_MORE_CLASSES:
                longer = np.empty((2 * len(self.classes), 2), np.int64)
                longer[: len(self.classes)] = self.classes
                self.classes = longer

    def _grow(self, num_states: int) -> None:
        words = self.plan.row_words
        self.room *= 2
        self.limit.check(self.room * (8 * words + 4 + 32), num_states)
        self.rows = grown(self.rows, self.room * words)
        self.parents = grown(self.parents, self.room)
        del self.slots
        self.slots = table_for(self.rows, num_states, words, self.room)

    def row(self, number: int) -> Array:
        """Return one state's words."""
        words = self.plan.row_words
        return self.rows[number * words : (number + 1) * words]

    def moves_to(self, end: int) -> list[int]:
        """Return every move, the safe ones included, from the first state to `end`."""
        path = [end]
        while path[-1]:
            path.append(int(self.parents[path[-1]]))
        moves: list[int] = self.first_log[: self.first_logged].tolist()
        for source, target in zip(path[::-1], path[-2::-1], strict=False):
            moves += self._moves_between(source, target)
        return moves

    def _moves_between(self, source: int, target: int) -> list[int]:
        words, num = self.plan.row_words, self.plan.max_moves
        out = np.empty((num + 1) * words, np.uint64)
        moves, num_logged = np.empty(num, np.int64), np.empty(num, np.int64)
        logs = np.empty((num, _MAX_LOG), np.int64)
        count = reduce.settled_successors(
            self.row(source), self.plan.fields, out, as_bytes(out, words), moves, logs, num_logged
        )
        check_status(count)
        for k in range(count):
            if np.array_equal(out[k * words : (k + 1) * words], self.row(target)):
                return [int(moves[k]), *logs[k, : num_logged[k]].tolist()]
        raise AssertionError("a state is no successor of its parent")


def replay_moves(plan: Plan, moves: list[int]) -> tuple[tuple[Step, ...], Array]:
    """Run `moves` on a plan whose pages are numbered as they are taken.

    Only who moves is taken from a move, whether it is a flush, and the page where the allocator may
    hand out any free one; a fresh page is taken where the move names none.

    Returns:
        The steps with their names and pages, and the last state's words.
    """
    row = plan.first
    steps = []
    any_page = plan.fields[at.P_ALLOCATOR] == at.ANY
    for wanted in moves:
        found, rows = moves_from(plan, row)
        chosen = -1
        for k, move in enumerate(found.tolist()):
            same_kind = (move >> 8 & 255 == at.FLUSH) == (wanted >> 8 & 255 == at.FLUSH)
            if move >> 16 == wanted >> 16 and same_kind:
                chosen = k
                if any_page and wanted & 255 and move & 255 == wanted & 255:
                    break
        assert chosen >= 0, "a witness can not be followed"
        row = rows[chosen]
        steps.append(step_of(plan, int(found[chosen]), row))
    return tuple(steps), row


def explore_reduced(
    config: Config,
    *,
    name: str = "race",
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: Progress | None = None,
) -> Exploration:
    """Return which classes of ends `config` can come to, each with a schedule that shows it.

    Classes are those of `explore`; schedules, probabilities and end states are not counted, and a
    witness is a real schedule but need not be a shortest one. Arguments and errors as there.
    """
    search = _Search(reduced_plan(config), Limit(name, max_bytes))
    search.run(progress)
    plain = make_plan(config)
    classes = {}
    for labels, end in search.classes[: search.state[reduce.D_CLASSES]].tolist():
        end_name = class_name(labels)
        steps, _ = replay_moves(plain, search.moves_to(end))
        classes[end_name] = EndClass(end_name, steps)
    return Exploration(
        config=config,
        num_states=int(search.state[reduce.D_STATES]),
        num_transitions=int(search.state[reduce.D_EDGES]),
        num_ends=int(search.state[reduce.D_ENDS]),
        schedules=None,
        classes=dict(sorted(classes.items())),
        reduced=True,
    )
