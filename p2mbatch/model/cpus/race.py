"""Several CPUs set entries of one guest: the explorer's steps on its tables, one at a time.

Source: docs/races.md, "Atomic steps"; model section 5.1. An entry past the end of the p2m is one
step, and so is what an identity value needs before it is set as any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import IsStopped, StoppedError
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.compiled.race import layout as at
from p2mbatch.compiled.race import memory, steps
from p2mbatch.compiled.status import (
    BUG_PTEP,
    BUG_SET,
    BUG_TOP_MFN,
    FAULT_MID,
    FAULT_STORE,
    FAULT_TOP,
    OK,
)
from p2mbatch.model.cpus.flat import FlatWords
from p2mbatch.model.cpus.kernels import Racing, racing_of
from p2mbatch.model.cpus.words import (
    ENTRY,
    FLAGS,
    LAST,
    LOCAL_WORDS,
    LOCALS,
    LOCK,
    NOTHING,
    POINTER,
    Doing,
    Ended,
    Words,
    names,
)
from p2mbatch.model.life import Life

Choose = Callable[[int], int]
"""Which of so many CPUs that can go on does."""

LOOK_EVERY_STEPS = 1 << 10
"""How often a race looks whether it is to stop: some 10 ms."""

Step = Callable[[Words, list[int], int, int], int]

_LISTS = {at.A6: at.A12, at.J6: at.J7}
"""The steps at which an entry's list begins -> what comes where it has none."""

_TAKES = (at.A2, at.A8, at.A14)
_FREES = (at.A5, at.A11F, at.A18)
_FAULTS = {
    **dict.fromkeys((at.S2, at.T2, at.A12, at.A13, at.O2, at.A16, at.J2, at.J4), FAULT_TOP),
    **dict.fromkeys((at.S3, at.T3), FAULT_MID),
    **dict.fromkeys((at.A17, at.J6), FAULT_STORE),
}
"""What a CPU was reaching where a step is a fault."""


class Noted(NamedTuple):
    """Something of a race that is told: which CPU at which step, for which PFN, with which page."""

    who: int
    step: int
    pfn: int
    page: int


@dataclass
class Raced:
    """What came of a race."""

    status: int = OK
    """OK, a BUG_ or a FAULT_ code."""
    returned: bool = True
    """Whether every set returned true."""
    num_set: list[int] = field(default_factory=list)
    """How many entries of its own, the first ones, each CPU has set."""
    num_steps: int = 0
    noted: list[Noted] = field(default_factory=list)
    """Pages of the list that were named (A10), pages given back (A5, A11f, A18), stores through
    such pages (A16, A17), leaves whose place another one took (O2), sets that returned false (T2,
    or at a page that there was not), and what ended the run."""

    @property
    def entries_set(self) -> int:
        """Return how many entries all CPUs have set."""
        return sum(self.num_set)


@functools.lru_cache(maxsize=16)
def _step_of(entries: int, missing: int, mid_missing: int, mid_missing_mfn: int) -> Step:
    """Return the explorer's step as plain Python, on `Words` of a guest with these pages."""
    instead: dict[Any, Any] = {
        memory.fill: lambda _: _fill,
        memory.take: lambda _: lambda row, plan, who, step, page: POINTER + page,
        memory.release: lambda _: _release,
        memory.virt_to_mfn: lambda _: _virt_to_mfn,
        memory.mfn_to_virt: lambda _: lambda row, word: row.page_named(word),
    }
    found = names(entries, missing, mid_missing, mid_missing_mfn)
    step: Step = Interpreter(instead, found).of(steps.run_step)
    return step


def _fill(row: Words, plan: list[int], who: int, page_word: int, word: int) -> int:
    row.fill(page_word & (POINTER - 1), word)
    return at.MOVED


def _release(row: Words, plan: list[int], who: int, page: int) -> int:
    row.release(page)
    return at.MOVED


def _virt_to_mfn(row: Words, page_word: int) -> int:
    return row.machine_word(page_word & (POINTER - 1))


