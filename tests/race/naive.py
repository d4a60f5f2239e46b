"""A naive explorer of races in the growth of the p2m: slow, obvious, independent.

It is written from the description of the steps alone (docs/races.md) and shares no code with the
package. A state is a tuple of tuples; every interleaving is followed; schedules are counted with
Python's integers and probabilities with its floats. The compiled explorer must reproduce all of it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from race.naive_memory import (
    INVALID,
    PFNS,
    SHARED,
    TAKES,
    Config,
    N,
    Word,
    is_machine,
    is_pointer,
    machine,
)
from race.naive_steps import Steps


class Machine(Steps):
    """Memory, CPUs and toolstack of one configuration, with its moves and the judge of its ends."""

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
                known = is_pointer(leaf) and is_machine(found)
                if known and self.words[self.at(found[1], m)] != machine(leaf[1]):
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
