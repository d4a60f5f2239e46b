"""A kernel's C file as a policy in the registry: its children, its look, what stopped it."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import PolicyError
from p2mbatch.base.geometry import geometry
from p2mbatch.base.say import one_line
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.child import layout as lo
from p2mbatch.compiled.child import status as cs
from p2mbatch.compiled.own import registers as rg
from p2mbatch.compiled.status import BUGS, FAULTS
from p2mbatch.kernels.build import Program, build
from p2mbatch.kernels.carried import digest_of, read_kernel, source_of, text_of
from p2mbatch.kernels.child import Child, Children
from p2mbatch.kernels.eras import Era, check_arrays, era_of
from p2mbatch.kernels.extract import Extracted, extract_from
from p2mbatch.model import policies
from p2mbatch.model.hosts import table_host
from p2mbatch.model.policies import Pages, Policy

if TYPE_CHECKING:
    from p2mbatch.compiled.records import OneRecord

PREFIX: Final = "kernel:"
"""How a policy's name begins that is a kernel's file."""

_OPS: Final = {
    lo.OP_BOOT: "boot", lo.OP_RESUME: "resume", lo.OP_REPORT: "report", lo.OP_SET: "set",
    lo.OP_GROW: "growth", lo.OP_GET: "a lookup",
}  # fmt: skip


_NOT_SIMULATED: Final = "not simulated: "
"""How a text of the shim's begins that ends the command (`include/kernel.h`)."""


@dataclass(frozen=True)
class CarriedKernel:
    """A kernel's file as it goes to another process: what it is named by, and its whole text."""

    reference: str
    shown: str
    text: str
    """As `carried.text_of` has it."""

    def enter(self) -> str:
        """Enter it into this process's registry; return its name there."""
        return registered(self)


class Held:
    """A child while a guest, or a batch of them, has it."""

    def __init__(self, children: Children, num_bytes: int, flavor: int) -> None:
        self._child: Child = children.take(num_bytes)
        self._child.words[lo.CHILD_FLAVOR] = flavor
        self.address = self._child.address
        self.release = weakref.finalize(self, children.give_back, self._child)

    def stops_at(self, stop: OneRecord[object]) -> None:
        """Have a call give up once the first word of `stop` is set."""
        self._child.words[lo.CHILD_STOP] = stop.ctypes.data  # type: ignore[attr-defined]


_Build = tuple[int, int]
"""What a program is made for: the width, and a p2m's `MAX_DOMAIN_PAGES`, 0 where it has none."""


