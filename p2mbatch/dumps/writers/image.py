"""A guest of a trace as it lies in memory after one of its events: what the writers write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES, PAGE_SHIFT, Geometry, geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import p2m_words
from p2mbatch.compiled.policies.flat import BLOCK_SHIFT, MAPS
from p2mbatch.dumps import formats
from p2mbatch.dumps.stores import narrow
from p2mbatch.dumps.writers.page_tables import (
    LinearTables,
    PageTable,
    saved_leaf_tables,
    table_bytes,
)
from p2mbatch.model.era_life import EraLife
from p2mbatch.model.life import Life
from p2mbatch.model.linear_life import LinearLife
from p2mbatch.model.reads import pages_of_leaves
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.trace import Trace, goes_on

_ZEROS = bytes(PAGE_BYTES)


@dataclass(frozen=True)
class GuestImage:
    """One guest at rest. Pages that are not in `words` hold zeros."""

    word_bytes: int
    frames: int
    """The host's machine frames."""
    shared_max_pfn: int
    """The shared info page's max_pfn (a count), which may be more than a tree can hold."""
    frame_list_list_mfn: int
    p2m: Int64Array
    """int64[max_p2m_pfn]: the entries, WILD where a wild pointer is in the way."""
    leaf_pfns: Int64Array
    """int64[num_leaves]: PFN of each true leaf, negative where none can be reached."""
    words: dict[int, Int64Array]
    """PFN -> int64[n], of every page that was ever written."""
    linear: LinearTables | None = None
    """The guest's linear list, for kernels that keep one."""
    m2p: Int64Array | None = None
    """int64[frames]: the host's m2p, INVALID where nobody has a frame; None where none is known."""
    owned_mfns: Int64Array | None = None
    """int64[k], ascending: the frames that are the guest's own."""
    identity_pfn: int = -1
    """The page of `p2m_identity` in a tree, -1 where there is none."""

    @property
    def geometry(self) -> Geometry:
        """The tree's shape for this guest's width."""
        return geometry(self.word_bytes)

    @property
    def has_page(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """bool[max_p2m_pfn]: PFNs with a page of this host's memory (no holes, no foreign ones)."""
        return (self.p2m >= 0) & (self.p2m < self.frames)

    def is_written(self, pfn: int) -> bool:
        """Return whether anything was ever written into page `pfn`: any other is zeros."""
        return pfn in self.words or (self.linear is not None and pfn in self.linear.tables)

    def page(self, pfn: int) -> bytes:
        """Return the 4096 bytes of page `pfn`, as they lie in memory."""
        if self.linear is not None and pfn in self.linear.tables:
            return table_bytes(self.linear.tables[pfn], self.p2m)
        words = self.words.get(pfn)
        return _ZEROS if words is None else narrow(words, self.word_bytes)

    def sent_page(self, pfn: int) -> bytes:
        """Return the 4096 bytes of page `pfn` as a stream carries them: page tables hold PFNs."""
        if self.linear is not None and pfn in self.linear.tables:
            return table_bytes(self.linear.tables[pfn], None)
        return self.page(pfn)

    def page_types(self, pfns: Int64Array) -> Int64Array:
        """Return the type of each of `pfns` (int64): 0 plain, a page table's level, 15 absent."""
        types = np.where(self.has_page[pfns], formats.TYPE_PLAIN, formats.TYPE_NOT_PRESENT)
        if self.linear is not None:
            for pfn, table in self.linear.tables.items():
                types[pfns == pfn] = table.level
        return types

    def shared_info(self) -> bytes:
        """Return the shared info page: zeros but for what leads to the p2m."""
        page = bytearray(PAGE_BYTES)
        layout, size = formats.SHARED_INFO_LAYOUTS[self.word_bytes], self.word_bytes
        fields = [
            (layout.max_pfn, self.shared_max_pfn),
            (layout.frame_list_list, self.frame_list_list_mfn),
        ]
        if self.linear is not None and self.linear.reported:
            cr3_mfn = int(self.p2m[self.linear.top_pfn])
            fields += [
                (layout.p2m_cr3, cr3_mfn << 12 | (cr3_mfn >> 20 if size == 4 else 0)),
                (layout.p2m_vaddr, self.linear.vaddr),
                (layout.p2m_generation, self.linear.generation),
            ]
        for at, value in fields:
            page[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return bytes(page)

    def last_saved_pfn(self) -> int:
        """Return the last PFN that the toolstack would send: max_pfn, trimmed as on save."""
        shift = self.geometry.entries_shift
        last = min(self.shared_max_pfn, self.p2m.size) - 1
        if self.linear is not None and self.linear.reported:
            # A block is what one level-1 table maps: 2 MiB of the list.
            first_index = self.linear.vaddr >> 21 & 511
            kept = saved_leaf_tables(self.linear, first_index)
            trimmed = (kept * 512 * self.geometry.entries - 1) & ((1 << 64) - 1)
            return min(last, trimmed)
        page = _words_at(self, self.frame_list_list_mfn)
        if page is not None:
            needed = page[: (last >> (2 * shift)) + 1]
            change = np.flatnonzero(np.diff(needed))
            start = int(change[-1]) + 1 if change.size else 0
            last = min(last, ((start + 1) << (2 * shift)) - 1)
        return last


def image_at(trace: Trace, event: int | None = None) -> GuestImage:
    """Return the guest of `trace` as it is after event `event` (the last that runs, by default).

    Raises `InputError` as `life_at` and `image_of`.
    """
    return image_of(life_at(trace, event))


def life_at(trace: Trace, event: int | None = None) -> Life:
    """Run `trace` up to and including event `event` (the last that runs, by default).

    Raises `InputError` where there is no such event, or the guest was lost before it.
    """
    num_events = len(trace.events)
    if event is not None and not 0 <= event < num_events:
        raise InputError(f"event {event}: {trace.name} has events 0 to {num_events - 1}")
    life = new_life(trace)
    for index, step in enumerate(trace.events):
        result = run_event(life, trace, step)
        if index == event:
            break
        if not goes_on(step, result.outcome):
            if event is None:
                break
            raise InputError(
                f"event {event}: {trace.name} ended at event {index} "
                f"({result.outcome} {result.detail}): use {index} at most"
            )
    return life


def image_of(life: Life) -> GuestImage:
    """Return what `life`'s tables hold. Every page must be resident, as they are where traces run.

    Raises `InputError` where the guest did not boot as far as its p2m.
    """
    if isinstance(life, EraLife):
        return _era_image(life)
    tables, host = life.tables, life.host
    if life.scalar("top") == tb.NO_PAGE:
        raise InputError("the guest did not boot as far as its tree: there is nothing to write")
    span = min(life.scalar("xen_max"), 1 << 3 * life.scalar("entries_shift"))
    p2m = np.empty(span, np.int64)
    p2m_words(tables, host, 0, p2m)
    num_leaves = -(-span // (1 << life.scalar("entries_shift")))
    return _image(life, p2m, pages_of_leaves(tables, num_leaves))


def _image(
    life: Life, p2m: Int64Array, leaf_pfns: Int64Array, linear: LinearTables | None = None
) -> GuestImage:
    """Return the image of entries `p2m` in leaves at `leaf_pfns`, with all other pages."""
    tables, host = life.tables, life.host
    pages = tables.slots[: life.scalar("num_slots"), tb.P_PAGE].tolist()
    in_tables = linear.tables if linear is not None else {}
    return GuestImage(
        word_bytes=life.scalar("word_bits") // 8,
        frames=int(host.par[0].frames),
        shared_max_pfn=life.scalar("shared_max"),
        frame_list_list_mfn=life.scalar("shared_fll"),
        p2m=p2m,
        leaf_pfns=leaf_pfns,
        words={
            page: tables.words[slot].copy()
            for slot, page in enumerate(pages)
            if page >= 0 and page not in in_tables
        },
        linear=linear,
        m2p=host.m2p.copy(),
        owned_mfns=np.flatnonzero(host.owned),
        identity_pfn=life.scalar("identity") if linear is None or not linear.reported else -1,
    )


def _era_image(life: EraLife) -> GuestImage:
    """Return what the tables of an era's guest hold; entries are those that its kernel gets.

    Raises `InputError` where it did not boot to the end.
    """
    tables, host = life.tables, life.host
    if life.scalar("brk_closed") == 0:
        raise InputError("the guest did not boot to the end: there is nothing to write")
    shape = geometry(life.scalar("word_bits") // 8)
    used = tables.slots[: life.scalar("num_slots")]
    span = life.scalar("max_p2m_pfn")
    linear = None
    if isinstance(life, LinearLife):
        # What lies behind the last page that the table has a leaf of its own for reads as 1:1.
        shared = np.isin(tables.leaf_page, [life.scalar("missing"), life.scalar("identity")])
        own = np.flatnonzero(~shared)
        end = (int(own[-1]) + 1) * shape.entries if own.size else 0
        span = min(max(end, life.scalar("shared_max"), int(used[:, tb.P_PAGE].max()) + 1), span)
        linear = tables_of(life)
    p2m = np.empty(span, np.int64)
    life.policy.operations.get_row(tables, host, 0, p2m)
    leaf_pfns = tables.leaf_page[: -(-span // shape.entries)].astype(np.int64)
    return _image(life, p2m, leaf_pfns, linear)


def tables_of(life: LinearLife) -> LinearTables:
    """Return the page tables of a linear guest; the two shared leaves are mapped read-only."""
    tables, levels = life.tables, life.table_levels()
    slot_of = {page: slot for slot, page in enumerate(tables.slots[:, tb.P_PAGE].tolist())}
    read_only = [life.scalar("missing"), life.scalar("identity")]
    found = {}
    for page, level in levels.items():
        words = tables.words[slot_of[page]]
        pfns = words & (MAPS - 1)
        flags = np.where((level == 1) & np.isin(pfns, read_only), 1, 3)
        found[page] = PageTable(level, np.where(words != 0, pfns << PAGE_SHIFT | flags, 0))
    vaddr = life.scalar("p2m_vaddr") % (1 << 64)
    blocks = []
    for block in range(life.scalar("max_p2m_pfn") >> BLOCK_SHIFT):
        page = life.scalar("pgd")
        for level in (4, 3, 2):
            index = (vaddr + (block << 21)) >> (9 * level + 3) & 511
            page = int(found[page].entries[index]) >> PAGE_SHIFT
        blocks.append(page)
    return LinearTables(
        top_pfn=life.scalar("pgd"),
        vaddr=vaddr,
        generation=life.scalar("generation"),
        tables=found,
        leaf_tables=np.array(blocks, np.int64),
        reported=bool(life.scalar("reports_table")),
    )


def reachable_leaves(image: GuestImage, last_pfn: int) -> Int64Array:
    """Return the PFNs of the leaves up to `last_pfn`, as the toolstack comes to know them.

    Raises `InputError` where the toolstack could not have got them: the shared info page reports no
    PFNs, a wild pointer is in the way, or a leaf's page is not in the guest's memory.
    """
    if last_pfn < 0:
        raise InputError(
            "the guest's shared info page reports no PFNs (max_pfn is 0), as before the end of "
            "boot: no toolstack could write a stream of it; use make-core"
        )
    leaves = image.leaf_pfns[: (last_pfn >> image.geometry.entries_shift) + 1]
    present = image.has_page
    for x, pfn in enumerate(leaves.tolist()):
        if not 0 <= pfn < present.size or not present[pfn]:
            raise InputError(
                f"leaf {x} of the p2m can't be reached in this guest's tree: no toolstack could "
                "write a stream of it; use make-core, or an earlier event"
            )
    return _as_listed(image, leaves)


def _as_listed(image: GuestImage, leaves: Int64Array) -> Int64Array:
    """Return `leaves` with what the list names in place of `p2m_identity`.

    A leaf that becomes 1:1 while the guest runs is listed as `p2m_missing` until the next resume.
    """
    ones = np.flatnonzero((leaves == image.identity_pfn) & (leaves >= 0))
    found, shift = leaves.copy(), image.geometry.entries_shift
    top_list = _words_at(image, image.frame_list_list_mfn) if ones.size else None
    if top_list is None:
        return leaves
    for top in np.unique(ones >> shift).tolist():
        at = ones[ones >> shift == top]
        frame_list = _words_at(image, int(top_list[top]))
        if frame_list is None:
            continue
        mfns = frame_list[at & (image.geometry.entries - 1)]
        for mfn in np.unique(mfns).tolist():
            if (pfn := _pfn_at(image, mfn)) >= 0:
                found[at[mfns == mfn]] = pfn
    return found


def _pfn_at(image: GuestImage, mfn: int) -> int:
    """Return the first PFN that names `mfn`, -1 where none does."""
    if mfn <= 0:
        return -1
    pfns = np.flatnonzero(image.p2m == mfn)
    return int(pfns[0]) if pfns.size else -1


def _words_at(image: GuestImage, mfn: int) -> Int64Array | None:
    """Return the words of the page with frame `mfn`, None where nothing was written there."""
    return image.words.get(_pfn_at(image, mfn))
