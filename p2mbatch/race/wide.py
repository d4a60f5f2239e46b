"""Races on pages of any size: the explorer's own steps on a tree of 512 or 1024 words a page.

The compiled steps are made for two words a page. Here the same functions run as plain Python with
other sizes, on words that are kept where they are not a page's filling. A race of the explorer's is
the same race here with each of its indices, 0 or 1, one of two of a page's: PFN 4t + 2m + i is
n²·t + n·m + i. An end is judged by the explorer's judge, on those words of it.

Only with freed pages that are never handed out again, and with sequentially consistent memory.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.compiled.dice import below, throw
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.compiled.race import explore, memory, steps, walk
from p2mbatch.compiled.race import layout as at
from p2mbatch.compiled.race.sizes import sizes
from p2mbatch.race.config import Config
from p2mbatch.race.plan import Plan, make_plan

ENTRIES = (2, 512, 1024)
"""Words a page, at every level, that a race can be run with."""

_FAR = 1 << 50
"""Where CPUs, free pages and the toolstack are in a row: behind all words of pages."""

_WORD_SHIFT = 40


class Words:
    """A state's words: those that were stored, and what each page was filled with."""

    def __init__(self, entries: int) -> None:
        self._pages = at.R_TOP + 3 * entries + 4
        self._entries = entries
        self._stored: dict[int, int] = {}
        self._filled: dict[int, int] = {}

    def copy(self) -> Words:
        """Return a state that goes on by itself."""
        new = Words(self._entries)
        new._stored, new._filled = dict(self._stored), dict(self._filled)
        return new

    def __getitem__(self, place: int) -> int:
        found = self._stored.get(place)
        if found is not None:
            return found
        if not self._pages <= place < _FAR:
            return 0
        return self._filled.get((place - self._pages) // self._entries, 0)

    def __setitem__(self, place: int, word: int) -> None:
        self._stored[place] = word

    def fill(self, page: int, word: int) -> None:
        """Make all words of a page `word`."""
        first = self._pages + page * self._entries
        for place in [p for p in self._stored if first <= p < first + self._entries]:
            del self._stored[place]
        self._filled[page] = word


class WideRace:
    """One configuration on pages of so many words."""

    def __init__(self, config: Config, entries: int) -> None:
        """Raises `InputError` for what runs on two words a page alone, or other sizes."""
        if entries not in ENTRIES:
            known = ", ".join(map(str, ENTRIES))
            raise InputError(f"entries: {entries} words a page are none of {known}")
        if config.allocator != "never" or config.memory != "sc":
            raise InputError(
                f"entries: {entries} words a page take allocator never and memory sc: "
                f"{config.allocator} and {config.memory} are explored with 2"
            )
        self.config, self.entries = config, entries
        self._shift = entries.bit_length() - 1
        self._narrow: Plan = make_plan(config)
        self._names = self._constants()
        twins = Interpreter({memory.fill: lambda _: self._fill}, self._names)
        self._step, self._walk = twins.of(steps.run_step), twins.of(walk.walk_step)
        self._throw, self._below = twins.of(throw), twins.of(below)
        self.fields = self._plan()
        self._first = self._first_state()

    def sample_labels(self, num_schedules: int, key: int = 0, first: int = 0) -> Int64Array:
        """Draw schedules number `first` on under `key`; return their labels as bits, int64[k].

        Where no toolstack walks they are those of two words a page, step by step.
        """
        labels = np.zeros(num_schedules, np.int64)
        dice = np.zeros(1, np.uint64)
        with np.errstate(over="ignore"):
            for k in range(num_schedules):
                self._throw(dice, np.uint64(key), first + k)
                row = self._first.copy()
                while ready := self._ready(row):
                    self._move(row, ready[int(self._below(dice, len(ready)))])
                labels[k] = self._judged(row)
        return labels

    def wide_pfn(self, pfn: int) -> int:
        """Return the PFN here of one of the explorer's eight."""
        top, middle, index = pfn >> 2, (pfn >> 1) & 1, pfn & 1
        return (top << 2 * self._shift) + (middle << self._shift) + index

    def _end(self, last: int) -> int:
        """Return the PFN here past `last` of the explorer's PFNs."""
        return 2 << 2 * self._shift if last == at.PFNS else self.wide_pfn(last)

    def _constants(self) -> dict[str, int]:
        """Return what the steps see in place of the layout's constants."""
        n = self.entries
        shared = at.R_TOP + 3 * n
        return sizes(n, _WORD_SHIFT) | {
            "R_TOP_MFN": at.R_TOP + n,
            "R_TOP_MFN_P": at.R_TOP + 2 * n,
            "R_GENERATION": shared,
            "R_LAST": shared + 1,
            "R_SHARED_MAX": shared + 2,
            "R_LOCK": shared + 3,
            "R_PAGES": shared + 4,
            "W_FLL": 1 << 20,
            "W_FL": 1 << 21,
        }

    def _fill(self, row: Words, plan: Int64Array, who: int, page_word: int, word: int) -> int:
        row.fill(page_word & self._names["PAGE_MASK"], word)
        return at.MOVED

    def _plan(self) -> Int64Array:
        """Return the plan with its PFNs, its values and its places as they are here."""
        fields = self._narrow.fields.copy()
        for who, program in enumerate(self.config.cpus):
            block = at.P_BLOCKS + who * at.BLOCK_FIELDS
            fields[block + at.B_CPU_AT] += _FAR
            for number, operation in enumerate(program):
                place = block + at.B_OPS + number * at.OP_FIELDS
                fields[place + at.OP_PFN] = self.wide_pfn(operation.pfn)
                if fields[place + at.OP_VALUE] == at.INVALID:
                    fields[place + at.OP_VALUE] = self._names["INVALID"]
        fields[at.P_FREE_AT] += _FAR
        fields[at.P_TOOL_AT] += 2 * _FAR
        return fields

    def _first_state(self) -> Words:
        """Return the first state: everything missing, then what is populated first."""
        names, row = self._names, Words(self.entries)
        row[at.R_NEXT] = at.FIRST_FRESH
        for top in range(self.entries):
            row[at.R_TOP + top] = names["POINTER"] + at.MID_MISSING
            row[names["R_TOP_MFN"] + top] = names["MACHINE"] + at.MID_MISSING_MFN
            row[names["R_TOP_MFN_P"] + top] = names["POINTER"] + at.MID_MISSING_MFN
        row.fill(at.MISSING, names["INVALID"])
        row.fill(at.MID_MISSING, names["POINTER"] + at.MISSING)
        row.fill(at.MID_MISSING_MFN, names["MACHINE"] + at.MISSING)
        self._populate(row)
        row[names["R_GENERATION"]] = row[names["R_LOCK"]] = 0
        row[names["R_LAST"]] = row[names["R_SHARED_MAX"]] = self._end(self.config.last)
        for who, program in enumerate(self.config.cpus):
            cpu = int(self.fields[at.P_BLOCKS + who * at.BLOCK_FIELDS + at.B_CPU_AT])
            for place in range(at.C_RESULTS + len(program)):
                row[cpu + place] = 0
            row[cpu + at.C_STEP] = at.S1 if program[0].kind == "set" else at.G1
        if self.config.toolstack:
            row[int(self.fields[at.P_TOOL_AT]) + at.W_STEP] = at.W0
        return row

    def _populate(self, row: Words) -> None:
        """Set the PFNs of `populated_first`, one after the other, by CPU 0 alone."""
        alone = self.fields.copy()
        cpu, operation = int(alone[at.P_BLOCKS + at.B_CPU_AT]), at.P_BLOCKS + at.B_OPS
        alone[at.P_BLOCKS + at.B_NUM_OPS] = 1
        for pfn in self.config.populated_first:
            alone[operation + at.OP_KIND] = at.SET
            alone[operation + at.OP_PFN] = self.wide_pfn(pfn)
            alone[operation + at.OP_VALUE] = self._narrow.fields[at.P_FIRST + pfn]
            for place in range(at.C_RESULTS + 1):
                row[cpu + place] = 0
            row[cpu + at.C_STEP] = at.S1
            while self._step(row, alone, 0, row[at.R_NEXT]) == at.MOVED:
                pass

    def _ready(self, row: Words) -> list[int]:
        """Return who can take a step, the toolstack as the one after the last CPU."""
        if row[at.R_FLAGS] & at.OVER:
            return []
        found = []
        for who in range(len(self.config.cpus)):
            cpu = int(self.fields[at.P_BLOCKS + who * at.BLOCK_FIELDS + at.B_CPU_AT])
            step = row[cpu + at.C_STEP]
            waits = step in (at.K1, at.J1) and row[self._names["R_LOCK"]]
            if step != at.DONE and not waits:
                found.append(who)
        if self.config.toolstack and row[int(self.fields[at.P_TOOL_AT]) + at.W_STEP] != at.W_DONE:
            found.append(len(self.config.cpus))
        return found

    def _move(self, row: Words, who: int) -> None:
        if who < len(self.config.cpus):
            status = self._step(row, self.fields, who, row[at.R_NEXT])
        else:
            status = self._walk(row, self.fields)
        assert status == at.MOVED, status

    # --- an end as the explorer's judge takes it ------------------------------------------------

    def _judged(self, row: Words) -> int:
        """Return the labels of an end as bits."""
        narrow = self._narrow
        state = np.zeros(narrow.row_words * 8, np.uint8)
        names = self._names
        state[at.R_FLAGS], state[at.R_NEXT] = row[at.R_FLAGS], row[at.R_NEXT]
        for k in range(2):
            state[at.R_TOP + k] = self._word(row[at.R_TOP + k])
            state[at.R_TOP_MFN + k] = self._word(row[names["R_TOP_MFN"] + k])
            state[at.R_TOP_MFN_P + k] = self._word(row[names["R_TOP_MFN_P"] + k])
        state[at.R_GENERATION] = row[names["R_GENERATION"]]
        state[at.R_LAST] = self._count(row[names["R_LAST"]])
        state[at.R_SHARED_MAX] = self._count(row[names["R_SHARED_MAX"]])
        for page in range(self.config.num_pages):
            for k in range(2):
                word = row[names["R_PAGES"] + page * self.entries + k]
                state[at.R_PAGES + 2 * page + k] = self._word(word)
        self._copy_processes(row, state)
        labels, ends = np.zeros(1, np.int64), np.zeros(1, np.int64)
        edges = np.zeros(2, np.int64)
        explore.judge_ends(narrow.fields, state.reshape(1, -1), edges, ends, labels)
        return int(labels[0])

    def _copy_processes(self, row: Words, state: np.ndarray) -> None:
        """Write what the CPUs and the toolstack have come to, and which pages are free."""
        own, here = self._narrow.fields, self.fields
        for who, program in enumerate(self.config.cpus):
            block = at.P_BLOCKS + who * at.BLOCK_FIELDS + at.B_CPU_AT
            for place in range(at.C_RESULTS + len(program)):
                word = row[int(here[block]) + place]
                state[int(own[block]) + place] = self._word(word)
        for k in range((self.config.num_pages + 7) // 8):
            state[int(own[at.P_FREE_AT]) + k] = row[int(here[at.P_FREE_AT]) + k]
        if not self.config.toolstack:
            return
        tool, new = int(here[at.P_TOOL_AT]), int(own[at.P_TOOL_AT])
        state[new + at.W_STEP] = row[tool + at.W_STEP]
        state[new + at.W_MAX] = max(self._count(row[tool + at.W_MAX] + 1) - 1, 0)
        state[new + at.W_GENERATION] = row[tool + at.W_GENERATION]
        state[new + at.W_FAILED] = row[tool + at.W_FAILED]
        read = row[tool + at.W_NUM_FL]
        leaves = [leaf for leaf in self._leaves() if leaf < read]
        state[new + at.W_NUM_FL] = len(leaves)
        for k, leaf in enumerate(leaves):
            state[new + at.W_FL + k] = self._word(row[tool + self._names["W_FL"] + leaf])

    def _leaves(self) -> list[int]:
        """Return the numbers of the four leaves that the explorer has."""
        return [self.wide_pfn(pfn) >> self._shift for pfn in range(0, at.PFNS, 2)]

    def _count(self, end: int) -> int:
        """Return how many of the explorer's PFNs lie below `end`."""
        return sum(self.wide_pfn(pfn) < end for pfn in range(at.PFNS))

    def _word(self, word: int) -> int:
        """Return a word as the explorer has it."""
        kind, rest = int(word) >> _WORD_SHIFT, int(word) & self._names["PAGE_MASK"]
        return at.INVALID if word == self._names["INVALID"] else (kind << at.WORD_SHIFT) + rest
