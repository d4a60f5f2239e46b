"""The toolstack's walk of a linear p2m's page tables, and what it checks of them later.

Source: libxc's `map_p2m_list` and `normalise_pagetable` (linear-spec L8); its own error texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.policies.flat import MAPS
from p2mbatch.compiled.table_pages import ENTRY, read_table
from p2mbatch.compiled.tables import LEGACY
from p2mbatch.model.explain.save import TreeWalk
from p2mbatch.model.explain.story import Said, Step
from p2mbatch.model.explain.view import Known, View
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.toolstacks import Toolstack, said

_MASK = (1 << 64) - 1

DROPPED = "here a block that is in use is dropped"
"""What is told of a trim that leaves out pages; by it a life's end knows what lost them."""


def shared_info(view: View, tweak: dict[str, Any]) -> dict[str, int]:
    """Return what a save reads of the shared info page of a guest with a linear p2m."""
    state = view.state
    says = {
        "p2m_cr3_mfn": int(state.shared_cr3) & _MASK,
        "p2m_vaddr": int(state.shared_vaddr) & _MASK,
        "max_pfn": int(state.shared_max) & _MASK,
        "frame_list_list_mfn": int(state.shared_fll) & _MASK,
    }
    says.update(tweak.get("shared", {}))
    return says