class KernelFile:
    """What a policy has beside its functions where it is a kernel's file in C."""

    def __init__(self, carried: CarriedKernel) -> None:
        self._carried = carried
        self._source = source_of(carried.text, carried.shown)
        self._units: dict[_Build, Extracted] = {}
        self._programs: dict[_Build, Program] = {}
        self._children: dict[_Build, Children] = {}
        self._flavors: dict[int, int] = {}

    @property
    def digest(self) -> str:
        """Return what tells it from another."""
        return self._carried.reference.rpartition("#")[2]

    def carried(self) -> CarriedKernel:
        """Return what another process needs to have it."""
        return self._carried

    def unit(self, bits: int, max_domain_pages: int = 0) -> Extracted:
        """Return what is taken of it for a width and a p2m's bound, 0 for that by default.

        Raises `PolicyError` as `extract`.
        """
        which = bits, max_domain_pages
        if which not in self._units:
            self._units[which] = extract_from(
                self._source, bits=bits, max_domain_pages=max_domain_pages or None
            )
        return self._units[which]

    def program(self, bits: int, max_domain_pages: int = 0) -> Program:
        """Return its program, as `unit`, made the first time. Raises as `build.build`."""
        which = bits, max_domain_pages
        if which not in self._programs:
            self._programs[which] = build(self.unit(*which))
        return self._programs[which]

    def hold(self, word_bytes: int, num_pages: int, max_domain_pages: int) -> Held:
        """Return a child of its own for a guest whose direct map has so many pages."""
        which = 8 * word_bytes, max_domain_pages
        if which not in self._children:
            program = self.program(*which)
            check_arrays(self.unit(*which), program, max_domain_pages)
            self._children.setdefault(which, Children(program))
        return Held(self._children[which], num_pages << 12, self._flavor(*which))

    def era(self, bits: int, max_domain_pages: int = 0) -> Era:
        """Return the era of the kernel of a width. Raises as `unit` and `era_of`."""
        return era_of(self.unit(bits, max_domain_pages), self._carried.reference.rpartition("#")[0])

    def _flavor(self, bits: int, max_domain_pages: int) -> int:
        """Return what a child of a width is told of its era.

        Raises `PolicyError` where the file is of another era than with 64 bits.
        """
        if bits not in self._flavors:
            one, other = self.era(bits, max_domain_pages), self.era(64)
            if not one.is_as(other):
                raise PolicyError(
                    f"{self._shown}: with {bits} bits a kernel as {one.base} has it, with 64 as "
                    f"{other.base}: give each a file of its own"
                )
            self._flavors[bits] = one.flavor
        return self._flavors[bits]

    # --- what stopped a call ------------------------------------------------------------------

    def meaning(self, status: int, statics: Int64Array) -> tuple[str, str]:
        """Return (outcome, detail) of a call that stopped with `status`.

        Raises `PolicyError` where it is not the guest that failed but the file itself.
        """
        if status == rg.OWN_BUG:
            text = self._program_of(statics).text_at(int(statics[rg.R_SITE]))
            if text.startswith(_NOT_SIMULATED):
                doing = _OPS.get(int(statics[lo.R_DOING]), "a call")
                raise PolicyError(f"{self._place(statics) or self._shown}: {text}, in {doing}")
            return "bug", text
        if status in BUGS:
            return "bug", BUGS[status]
        if status in FAULTS:
            return "fault", FAULTS[status]
        if status == rg.OWN_FAULT:
            return "fault", self._told(statics)
        if status == cs.CHILD_DIVIDE:
            return "fault", f"divide error: {self._told(statics)}"
        raise PolicyError(self._trouble(status, statics))

    def _trouble(self, status: int, statics: Int64Array) -> str:
        doing = _OPS.get(int(statics[lo.R_DOING]), "a call")
        place = self._place(statics)
        at = f" ({place})" if place else ""
        if status == cs.CHILD_LOOP:
            return f"{self._shown}: did not return from {doing} after {lo.MAX_SECONDS} s{at}"
        if status == cs.CHILD_SYSCALL:
            number = int(statics[rg.R_SITE])
            return (
                f"{place or self._shown}: makes system call {number}: a kernel's function "
                "makes none"
            )
        said = {
            cs.CHILD_STACK: f"runs out of its {lo.STACK_BYTES >> 10} KiB of stack",
            cs.CHILD_ILLEGAL: "runs into what is no instruction for it",
            cs.CHILD_POOL: f"is given pages of more than {lo.MAX_POOL_RUNS} runs in one call: "
            "that is not simulated",
            cs.CHILD_RUNS: f"boots a guest with more than {lo.MAX_BOOT_RUNS} runs of pages, of 1:1 "
            "ranges or of extra memory: that is not simulated",
            cs.CHILD_TABLES: "has page tables over its p2m that don't lead to tables "
            "everywhere, or no p2m_missing and p2m_identity: that is not simulated",
            cs.CHILD_AREA: f"asks for a p2m of {int(statics[rg.R_SITE]):,} bytes, which is not "
            "what the guest's area is",
            cs.CHILD_PAGES: f"has words in more than {lo.TOUCHED_PAGES} pages: that is not "
            "simulated",
            cs.CHILD_TOUCHED: f"reads or writes more than {lo.TOUCHED_PAGES} pages: that is not "
            "simulated",
            cs.CHILD_DIED: "its process has ended by itself",
            cs.CHILD_BROKEN: "has done what no such call can do: its memory is not the guest's "
            "any more",
            cs.CHILD_STOPPED: "was stopped",
            rg.OWN_ROOM: f"one call hits more than {policies.SPARE_SLOTS} pages: that is not "
            "simulated",
            rg.OWN_OUT_OF_PAGE: "goes past the end of a page",
        }
        return f"{place or self._shown}: {said.get(status, f'ended with {status}')}, in {doing}"

    def where(self, status: int, statics: Int64Array, strays: int) -> str | None:
        """Return "FILE:LINE" of what ended the call, else of the event's first stray write."""
        ended = (rg.OWN_BUG, rg.OWN_FAULT, cs.CHILD_DIVIDE)
        if status in BUGS or status in FAULTS or status in ended:
            return self._place(statics) or None
        if strays:
            return self._program_of(statics).place(int(statics[rg.R_STRAY_LINE])) or None
        return None

    def told(self, line: int, word_bytes: int, max_domain_pages: int) -> tuple[str, int]:
        """Return the function and the line of the user's file at an address of the program."""
        which = 8 * word_bytes, max_domain_pages
        number = self.program(*which).place(line).rpartition(":")[2]
        if not number.isdigit():
            return "", 0
        begun = [
            (first, name) for name, kind, first in self.unit(*which).kept
            if kind == "function" and first <= int(number)
        ]  # fmt: skip
        return max(begun, default=(0, ""))[1], int(number)

    @property
    def _shown(self) -> str:
        return one_line(self._carried.shown)

    def _program_of(self, statics: Int64Array) -> Program:
        return self.program(int(statics[lo.R_BITS]) or 64, int(statics[rg.R_MAX_DOMAIN]))

    def _place(self, statics: Int64Array) -> str:
        return self._program_of(statics).place(int(statics[rg.R_LINE]))

    def _told(self, statics: Int64Array) -> str:
        """Return the user's line that a call ended in."""
        number = self._place(statics).rpartition(":")[2]
        lines = self._source.text.splitlines()
        if not number.isdigit() or not 0 < int(number) <= len(lines):
            return "a line of the shim's"
        return one_line(lines[int(number) - 1].strip())