class Race:
    """CPUs that set entries, each its own runs in order."""

    def __init__(
        self,
        life: Life,
        sets: Sequence[Int64Array],
        choose: Choose,
        is_stopped: IsStopped | None = None,
    ) -> None:
        """`sets` are int64[k, 3] for each CPU, as a set's runs; `choose` is the schedule."""
        self._racing: Racing = racing_of(life.policy)
        self._is_flat = life.policy.is_linear
        self.words = (FlatWords if self._is_flat else Words)(life, len(sets))
        words = self.words
        self._step = _step_of(
            words.entries, words.missing, words.mid_missing, words.mid_missing_mfn
        )
        self._choose, self._is_stopped = choose, is_stopped
        self._entries = [_entries(runs) for runs in sets]
        self._now = [(0, INVALID)] * len(sets)
        self._is_new = [True] * len(sets)
        # Where each CPU's local variables are, and where the plan has what it sets.
        self._cpus = [LOCALS + LOCAL_WORDS * who for who in range(len(sets))]
        self._ops = [at.P_BLOCKS + who * at.BLOCK_FIELDS + at.B_OPS for who in range(len(sets))]
        self._plan = self._make_plan(len(sets))
        self._end = int(life.scalar("max_p2m_pfn" if self._is_flat else "max_p2m"))
        # Of an identity value, which pointers may say: not in a flat table.
        self._by_pointer = 0 if self._is_flat else life.scalar("identity_bit")
        self._beyond = BUG_SET
        if self._is_flat and life.scalar("hint_rounds"):
            self._beyond = BUG_PTEP
        self.raced = Raced(num_set=[0] * len(sets))

    def run(self) -> Raced:
        """Run to the end: every CPU is done, or a BUG or a fault has ended it for all.

        Raises `StoppedError` where the work is stopped meanwhile.
        """
        on = [who for who in range(len(self._entries)) if self._next(who)]
        words, raced = self.words, self.raced
        try:
            while on:
                ready = on
                if words.locals[LOCK]:
                    ready = [who for who in on if self._at(who) not in (at.K1, at.J1)]
                who = ready[self._choose(len(ready))]
                raced.num_steps += 1
                if raced.num_steps % LOOK_EVERY_STEPS == 0:
                    self._look_for_stop()
                self._move(who)
                if self._at(who) == at.DONE and not self._over(who):
                    on.remove(who)
        except Ended as end:
            raced.status = end.status
        return raced

    def _look_for_stop(self) -> None:
        if self._is_stopped is not None and self._is_stopped():
            raise StoppedError

    # --- a CPU's entries ------------------------------------------------------------------------

    def _make_plan(self, num_cpus: int) -> list[int]:
        """Return the plan: one set at a time for each CPU."""
        plan = [0] * (at.P_BLOCKS + num_cpus * at.BLOCK_FIELDS)
        plan[at.P_CPUS], plan[at.P_KERNEL] = num_cpus, self._racing.code
        plan[at.P_ALLOCATOR] = at.NEVER
        for who in range(num_cpus):
            block = at.P_BLOCKS + who * at.BLOCK_FIELDS
            plan[block + at.B_CPU_AT] = self._cpus[who]
            plan[block + at.B_NUM_OPS] = 1
            plan[self._ops[who] + at.OP_KIND] = at.SET
        return plan

    def _next(self, who: int) -> bool:
        """Let a CPU stand before its next entry; return whether there is one."""
        entry = next(self._entries[who], None)
        if entry is None:
            return False
        self._now[who], self._is_new[who] = entry, True
        cpu = self._cpus[who]
        self.words.locals[cpu + at.C_STEP], self.words.locals[cpu + at.C_OP] = at.S1, 0
        self._plan[self._ops[who] + at.OP_PFN] = entry[0]
        return True

    def _at(self, who: int) -> int:
        return self.words.locals[self._cpus[who] + at.C_STEP]

    def _over(self, who: int) -> bool:
        """Take the result of a CPU's entry; return whether it goes on with another one."""
        result = self.words.locals[self._cpus[who] + at.C_RESULTS]
        if result == at.RESULT_TRUE:
            self.raced.num_set[who] += 1
            return self._next(who)
        self.raced.returned = False
        return False

    def _finish(self, who: int, result: int) -> None:
        """End a CPU's entry outside of the explorer's steps."""
        cpu = self._cpus[who]
        self.words.locals[cpu + at.C_STEP] = at.DONE
        self.words.locals[cpu + at.C_RESULTS] = result

    # --- a step ---------------------------------------------------------------------------------

    def _move(self, who: int) -> None:
        """Run a CPU's next step."""
        pfn, word = self._now[who]
        if self._is_new[who] and self._begin(who, pfn, word):
            return
        words, step = self.words, self._at(who)
        words.doing = Doing(who, pfn, word, step)
        page = -1
        if step in _TAKES:
            page = words.take()
            if page < 0:
                self._note(who, step, pfn, -1)
                self._finish(who, at.RESULT_FALSE)
                return
        if step == at.Z1 and self._racing.ends_at_pfn:
            self._look_at_end(who, pfn)
            return
        self._prepare(who, step, pfn, word)
        self._step(words, self._plan, who, page)
        if flags := words.locals[FLAGS]:
            words.locals[FLAGS] = 0
            self._note_flags(who, step, pfn, flags)
        self._note_loss(who, step, pfn)
        self._skip(who, pfn)

    def _begin(self, who: int, pfn: int, word: int) -> bool:
        """Begin an entry; return whether that was a step of its own."""
        self._is_new[who] = False
        if pfn >= self._end:
            if word != INVALID:
                raise Ended(self._beyond)
            self._finish(who, at.RESULT_TRUE)
            return True
        if word == INVALID or not word & self._by_pointer:
            return False
        if self.words.set_by_pointer(pfn):
            self._finish(who, at.RESULT_TRUE)
        return True

    def _prepare(self, who: int, step: int, pfn: int, word: int) -> None:
        """Make the plan say what the step may ask: what is to be set, and who repairs what."""
        plan = self._plan
        if step in (at.S2, at.S3, at.T3):
            value = ENTRY
            if word == INVALID or step == at.S2:
                value = NOTHING if word == self.words.says(pfn) else ENTRY
            plan[self._ops[who] + at.OP_VALUE] = value
        repairs = step == at.A11F and self._racing.repairs_list
        plan[at.P_KERNEL] = at.LOSER if repairs else self._racing.code

    def _look_at_end(self, who: int, pfn: int) -> None:
        """Run Z1 as it was before 2021."""
        words, cpu = self.words, self._cpus[who]
        is_higher = pfn > words[LAST]
        words.locals[cpu + at.C_STEP] = at.Z2 if is_higher else at.T1
        if is_higher:
            words.locals[cpu + at.C_B] = pfn

    def _skip(self, who: int, pfn: int) -> None:
        """Pass over steps that this kernel has not, or that a guest without a list needs not."""
        cpu, words = self._cpus[who], self.words
        while True:
            step = words.locals[cpu + at.C_STEP]
            after = self._racing.skips.get(step)
            if after is None and step in _LISTS and not words.is_listed(pfn):
                after = _LISTS[step]
            if after is None:
                return
            words.locals[cpu + at.C_STEP] = after

    # --- what is told ---------------------------------------------------------------------------

    def _note(self, who: int, step: int, pfn: int, page: int) -> None:
        self.raced.noted.append(Noted(who, step, pfn, page))

    def _note_flags(self, who: int, step: int, pfn: int, flags: int) -> None:
        """End the run at a BUG or a fault; note a store through a page that was given back."""
        if flags & at.BUG:
            self._note(who, step, pfn, -1)
            raise Ended(BUG_TOP_MFN)
        if flags & at.FAULT:
            self._note(who, step, pfn, -1)
            raise Ended(_FAULTS[step])
        if flags & at.UAF_WRITE:
            local = at.C_MID if step == at.A16 else at.C_X
            page = self.words.locals[self._cpus[who] + local] & (POINTER - 1)
            self._note(who, step, pfn, page)

    def _note_replaced(self, who: int, pfn: int) -> None:
        """Note a leaf whose place another one took: kernel `orig` reads it a second time."""
        before = self.words.locals[self._cpus[who] + at.C_B]
        if before != POINTER + self.words.missing:
            self._note(who, at.O2, pfn, before & (POINTER - 1))

    def _note_loss(self, who: int, step: int, pfn: int) -> None:
        """Note a page that was named or given back, or a set that returned false."""
        after = self._at(who)
        if step in _FREES:
            self._note(who, step, pfn, self.words.last_freed)
        elif step == at.A16 and after == at.A17:
            self._note_replaced(who, pfn)
        elif (step == at.T2 and after == at.DONE) or (step == at.A10 and after == at.A11):
            self._note(who, step, pfn, -1)


def _entries(runs: Int64Array) -> Iterator[tuple[int, int]]:
    """Yield each PFN of a set's runs with its word."""
    for pfn, word, count in np.asarray(runs, np.int64).tolist():
        for k in range(count):
            yield pfn + k, word if word == INVALID else word + k
