"""One host: which frames are the guest's, and what its m2p says to the guest and the toolstack."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from oracle.machines import MachineRecord

Json = dict[str, Any]


def version(xen: str) -> tuple[int, ...]:
    """A version's numbers, three of them: 4.1 is 4.1.0."""
    numbers = [int(part) for part in xen.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


class Host:
    """The host that the guest runs on now."""

    def __init__(
        self, runs: Json, word_bytes: int, machine: MachineRecord, xen: str | None = None
    ) -> None:
        self.frames: int = runs["frames"]
        self.invalid = (1 << 8 * word_bytes) - 1
        self.domain: dict[int, int] = {}
        for pfn, mfn, count in runs["domain"]:
            self.domain.update(zip(range(pfn, pfn + count), range(mfn, mfn + count), strict=True))
        self.foreign: list[list[int]] = sorted(runs["foreign"])
        self.written: dict[int, int] = {}
        """The m2p's words that have been written since the guest came."""
        self.owned: set[int] = set()
        self.xen = version(xen) if xen else None
        self.mapped = self._mapped(runs.get("m2p_entries"), word_bytes, machine)
        self.order = self._order(runs.get("m2p_order"), word_bytes, machine)

    def _mapped(self, said: int | None, word_bytes: int, machine: MachineRecord) -> int:
        """Entries of the m2p that are mapped."""
        if said is not None:
            return said
        if machine.mapped_table is None:
            return 1 << 8 * word_bytes
        table = machine.mapped_table[word_bytes]
        chunks = -(-self.frames // 262_144)
        mapped = table.step * -(-chunks // table.chunks)
        return mapped if table.most is None else min(mapped, table.most)

    def _order(self, said: int | None, word_bytes: int, machine: MachineRecord) -> int:
        """What a kernel that boots here takes for log2 of the m2p's size."""
        if said is not None:
            return said
        if self.xen and (4, 0, 0) <= self.xen <= (4, 1, 1) and word_bytes == 8:
            return (self.frames - 1).bit_length()
        return machine.m2p_order[word_bytes]

    def give(self, pfn: int, mfn: int) -> None:
        """An entry was written: its frame, if it is one, is the guest's and names this PFN."""
        if mfn < self.frames:
            self.owned.add(mfn)
            self.written[mfn] = pfn

    def release(self, pfn: int, mfn: int) -> None:
        """An entry is overwritten: its frame goes back, if it is the guest's and names this PFN."""
        if mfn in self.owned and self.written[mfn] == pfn:
            self.owned.discard(mfn)
            # Before Xen 4.2 freeing a frame left its m2p entry as it was.
            if not self.xen or self.xen >= (4, 2):
                self.written[mfn] = self.invalid

    def pfn_of(self, mfn: int) -> int:
        """The m2p's word as it is, mapped for the guest or not: what a toolstack reads."""
        if mfn in self.written:
            return self.written[mfn]
        at = bisect_right(self.foreign, mfn, key=lambda run: run[0]) - 1
        if at >= 0:
            first, pfn, count = self.foreign[at]
            if mfn < first + count:
                return pfn + mfn - first
        return self.invalid

    def guest_reads(self, mfn: int, order: int) -> int:
        """The guest's read of the m2p, its kernel having booted with `order`."""
        if mfn >> order:
            return self.invalid
        if mfn >= self.mapped:
            # The read faults, and the handler leaves the 0 that was there before it.
            return 0
        if mfn >= self.frames:
            return self.invalid
        return self.pfn_of(mfn)
