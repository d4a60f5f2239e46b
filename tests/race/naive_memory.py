"""The naive explorer's machine: words, pages, CPUs, store buffers; see `naive`.

It is written from the description of the steps alone (docs/races.md) and shares no code with the
package. A state is a tuple of tuples; every interleaving is followed; schedules are counted with
Python's integers and probabilities with its floats. The compiled explorer must reproduce all of it.

A word is ``("P", page)``, ``("M", page)``, ``None`` for INVALID, or a number.
"""

from __future__ import annotations

from typing import Any

N = 2
PFNS = N * N * N
LM, MM, XM = 0, 1, 2
SHARED = ("TOP0", "TOP1", "TM0", "TM1", "TP0", "TP1", "GEN", "LAST", "SHMAX", "LOCK")
PAGES_AT = len(SHARED)
INVALID = None
# Steps that may not run while the CPU's own stores are still on their way.
FENCED = {"A4", "A10", "A16", "K1", "K4", "J1", "J4"}
TAKES = {"A2": "mid", "A8": "x", "A14": "q"}
FREES = {"A5", "A11f", "A18"}

Word = Any
Config = dict[str, Any]


def pointer(page: int) -> Word:
    return ("P", page)


def machine(page: int) -> Word:
    return ("M", page)


def is_pointer(word: Word) -> bool:
    return isinstance(word, tuple) and word[0] == "P"


def is_machine(word: Word) -> bool:
    return isinstance(word, tuple) and word[0] == "M"


def first_step(operation: list[Any]) -> str:
    return "S1" if operation[0] == "set" else "G1"


class Cpu:
    """One CPU's locals. `program` is its list of operations."""

    def __init__(self, program: list[list[Any]]) -> None:
        self.program = program
        self.number = 0
        self.results: tuple[Any, ...] = ()
        self.fifo: tuple[tuple[int, Word], ...] = ()
        self.clear()
        self.step = first_step(program[0]) if program else "done"

    def clear(self) -> None:
        self.mid = self.x = self.q = self.a = self.b = 0
        self.dead_mid = self.dead_x = False

    def finish(self, result: Any) -> None:
        self.results += (result,)
        self.clear()
        self.number += 1
        done = self.number == len(self.program)
        self.step = "done" if done else first_step(self.program[self.number])

    def packed(self) -> tuple[Any, ...]:
        return (self.number, self.step, self.mid, self.x, self.q, self.a, self.b,
                self.dead_mid, self.dead_x, self.results, self.fifo)  # fmt: skip

    def unpack(self, values: tuple[Any, ...]) -> None:
        (self.number, self.step, self.mid, self.x, self.q, self.a, self.b,
         self.dead_mid, self.dead_x, self.results, self.fifo) = values  # fmt: skip


class Memory:
    """Memory, allocator, CPUs and toolstack of one configuration, in one state."""

    def __init__(self, config: Config) -> None:
        self.kernel = config["kernel"]
        self.allocator = config["allocator"]
        self.tso = config["memory"] == "tso"
        self.tool_kind = config["toolstack"]
        self.programs = config["cpus"]
        self.first = dict.fromkeys(config["populated_first"], 9)
        pages = 3 + 3 * (len(self.first) + sum(len(program) for program in self.programs))
        self.words: list[Word] = [0] * (PAGES_AT + N * pages)
        for t in range(N):
            self.put(f"TOP{t}", pointer(MM))
            self.put(f"TM{t}", machine(XM))
            self.put(f"TP{t}", pointer(XM))
        for i in range(N):
            self.words[self.at(LM, i)] = INVALID
            self.words[self.at(MM, i)] = pointer(LM)
            self.words[self.at(XM, i)] = machine(LM)
        self.next_page = 3
        self.num_stacks = len(self.programs) if self.allocator == "own" else 1
        self.free: list[tuple[int, ...]] = [()] * self.num_stacks
        self.flags: tuple[str, ...] = ()
        self.tool: tuple[Any, ...] = ("W0" if self.tool_kind else "done", 0, 0, (), (), "")
        self.populate()
        self.put("GEN", 0)
        self.put("LOCK", 0)
        self.put("LAST", config["last"])
        self.put("SHMAX", config["last"])
        self.cpus = [Cpu(program) for program in self.programs]

    def populate(self) -> None:
        memory, self.tso = self.tso, False
        for pfn in self.first:
            self.cpus = [Cpu([["set", pfn, 9]])]
            while self.cpus[0].step != "done":
                assert self.run_step(0, self.next_page)
        self.tso = memory

    # Memory

    @staticmethod
    def at(page: int, index: int) -> int:
        return PAGES_AT + N * page + index

    def put(self, name: str, word: Word) -> None:
        self.words[SHARED.index(name)] = word

    def load(self, cpu: Cpu, address: int) -> Word:
        for where, word in reversed(cpu.fifo):
            if where == address:
                return word
        return self.words[address]

    def store(self, cpu: Cpu, address: int, word: Word) -> None:
        if self.tso:
            cpu.fifo += ((address, word),)
        else:
            self.words[address] = word

    def fill(self, cpu: Cpu, page: Word, word: Word) -> None:
        for i in range(N):
            self.store(cpu, self.at(page[1], i), word)

    # States

    def packed(self) -> tuple[Any, ...]:
        return (tuple(self.words), tuple(self.free), self.next_page, self.flags, self.tool,
                tuple(cpu.packed() for cpu in self.cpus))  # fmt: skip

    def unpack(self, state: tuple[Any, ...]) -> None:
        words, free, self.next_page, self.flags, self.tool, cpus = state
        self.words, self.free = list(words), list(free)
        for cpu, values in zip(self.cpus, cpus, strict=True):
            cpu.unpack(values)

    def release(self, who: int, page: int) -> None:
        if self.allocator == "own":
            self.free[who] += (page,)
        else:
            self.free[0] = tuple(sorted((*self.free[0], page)))

    def takeable(self, who: int) -> list[int]:
        if self.allocator == "own" and self.free[who]:
            return [self.free[who][-1]]
        if self.allocator == "any":
            return [*self.free[0], self.next_page]
        return [self.next_page]

    def take(self, who: int, page: int) -> Word:
        if page == self.next_page:
            self.next_page += 1
        elif self.allocator == "own":
            self.free[who] = self.free[who][:-1]
        else:
            self.free[0] = tuple(other for other in self.free[0] if other != page)
        return pointer(page)
