"""The scalars of one guest (`State`) and of one host (`HostParameters`), and how they are kept.

Each class names its record's fields, all int64. `as_array` makes an array of one such record, which
is what crosses into compiled code: `t.state[0]` is the record, `t.state[0].wild` a field of it, to
be read and assigned there and in Python alike (where `t.state["wild"]`, an int64[1], is twice as
fast). An array of one and not the record itself: handing a record costs 1.3 us a call, and a
parallel kernel takes none at all. Nothing may rely on the order of the fields.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from operator import attrgetter, itemgetter
from typing import Any, Protocol, TypeVar, overload

import numpy as np

from p2mbatch.base.arrays import Int64Array

NO_PAGE = -1
"""PFN of a structure that does not exist yet; directory code of a page that reads as zeros."""

UNBOUNDED_ORDER = 63
"""`m2p_order` that bounds nothing."""

UNBOUNDED_ENTRIES = (1 << 63) - 1
"""`m2p_entries` that bounds nothing."""

R = TypeVar("R")

R_co = TypeVar("R_co", covariant=True)


class OneRecord(Protocol[R_co]):
    """An array of one record as a type checker sees it: the record, and a field as an int64[1]."""

    @overload
    def __getitem__(self, index: int, /) -> R_co: ...
    @overload
    def __getitem__(self, index: str, /) -> Int64Array: ...
    @overload
    def __setitem__(self, index: int, value: Any, /) -> None: ...
    @overload
    def __setitem__(self, index: str, value: int | Int64Array, /) -> None: ...

    @property
    def flags(self) -> Any:
        """Return how the array lies in memory."""


@dataclasses.dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Bijection:
    """A keyed bijection on [0, `length`): see `bijection`."""

    length: int
    left: int
    """How many rows the grid has, just larger than `length`."""
    right_bits: int
    """log2 of its columns."""
    key0: int
    key1: int
    key2: int
    key3: int


NOWHERE = Bijection(length=0, left=1, right_bits=1, key0=0, key1=0, key2=0, key3=0)
"""The bijection on nothing."""


@dataclasses.dataclass(slots=True, kw_only=True)
class State:
    """A guest's scalars: counts and PFNs. NO_PAGE for a structure that does not exist yet."""

    entries_shift: int
    """log2 of the entries of a page."""
    va_base: int
    va_mask: int
    """Where the direct map begins, and which bits of a page number its addresses have."""
    word_bits: int
    max_p2m: int
    """PFNs that the tree's three levels hold at most."""
    nr_pages: int
    max_p2m_pfn: int
    xen_max: int
    """The kernel's `xen_max_p2m_pfn`."""
    mfn_list_pfn: int
    brk_pfn: int
    brk_pages: int
    brk_used: int = 0
    brk_closed: int = 0
    pool_used: int = 0
    fail_at: int = -1
    """Which page allocation from the last `fail_alloc` on returns NULL, counted by `allocs`."""
    allocs: int = 0
    directmap: int
    """Pages of the direct map."""
    shared_fll: int = 0
    shared_max: int = 0
    """The shared info's frame list list MFN and `max_pfn`."""
    missing: int = NO_PAGE
    mid_missing: int = NO_PAGE
    top: int = NO_PAGE
    mid_missing_mfn: int = NO_PAGE
    top_mfn_p: int = NO_PAGE
    top_mfn: int = NO_PAGE
    num_slots: int = 0
    num_blocks: int = 0
    num_leaves: int
    toolstack: int = 0
    """Which one saves the guest next: `tables.TRIMS` and so on."""
    wild: int = 0
    """1 once a pointer page has been hit: what is cached of the tree is not believed any more."""
    event: int = 0
    stray_writes: int = 0
    stray_pages: int = 0
    entries_written: int = 0
    """These three count within an event, and are set to zero together."""
    saved_max_pfn: int
    """The last PFN for which the present host gave anything."""
    walked_max_pfn: int
    """The last PFN that the last save walk would send."""
    listed: int = 0
    """How many leaves, from the first on, the rebuild of `listed_event` has stored in the list."""
    listed_event: int = -1
    position: int = 0
    """Where to go on after MORE_ROOM."""
    detail: int = 0
    """The number of a save's or a restore's failed check."""
    num_mids: int = 0
    num_mid_mfns: int = 0
    num_grown: int = 0
    image_map: int
    presence: int
    only_own_sent: int
    clears_fll: int
    """The machine (machine-v2 sections 3 and 7): see `tables.Machine`."""
    m2p_order: int = UNBOUNDED_ORDER
    identity: int = NO_PAGE
    mid_identity: int = NO_PAGE
    mid_identity_mfn: int = NO_PAGE
    """The pages that many 1:1 PFNs share (policies-spec P4 and P5)."""
    flag_bits: int = 0
    identity_bit: int = 0
    """Which bits flag a word of an era's p2m, and which of them says 1:1; 0 where none does."""
    bootmem_pfn: int = 0
    bootmem_pages: int = 0
    bootmem_used: int = 0
    """The boot allocator's pages."""
    late_list: int = 0
    late_pages: int = 0
    """1 where the list's pages come from the boot allocator; how many it took after boot."""
    identity_pages: int = 0
    warnings: int = 0
    """What boot's marking of 1:1 ranges returned, and the kernel's warnings."""
    placeholder_writes: int = 0
    """Within an event: stores into pages that many PFNs share."""
    max_domain_pages: int = 0
    static_top: int = NO_PAGE
    static_top_mfn: int = NO_PAGE
    static_list: int = NO_PAGE
    """Of a p2m of two levels (policies-spec P1): PFNs that it holds; where its arrays `p2m_top`,
    `p2m_top_mfn` and `p2m_top_mfn_list` begin."""
    identity_beyond: int = 0
    """1 where PFNs past the last that the p2m holds read as 1:1."""
    pgd: int = NO_PAGE
    missing_pte: int = NO_PAGE
    identity_pte: int = NO_PAGE
    """Of a linear p2m (linear-spec): its level-4 page, and the shared level-1 pages."""
    p2m_vaddr: int = 0
    hint: int = 0
    """Where the table begins; the kernel's `xen_p2m_last_pfn`."""
    hint_rounds: int = 0
    reports_table: int = 0
    """1 from 5.14 on: the hint is rounded up; 1 from 4.3 on: the table is reported."""
    no_list: int = 0
    """1 while the start flag `virt_p2m_4tools` is in force."""
    boot_used: int = 0
    """Pages taken while booting."""
    identity_mfn: int = 0
    """What the list that was saved last names `p2m_identity` by."""
    shared_cr3: int = 0
    shared_vaddr: int = 0
    generation: int = 0
    """The shared info's `p2m_cr3` (as an MFN), `p2m_vaddr` and `p2m_generation`."""


