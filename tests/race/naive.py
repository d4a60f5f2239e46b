"""A naive explorer of races in the growth of the p2m: slow, obvious, independent.

It is written from the description of the steps alone (docs/races.md) and shares no code with the
package. A state is a tuple of tuples; every interleaving is followed; schedules are counted with
Python's integers and probabilities with its floats. The compiled explorer must reproduce all of it.

A word is ``("P", page)``, ``("M", page)``, ``None`` for INVALID, or a number.
"""

from __future__ import annotations

from collections import deque
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


class Machine:
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

    # Steps

    def flag(self, name: str) -> None:
        self.flags = tuple(sorted({*self.flags, name}))

    def run_step(self, who: int, page: int) -> bool:
        """Run the next step of CPU `who`; False where it has to wait. `page` is what A2... take."""
        cpu = self.cpus[who]
        step = cpu.step
        waits = step in FENCED or (self.allocator == "any" and step in {*TAKES, *FREES})
        if cpu.fifo and waits:
            return False
        if step in ("K1", "J1") and self.words[SHARED.index("LOCK")] != 0:
            return False
        operation = cpu.program[cpu.number]
        pfn = operation[1]
        value = None if operation[0] == "get" else operation[2]
        value = INVALID if value == -1 else value
        t, m, i = pfn // (N * N), pfn // N % N, pfn % N
        reached = {"S2": cpu.a, "S3": cpu.b, "T2": cpu.a, "T3": cpu.b, "G2": cpu.a, "G3": cpu.b,
                   "A13": cpu.a, "O2": cpu.a, "A16": cpu.mid, "A17": cpu.x, "J2": cpu.mid,
                   "J4": cpu.mid, "J6": cpu.x}  # fmt: skip
        if self.kernel == "new":
            reached["A12"] = cpu.mid
        if step in reached and not is_pointer(reached[step]):
            self.flag("fault")
            return True
        getattr(self, "step_" + step)(who, cpu, pfn, t, m, i, value, page)
        return True

    def top(self, cpu: Cpu, t: int) -> Word:
        return self.load(cpu, SHARED.index(f"TOP{t}"))

    def step_G1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "G2"

    def step_G2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "G3"

    def step_G3(self, who, cpu, pfn, t, m, i, value, page):
        cpu.finish(self.load(cpu, self.at(cpu.b[1], i)))

    def step_S1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "S2"

    def step_S2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b = self.load(cpu, self.at(cpu.a[1], m))
        if cpu.b != pointer(LM):
            cpu.step = "S3"
        elif value is INVALID:
            cpu.finish(True)
        else:
            cpu.step = "A1"

    def step_S3(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.b[1], i), value)
        cpu.finish(True)

    def step_T1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "T2"

    def step_T2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "T3"
        if cpu.b == pointer(LM):
            cpu.finish(False)

    def step_T3(self, who, cpu, pfn, t, m, i, value, page):
        self.step_S3(who, cpu, pfn, t, m, i, value, page)

    def step_A1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid = cpu.a = self.top(cpu, t)
        cpu.step = "A2" if cpu.mid == pointer(MM) else "A6"

    def step_A2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid, cpu.step = self.take(who, page), "A3"

    def step_A3(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.mid, pointer(LM))
        cpu.step = "K1" if self.kernel == "new" else "A4"

    def step_A4(self, who, cpu, pfn, t, m, i, value, page):
        won = self.top(cpu, t) == pointer(MM)
        if won:
            self.put(f"TOP{t}", cpu.mid)
        cpu.step = "A6" if won else "A5"

    def step_A5(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.mid[1])
        if self.kernel in ("old", "orig"):
            cpu.dead_mid, cpu.step = True, "A6"
        else:
            cpu.step = "A5r"

    def step_A5r(self, who, cpu, pfn, t, m, i, value, page):
        cpu.mid = cpu.a = self.top(cpu, t)
        cpu.step = "A6"

    def step_K1(self, who, cpu, pfn, t, m, i, value, page):
        self.put("LOCK", 1)
        cpu.step = "K2"

    def step_K2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.step = "K3" if self.top(cpu, t) == pointer(MM) else "K8"

    def count_generation(self, cpu: Cpu) -> None:
        address = SHARED.index("GEN")
        self.store(cpu, address, self.load(cpu, address) + 1)

    def step_K3(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "K4"

    def step_K4(self, who, cpu, pfn, t, m, i, value, page):
        self.put(f"TOP{t}", cpu.mid)
        cpu.step = "K5"

    def step_K5(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "K6"

    def unlock(self, cpu: Cpu) -> None:
        self.store(cpu, SHARED.index("LOCK"), 0)

    def step_K6(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A5r"

    def step_K8(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A5"

    def step_A6(self, who, cpu, pfn, t, m, i, value, page):
        cpu.x, cpu.step = self.load(cpu, SHARED.index(f"TP{t}")), "A7"

    def step_A7(self, who, cpu, pfn, t, m, i, value, page):
        shared = cpu.x == pointer(XM)
        found = self.load(cpu, SHARED.index(f"TM{t}"))
        if found != machine(cpu.x[1]) and not (shared and self.kernel == "relax"):
            self.flag("bug")
        else:
            cpu.step = "A8" if shared else "A12"

    def step_A8(self, who, cpu, pfn, t, m, i, value, page):
        cpu.x, cpu.step = self.take(who, page), "A9"

    def step_A9(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.x, machine(LM))
        cpu.step = "A10"

    def step_A10(self, who, cpu, pfn, t, m, i, value, page):
        found = self.load(cpu, SHARED.index(f"TM{t}"))
        if found == machine(XM):
            self.put(f"TM{t}", machine(cpu.x[1]))
            cpu.step = "A11"
        else:
            cpu.b, cpu.step = found, "A11f"

    def step_A11(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index(f"TP{t}"), cpu.x)
        cpu.step = "A12"

    def step_A11f(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.x[1])
        if self.kernel in ("old", "orig"):
            cpu.dead_x = True
        else:
            cpu.x = pointer(cpu.b[1])
        cpu.step = "A12"

    def step_A12(self, who, cpu, pfn, t, m, i, value, page):
        if self.kernel == "new":
            cpu.b = self.load(cpu, self.at(cpu.mid[1], m))
            cpu.step = "A14" if cpu.b == pointer(LM) else "Z1"
        else:
            cpu.a, cpu.step = self.top(cpu, t), "A13"

    def step_A13(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b = self.load(cpu, self.at(cpu.a[1], m))
        if cpu.b != pointer(LM):
            cpu.step = "T1"
        else:
            cpu.step = "O1" if self.kernel == "orig" else "A14"

    def step_O1(self, who, cpu, pfn, t, m, i, value, page):
        cpu.a, cpu.step = self.top(cpu, t), "O2"

    def step_O2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.b, cpu.step = self.load(cpu, self.at(cpu.a[1], m)), "A14"

    def step_A14(self, who, cpu, pfn, t, m, i, value, page):
        cpu.q, cpu.step = self.take(who, page), "A15"

    def step_A15(self, who, cpu, pfn, t, m, i, value, page):
        self.fill(cpu, cpu.q, INVALID)
        cpu.step = "J1" if self.kernel == "new" else "A16"

    def step_A16(self, who, cpu, pfn, t, m, i, value, page):
        address = self.at(cpu.mid[1], m)
        won = self.words[address] == cpu.b
        if won:
            self.words[address] = cpu.q
        if cpu.dead_mid:
            self.flag("uaf-write" if won else "uaf-read")
        cpu.step = "A17" if won else "A18"

    def step_A17(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.x[1], m), machine(cpu.q[1]))
        if cpu.dead_x:
            self.flag("uaf-write")
        cpu.step = "T1"

    def step_A18(self, who, cpu, pfn, t, m, i, value, page):
        self.release(who, cpu.q[1])
        cpu.step = "Z1" if self.kernel == "new" else "T1"

    def step_J1(self, who, cpu, pfn, t, m, i, value, page):
        self.put("LOCK", 1)
        cpu.step = "J2"

    def step_J2(self, who, cpu, pfn, t, m, i, value, page):
        cpu.step = "J3" if self.load(cpu, self.at(cpu.mid[1], m)) == cpu.b else "J8"

    def step_J3(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "J4"

    def step_J4(self, who, cpu, pfn, t, m, i, value, page):
        self.words[self.at(cpu.mid[1], m)] = cpu.q
        cpu.step = "J5"

    def step_J5(self, who, cpu, pfn, t, m, i, value, page):
        self.count_generation(cpu)
        cpu.step = "J6"

    def step_J6(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, self.at(cpu.x[1], m), machine(cpu.q[1]))
        cpu.step = "J7"

    def step_J7(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "Z1"

    def step_J8(self, who, cpu, pfn, t, m, i, value, page):
        self.unlock(cpu)
        cpu.step = "A18"

    def step_Z1(self, who, cpu, pfn, t, m, i, value, page):
        if pfn >= self.load(cpu, SHARED.index("LAST")):
            cpu.b, cpu.step = (pfn // N + 1) * N, "Z2"
        else:
            cpu.step = "T1"

    def step_Z2(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index("LAST"), cpu.b)
        cpu.step = "Z3"

    def step_Z3(self, who, cpu, pfn, t, m, i, value, page):
        self.store(cpu, SHARED.index("SHMAX"), cpu.b)
        cpu.step = "T1"

    # The toolstack's walk

    def walk_step(self) -> None:
        step, top, generation, fll, fl, verdict = self.tool
        tree = self.tool_kind == "tree"
        if step == "W0":
            top, step = self.words[SHARED.index("SHMAX")] - 1, "W1" if tree else "WG"
        elif step == "WG":
            generation, step = self.words[SHARED.index("GEN")], "W1"
        elif step == "W1":
            fll += (self.words[SHARED.index(("TM" if tree else "TOP") + str(len(fll)))],)
            if len(fll) == top // (N * N) + 1:
                top, step = self.trim(top, fll), "W2"
        else:
            right_kind = is_machine if tree else is_pointer
            page = fll[len(fl) // N]
            word = self.words[self.at(page[1], len(fl) % N)] if right_kind(page) else 0
            if right_kind(word):
                fl += (word,)
                step = "done" if len(fl) == top // N + 1 else "W2"
            else:
                step, verdict = "done", "T-fail"
        self.tool = (step, top, generation, fll, fl, verdict)

    def trim(self, top: int, fll: tuple[Word, ...]) -> int:
        start = len(fll) - 1
        while start > 0 and fll[start - 1] == fll[-1]:
            start -= 1
        if self.tool_kind == "tree":
            return min(top, (start + 1) * N * N - 1)
        if start == len(fll) - 1:
            start += 1
        return min(top, start * N * N - 1) if start else top

    # Moves

    def is_over(self) -> bool:
        """Return whether a bug or a fault has ended the run."""
        return bool({"bug", "fault"} & set(self.flags))

    def is_done(self) -> bool:
        """Return whether everybody came to his end."""
        quiet = all(cpu.step == "done" and not cpu.fifo for cpu in self.cpus)
        return quiet and self.tool[0] == "done"

    def moves(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return every move from this state: its name and the state it leads to, in order."""
        found: list[tuple[str, tuple[Any, ...]]] = []
        if self.is_over():
            return found
        before = self.packed()

        def note(name: str) -> None:
            after = self.packed()
            if {"bug", "fault"} & set(self.flags):
                name += "!"
            found.append((name, after))
            self.unpack(before)

        for who, cpu in enumerate(self.cpus):
            if cpu.fifo:
                (address, word), *rest = cpu.fifo
                self.words[address], cpu.fifo = word, tuple(rest)
                note(f"{who}:flush")
            step = cpu.step
            if step == "done":
                continue
            for page in self.takeable(who) if step in TAKES else [0]:
                if self.run_step(who, page):
                    note(f"{who}:{step}" + (f"={page}" if step in TAKES else ""))
        if self.tool[0] != "done":
            step = self.tool[0]
            self.walk_step()
            note(f"{len(self.cpus)}:{step}")
        return found

    # Judging an end

    def leaf_word(self, t: int, m: int) -> Word:
        top = self.words[t]
        return self.words[self.at(top[1], m)] if is_pointer(top) else 0

    def value(self, pfn: int) -> tuple[bool, Word]:
        """Return whether `pfn` can be reached, and its value."""
        leaf = self.leaf_word(pfn // (N * N), pfn // N % N)
        if not is_pointer(leaf):
            return False, 0
        return True, self.words[self.at(leaf[1], pfn % N)]

    def roles(self) -> dict[int, set[Any]]:
        roles: dict[int, set[Any]] = {}
        for t in range(N):
            found = [(self.words[t], ("mid", t))]
            if is_pointer(self.words[t]):
                found += [(self.leaf_word(t, m), ("leaf", t, m)) for m in range(N)]
                found = [(word, role) for word, role in found if is_pointer(word)]
            found.append((self.words[SHARED.index(f"TM{t}")], ("list", t)))
            found.append((self.words[SHARED.index(f"TP{t}")], ("list", t)))
            for word, role in found:
                if isinstance(word, tuple) and word[1] >= 3:
                    roles.setdefault(word[1], set()).add(role)
        return roles

    def judge(self) -> str:
        """Return the class of this end: its labels, sorted and joined."""
        if "bug" in self.flags:
            return "bug"
        if "fault" in self.flags:
            return "fault"
        if not self.is_done():
            return "deadlock"
        labels: set[str] = set()
        self.judge_values(labels)
        self.judge_pages(labels)
        self.judge_reads(labels)
        if self.tool_kind:
            self.judge_walk(labels)
        return "+".join(sorted(labels)) or "ok"

    def judge_values(self, labels: set[str]) -> None:
        last_true: dict[int, dict[int, Word]] = {}
        for who, cpu in enumerate(self.cpus):
            for operation, result in zip(cpu.program, cpu.results, strict=True):
                if operation[0] == "set" and result is False:
                    labels.add("false")
                elif operation[0] == "set":
                    value = INVALID if operation[2] == -1 else operation[2]
                    last_true.setdefault(operation[1], {})[who] = value
        highest = -1
        for pfn in range(PFNS):
            reachable, value = self.value(pfn)
            if not reachable:
                labels.add("wild")
                continue
            if value is not INVALID:
                highest = pfn
            if pfn in last_true:
                if value not in last_true[pfn].values():
                    labels.add("lost")
            elif value != self.first.get(pfn, INVALID):
                labels.add("stray")
        if self.kernel == "new" and self.words[SHARED.index("SHMAX")] <= highest:
            labels.add("max")

    def judge_pages(self, labels: set[str]) -> None:
        if self.flags:
            labels.add("uaf")
        roles = self.roles()
        free = {page for stack in self.free for page in stack}
        for page in range(3, self.next_page):
            if page not in free and page not in roles:
                labels.add("leak")
            if page in free and page in roles:
                labels.add("freed-in-tree")
        if any(len(found) > 1 for found in roles.values()):
            labels.add("alias")
        for t in range(N):
            found = self.words[SHARED.index(f"TM{t}")]
            mirror = self.words[SHARED.index(f"TP{t}")]
            if not is_pointer(mirror) or found != machine(mirror[1]):
                labels.add("mirror")
            for m in range(N):
                leaf = self.leaf_word(t, m)
                if is_pointer(leaf) and is_machine(found):
                    if self.words[self.at(found[1], m)] != machine(leaf[1]):
                        labels.add("list")

    def judge_reads(self, labels: set[str]) -> None:
        for who, cpu in enumerate(self.cpus):
            own: dict[int, Word] = dict(self.first)
            for operation, result in zip(cpu.program, cpu.results, strict=True):
                pfn = operation[1]
                if operation[0] == "set":
                    if result:
                        own[pfn] = INVALID if operation[2] == -1 else operation[2]
                    continue
                allowed = [own.get(pfn, INVALID)]
                for other, program in enumerate(self.programs):
                    if other != who:
                        sets = [op for op in program if op[0] == "set" and op[1] == pfn]
                        allowed += [INVALID if op[2] == -1 else op[2] for op in sets]
                if result not in allowed:
                    labels.add("read")

    def judge_walk(self, labels: set[str]) -> None:
        _, top, generation, _, fl, verdict = self.tool
        if verdict:
            labels.add(verdict)
            return
        if self.tool_kind == "list" and self.words[SHARED.index("GEN")] != generation:
            labels.add("T-abort")
            return
        for pfn in range(PFNS):
            reachable, value = self.value(pfn)
            if not reachable:
                continue
            seen = self.words[self.at(fl[pfn // N][1], pfn % N)] if pfn <= top else INVALID
            if value is not INVALID and seen != value:
                labels.add("T-lost")
            if value is INVALID and seen is not INVALID:
                labels.add("T-ghost")
        for x, word in enumerate(fl):
            leaf = self.leaf_word(x // N, x % N)
            if not is_pointer(leaf) or leaf[1] != word[1]:
                labels.add("T-misdirected")


def explore(config: Config) -> dict[str, Any]:
    """Explore `config` whole and return what given.json holds for it, `config` included."""
    machine_ = Machine(config)
    start = machine_.packed()
    order = [start]
    number = {start: 0}
    parent: list[tuple[int, str]] = [(-1, "")]
    depth = [0]
    edges: list[list[int]] = []
    ends: dict[str, list[int]] = {}
    for here in range(2**60):
        if here == len(order):
            break
        machine_.unpack(order[here])
        moves = machine_.moves()
        edges.append([])
        for name, after in moves:
            if after not in number:
                number[after] = len(order)
                order.append(after)
                parent.append((here, name))
                depth.append(depth[here] + 1)
            edges[here].append(number[after])
        if not moves:
            ends.setdefault(machine_.judge(), []).append(here)
    paths, chance = count(edges)
    classes = {}
    for name in sorted(ends):
        found = ends[name]
        steps: list[str] = []
        at = found[0]
        while at:
            at, step = parent[at]
            steps.append(step)
        classes[name] = {
            "schedules": sum(paths[end] for end in found),
            "states": len(found),
            "witness_len": depth[found[0]],
            "probability": round(sum(chance[end] for end in found), 6),
            "witness": " ".join(reversed(steps)),
        }
    return {
        "states": len(order),
        "transitions": sum(len(after) for after in edges),
        "terminal_states": sum(len(found) for found in ends.values()),
        "schedules": sum(entry["schedules"] for entry in classes.values()),
        "classes": classes,
        "config": config,
    }


def count(edges: list[list[int]]) -> tuple[list[int], list[float]]:
    """Return the number of paths to each state and its probability, in topological order."""
    waiting = [0] * len(edges)
    for after in edges:
        for state in after:
            waiting[state] += 1
    paths, chance = [0] * len(edges), [0.0] * len(edges)
    paths[0], chance[0] = 1, 1.0
    ready = deque([0])
    while ready:
        here = ready.popleft()
        for state in edges[here]:
            paths[state] += paths[here]
            chance[state] += chance[here] / len(edges[here])
            waiting[state] -= 1
            if not waiting[state]:
                ready.append(state)
    return paths, chance
