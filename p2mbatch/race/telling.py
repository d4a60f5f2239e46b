"""A schedule told step by step, in the words of the kernel's own source.

Source: docs/races.md, "Atomic steps".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2mbatch.compiled.race import layout as at
from p2mbatch.race.config import INVALID_VALUE, Config, Operation
from p2mbatch.race.explorer import EndClass, Step, follow
from p2mbatch.race.plan import Plan, make_plan

_KEEPS_USING = ("old", "orig")


@dataclass(frozen=True)
class Told:
    """One step as it is told.

    Attributes:
        step: the step.
        text: what the process does, without its name.
        memory: what changes in memory by it, "" for nothing.
        closes: the classes that could still be reached before it and can not after it.
    """

    step: Step
    text: str
    memory: str = ""
    closes: tuple[str, ...] = ()


def tell(config: Config, found: EndClass) -> list[Told]:
    """Return the witness of `found` told step by step.

    Raises `InputError` where the witness is no schedule of `config`.
    """
    plan = make_plan(config)
    rows = [row.view(np.uint8) for row in follow(plan, found.witness)]
    teller = _Teller(plan)
    told = []
    for number, step in enumerate(found.witness):
        text = teller.text(step, rows[number], rows[number + 1])
        closes: tuple[str, ...] = ()
        if found.still_open is not None:
            closes = tuple(sorted(found.still_open[number] - found.still_open[number + 1]))
        told.append(Told(step, text, teller.change(rows[number], rows[number + 1]), closes))
    return told


class _Teller:
    """Finds the words for a step from the states before and after it."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config
        self.values = {word: value for value, word in plan.words.items()}
        self.roles = {
            0: "p2m_missing",
            1: "p2m_mid_missing",
            2: "p2m_mid_missing_mfn",
        }

    # Words

    def page(self, page: int) -> str:
        return self.roles.get(page, f"page {page}")

    def word(self, word: int) -> str:
        if word == at.INVALID:
            return "INVALID"
        if word >= at.MACHINE:
            return f"MFN of {self.page(word & 63)}"
        if word >= at.POINTER:
            return self.page(word & 63)
        return str(self.values.get(word, word))

    def place(self, where: int) -> str:
        """Return what the word at `where` of a row is called."""
        names = {at.R_GENERATION: "p2m_generation", at.R_LAST: "xen_p2m_last_pfn",
                 at.R_SHARED_MAX: "shared max_pfn", at.R_LOCK: "p2m_update_lock"}  # fmt: skip
        if where in names:
            return names[where]
        if where < at.R_TOP_MFN:
            return f"p2m_top[{where - at.R_TOP}]"
        if where < at.R_TOP_MFN_P:
            return f"p2m_top_mfn[{where - at.R_TOP_MFN}]"
        if where < at.R_GENERATION:
            return f"p2m_top_mfn_p[{where - at.R_TOP_MFN_P}]"
        page, index = divmod(where - at.R_PAGES, at.ENTRIES)
        return f"{self.page(page)}[{index}]"

    def change(self, before: Any, after: Any) -> str:
        """Return what changed in memory between two states."""
        end = at.R_PAGES + at.ENTRIES * self.config.num_pages
        changed = np.flatnonzero(before[at.R_TOP : end] != after[at.R_TOP : end]) + at.R_TOP
        return ", ".join(
            f"{self.place(int(where))} = {self.word(int(after[where]))}" for where in changed
        )

    # Steps

    def text(self, step: Step, before: Any, after: Any) -> str:
        if step.process == len(self.config.cpus):
            return self._walk(step, before, after)
        block = at.P_BLOCKS + step.process * at.BLOCK_FIELDS
        cpu = int(self.plan.fields[block + at.B_CPU_AT])
        if step.name == "flush":
            fifo = int(self.plan.fields[block + at.B_FIFO_AT])
            where, word = int(before[fifo + 1]), int(before[fifo + 2])
            return f"its store to {self.place(where)} ({self.word(word)}) reaches memory"
        number = int(before[cpu + at.C_OP]) >> 2
        operation = self.config.cpus[step.process][number]
        now, then = before[cpu : cpu + 7], after[cpu : cpu + 7]
        if step.ends_run and after[at.R_FLAGS] & at.FAULT:
            return "reaches through a word that is no pointer: fault"
        teller = getattr(self, f"_tell_{step.name}", None)
        if teller is None:
            teller = self._tell_plain
        text: str = teller(step, operation, now, then)
        return text

    def _tell_plain(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        top, entry = operation.pfn >> 2, operation.pfn >> 1 & 1
        leaf, tracked = self.page(now[at.C_Q] & 63), self.page(now[at.C_X] & 63)
        middle = self.page(now[at.C_MID] & 63)
        texts = {
            "A2": f"takes {self.page(then[at.C_MID] & 63)} for a mid page",
            "A3": f"fills {middle} with p2m_missing",
            "A5r": f"reads p2m_top[{top}] again: {self.word(then[at.C_MID])}",
            "A6": f"reads p2m_top_mfn_p[{top}]: {self.word(then[at.C_X])}",
            "A8": f"takes {self.page(then[at.C_X] & 63)} for the list (mid_mfn)",
            "A9": f"fills {tracked} with the MFN of p2m_missing",
            "A11": f"stores {tracked} in p2m_top_mfn_p[{top}]",
            "A14": f"takes {self.page(then[at.C_Q] & 63)} for a leaf",
            "A15": f"fills {leaf} with INVALID",
            "A18": f"frees its leaf, {leaf}: another was there first",
            "K1": "takes p2m_update_lock",
            "K4": f"hangs {middle} into p2m_top[{top}]",
            "J1": "takes p2m_update_lock",
            "J4": f"hangs {leaf} into {middle}[{entry}]",
            "J6": f"stores the MFN of {leaf} in {tracked}[{entry}]",
            "Z2": f"raises xen_p2m_last_pfn to {now[at.C_B]}",
            "Z3": f"raises the shared max_pfn to {now[at.C_B]}",
        }
        if step.name in ("K3", "K5", "J3", "J5"):
            return "adds one to p2m_generation"
        if step.name in ("K6", "K8", "J7", "J8"):
            return "releases p2m_update_lock"
        return texts[step.name]

    def _read_top(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        again = " again" if step.name in ("A1", "T1", "A12", "O1") else ""
        return f"reads p2m_top[{operation.pfn >> 2}]{again}: {self.word(then[at.C_A])}"

    _tell_G1 = _tell_S1 = _tell_T1 = _tell_A1 = _tell_O1 = _read_top

    def _read_entry(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        through = now[at.C_MID] if step.name == "A12" else now[at.C_A]
        where = f"reads {self.page(through & 63)}[{operation.pfn >> 1 & 1}]"
        if not then[at.C_B] and then[at.C_OP] >> 2 != now[at.C_OP] >> 2:
            if step.name == "T2":
                return f"{where}: still p2m_missing: {self._call(operation)} returns false"
            return f"{where}: p2m_missing: {self._call(operation)} returns true, nothing to do"
        return f"{where}: {self.word(then[at.C_B])}"

    _tell_G2 = _tell_S2 = _tell_T2 = _tell_A13 = _tell_O2 = _read_entry

    def _tell_A12(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        told = self._read_entry if self.config.kernel == "new" else self._read_top
        return told(step, operation, now, then)

    def _call(self, operation: Operation) -> str:
        if operation.kind == "get":
            return f"get_phys_to_machine({operation.pfn})"
        value = "INVALID" if operation.value == INVALID_VALUE else operation.value
        return f"set_phys_to_machine({operation.pfn}, {value})"

    def _tell_G3(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        leaf = self.page(now[at.C_B] & 63)
        return f"reads {leaf}[{operation.pfn & 1}], and {self._call(operation)} returns it"

    def _tell_S3(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        leaf = self.page(now[at.C_B] & 63)
        return f"writes {leaf}[{operation.pfn & 1}]: {self._call(operation)} returns true"

    _tell_T3 = _tell_S3

    def _tell_A4(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        won = then[at.C_STEP] == at.A6
        return (
            f"cmpxchg p2m_top[{operation.pfn >> 2}] from p2m_mid_missing to "
            f"{self.page(now[at.C_MID] & 63)}: {'won' if won else 'lost'}"
        )

    def _and_goes_on(self) -> str:
        return ", and goes on using it" if self.config.kernel in _KEEPS_USING else ""

    def _tell_A5(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        return f"frees its mid page, {self.page(now[at.C_MID] & 63)}{self._and_goes_on()}"

    def _tell_A11f(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        winner = self._and_goes_on() or f", and takes the winner's, {self.word(then[at.C_X])}"
        return f"frees its page of the list, {self.page(now[at.C_X] & 63)}{winner}"

    def _tell_A7(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        top = operation.pfn >> 2
        if step.ends_run:
            return (
                f"reads p2m_top_mfn[{top}], and it is not the MFN of "
                f"{self.page(now[at.C_X] & 63)}: "
                f"BUG virt_to_mfn(mid_mfn) != *top_mfn_p"
            )
        same = "" if then[at.C_STEP] != at.A8 else ", which is the missing one"
        return f"compares p2m_top_mfn[{top}] with the MFN of its page of the list{same}"

    def _tell_A10(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        won = then[at.C_STEP] == at.A11
        return (
            f"cmpxchg p2m_top_mfn[{operation.pfn >> 2}] from the missing page's MFN to that of "
            f"{self.page(now[at.C_X] & 63)}: {'won' if won else 'lost'}"
        )

    def _tell_A16(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        won = then[at.C_STEP] == at.A17
        freed = " (which it has freed)" if now[at.C_OP] & at.DEAD_MID else ""
        return (
            f"cmpxchg {self.page(now[at.C_MID] & 63)}[{operation.pfn >> 1 & 1}]{freed} from "
            f"{self.word(now[at.C_B])} to {self.page(now[at.C_Q] & 63)}: {'won' if won else 'lost'}"
        )

    def _tell_A17(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        freed = " (which it has freed)" if now[at.C_OP] & at.DEAD_X else ""
        return (
            f"stores the MFN of {self.page(now[at.C_Q] & 63)} in the list, "
            f"{self.page(now[at.C_X] & 63)}[{operation.pfn >> 1 & 1}]{freed}"
        )

    def _tell_K2(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        found = "still p2m_mid_missing" if then[at.C_STEP] == at.K3 else "another was first"
        return f"looks at p2m_top[{operation.pfn >> 2}] under the lock: {found}"

    def _tell_J2(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        found = "still p2m_missing" if then[at.C_STEP] == at.J3 else "another was first"
        where = f"{self.page(now[at.C_MID] & 63)}[{operation.pfn >> 1 & 1}]"
        return f"looks at {where} under the lock: {found}"

    def _tell_Z1(self, step: Step, operation: Operation, now: Any, then: Any) -> str:
        found = "to be raised" if then[at.C_STEP] == at.Z2 else "high enough"
        return f"reads xen_p2m_last_pfn: {found}"

    # The toolstack

    def _walk(self, step: Step, before: Any, after: Any) -> str:
        tool = int(self.plan.fields[at.P_TOOL_AT])
        tree = self.config.toolstack == "tree"
        if step.name == "W0":
            return f"reads the shared max_pfn: the last PFN is {after[tool + at.W_MAX]}"
        if step.name == "WG":
            return f"remembers p2m_generation, {after[tool + at.W_GENERATION]}"
        if step.name == "W1":
            number = int(before[tool + at.W_NUM_FLL])
            found = self.word(after[tool + at.W_FLL + number])
            trimmed = after[tool + at.W_MAX]
            end = f"; trims to PFN {trimmed}" if trimmed != before[tool + at.W_MAX] else ""
            return f"reads {'p2m_top_mfn' if tree else 'p2m_top'}[{number}]: {found}{end}"
        number = int(before[tool + at.W_NUM_FL])
        page = self.word(before[tool + at.W_FLL + (number >> 1)])
        if after[tool + at.W_FAILED]:
            return f"reads word {number & 1} of the page it found, {page}: no such page; gives up"
        return f"reads {page}[{number & 1}]: {self.word(after[tool + at.W_FL + number])}"


def process_name(config: Config, process: int) -> str:
    """Return what a process is called: CPU 0, CPU 1, …, toolstack."""
    return "toolstack" if process == len(config.cpus) else f"CPU {process}"


def lines_of(config: Config, told: Sequence[Told]) -> list[str]:
    """Return the steps as lines of text, a mark where an end is excluded."""
    lines = []
    for number, one in enumerate(told):
        who = process_name(config, one.step.process)
        mark = "*" if one.closes else " "
        line = f"{number + 1:4d} {mark} {who:9s} {one.step.name:5s} {one.text}"
        if "ok" in one.closes:
            line += "   <- from here on it can't end well"
        lines.append(line)
    return lines
