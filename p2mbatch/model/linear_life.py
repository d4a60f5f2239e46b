"""The life of a guest with a linear p2m on table hosts, and how a toolstack walks its table.

Source: linear-spec L6 to L8. The walk reads whole page table pages; there are few of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt8Array
from p2mbatch.base.geometry import signed_word
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.looks import TABLE_PAGES
from p2mbatch.compiled.policies.flat import MAPS
from p2mbatch.compiled.table_pages import ENTRY, first_unnamed, own_page, read_table
from p2mbatch.model.era_life import EraLife
from p2mbatch.model.fates import ABORTED_DETAIL
from p2mbatch.model.linear_shape import boot_runs
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace_linear import LinearLayout

_MASK = (1 << 64) - 1

_ENTRIES = 512


class LinearLife(EraLife):
    """A guest with a linear p2m on a table host."""

    def __init__(
        self,
        tables: tb.P2MTables,
        host: tb.HostTables,
        policy: Policy,
        layout: LinearLayout | None = None,
    ) -> None:
        """Make the guest; `layout` is what its boot takes its pages from, if it is to boot."""
        super().__init__(tables, host, policy)
        self._layout = layout
        self._tweak: dict[str, Any] = {}
        self._entries: dict[tuple[int, int], int] = {}
        self._generation: int | None = None

    def boot_flat(self) -> EventResult:
        """Boot, every leaf resident."""
        layout = self._layout
        assert layout is not None
        return self.boot_marking(boot_runs(layout.boot_pool, layout.identity, layout.extra))

    def tweak(self, event: dict[str, Any]) -> None:
        """Let the next save read other values than there are: `shared` and `ptes` of `event`."""
        self._tweak = event

    def _find(self, tree: bool = False) -> EventResult:
        """Walk the table where the guest reports one, else the list; keep the leaves found."""
        says = {
            "p2m_cr3_mfn": self.scalar("shared_cr3") & _MASK,
            "p2m_vaddr": self.scalar("shared_vaddr") & _MASK,
            "max_pfn": self.scalar("shared_max") & _MASK,
            "frame_list_list_mfn": self.scalar("shared_fll") & _MASK,
        } | self._tweak.get("shared", {})
        self._entries = {(page, i): mfn for page, i, mfn in self._tweak.get("ptes", [])}
        self._tweak = {}
        self._generation = None
        if says["p2m_cr3_mfn"] == 0 or tree:
            return self._find_by_list(says["frame_list_list_mfn"], says["max_pfn"])
        self._generation = self.scalar("generation")
        try:
            mfns, max_pfn = self._walk(says)
        except _Refused as refused:
            return EventResult("save-failed", str(refused))
        return self._mapped(mfns, max_pfn)

    def _find_by_list(self, fll_mfn: int, shared_max: int) -> EventResult:
        """Walk the mfn list list that begins at `fll_mfn`."""
        max_pfn = (shared_max - 1) & _MASK
        if max_pfn // _ENTRIES**2 + 1 > _ENTRIES:
            return EventResult("save-failed", f"max_pfn-too-large {max_pfn}")
        state = self.tables.state[0]
        kept = state.shared_fll, state.shared_max
        state.shared_fll, state.shared_max = signed_word(fll_mfn), shared_max
        result = super()._find(tree=True)
        state.shared_fll, state.shared_max = kept
        return result

    def _walk(self, says: dict[str, int]) -> tuple[Int64Array, int]:
        """Walk the page tables of the linear list; return the leaves' MFNs and the last PFN."""
        max_mfn = int(self.host.par[0].frames)
        max_pfn = (says["max_pfn"] - 1) & _MASK
        if says["p2m_cr3_mfn"] > max_mfn:
            raise _Refused(f"bad-p2m-cr3 {says['p2m_cr3_mfn']}")
        first = says["p2m_vaddr"]
        last = _last_address(first, max_pfn)
        _check_range(first, last)
        frames = np.array([says["p2m_cr3_mfn"]], np.int64)
        # A table that leads to itself would lead to any number of them.
        most = (self.scalar("max_p2m_pfn") >> 18) + TABLE_PAGES
        for level in (4, 3, 2, 1):
            shift = 9 * level + 3
            offset = 0 if level == 4 else first >> (shift + 9) << (shift + 9)
            low, high = (((end - offset) & ((1 << 48) - 1)) >> shift for end in (first, last))
            if len(frames) > most:
                raise _Refused(f"map-ptes-failed {level} {most}")
            frames = self._level(frames, level)[low : high + 1]
            bad = np.flatnonzero((frames <= 0) | (frames > max_mfn))
            if len(bad):
                raise _Refused(f"bad-mfn-in-walk {level} {bad[0]}")
            if level == 2:
                changes = np.flatnonzero(np.diff(frames))
                k = int(changes[-1]) + 1 if len(changes) else 0
                # A distance against an index of the array: the same only where `low` is 0.
                k += k == high
                trimmed = (k * _ENTRIES**2 - 1) & _MASK
                if trimmed < max_pfn:
                    max_pfn = trimmed
                    last = _last_address(first, max_pfn)
                    frames = frames[: k + 1]
        return np.ascontiguousarray(frames[: max_pfn // _ENTRIES + 1]), max_pfn

    def _level(self, frames: Int64Array, level: int) -> Int64Array:
        """Return the frames in the entries of a level's table pages, as one array."""
        pages = [int(own_page(self.tables, self.host, mfn)) for mfn in frames.tolist()]
        for x, page in enumerate(pages):
            if page < 0:
                raise _Refused(f"map-ptes-failed {level} {x}")
        return np.concatenate([self._read(page)[0] for page in pages])

    def _read(self, page: int) -> tuple[Int64Array, UInt8Array]:
        """Return a page table page's frames as this save reads them, and what each entry is."""
        frames, kinds = np.empty(_ENTRIES, np.int64), np.empty(_ENTRIES, np.uint8)
        read_table(self.tables, self.host, page, frames, kinds)
        for (table, i), mfn in self._entries.items():
            if table == page and kinds[i] == ENTRY:
                frames[i] = mfn
        return frames, kinds

    def _look_between(self) -> EventResult:
        """Do as a toolstack does that walked the table: look whether it was changed."""
        if self._generation in (None, self.scalar("generation")):
            return super()._look_between()
        return EventResult("save-failed", ABORTED_DETAIL)

    def _look_again(self) -> EventResult:
        """Translate the page tables as a save of their pages does, then compare the leaves."""
        levels = self.table_levels()
        max_pfn = self.scalar("walked_max_pfn")
        for page in sorted(page for page in levels if page <= max_pfn):
            frames, kinds = self._read(page)
            bad = first_unnamed(self.tables, self.host, self._found, max_pfn, frames, kinds)
            if bad >= 0:
                return EventResult("save-failed", f"bad-mfn-in-page-table {levels[page]} {bad}")
        return super()._look_again()

    def table_levels(self) -> dict[int, int]:
        """Return the level of each of the table's page table pages, by PFN."""
        levels = {self.scalar("pgd"): 4}
        for level in (4, 3, 2):
            for page in [page for page, at in levels.items() if at == level]:
                words = self.tables.words[_slot_of(self.tables, page)]
                below = np.unique(words[words != 0]) & (MAPS - 1)
                levels.update(dict.fromkeys(below.tolist(), level - 1))
        return levels

    def _restored(self, host: tb.HostTables) -> EventResult:
        # The toolstack writes the start info's flags as 0.
        kept = self.tables.state[0].no_list
        self.tables.state[0].no_list = 0
        result = super()._restored(host)
        if result.outcome == "restore-failed":
            self.tables.state[0].no_list = kept
        return result

    def _sends(self) -> tuple[bool, bool]:
        return True, super()._sends()[1]


class _Refused(Exception):
    """A walk's check that failed, as its detail."""


def _last_address(first: int, max_pfn: int) -> int:
    """Return the last address of the table that a save up to `max_pfn` reads."""
    return (first + 4096 * (max_pfn // _ENTRIES + 1) - 1) & _MASK


def _check_range(first: int, last: int) -> None:
    canonical = all(address >> 47 in (0, (1 << 17) - 1) for address in (first, last))
    in_hole = first <= 0xFFFF_87FF_FFFF_FFFF and last > 0xFFFF_8000_0000_0000
    if not canonical or last < first or in_hole:
        raise _Refused("bad-p2m-range")


def _slot_of(t: tb.P2MTables, page: int) -> int:
    """Return the slot of a page that has one."""
    row = t.block_of[page >> tb.BLOCK_SHIFT]
    return int(t.block_code[row, page & ((1 << tb.BLOCK_SHIFT) - 1)])