class TableWalk(TreeWalk):
    """One walk of the page tables to be told, by what it came to."""

    def __init__(
        self, view: View, result: EventResult, known: Known, tool: Toolstack, tweak: dict[str, Any]
    ) -> None:
        super().__init__(view, result, known, tool)
        self.says = shared_info(view, tweak)
        self.tweaked = {(page, i): mfn for page, i, mfn in tweak.get("ptes", [])}
        self.max_pfn = (self.says["max_pfn"] - 1) & _MASK
        self.first = self.says["p2m_vaddr"]
        numbers = [int(word) for word in (result.detail or "").split() if word.isdigit()]
        self.level = numbers[0] if len(numbers) == 2 else 0
        self.at = numbers[-1] if numbers else 0
        self.leaves: Int64Array = np.zeros(0, np.int64)
        self._print: Callable[[], str] | None = None
        """What the tool prints of a level that it can't walk."""

    def tell(self) -> list[Step]:
        """Return the steps of the walk, up to the check that failed."""
        if not (self._root() and self._range()):
            return self.steps
        frames = np.array([self.says["p2m_cr3_mfn"]], np.int64)
        for level in (4, 3, 2, 1):
            found = self._level(frames, level)
            if found is None:
                return self.steps
            frames = found
        self.leaves = frames[: (self.max_pfn >> self.view.shift) + 1]
        if self._map_leaves():
            self._same_p2m()
        return self.steps

    @property
    def _walk(self) -> str:
        """Return the function that walks."""
        return self.tool.functions["bad-mfn-in-walk"]

    def _error(self, say: Said) -> str:
        if self.failed == "bad-p2m-cr3":
            return f"Bad p2m_cr3 value {say.word(self._cr3)}"
        if self.failed == "bad-p2m-range":
            return f"Bad virtual p2m address range {say.word(self.first)}-{say.word(self._last)}"
        return super()._error(say) if self._print is None else self._print()

    @property
    def _cr3(self) -> int:
        """Return p2m_cr3 as it stands in the shared info page of a 64-bit guest."""
        return self.says["p2m_cr3_mfn"] << 12 & _MASK

    @property
    def _last(self) -> int:
        return (self.first + 4096 * ((self.max_pfn >> self.view.shift) + 1) - 1) & _MASK

    def _root(self) -> bool:
        view, say = self.view, self.view.said()
        mfn = self.says["p2m_cr3_mfn"]
        text = (
            f"The shared info page says p2m_cr3 {say.mfn(mfn)}, p2m_vaddr {say.word(self.first)}, "
            f"max_pfn {say.count(self.says['max_pfn'])}: the guest has a linear list. Frames of "
            f"this host are {say.word(1)} to {say.word(view.frames)}."
        )
        return self._check(say, text, "bad-p2m-cr3")

    def _range(self) -> bool:
        say = self.view.said()
        span = f"{say.word(self.first)} to {say.word(self._last)}"
        text = f"Its addresses are {span}: canonical, and not Xen's own."
        if self.failed == "bad-p2m-range":
            text = f"Its addresses would be {span}."
        return self._check(say, text, "bad-p2m-range")

    def _level(self, frames: Int64Array, level: int) -> Int64Array | None:
        """Tell the walk of one level's table pages; return the frames found, None if it ends."""
        view, say = self.view, self.view.said()
        if self.failed == "map-ptes-failed" and self.level == level:
            mfn = int(frames[self.at])
            text = (
                f"Table page {say.index(self.at)} of level {say.index(level)} is {say.mfn(mfn)}: "
                f"{view.whose(say, mfn)}."
            )
            self._print = lambda: (
                f"Failed to map {say.count(len(frames))} page table pages for p2m list"
            )
            self._check(say, text, "map-ptes-failed")
            return None
        shift = 9 * level + 3
        offset = 0 if level == 4 else self.first >> (shift + 9) << (shift + 9)
        low, high = (
            ((end - offset) & ((1 << 48) - 1)) >> shift for end in (self.first, self._last)
        )
        pages = [view.own_pfn(int(mfn)) for mfn in frames]
        found = np.concatenate([self._read(page) for page in pages])[low : high + 1]
        if self.failed == "bad-mfn-in-walk" and self.level == level:
            where = self.first + (self.at << shift)
            text = (
                f"Entry {say.index(self.at)} of level {say.index(level)} is "
                f"{say.mfn(found[self.at])}, no frame that a host can have."
            )
            self._print = lambda: (
                f"Bad mfn {say.printed(found[self.at])} during page table walk for vaddr "
                f"{say.word(where)} at level {say.index(level)} of p2m list"
            )
            self._check(say, text, "bad-mfn-in-walk")
            return None
        text = (
            f"Level {say.index(level)}: {say.count(len(frames), 'table page')}, the first "
            f"{view.name(say, pages[0])}; it reads {say.count(len(found), 'entry', 'entries')}, "
            f"{self._span(say, found)}."
        )
        self.steps.append(Step("save", self._walk, text, True, say.numbers))
        return self._trimmed(found, high) if level == 2 else found

    def _trimmed(self, frames: Int64Array, high: int) -> Int64Array:
        """Leave out trailing tables that are all alike, as the toolstack does, and tell it."""
        changes = np.flatnonzero(np.diff(frames))
        k = int(changes[-1]) + 1 if len(changes) else 0
        k += k == high
        trimmed = (k * 512**2 - 1) & _MASK
        if trimmed >= self.max_pfn:
            return frames
        say = self.view.said()
        text = (
            f"Its entries from {say.index(k)} on are alike: what they map is left out, and the "
            f"last PFN to save is {say.pfn(trimmed)}."
        )
        if len(changes) and k < len(frames) and high != len(frames) - 1:
            text += (
                " The trim compares a distance with an index, which are the same only where "
                f"p2m_vaddr is at the beginning of a table of level {say.index(2)}: {DROPPED}."
            )
        self.steps.append(Step("save", self._walk, text, None, say.numbers))
        self.max_pfn = trimmed
        return frames[: k + 1]

    def _read(self, page: int) -> Int64Array:
        """Return the frames in a table page as this save reads them."""
        frames, kinds = np.empty(512, np.int64), np.empty(512, np.uint8)
        read_table(self.view.t, self.view.h, page, frames, kinds)
        for (table, i), mfn in self.tweaked.items():
            if table == page and kinds[i] == ENTRY:
                frames[i] = mfn
        return frames

    def found_leaves(self) -> Int64Array:
        """Return the MFNs of the leaves that the walk found, int64[leaves]."""
        return self.leaves

    def _entry(self, x: int) -> int:
        return int(self.leaves[x]) if x < len(self.leaves) else -1

    def _place(self, say: Said, x: int) -> str:
        return f"The pte of leaf {say.index(x)}"

    def _hit_list(self, say: Said, x: int) -> str:
        return ""

    def tell_tables(self, now: View) -> list[Step]:
        """Return the check of the page tables as they are sent, once the guest is paused."""
        say = now.said()
        name = "bad-mfn-in-page-table"
        if self.failed != name:
            text = (
                "The page tables of the list are sent with PFNs in place of MFNs: each entry's "
                "frame is one that the save carries."
            )
            return [Step("save", self.tool.functions[name], text, True, say.numbers)]
        page = self._failing_table(now)
        mfn = self._reading(now, page)
        text = (
            f"Entry {say.index(self.at)} of a table of level {say.index(self.level)}, "
            f"{say.pfn(page)}, is {say.mfn(mfn)}: {now.whose(say, mfn)}. The last PFN that the "
            f"save carries is {say.pfn(now.state.walked_max_pfn)}. "
        )
        if self.tool.code == LEGACY:
            text += '"Fatal PT race"'
        else:
            text += f'"Bad mfn for L{say.index(self.level)}[{say.index(self.at)}]"'
        return [Step("save", self.tool.functions[name], text, False, say.numbers)]

    def _reading(self, now: View, page: int) -> int:
        frames, kinds = np.empty(512, np.int64), np.empty(512, np.uint8)
        read_table(now.t, now.h, page, frames, kinds)
        return int(self.tweaked.get((page, self.at), frames[self.at]))

    def _failing_table(self, now: View) -> int:
        """Return the first table page, by PFN, whose entry is the one that failed."""
        last = int(now.state.walked_max_pfn)
        for page in sorted(self._tables(now, self.level)):
            if page > last:
                continue
            mfn = self._reading(now, page)
            if now.row(page)[self.at] != 0 and not self._names_itself(now, mfn, last):
                return page
        return -1

    def _names_itself(self, now: View, mfn: int, last: int) -> bool:
        pfn = now.m2p(mfn)
        return 0 <= pfn <= last and now.mfn_found(self.leaves, pfn) == mfn

    def _tables(self, now: View, level: int) -> set[int]:
        """Return the PFNs of the table pages of a level."""
        found = {int(now.state.pgd)}
        for _ in range(4 - level):
            words = np.concatenate([now.row(page) for page in found])
            found = set((words[words != 0] & (MAPS - 1)).tolist())
        return found


def tell_generation(now: View, before: View, tool: Toolstack) -> Step:
    """Return the check of `p2m_generation` after a round of a live migration that failed."""
    say, name = now.said(), "p2m-generation-changed"
    text = (
        f"p2m_generation was {say.count(before.state.generation)} when the list was mapped and is "
        f'{say.count(now.state.generation)}. "{said(tool.name, name)}"'
    )
    return Step("save", tool.functions[name], text, False, say.numbers)
