"""The naive eras' guests with their kernel's functions in C: a unit in this process, unguarded.

Memory, hosts, allocation, the toolstack and the digests stay the naive models' of `oracle.eras`;
boot, rebuild, report and set are the unit's. So a file of this folder is held to the recordings
by nothing that it shares with the package's own way to run it.
"""

from __future__ import annotations

import ctypes as c
import functools
import itertools
import mmap
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oracle.ends import Bug, Fault
from oracle.eras.linear import IDENTITY, Linear
from oracle.eras.machine import Json
from oracle.eras.two_level import TwoLevel, TwoLevelNone
from p2mbatch.kernels.compiler import compiler
from p2mbatch.kernels.extract import COMPILED, extract

HERE = Path(__file__).parent
NONE = (1 << 64) - 1
ASKED = c.CFUNCTYPE(c.c_ulong, c.c_int, c.c_ulong)
_LIBC = c.CDLL(None, use_errno=True)
_LIBC.mmap.restype = c.c_void_p
_LIBC.mmap.argtypes = [c.c_void_p, c.c_size_t, c.c_int, c.c_int, c.c_int, c.c_long]
_NORESERVE = 0x4000
_FOLDER = tempfile.TemporaryDirectory(prefix="p2mbatch-plain-")
_NUMBERS = itertools.count()


@functools.cache
def program(file: Path, tree: Path | None, max_domain_pages: int | None) -> Path:
    """Compile a kernel's file with plain.c; return the library."""
    folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
    unit = extract(file, tree=tree, max_domain_pages=max_domain_pages)
    plain = (HERE / "plain.c").read_text("utf-8")
    ran = subprocess.run([compiler(), "-E", "-P", "-x", "c", "-"], input=plain,
                         capture_output=True, text=True, check=True)  # fmt: skip
    # One unit: the shim sees the tables that the file exports, and its own names stay apart.
    text = folder / "unit.i"
    text.write_text(unit.text, "utf-8")
    head = unit.text[unit.text.index("struct p2mk_roots {") :]
    declared = head[: head.index("};") + 2] + "\nextern const struct p2mk_roots p2mk_roots;\n"
    declared += "struct p2mk_array { const char *name; void *address; unsigned long num_bytes; };\n"
    declared += "extern const struct p2mk_array p2mk_arrays[];\n"
    shim = folder / "plain.i"
    shim.write_text(declared + ran.stdout, "utf-8")
    library = folder / "plain.so"
    subprocess.run([compiler(), *COMPILED, "-O1", "-w", "-fPIC", "-fno-builtin", "-shared", "-o",
                    str(library), str(text), str(shim)], check=True)  # fmt: skip
    return library


