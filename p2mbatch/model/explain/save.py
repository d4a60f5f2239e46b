"""The toolstack's walk of the mfn list list, check by check, with what each read.

Source: libxc's `map_p2m_tree` and what follows it (model section 7, step 1; history section 11 for
Xen 4.6); its own error texts. Which check failed, and where, is the compiled walk's answer; what it
read is read again here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.tables import TRIMS
from p2mbatch.model.explain.story import Said, Step
from p2mbatch.model.explain.view import Known, View
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.toolstacks import Toolstack, said

# The checks in the toolstack's order, by the first word of the detail of the one that failed.
ORDER = (
    "max_pfn-too-large", "bad-fll-mfn", "map-fll-failed", "bad-mfn-in-fll", "map-fl-failed",
    "bad-mfn-in-fl", "map-leaves-failed", "bad-mfn-in-p2m-frame-list",
)  # fmt: skip


class TreeWalk:
    """One walk of Xen 4.6's or a later toolstack to be told, by what it came to."""

    size_from = "The shared info page says max_pfn"
    """Where the tool has the guest's end from."""

    def __init__(
        self,
        view: View,
        result: EventResult,
        known: Known,
        tool: Toolstack,
        says: dict[str, int] | None = None,
    ) -> None:
        self.view, self.known, self.tool = view, known, tool
        self.failed, _, number = (result.detail or "").partition(" ")
        if result.outcome != "save-failed":
            self.failed = ""
        self.at = int(number) if number.isdigit() else 0
        state = view.state
        says = says or {}
        self.max_pfn = says.get("max_pfn", int(state.shared_max)) - 1
        self.fll_mfn = says.get("frame_list_list_mfn", int(state.shared_fll))
        self.steps: list[Step] = []
        self.lists: list[int] = []
        """PFNs of the frame list pages."""

    def _check(self, say: Said, text: str, name: str) -> bool:
        """Add a check's step, with what the tool prints where it failed; return whether it held."""
        held = name != self.failed
        if not held:
            text += f' "{self._error(say)}"'
        self.steps.append(Step("save", self.tool.functions[name], text, held, say.numbers))
        return held

    def _error(self, say: Said) -> str:
        """Return what the tool prints for the check that failed."""
        errors: dict[str, Callable[[], str]] = {
            ORDER[0]: lambda: f"max_pfn {say.printed(self.max_pfn)} too large for p2m tree",
            ORDER[1]: lambda: f"Bad mfn {say.printed(self.fll_mfn)} for p2m frame list list",
            ORDER[2]: lambda: f"Failed to map p2m frame list list at {say.printed(self.fll_mfn)}",
            ORDER[3]: lambda: (
                f"Bad mfn {say.printed(self.tops[self.at])} at index {say.index(self.at)} (of "
                f"{say.count(self.num_tops)}) in p2m frame list list"
            ),
            ORDER[5]: lambda: (
                f"Bad mfn {say.printed(self._entry(self.at))} at index {say.index(self.at)} (of "
                f"{say.count(self._num_leaves)}) in p2m frame list"
            ),
            ORDER[7]: lambda: f"Bad mfn in p2m_frame_list[{say.index(self.at)}]",
        }
        if self.failed not in errors:
            return said(self.tool.name, self.failed)
        return errors[self.failed]()

    def _checks(self) -> tuple[Callable[[], bool], ...]:
        """Return the checks in the tool's order."""
        return (
            self._size, self._list_list, self._map_list_list, self._top_entries, self._map_lists,
            self._list_entries, self._map_leaves, self._same_p2m,
        )  # fmt: skip

    def tell(self) -> list[Step]:
        """Return the steps of the walk, up to the check that failed."""
        if not self.failed and self.max_pfn < 0:
            return []
        # Which ends with the first that did not hold.
        all(check() for check in self._checks())
        return self.steps

    def _size(self) -> bool:
        view, say = self.view, self.view.said()
        self.num_tops = self.max_pfn // view.n**2 + 1
        text = (
            f"{self.size_from} {say.count(self.max_pfn + 1)} (a count): "
            f"{say.count(self.num_tops, 'entry', 'entries')} of the frame list list, which has "
            f"{say.count(view.n)}."
        )
        return self._check(say, text, ORDER[0])

    def _list_list(self) -> bool:
        view, say = self.view, self.view.said()
        text = (
            f"pfn_to_mfn_frame_list_list is {say.mfn(self.fll_mfn)}; frames of this host are "
            f"{say.word(1)} to {say.word(view.frames)}."
        )
        return self._check(say, text, ORDER[1])

    def _map_list_list(self) -> bool:
        view, say = self.view, self.view.said()
        whose = view.told(say, self.known, self.fll_mfn)
        text = f"It maps {say.mfn(self.fll_mfn)}: {whose}."
        held = self._check(say, text, ORDER[2])
        if held:
            self.fll = view.own_pfn(self.fll_mfn)
            self.tops = view.row(self.fll)[: self.num_tops]
        return held

    def _span(self, say: Said, words: Int64Array) -> str:
        """Return the first of some words, and the last."""
        if len(words) == 1:
            return say.mfn(words[0])
        return f"{say.mfn(words[0])} to {say.mfn(words[-1])}"

    def _impossible(self, say: Said, word: int) -> str:
        """Return why a number is refused at sight, and where it came from if that is known."""
        if word == 0:
            return "that number is no guest's frame"
        return self.view.told(say, self.known, word)

    def _top_entries(self) -> bool:
        say = self.view.said()
        if self.failed == ORDER[3]:
            word = int(self.tops[self.at])
            text = (
                f"Entry {say.index(self.at)} of the frame list list is {say.mfn(word)}: "
                f"{self._impossible(say, word)}{self._hit(say, self.fll)}."
            )
            return self._check(say, text, ORDER[3])
        text = (
            f"It reads {say.count(self.num_tops, 'entry', 'entries')} of the frame list list, "
            f"{self._span(say, self.tops)}: all are numbers that a frame of this host can have."
        )
        self._check(say, text, ORDER[3])
        if self.tool.code == TRIMS:
            self._trim()
        return True

    def _trim(self) -> None:
        view, say = self.view, self.view.said()
        last = int(np.flatnonzero(np.diff(self.tops, prepend=INVALID))[-1])
        trimmed = (last + 1) * view.n**2 - 1
        if trimmed >= self.max_pfn:
            return
        text = (
            f"Entries {say.index(last)} to {say.index(self.num_tops - 1)} are all alike, "
            f"{say.mfn(self.tops[last])}: what they cover is left out, and the last PFN to save is "
            f"{say.pfn(trimmed)}."
        )
        self.steps.append(Step("save", self.tool.functions[ORDER[3]], text, None, say.numbers))
        self.max_pfn, self.num_tops, self.tops = trimmed, last + 1, self.tops[: last + 1]

    def _map_lists(self) -> bool:
        view, say = self.view, self.view.said()
        if self.failed == ORDER[4]:
            mfn = int(self.tops[self.at])
            text = (
                f"Entry {say.index(self.at)} of the frame list list is {say.mfn(mfn)}: "
                f"{view.told(say, self.known, mfn)}{self._hit(say, self.fll)}."
            )
            return self._check(say, text, ORDER[4])
        self.lists = [view.own_pfn(int(mfn)) for mfn in self.tops]
        text = (
            f"It maps {say.count(self.num_tops, 'frame list')}: the frames are the guest's own, "
            f"the first {view.name(say, self.lists[0])}."
        )
        return self._check(say, text, ORDER[4])

    def _entry(self, x: int) -> int:
        """Return entry `x` of the frame lists taken as one."""
        return self.view.word(self.lists[x >> self.view.shift], x & (self.view.n - 1))

    @property
    def _num_leaves(self) -> int:
        return (self.max_pfn >> self.view.shift) + 1

    def found_leaves(self) -> Int64Array:
        """Return the MFNs of the leaves that the walk found, int64[leaves]."""
        found = np.concatenate([self.view.row(page) for page in self.lists])
        return found[: self._num_leaves]

    def _place(self, say: Said, x: int) -> str:
        """Return where entry `x` of the frame lists is."""
        view = self.view
        page = self.lists[x >> view.shift]
        inside = say.index(x & (view.n - 1))
        return f"Entry {say.index(x)} of the frame list, word {inside} of {view.name(say, page)},"

    def _list_entries(self) -> bool:
        say = self.view.said()
        if self.failed == ORDER[5]:
            word = self._entry(self.at)
            text = (
                f"{self._place(say, self.at)} is {say.mfn(word)}: {self._impossible(say, word)}"
                f"{self._hit_list(say, self.at)}."
            )
            return self._check(say, text, ORDER[5])
        ends = np.array([self._entry(0), self._entry(self._num_leaves - 1)][: self._num_leaves])
        text = (
            f"It reads {say.count(self._num_leaves, 'entry', 'entries')} of the frame lists, "
            f"{self._span(say, ends)}: all are numbers that a frame of this host can have."
        )
        return self._check(say, text, ORDER[5])

    def _map_leaves(self) -> bool:
        view, say = self.view, self.view.said()
        if self.failed == ORDER[6]:
            mfn = self._entry(self.at)
            text = (
                f"{self._place(say, self.at)} is {say.mfn(mfn)}: "
                f"{view.told(say, self.known, mfn)}{self._hit_list(say, self.at)}."
            )
            return self._check(say, text, ORDER[6])
        count = say.count(self._num_leaves, "frame")
        text = f"It maps the leaves that these name, {count}: they are the guest's own."
        return self._check(say, text, ORDER[6])

    def _same_p2m(self) -> bool:
        view, say = self.view, self.view.said()
        if self.failed != ORDER[7]:
            count = say.count(self._num_leaves)
            text = (
                f"Each of the {count} names itself: m2p has a PFN for it, none past "
                f"{say.pfn(self.max_pfn)}, and the p2m in the mapped pages has the frame there."
            )
            return self._check(say, text, ORDER[7])
        mfn = self._entry(self.at)
        pfn = view.m2p(mfn)
        text = f"{self._place(say, self.at)} is {say.mfn(mfn)}, {view.whose(say, mfn)}. "
        text += f"{self._contradiction(say, mfn, pfn)}{self._hit_list(say, self.at)}."
        return self._check(say, text, ORDER[7])

    def _contradiction(self, say: Said, mfn: int, pfn: int) -> str:
        """Return why a leaf's frame does not name itself."""
        view = self.view
        if not 0 <= pfn <= self.max_pfn:
            return f"m2p has {say.pfn(pfn)} for it, past {say.pfn(self.max_pfn)}, the last to save"
        y = pfn >> view.shift
        listed = view.own_pfn(self._entry(y))
        word = view.word(listed, pfn & (view.n - 1))
        return (
            f"m2p has {say.pfn(pfn)} for it, of leaf {say.index(y)}; what the list has for that "
            f"leaf is {view.name(say, listed)}, where the entry is {say.mfn(word)}"
        )

    def _hit(self, say: Said, page: int) -> str:
        """Return that an earlier event's stray writes hit a page; "" where none did."""
        if page not in self.known.hit:
            return ""
        return f"; a stray write of event {say.index(self.known.hit[page])} hit that page"

    def _hit_list(self, say: Said, x: int) -> str:
        return self._hit(say, self.lists[x >> self.view.shift])

    def tell_misdirected(self, now: View) -> list[Step]:
        """Return the first leaf that the toolstack takes another page for; `now`: once paused."""
        say = now.said()
        alike = {int(now.state.missing), int(now.state.identity)}
        for x in range(self._num_leaves):
            mfn = self._entry(x)
            taken, true = self.view.own_pfn(mfn), now.leaf(x)
            if taken == true or alike >= {taken, true if true >= 0 else int(now.state.identity)}:
                continue
            at = f"has it at {say.pfn(true)}" if true >= 0 else "can't reach it: a wild pointer"
            text = (
                f"No check sees it: entry {say.index(x)} of the frame list is {say.mfn(mfn)}, "
                f"{self.view.name(say, taken)}, and the toolstack takes that for leaf "
                f"{say.index(x)}; the guest {at}."
            )
            return [Step("save", self.tool.functions[ORDER[7]], text, False, say.numbers)]
        return []
