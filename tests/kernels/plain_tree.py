"""As `plain`, for kernels with the tree of three levels: 2.6.38 to 3.13, 64-bit, the first machine.

This folder has no file of these eras: whole kernels are lived with it, where there are some.
"""

from __future__ import annotations

import ctypes as c
from pathlib import Path
from typing import Any

from kernels.plain import ASKED, NONE, Unit
from oracle.ends import Bug
from oracle.eras.identity import Identity, Moved
from oracle.eras.machine import Json
from oracle.eras.tail import Tail

POINTERS = ("missing", "mid_missing", "top", "identity", "mid_missing_mfn", "top_mfn_p", "top_mfn")


class TailFile(Tail):
    """A guest of 2.6.38 whose kernel is `file`."""

    file: Path
    tree: Path | None = None
    identity = -1

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        last = max(self.guest["directmap_pages"], self.nr_pages)
        self.unit = Unit(self.file, self.tree, last)
        self._asked = ASKED(self.answer)
        self.unit.set("plain_ask", c.cast(self._asked, c.c_void_p).value or 0)
        self.unit.set("p2mk_start_info", self.nr_pages)
        self.unit.set("p2mk_start_info", self.unit.memory + self.guest["mfn_list_pfn"] * 4096, 1)

    def answer(self, what: int, value: int) -> int:
        """What the shim asks for: pages after boot, of the boot allocator, of brk."""
        try:
            if what == 4:
                return self.extend_brk(value)
            if what == 1:
                return self.boot_pages(value)
        except Bug as bug:
            return NONE - 1 if "_brk_start" in str(bug) else NONE
        pfn = self.alloc_p2m_page() if what == 0 else 0
        return NONE if pfn is None else pfn

    def boot_pages(self, count: int) -> int:
        raise Bug("bootmem overflow")

    def page(self, pfn: int) -> Any:
        return self.unit.words(self.unit.memory + pfn * 4096)

    def address(self, pfn: int) -> int:
        return self.unit.memory + pfn * 4096

    def pfn_at(self, address: int) -> int:
        return (address - self.unit.memory) >> 12

    def call(self, root: str, a: int = 0, b: int = 0) -> int:
        """Call a root; what the kernel's variables and the shared info say is told after it."""
        try:
            return self.unit.call(root, a, b)
        finally:
            for name in POINTERS:
                if f"p2m_{name}" in self.unit.symbols:
                    at = self.unit.variable(f"p2m_{name}")
                    setattr(self, name, self.pfn_at(at) if at else -1)
            self.shared_max_pfn = self.unit.variable("p2mk_shared_info")
            self.shared_fll = self.unit.variable("p2mk_shared_info", 1)
            self.warnings = self.unit.variable("plain_warned")

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.call("boot")
        self.call("list")
        self.mark_ranges(event)
        self.brk_open = False
        self.xen_max_p2m_pfn = self.max_p2m_pfn
        self.unit.set("xen_max_p2m_pfn", self.max_p2m_pfn)
        self.call("report")

    def mark_ranges(self, event: Json) -> None:
        """What is between the list and the end of boot."""

    def resume(self) -> None:
        self.call("list")
        self.call("report")

    def word_at(self, pfn: int) -> tuple[int, int]:
        """Return the leaf that a PFN's entry is in, and its word there."""
        leaf = self.leaf_of(pfn)
        return leaf, self.page(leaf)[pfn % self.n]

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        if pfn >= self.n**3:
            return bool(self.call("set", pfn, word))
        leaf, old = self.word_at(pfn)
        if not self.call("set", pfn, word):
            return False
        now, _ = self.word_at(pfn)
        # A pointer says it, and no word is stored.
        is_hole = leaf == self.missing and word == self.invalid
        is_identity = now == self.identity and word == self.identity_value(pfn)
        if not is_hole and not is_identity:
            self.host.release(pfn, self.invalid if leaf == self.missing else old)
            self.host.give(pfn, word)
        return True


class IdentityFile(TailFile, Identity):
    """A guest of 3.0 to 3.6 whose kernel is `file`."""

    def mark_ranges(self, event: Json) -> None:
        for start, end in event.get("identity", []):
            self.identity_pages += self.call("identity", start, end)


class MovedFile(IdentityFile, Moved):
    """A guest of 3.7 to 3.13 whose kernel is `file`."""

    def boot_pages(self, count: int) -> int:
        return self.bootmem(count)

    def mark_ranges(self, event: Json) -> None:
        super().mark_ranges(event)
        self.call("revector")


TREES = {"tail": TailFile, "identity": IdentityFile, "moved": MovedFile}
