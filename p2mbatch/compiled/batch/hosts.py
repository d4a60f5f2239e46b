"""The hosts of a cell, made in compiled code: `model.hosts.function_host` and `nth_host_frames`."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled.batch.cells import Cell
from p2mbatch.compiled.batch.digest import (
    HALF,
    LOW_HALF,
    blake2b,
    bytes_of,
    put_number,
    put_text,
    upper_half,
)
from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.m2p_size import bit_length, m2p_entries, m2p_order
from p2mbatch.compiled.records import Bijection, HostParameters
from p2mbatch.compiled.tables import (
    EXTENTS,
    FUNCTION_HOST,
    KEEPS_BOOTED,
    KEEPS_FREED,
    SCATTERED,
)

# The texts whose digests are the keys: `repr` of the tuples that name a bijection.
_FRAMES, _HOST, _END = bytes_of("('frames', "), bytes_of(", 'host', "), bytes_of(")")
_HOLES, _LAYOUT = bytes_of("('holes', "), bytes_of(", 'layout')")
_SIZE, _INDEX = bytes_of("p2mbatch-host:"), bytes_of(":")

_MIB = 1 << 20


@inner_kernel
def _set_perm(perm: Bijection, size: int, work: UInt64Array) -> None:
    """Make `perm` the bijection on [0, `size`) whose keys are the digest in `work`."""
    bits = max(bit_length(max(size - 1, 0)) // 2, 1)
    perm.length = size
    perm.right_bits = bits
    perm.left = max(-(-size >> bits), 1)
    perm.key0 = np.int64(work[0] & LOW_HALF)
    perm.key1 = np.int64(work[0] >> HALF)
    perm.key2 = np.int64(work[1] & LOW_HALF)
    perm.key3 = np.int64(work[1] >> HALF)


@inner_kernel
def _host_pages(
    cell: Cell, sizes: Int64Array, index: int, message: UInt8Array, work: UInt64Array
) -> int:
    """Return the frames of the `index`-th host: `host_sizes.host_bytes`."""
    at = cell.first_host + min(index, cell.num_hosts - 1)
    low, high = sizes[at, 0], sizes[at, 1]
    if low == high:
        return low // PAGE_BYTES
    end = put_text(message, put_number(message, put_text(message, 0, _SIZE), cell.seed), _INDEX)
    blake2b(message, put_number(message, end, index), 8, work)
    grain = _MIB if high - low >= _MIB else PAGE_BYTES
    count = np.uint64((high - low) // grain + 1)
    return (low + grain * upper_half(work[0], count)) // PAGE_BYTES


@inner_kernel
def set_population(
    cell: Cell,
    shift: int,
    par: HostParameters,
    message: UInt8Array,
    work: UInt64Array,
) -> None:
    """Write to `par` what all hosts of a cell know of its guest: `model.hosts.Population`."""
    never_inline()
    par.kind = FUNCTION_HOST
    par.layout = cell.layout
    par.entries_shift = shift
    par.nr_pages = cell.nr_pages
    par.span = max(cell.span, cell.reach)
    par.num_holes = cell.num_holes
    par.names_all = cell.names_all
    par.struct_first = cell.brk_pfn
    par.struct_pages = cell.brk_pages + cell.num_boot_leaves + cell.bootmem_pages + cell.pool_pages
    par.num_grown = cell.num_grown
    par.neighbour_pages = cell.neighbour_pages
    par.guest_frames = cell.nr_pages + (cell.num_grown << shift)
    choices = 0
    if cell.layout == SCATTERED:
        par.guest_frames = cell.span
        choices = cell.span - par.struct_pages
    elif cell.layout == EXTENTS:
        choices = (cell.span - cell.nr_pages) >> shift
    if cell.names_all != 0:
        par.guest_frames = par.span
    if choices > 0:
        end = put_number(message, put_text(message, 0, _HOLES), cell.seed)
        blake2b(message, put_text(message, end, _LAYOUT), 16, work)
    _set_perm(par.holes_perm, choices, work)


@inner_kernel
def set_host(
    cell: Cell,
    sizes: Int64Array,
    index: int,
    par: HostParameters,
    message: UInt8Array,
    work: UInt64Array,
) -> None:
    """Write the `index`-th host of a cell to `par`, which has its population already."""
    never_inline()
    frames = _host_pages(cell, sizes, index, message, work)
    order = cell.restore_order if index > 0 else cell.build_order
    inside = cell.layout == SCATTERED
    populated = cell.span - (0 if inside and index == 0 else cell.num_holes)
    others = frames - populated
    par.frames = frames
    par.order = order
    par.reserved = max(512, 1 << order)
    par.num_extents = (frames - par.reserved) >> order
    par.holes_to_others = np.int64(inside and index > 0 and cell.names_all == 0)
    par.num_neighbour = np.int64(np.rint(cell.neighbours * others))
    par.keeps_freed = 0
    if cell.keeps_freed != 0:
        par.num_neighbour = others
        par.keeps_freed = KEEPS_FREED if index > 0 else KEEPS_BOOTED
    is_wide = par.entries_shift == 9
    par.m2p_order = m2p_order(is_wide, frames, cell.small_order != 0)
    par.m2p_entries = m2p_entries(is_wide, frames)
    end = put_number(message, put_text(message, 0, _FRAMES), cell.seed)
    end = put_number(message, put_text(message, end, _HOST), index)
    blake2b(message, put_text(message, end, _END), 16, work)
    _set_perm(par.frames_perm, par.num_extents, work)