class Unit:
    """A unit that is loaded anew, its variables as at power on, and a guest's memory for it."""

    def __init__(
        self, file: Path, tree: Path | None, num_pages: int, max_domain_pages: int | None = None
    ) -> None:
        made = program(file, tree, max_domain_pages)
        copy = Path(_FOLDER.name) / f"unit-{next(_NUMBERS)}.so"
        copy.write_bytes(made.read_bytes())
        self.lib = c.CDLL(str(copy))
        listed = subprocess.run(["nm", str(copy)], capture_output=True, text=True, check=True)
        at = {line.split()[2]: int(line.split()[0], 16) for line in listed.stdout.splitlines()
              if len(line.split()) == 3}  # fmt: skip
        copy.unlink()
        base = c.addressof(c.c_char.in_dll(self.lib, "plain_said")) - at["plain_said"]
        self.symbols = {symbol: base + offset for symbol, offset in at.items()}
        self.mapped: list[tuple[int, int]] = []
        self.fd = os.memfd_create("plain")
        os.ftruncate(self.fd, num_pages << 12)
        self.memory = self._map(num_pages << 12, mmap.PROT_READ | mmap.PROT_WRITE, self.fd)
        self.set("plain_memory", self.memory)
        c.c_int.in_dll(self.lib, "plain_fd").value = self.fd

    def _map(self, num_bytes: int, prot: int, fd: int) -> int:
        flags = mmap.MAP_SHARED if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        found = _LIBC.mmap(None, num_bytes, prot, flags | _NORESERVE, fd, 0)
        assert found not in (None, NONE), c.get_errno()
        self.mapped.append((int(found), num_bytes))
        return int(found)

    def area(self, num_bytes: int) -> int:
        """Return addresses where nothing is, on a boundary of 2 MiB."""
        found = self._map(num_bytes + (2 << 20), 0, -1)
        return -(-found // (2 << 20)) * (2 << 20)

    def close(self) -> None:
        """Give back the guest's memory."""
        for address, num_bytes in self.mapped:
            _LIBC.munmap(c.c_void_p(address), c.c_size_t(num_bytes))
        os.close(self.fd)

    def set(self, name: str, value: int, index: int = 0) -> None:
        """Set a word of a variable of the shim's."""
        c.c_ulong.from_address(self.symbols[name] + 8 * index).value = value

    def variable(self, name: str, index: int = 0) -> int:
        """Return a word of a variable, the unit's static ones among them."""
        return c.c_ulong.from_address(self.symbols[name] + 8 * index).value

    def words(self, address: int) -> Any:
        """Return the words of a page, to read and to write."""
        return (c.c_ulong * 512).from_address(address)

    def call(self, root: str, a: int = 0, b: int = 0) -> int:
        """Call a root; raises what ended it."""
        answer = c.c_ulong()
        if self.lib.plain_call(root.encode(), c.c_ulong(a), c.c_ulong(b), c.byref(answer)):
            said = c.string_at(self.symbols["plain_said"]).decode()
            kind, text = said.split(" ", 1)
            raise (Bug if kind == "bug" else Fault)(text)
        return answer.value

    def pfn_at(self, address: int) -> int:
        self.lib.p2mk_pa_pfn.restype = c.c_ulong
        return int(self.lib.p2mk_pa_pfn(c.c_void_p(address)))


class TwoLevelFile(TwoLevel):
    """A guest of the two-level era whose kernel is two_level.c."""

    file: Path = HERE / "two_level.c"
    tree: Path | None = None

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        last = max(self.guest["directmap_pages"], self.nr_pages)
        self.unit = Unit(self.file, self.tree, last, self.max_domain_pages)
        self._asked = ASKED(lambda what, value: NONE if (pfn := self.alloc_p2m_page()) is None
                             else pfn)  # fmt: skip
        self.unit.set("plain_ask", c.cast(self._asked, c.c_void_p).value or 0)
        self.arrays = {}
        for i, name in enumerate(("p2m_missing", "p2m_top", "p2m_top_mfn", "p2m_top_mfn_list")):
            first = self.guest["static"][name]
            self.unit.set("plain_static", first, i)
            pages = 1 if name in ("p2m_missing", "p2m_top_mfn_list") else self.num_tops // self.n
            for k in range(pages):
                self.arrays[first + k] = self.unit.symbols[name] + k * 4096
        self.unit.set("p2mk_start_info", self.nr_pages)
        self.unit.set("p2mk_start_info", self.unit.memory + self.guest["mfn_list_pfn"] * 4096, 1)

    def page(self, pfn: int) -> Any:
        return self.unit.words(self.arrays.get(pfn, self.unit.memory + pfn * 4096))

    def pfn_at(self, address: int) -> int:
        return self.unit.pfn_at(address)

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.unit.call("boot")
        self.report()

    def report(self) -> None:
        self.unit.call("report")
        self.shared_max_pfn = self.unit.variable("p2mk_shared_info")
        self.shared_fll = self.unit.variable("p2mk_shared_info", 1)

    def build(self) -> None:
        self.unit.call("list")

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        old = self.get(pfn)
        has_hole = pfn >= self.max_domain_pages or self.true_leaf(pfn // self.n) == self.missing
        self.unit.call("set", pfn, word)
        if not (has_hole and word == self.invalid):
            self.owned_anew(pfn, old, word)
        return True

    def owned_anew(self, pfn: int, old: int, word: int) -> None:
        """What a store means to the host and the direct map."""
        self.host.release(pfn, old)
        self.host.give(pfn, word)
        (self.present.discard if word == self.invalid else self.present.add)(pfn)


class TwoLevelNoneFile(TwoLevelFile, TwoLevelNone):
    """The same, its list never built again."""


class Table:
    """A page table page as the naive model has it: entry number -> PFN, absent ones left out."""

    def __init__(self, words: Any) -> None:
        self.entries = {i: word >> 12 for i, word in enumerate(words) if word & 1}

    def __getitem__(self, index: int) -> int:
        return self.entries[index]

    def __contains__(self, index: int) -> bool:
        return index in self.entries

    def __iter__(self) -> Iterator[int]:
        return iter(self.entries)

    def values(self) -> list[int]:
        return list(self.entries.values())

    def items(self) -> list[tuple[int, int]]:
        return list(self.entries.items())


class Tables:
    """The page table pages that there are, by their PFN, as they are in memory."""

    def __init__(self, guest: LinearFile) -> None:
        self.guest = guest
        self.seen: dict[int, Table] = {}

    def __getitem__(self, pfn: int) -> Table:
        if pfn not in self.seen:
            self.seen[pfn] = Table(self.guest.page(pfn))
        return self.seen[pfn]

    def get(self, pfn: int) -> Table | None:
        """Return a page's table; None of one that is none."""
        level, known = [self.guest.pgd], {self.guest.pgd}
        for _ in range(3):
            level = [below for table in level for below in set(self[table].values())]
            known.update(level)
        return self[pfn] if pfn in known else None


class LinearFile(Linear):
    """A guest of the linear era whose kernel is linear.c."""

    file: Path = HERE / "linear.c"
    tree: Path | None = None

    def __init__(self, trace: Json) -> None:
        self._tables = Tables(self)
        self.unit = Unit(self.file, self.tree, trace["guest"]["directmap_pages"])
        super().__init__(trace)
        unit = self.unit
        self._asked = ASKED(self.answer)
        unit.set("plain_ask", c.cast(self._asked, c.c_void_p).value or 0)
        unit.set("plain_area_bytes", self.area * 8)
        unit.set("plain_area", unit.area(self.area * 8))
        unit.set("plain_vaddr", self.vaddr)
        unit.set("plain_pgd", self.pgd)
        unit.set("p2mk_hotplug_limit_gib", self.area // (512 * 512))
        for i, word in enumerate(w for run in self.guest["extra"] for w in run):
            unit.set("plain_extra", word, i)
        unit.set("p2mk_start_info", self.nr_pages)
        unit.set("p2mk_start_info", unit.memory + self.guest["mfn_list_pfn"] * 4096, 1)

    def answer(self, what: int, value: int) -> int:
        if what == 1:
            return NONE if self.boot_used == len(self.boot_pages) else self.boot_page()
        if what == 0:
            pfn = self.alloc_p2m_page()
            return NONE if pfn is None else pfn
        return 0

    def call(self, root: str, a: int = 0, b: int = 0) -> int:
        """Call a root; what the kernel's variables and the shared info say is told after it."""
        unit = self.unit
        unit.set("p2mk_start_info", 16 * self.flag, 2)
        try:
            return unit.call(root, a, b)
        finally:
            self._tables.seen.clear()
            shared = [unit.variable("p2mk_shared_info", i) for i in range(5)]
            self.shared_max_pfn, self.shared_fll, cr3, address, self.generation = shared
            self.shared_cr3 = cr3 >> 12
            self.shared_vaddr = address and address - unit.variable("plain_area") + self.vaddr
            for name in ("missing", "identity", "missing_pte", "identity_pte"):
                setattr(self, name, self.pointed(f"p2m_{name}"))
            for name in ("mid_missing_mfn", "top_mfn_p", "top_mfn"):
                setattr(self, name, self.pointed(f"p2m_{name}"))

    def pointed(self, name: str) -> int:
        """Return the page that a pointer of the kernel's points to, -1 for NULL."""
        address = self.unit.variable(name)
        return self.pfn_at(address) if address else -1

    # --- what the naive model keeps beside memory is read from memory here --------------------

    def page(self, pfn: int) -> Any:
        return self.unit.words(self.unit.memory + pfn * 4096)

    def pfn_at(self, address: int) -> int:
        return (address - self.unit.memory) >> 12

    @property
    def tables(self) -> Any:  # type: ignore[override]
        return self._tables

    @tables.setter
    def tables(self, value: object) -> None:
        """The naive model begins with an empty one."""

    @property
    def level1(self) -> Any:  # type: ignore[override]
        found = {}
        for block in range(self.num_slots // 512):
            address, table = self.vaddr + (block << 21), self.tables[self.pgd]
            for shift in (39, 30):
                if address >> shift & 511 not in table:
                    return found
                table = self.tables[table[address >> shift & 511]]
            found[block] = table[address >> 21 & 511]
        return found

    @level1.setter
    def level1(self, value: object) -> None:
        """The naive model begins with an empty one."""

    # --- the kernel's functions ---------------------------------------------------------------

    def boot(self, event: Json) -> None:
        words = self.hand_over(event["host"])
        for x in range(self.size // 512):
            held = self.memory.pop(self.guest["mfn_list_pfn"] + x)
            count = min(512, self.nr_pages - x * 512)
            self.page(self.guest["mfn_list_pfn"] + x)[:count] = held[:count]
        self.call("boot")
        for first, count in self.guest["identity"]:
            for pfn in range(first, min(first + count, self.size)):
                self.host.release(pfn, words[pfn])
                words[pfn] = pfn | IDENTITY
            self.call("identity", first, first + count)
        self.call("vmalloc")
        self.call("list")
        c.c_int.in_dll(self.unit.lib, "plain_booted").value = 1
        self.call("report")

    def resume(self) -> None:
        self.call("list")
        self.call("report")

    def restore(self, number: int, found: Any) -> None:
        super().restore(number, found)
        self._tables.seen.clear()
        if self.second_machine:
            self.unit.set("p2mk_shared_info", 0, 1)

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        beyond = pfn >= self.area
        shared = not beyond and self.true_leaf(pfn // 512) in self.placeholders()
        old = self.invalid if beyond or shared else self.page(self.true_leaf(pfn // 512))[pfn % 512]
        if not self.call("set", pfn, word):
            return False
        if not beyond and self.true_leaf(pfn // 512) not in self.placeholders():
            self.host.release(pfn, old)
            self.host.give(pfn, word)
        return True


FILES = {"two-level": TwoLevelFile, "two-level-none": TwoLevelNoneFile, "linear": LinearFile}