@dataclass(frozen=True)
class KernelPolicy(Policy):
    """A kernel's file in the registry: how many pages it boots with is found out by booting it."""

    @functools.cached_property
    def _taken(self) -> dict[int, tuple[int, int]]:
        return {}

    def brk_pages(self, num_mids: Pages, word_bytes: int) -> Pages:
        """Return the pages of brk that a boot with so many mid pages takes."""
        if self.is_two_level or self.is_linear:
            return num_mids * 0
        if word_bytes not in self._taken:
            one, two = (_pages_of_boot(self, word_bytes, mids) for mids in (1, 2))
            self._taken[word_bytes] = (one - (two - one), two - one)
        base, each = self._taken[word_bytes]
        return base + num_mids * each

    def list_distance(self, num_mids: Pages, word_bytes: int) -> Pages:
        """Return how far boot puts the frame list list behind `p2m_missing`, in pages."""
        if self.is_era:
            return super().list_distance(num_mids, word_bytes)
        return self.placeholders + num_mids + self.list_brk_pages - 1


def _pages_of_boot(policy: Policy, word_bytes: int, num_mids: int) -> int:
    """Return how many pages of brk a boot takes, by booting a guest that has many."""
    from p2mbatch.model.life import Life

    geo = geometry(word_bytes)
    spare = 1024
    # Its own structures are among its pages, and so are there.
    nr_pages = (num_mids - 1) * geo.entries**2 + 4 * spare
    boot_leaves = -(-nr_pages // geo.entries)
    bootmem = policy.bootmem_pages(num_mids, boot_leaves, word_bytes)
    everything = spare + boot_leaves + bootmem + 1
    tables = tb.allocate(
        geo, nr_pages=nr_pages, max_p2m_pfn=nr_pages, mfn_list_pfn=spare, brk_pfn=0,
        brk_pages=spare, pool=np.zeros((0, 2), np.int64), directmap_pages=everything,
        num_slots=spare + 2 * boot_leaves + bootmem + 64,
        num_blocks=(everything >> tb.BLOCK_SHIFT) + 16,
        machine=tb.MACHINE_2, table_presence=True,
    )  # fmt: skip
    tables.state[0].bootmem_pfn, tables.state[0].bootmem_pages = spare + boot_leaves, bootmem
    runs = np.array([[0, 0, nr_pages]], np.int64)
    life = Life(tables, table_host(nr_pages, runs, np.zeros((0, 3), np.int64)), policy)
    result = life.boot()
    if not result.ok:
        at = f" at {result.where}" if result.where else ""
        raise PolicyError(
            f"{one_line(policy.short)}: a plain guest of {8 * word_bytes} bits does not boot "
            f"under it: {result.outcome} {result.detail}{at}"
        )
    return life.scalar("brk_used")


def kernel_of(path: Path, shown: str) -> CarriedKernel:
    """Return the kernel in a file, a C file or a `.p2mk`. Raises as `carried.read_kernel`."""
    source = read_kernel(path)
    return CarriedKernel(f"{PREFIX}{shown}#{digest_of(source)}", shown, text_of(source))


def registered(carried: CarriedKernel) -> str:
    """Enter a kernel's file into the registry, if it is not there; return what it is named by."""
    if policies.is_known(carried.reference):
        return carried.reference
    own = KernelFile(carried)
    shown = carried.reference.rpartition("#")[0]
    era = own.era(64)
    look = policies.free_look(shown)
    base = policies.find(era.base)
    policies.register(
        KernelPolicy(
            **{
                **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)},
                "name": carried.reference,
                "meaning": "a kernel's file in C",
                "brief": "in C",
                "releases": "",
                "base": era.base if base.is_era else "",
                # The steps of several CPUs are those of ours, not the file's.
                "races": "",
                "load": era.load,
                "color": look[0],
                "hatch": look[1],
                "marker": look[2],
                "dashes": (0, (3, 1, 1, 1, 1, 1)),
                "own": own,
                **era.changes,
            }
        )
    )
    return carried.reference
