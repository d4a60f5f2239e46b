"""A guest at one moment, read word by word: what a page is, and whose a frame is."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled import lookup, owners, pages
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.model.explain.story import Said
from p2mbatch.model.policies import Policy
from p2mbatch.model.reads import entries_of


@functools.cache
def _plain() -> Interpreter:
    return Interpreter({})


# State's field -> what the kernel calls the page, in the order in which a page is named.
_STRUCTURES = (
    "missing", "identity", "mid_missing", "mid_identity", "top", "mid_missing_mfn",
    "mid_identity_mfn", "top_mfn_p", "top_mfn",
)  # fmt: skip

_NAMES = {"static_list": "p2m_top_mfn_list", "pgd": "the level 4 page table"} | {
    "missing_pte": "p2m_missing_pte",
    "identity_pte": "p2m_identity_pte",
}


@dataclass
class Known:
    """What is known of MFNs and pages from earlier in the life: where a number came from."""

    mfns: list[tuple[int, dict[int, int]]] = field(default_factory=list)
    """For each host so far: its number, and MFN -> PFN of the structure pages there."""
    hit: dict[int, int] = field(default_factory=dict)
    """PFN of a page -> the event whose stray writes hit it last."""

    def came_from(self, mfn: int, but: int) -> tuple[int, int] | None:
        """Return (host, PFN) of a structure page that had `mfn` last, on another host than `but`.

        None where no such page had it.
        """
        for host, owners_ in reversed(self.mfns):
            if host != but and mfn in owners_:
                return host, owners_[mfn]
        return None


class View:
    """One guest on one host, as it is when it is read: of a living guest, or of a kept copy."""

    def __init__(
        self, tables: tb.P2MTables, host: tb.HostTables, policy: Policy, number: int = 0
    ) -> None:
        self.t, self.h, self.policy = tables, host, policy
        self.number = number
        """The host's number in the life."""
        self.state: Any = tables.state[0]
        self.shift = int(self.state.entries_shift)
        self.n = 1 << self.shift
        self.word_bits = int(self.state.word_bits)
        self.frames = int(host.par[0].frames)

    @classmethod
    def kept(cls, tables: tb.P2MTables, host: tb.HostTables, policy: Policy, number: int) -> View:
        """Return a view of copies, which what happens later does not change."""
        used = int(tables.state[0].num_slots)
        rows = {name: getattr(tables, name)[:used].copy() for name in ("words", "slots", "own")}
        others = {
            name: getattr(tables, name).copy()
            for name in ("state", "block_of", "leaf_slot", "leaf_page", "true_mid_mfn", "present",
                         "statics")
        }  # fmt: skip
        blocks = tables.block_code[: int(tables.state[0].num_blocks)].copy()
        copy = tables._replace(**rows, **others, block_code=blocks)
        moved = host._replace(m2p=host.m2p.copy(), owned=host.owned.copy())
        return cls(copy, moved, policy, number)

    def said(self) -> Said:
        """Return a writer of numbers of this guest's width."""
        return Said(self.word_bits)

    # --- reading ------------------------------------------------------------------------------

    def _call(self, kernel: Any, *arguments: Any) -> int:
        with np.errstate(over="ignore"):
            return int(_plain().of(kernel)(self.t, *arguments))

    def code(self, page: int) -> int:
        """Return the directory's code for a page (`pages.page_code`)."""
        return self._call(pages.page_code, np.int64(page))

    def word(self, page: int, i: int) -> int:
        """Return word `i` of a page."""
        return self._call(pages.page_word, self.h, np.int64(page), np.int64(i))

    def row(self, page: int) -> Any:
        """Return the words of a page that has any, else zeros; int64[n]."""
        code = self.code(page)
        if code >= 0:
            return np.asarray(self.t.words[code])
        return np.array([self.word(page, i) for i in range(self.n)] if code <= tb.LAZY else
                        [0] * self.n, np.int64)  # fmt: skip

    def entry(self, pfn: int) -> int:
        """Return `get_phys_to_machine` of a PFN, no bit masked; a FAULT_ code behind a wild one."""
        return int(entries_of(self.policy, self.t, self.h, np.array([pfn], np.int64))[0])

    def mfn(self, page: int) -> int:
        """Return the MFN of a page: its entry without flags."""
        entry = self.entry(page)
        flags = int(self.state.flag_bits) or FOREIGN_FRAME_BIT
        return entry if entry < 0 and entry >= -8 else entry & ~flags

    def m2p(self, mfn: int) -> int:
        """Return the host's m2p entry of a frame, INVALID where there is none."""
        return self._call(owners.m2p, self.h, np.int64(mfn))

    def own_pfn(self, mfn: int) -> int:
        """Return the PFN at which the guest owns a frame, -1 where it does not."""
        return self._call(owners.own_pfn, self.h, np.int64(mfn))

    def page_at(self, where: int) -> int:
        """Return the page of an address."""
        return self._call(pages.page_at, np.int64(where))

    def address(self, page: int) -> int:
        """Return the address that the kernel knows a page by."""
        return self._call(pages.address, np.int64(page))

    def direct_address(self, page: int) -> int:
        """Return a page's address in the direct map."""
        return self._call(pages.direct_address, np.int64(page))

    def is_present(self, page: int) -> bool:
        """Return whether a page is in the direct map, on a machine where that is looked at."""
        return bool(self._call(owners.is_present, self.h, np.int64(page)))

    def leaf(self, x: int) -> int:
        """Return the page that leaf `x` is; a FAULT_ code behind a wild pointer."""
        if self.state.top == tb.NO_PAGE or self.policy.is_era:
            return int(self.t.leaf_page[x]) if x < len(self.t.leaf_page) else -1
        return self._call(lookup.leaf_page_of, np.int64(x))

    def mfn_found(self, leaves: Any, pfn: int) -> int:
        """Return the entry of a PFN in leaves that were found by their MFNs (int64[leaves])."""
        page = self.own_pfn(int(leaves[pfn >> self.shift]))
        return self.word(page, pfn & (self.n - 1))

    # --- naming -------------------------------------------------------------------------------

    def name(self, say: Said, page: int) -> str:
        """Return what a page is, with its PFN."""
        what = self.what(say, page)
        return f"{what} ({say.pfn(page)})"

    def what(self, say: Said, page: int) -> str:
        """Return what a page is to the guest."""
        for field_name in _STRUCTURES:
            if getattr(self.state, field_name) == page:
                return f"p2m_{field_name}"
        for field_name, text in _NAMES.items():
            if getattr(self.state, field_name) == page:
                return text
        if self.policy.is_two_level and (found := self._static_page(say, page)):
            return found
        if (listed := np.flatnonzero(self.t.true_mid_mfn == page)).size:
            return f"the mid_mfn page of top index {say.index(listed[0])}"
        if (top := self._mid_of(page)) is not None:
            return f"the mid page of top index {say.index(top)}"
        code = self.code(page)
        if code <= tb.LAZY or (code >= 0 and self.t.slots[code, tb.P_LEAF] >= 0):
            x = tb.LAZY - code if code <= tb.LAZY else int(self.t.slots[code, tb.P_LEAF])
            return f"leaf {say.index(x)} of the p2m"
        if code >= 0 and self.t.slots[code, tb.P_KIND] == tb.TABLE and self.policy.is_linear:
            return "a page table of the linear p2m"
        return self._ordinary(page)

    def _static_page(self, say: Said, page: int) -> str:
        count = int(self.state.num_leaves) >> self.shift
        for field_name, array in (("static_top", "p2m_top"), ("static_top_mfn", "p2m_top_mfn")):
            first = int(getattr(self.state, field_name))
            if first <= page < first + count:
                return f"page {say.index(page - first)} of {array}"
        return ""

    def _mid_of(self, page: int) -> int | None:
        """Return the first top index whose mid page this is."""
        if self.state.top == tb.NO_PAGE:
            return None
        where = {self.address(page), self.direct_address(page)}
        found = np.flatnonzero(np.isin(self.row(int(self.state.top)), list(where)))
        return int(found[0]) if found.size else None

    def _ordinary(self, page: int) -> str:
        if page >= self.state.directmap:
            return "no page of the guest's: past its direct map"
        if self.entry(page) == INVALID:
            return "a PFN that has no frame here"
        return "an ordinary page of the guest's"

    def whose(self, say: Said, mfn: int) -> str:
        """Return what a frame is on this host, and whose."""
        if mfn < 0 or mfn >= self.frames:
            return f"no frame of this host, which has {say.count(self.frames)}"
        own = self.own_pfn(mfn)
        if own >= 0:
            return f"the guest's own, {self.name(say, own)}"
        found = self.m2p(mfn)
        if found == INVALID:
            return "nobody's frame, m2p has INVALID for it"
        return f"not the guest's, m2p has {say.pfn(found)} of another domain for it"

    def origin(self, say: Said, known: Known, mfn: int) -> str:
        """Return which structure page had this MFN on an earlier host; "" where none had it."""
        found = known.came_from(mfn, self.number)
        if found is None:
            return ""
        host, page = found
        return f"on host {say.index(host)} that of {self.name(say, page)}"

    def told(self, say: Said, known: Known, mfn: int) -> str:
        """Return where a frame's number came from, where that is known, and whose it is here."""
        origin = self.origin(say, known, mfn)
        here = self.whose(say, mfn)
        return f"{origin}; here it is {here}" if origin else here

    def structure_mfns(self) -> dict[int, int]:
        """Return MFN -> PFN of the list's own pages, the mids and the leaves, as they are now."""
        slots = self.t.slots[: int(self.state.num_slots)]
        found = slots[np.isin(slots[:, tb.P_KIND], (tb.LEAF, tb.POINTER, tb.MID_MFN, tb.TOP_MFN,
                                                    tb.TABLE)), tb.P_PAGE]  # fmt: skip
        wanted = np.unique(found[found >= 0]).astype(np.int64)
        out = entries_of(self.policy, self.t, self.h, wanted)
        return {int(mfn): int(pfn) for mfn, pfn in zip(out, wanted, strict=True) if mfn > 0}