@dataclasses.dataclass(slots=True, kw_only=True)
class HostParameters:
    """A host's parameters; all but the first two and the m2p's bounds are a function host's."""

    kind: int
    """TABLE_HOST or FUNCTION_HOST."""
    frames: int
    reserved: int = 0
    """Frames at the bottom that Xen keeps."""
    order: int = 0
    num_extents: int = 0
    """Frames go out in this many extents of 2^order pages, then one by one."""
    layout: int = 0
    entries_shift: int = 0
    nr_pages: int = 0
    span: int = 0
    num_holes: int = 0
    """Pages of the span that the layout leaves out."""
    holes_to_others: int = 0
    """Their frames belong to whoever comes next (a new host) rather than being free (ballooned out
    on this one)."""
    names_all: int = 0
    """Any page of the span may be populated later."""
    struct_first: int = 0
    struct_pages: int = 0
    num_grown: int = 0
    guest_frames: int = 0
    """How many of the frames, in the order they are handed out, are kept for the guest."""
    num_neighbour: int = 0
    neighbour_pages: int = 0
    m2p_order: int = UNBOUNDED_ORDER
    """log2 of the m2p's size as a kernel that boots here has it."""
    m2p_entries: int = UNBOUNDED_ENTRIES
    """How many entries of the m2p are mapped for guests. Both only bound what the guest reads."""
    keeps_freed: int = 0
    """Whether m2p keeps the PFN of a freed frame, as before Xen 4.2: see `tables.KEEPS_FREED`."""
    frames_perm: Bijection = NOWHERE
    """The order in which the extents go out."""
    holes_perm: Bijection = NOWHERE
    """Where the layout's holes, or the leaves that grow, lie."""


def record_dtype(kind: type[Any], **nested: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a class's record: int64 but for the types that `nested` says."""
    names = [field.name for field in dataclasses.fields(kind)]
    # Attributes are fields where nothing is compiled too. NumPy's own record does as much, but
    # asks for everything else first: 2 us a field instead of 0.1.
    fields: dict[str, Any] = {name: _attribute(name) for name in names}
    scalar = type(f"{kind.__name__}Record", (np.void,), {"__module__": __name__, **fields})
    globals()[scalar.__name__] = scalar
    named = [(f.name, nested.get(str(f.type), np.int64)) for f in dataclasses.fields(kind)]
    return np.dtype((scalar, np.dtype(named, align=True)))


def _attribute(name: str) -> property:
    def assign(record: np.void, value: int) -> None:
        record[name] = value

    return property(itemgetter(name), assign)


def _paths(kind: type[Any], before: str = "") -> Iterator[str]:
    """Yield where each number of a record is, from its attributes, in the order of its dtype."""
    for field in dataclasses.fields(kind):
        if field.type == Bijection.__name__:
            yield from _paths(Bijection, f"{before}{field.name}.")
        else:
            yield before + field.name


BIJECTION = record_dtype(Bijection)

_DTYPES = {
    Bijection: BIJECTION,
    State: record_dtype(State),
    HostParameters: record_dtype(HostParameters, Bijection=BIJECTION),
}

_NUMBERS = {kind: attrgetter(*_paths(kind)) for kind in _DTYPES}

_PACK = {kind: struct.Struct(f"{dtype.itemsize // 8}q").pack for kind, dtype in _DTYPES.items()}


def as_array(record: R) -> OneRecord[R]:
    """Return `record` as an array of one, what compiled code takes."""
    kind = type(record)
    # A sweep makes a host for every migration, and NumPy takes three times as long for a tuple.
    made: Any = np.ndarray(1, _DTYPES[kind], bytearray(_PACK[kind](*_NUMBERS[kind](record))))
    return made
