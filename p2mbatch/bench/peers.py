"""The peers of the benchmarks: a C program with a pointer tree, NumPy, and plain Python.

The C program (p2mbatch/bench/peer.c) is built into a temporary folder where there is a compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.bench.measure import Call
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.records import Bijection

SOURCE = Path(__file__).with_name("peer.c")


@contextlib.contextmanager
def built_peer() -> Iterator[ctypes.CDLL | None]:
    """Build the C program into a temporary folder and load it; None where no compiler can."""
    compiler = find_compiler()
    with tempfile.TemporaryDirectory(prefix="p2mbatch-peer-") as folder:
        program = str(Path(folder) / "peer.so")
        command = [compiler or "", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", program]
        if compiler is None or subprocess.run(command, capture_output=True, check=False).returncode:
            yield None
        else:
            yield ctypes.CDLL(program)


class Peer:
    """The C program at work on a booted guest's own pages; `lists` are its mid_mfn pages' slots.

    The guest has all its leaves, one beside the other, in the order of their PFNs.
    """

    def __init__(self, program: ctypes.CDLL, t: tb.P2MTables, lists: Int64Array) -> None:
        self._program, self._kept = program, list[Int64Array]()
        pfns, first = t.slots[:, tb.P_PAGE].copy(), int(t.leaf_slot[0])
        slot_of = {pfn: slot for slot, pfn in enumerate(pfns.tolist())}
        leaves = first + np.arange(len(t.leaf_slot))
        others = np.delete(pfns, leaves)
        brk = range(int(others[others >= 0].min()), int(others.max()) + 1)
        if not np.array_equal(leaves, t.leaf_slot) or (np.diff(pfns[leaves]) != 1).any():
            raise ValueError("the guest's leaves don't lie one beside the other")
        state = t.state[0]
        structures = [state.missing, state.mid_missing_mfn, state.top_mfn]
        guest = self._struct(
            t.words, pfns, len(leaves) * t.words.shape[1], len(leaves), first, int(pfns[first]),
            brk.start, len(brk), np.array([slot_of.get(pfn, -1) for pfn in brk]),
            *(slot_of[int(pfn)] for pfn in structures), lists,
        )  # fmt: skip
        self.call("open_guest", guest)()

    def _struct(self, *values: Int64Array | int) -> Int64Array:
        """Return a C structure of pointers and 64-bit numbers; the arrays are kept."""
        self._kept += [v for v in values if not isinstance(v, int)]
        return np.array([v if isinstance(v, int) else v.ctypes.data for v in values], np.int64)

    def host(self, h: tb.HostTables) -> Int64Array:
        """Return the C program's view of host `h`."""
        par = h.par[0]
        perm = par.frames_perm
        keys = (perm.key0, perm.key1, perm.key2, perm.key3)
        shuffle = np.array([perm.length, perm.left, perm.right_bits, *keys], np.int64)
        return self._struct(shuffle, int(par.frames), int(par.reserved), int(par.order))

    def call(self, name: str, *args: Int64Array | int) -> Call:
        """Return a call of the C function `name`; it raises RuntimeError on an unsound guest."""
        function = getattr(self._program, name)
        function.restype = ctypes.c_uint64
        given = [ctypes.c_uint64(v if isinstance(v, int) else v.ctypes.data) for v in args]
        self._kept += [v for v in args if not isinstance(v, int)]
        return partial(self._call, function, given)

    def _call(self, function: Any, given: list[ctypes.c_uint64]) -> None:
        # Of this object, which so outlives its calls and keeps what they point to.
        if function(*given) == 0:
            raise RuntimeError(f"{function.__name__} of the C program: the guest is not sound")


