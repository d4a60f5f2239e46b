"""How large a host's m2p is for a guest (machine-v2 section 7): `model.hosts` in compiled code."""

from __future__ import annotations

from p2mbatch.compiled.jit import as_int, inner_kernel


@inner_kernel
def bit_length(number: int) -> int:
    """Return `bit_length` of a number that is not negative."""
    bits = as_int(0)
    while number >> bits != 0:
        bits += 1
    return bits


@inner_kernel
def m2p_order(is_wide: bool, frames: int, is_small: bool) -> int:
    """Return log2 of the m2p's size as a kernel that boots there has it: `model.hosts.m2p_order`.

    `is_wide` says of a guest that it is of 64 bits, `is_small` of the host's Xen that it tells
    such a guest the smallest order that holds the host's frames.
    """
    if not is_wide:
        return as_int(26)
    return bit_length(frames - 1) if is_small else as_int(32)


@inner_kernel
def m2p_entries(is_wide: bool, frames: int) -> int:
    """Return how many entries of the m2p are mapped: `model.hosts.m2p_entries`."""
    chunks = (frames + 262_143) // 262_144
    if is_wide:
        return as_int(262_144 * chunks)
    return min(as_int(524_288 * ((chunks + 1) // 2)), as_int(43_515_904))