def numpy_lookup(t: tb.P2MTables, pfns: Int64Array) -> Int64Array:
    """Return `get_phys_to_machine` of PFNs inside the span, vectorised."""
    n = t.words.shape[1]
    return np.asarray(t.words[t.leaf_slot[pfns // n], pfns % n])


def numpy_rebuild(t: tb.P2MTables, slots: Int64Array) -> None:
    """Build the list of a guest with all mids, vectorised; `slots` int64[mids]: its pages."""
    n = t.words.shape[1]
    top_mfn = np.flatnonzero(t.slots[:, tb.P_PAGE] == t.state[0].top_mfn)[0]
    entries = numpy_lookup(t, t.leaf_page.astype(np.int64))
    entries = np.where(entries == INVALID, INVALID, entries & ~FOREIGN_FRAME_BIT)
    whole = len(entries) // n
    t.words[slots[:whole]] = entries[: whole * n].reshape(-1, n)
    if len(entries) % n:
        t.words[slots[whole], : len(entries) % n] = entries[whole * n :]
    t.words[top_mfn, : len(slots)] = numpy_lookup(t, t.true_mid_mfn[: len(slots)])


def _mix(value: Any, key: int) -> Any:
    h = ((value ^ np.uint64(key)) * np.uint64(0x7FEB352D)) & np.uint64(0xFFFFFFFF)
    return ((h ^ (h >> np.uint64(15))) * np.uint64(0x5BD1E995)) & np.uint64(0xFFFFFFFF)


def numpy_shuffle(perm: Bijection, values: Int64Array, way: int = 1) -> Int64Array:
    """Return `bijection.forward` of `values`, vectorised; `bijection.inverse` for `way` -1."""
    out = _once(perm, values.astype(np.uint64), way)
    while (outside := out >= np.uint64(perm.length)).any():
        out[outside] = _once(perm, out[outside], way)
    return np.asarray(out.astype(np.int64))


def _once(perm: Bijection, x: Any, way: int) -> Any:
    """Go through the four rounds once, forwards (`way` 1) or backwards (-1)."""
    left, bits = np.uint64(perm.left), np.uint64(perm.right_bits)
    mask, down, half = (np.uint64(1) << bits) - np.uint64(1), np.uint64(32) - bits, np.uint64(16)
    a, b = x >> bits, x & mask
    for turn, key in list(enumerate((perm.key0, perm.key1, perm.key2, perm.key3)))[::way]:
        if turn % 2 == 0:
            step = _mix(a, key) >> down
            b = (b + step if way > 0 else b - step) & mask
        else:
            step = ((_mix(b, key) >> half) * left) >> half
            a = (a + step if way > 0 else a + left - step) % left
    return (a << bits) | b


def numpy_restore(t: tb.P2MTables, h: tb.HostTables, slots: Int64Array) -> None:
    """Overwrite every leaf of a guest with no holes, vectorised; `slots` int64[leaves].

    A few leaves at a time, so that what is between stays in the cache.
    """
    n, order = t.words.shape[1], int(h.par[0].order)
    frames, reserved = h.par[0].frames_perm, int(h.par[0].reserved)
    for first in range(0, len(slots), 64):
        some = slots[first : first + 64]
        pfns = np.arange(first * n, (first + len(some)) * n)
        extents = numpy_shuffle(frames, pfns[:: 1 << order] >> order)
        mfns = (extents << order)[:, None] + np.arange(1 << order) + reserved
        old = t.words[some]
        t.words[some] = np.where(old == INVALID, INVALID, mfns.reshape(-1, n))


def numpy_m2p(t: tb.P2MTables, h: tb.HostTables, mfns: Int64Array) -> Int64Array:
    """Return what a function host's m2p holds for a guest's own frames, vectorised."""
    n, order = t.words.shape[1], int(h.par[0].order)
    at = mfns - int(h.par[0].reserved)
    extents = numpy_shuffle(h.par[0].frames_perm, at >> order, -1)
    pfns = (extents << order) | (at & ((1 << order) - 1))
    inside = pfns < int(h.par[0].guest_frames)
    safe = np.where(inside, pfns, 0)
    bits = t.own[t.leaf_slot[safe // n], (safe % n) // 64] >> (safe % 64).astype(np.uint64)
    return np.where(inside & ((bits & np.uint64(1)) != 0), pfns, INVALID)


def numpy_save_walk(t: tb.P2MTables, h: tb.HostTables, slots: Int64Array) -> bool:
    """Return whether every frame list entry passes the toolstack's checks, vectorised."""
    n = t.words.shape[1]
    mfns = t.words[slots].ravel()[: len(t.leaf_page)]
    frames = int(h.par[0].frames)
    if not ((mfns > 0) & (mfns < frames)).all():
        return False
    pfns = numpy_m2p(t, h, mfns)
    return bool(((pfns == t.leaf_page) & (t.words[t.leaf_slot[pfns // n], pfns % n] == mfns)).all())


def numpy_populate(t: tb.P2MTables, runs: Int64Array) -> None:
    """Set runs of pages within leaves that exist, one slice a leaf; `runs` int64[k, 3]."""
    n = t.words.shape[1]
    for pfn, mfn, count in runs.tolist():
        i, slot = pfn % n, t.leaf_slot[pfn // n]
        t.words[slot, i : i + count] = np.arange(mfn, mfn + count) if mfn >= 0 else INVALID
        bits = np.unpackbits(t.own[slot].view(np.uint8), bitorder="little")
        bits[i : i + count] = mfn >= 0
        t.own[slot] = np.packbits(bits, bitorder="little").view(np.uint64)


class NaiveTree:
    """The tree as lists of lists, one entry at a time, as the model reads: for small guests."""

    def __init__(self, t: tb.P2MTables) -> None:
        self.n = t.words.shape[1]
        self.leaf_page = t.leaf_page.tolist()
        leaves = [t.words[slot].tolist() for slot in t.leaf_slot]
        self.top = [leaves[x : x + self.n] for x in range(0, len(leaves), self.n)]
        self.lists = [[INVALID] * self.n for _ in self.top]

    def lookups(self, pfns: list[int]) -> list[int]:
        """Return `get_phys_to_machine` of each of `pfns`, which are inside the span."""
        n, top = self.n, self.top
        return [top[pfn // n**2][pfn // n % n][pfn % n] for pfn in pfns]

    def rebuild(self) -> None:
        """Store each leaf's MFN in its frame list."""
        for x, mfn in enumerate(self.lookups(self.leaf_page)):
            entry = mfn if mfn == INVALID else mfn & ~FOREIGN_FRAME_BIT
            self.lists[x // self.n][x % self.n] = entry
