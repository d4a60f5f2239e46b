"""What the performance report runs: a booted guest of a size, each kernel beside its peers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.sizes import GIB
from p2mbatch.bench import peers
from p2mbatch.bench.ceilings import Ceilings
from p2mbatch.bench.measure import Call, Scaled
from p2mbatch.compiled import m2p as bulk
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.lookup import lookup, lookup_parallel
from p2mbatch.compiled.policies.operations import rebuild_parallel
from p2mbatch.compiled.restore import restore, restore_parallel
from p2mbatch.compiled.save import save_walk, save_walk_parallel
from p2mbatch.guests.fields import ScenarioFields
from p2mbatch.guests.stage import StagedGuest, nth_host

NUM_LOOKUPS = 1 << 20  # in one call
NAIVE_BYTES = GIB  # the largest guest that plain Python is asked to do
NUM_NAIVE = 1 << 16  # lookups that plain Python does, its time scaled to all
NUM_RUNS, RUN_PAGES = 512, 300  # that `populate` sets
SEED = 7

Floor = tuple[Callable[[Ceilings, int], Call], str]
"""Makes the call that only moves the bytes that must be moved, on so many threads; in words."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one guest, and who else does the same."""

    kernel: str
    """What is measured; `_order9` and `_order0` say how the host hands its frames out."""
    items: int
    """How many of `unit` (PFN, leaf, page) one call does."""
    unit: str
    floor: Callable[[Ceilings, int], Call]
    floor_text: str
    calls: dict[str, Call]
    """Who (p2mbatch, parallel, numpy, naive, c) to one call."""


class BenchGuest:
    """A booted guest with every leaf resident, its hosts, and the peers' views of it."""

    def __init__(self, memory_bytes: int, program: ctypes.CDLL | None = None) -> None:
        self.memory_bytes = memory_bytes
        staged = StagedGuest(bench_scenario(memory_bytes), "all")
        result = staged.boot()
        if result.outcome != "ok":
            raise RuntimeError(f"the guest to measure did not boot: {result}")
        self.placement, self.life, self.t = staged.placement, staged.life, staged.life.tables
        self.num_pages, self.num_leaves = self.placement.span, self.placement.num_boot_leaves
        self.work = np.empty(self.placement.geo.entries, np.int64)
        self.random = np.random.default_rng(SEED)
        self.peer = peers.Peer(program, self.t, self.list_slots()) if program else None

    def host(self, index: int, order: int) -> tb.HostTables:
        """Return the `index`-th host, four times the guest's size, wholly owned by neighbours."""
        return nth_host(bench_scenario(self.memory_bytes, order), self.placement, index)

    def list_slots(self) -> Int64Array:
        """Return the slots of the mid_mfn pages in order: int64[mids]."""
        slot_of = {page: slot for slot, page in enumerate(self.t.slots[:, tb.P_PAGE].tolist())}
        pages = self.t.true_mid_mfn[: self.placement.num_tops].tolist()
        return np.array([slot_of[page] for page in pages], np.int64)

    def random_pfns(self) -> Int64Array:
        """Return PFNs at random, as many as one call looks up or as there are: int64[k]."""
        return self.random.integers(0, self.num_pages, min(NUM_LOOKUPS, self.num_pages))

    def c(self, function: str, *args: Int64Array | tb.HostTables | int) -> dict[str, Call]:
        """Return the C program's call, where there is one."""
        if self.peer is None:
            return {}
        given = [self.peer.host(v) if isinstance(v, tb.HostTables) else v for v in args]
        return {"c": self.peer.call(function, *given)}


def bench_scenario(memory_bytes: int, order: int = 9) -> ScenarioFields:
    """Return the scenario of a guest to measure: its host is four times as large."""
    return ScenarioFields.make(
        memory_bytes=memory_bytes, host_memory_bytes=4 * memory_bytes,
        build_order=order, restore_order=order, seed=SEED,
    )  # fmt: skip


def cases(guest: BenchGuest, *, heavy: bool) -> list[Case]:
    """Return every case for one guest; `heavy` ones only where asked: slow peers on big guests.

    The last ones change the guest: they must be run in order, and the guest then be let go.
    """
    return [
        *_lookup_cases(guest),
        _m2p_case(guest),
        _rebuild_case(guest),
        _walk_case(guest),
        _populate_case(guest),
        _restore_case(guest, 9, heavy=heavy),
        _restore_case(guest, 0, heavy=heavy),
    ]


def _floor(text: str, moves: Callable[..., Call], *given: str | int) -> Floor:
    return (lambda ceilings, threads: moves(ceilings, *given, threads)), text


def _lookup_cases(guest: BenchGuest) -> Iterator[Case]:
    """Give the lookups by the order in which the PFNs come."""
    t, h, random = guest.t, guest.life.host, guest.random_pfns()
    count = len(random)
    in_order = np.arange(count) + (guest.num_pages - count) // 2
    gather = _floor("one gather over as large a table", Ceilings.gathering, count, t.words.nbytes)
    copy = _floor("24 bytes a PFN at copy's rate", Ceilings.moving, "copy", 24 * count)
    for name, pfns, floor in (
        ("random", random, gather), ("sorted", np.sort(random), gather),
        ("sequential", in_order, copy),
    ):  # fmt: skip
        out = np.empty(count, np.int64)
        calls: dict[str, Call] = {
            "p2mbatch": partial(lookup, t, h, pfns, out),
            "parallel": partial(lookup_parallel, t, h, pfns, out),
            "numpy": partial(peers.numpy_lookup, t, pfns),
            **guest.c("lookup", pfns, out, count),
        }
        if guest.memory_bytes <= NAIVE_BYTES and name == "random":
            some = pfns[:NUM_NAIVE].tolist()
            calls["naive"] = Scaled(partial(peers.NaiveTree(t).lookups, some), count / len(some))
        yield Case(f"lookup_{name}", count, "PFN", *floor, calls)


def _m2p_case(guest: BenchGuest) -> Case:
    t, h, pfns = guest.t, guest.life.host, guest.random_pfns()
    mfns, out = np.empty_like(pfns), np.empty_like(pfns)
    lookup(t, h, pfns, mfns)
    floor = _floor("one gather over the owners' bits", Ceilings.gathering, len(pfns), t.own.nbytes)
    return Case("lookup_m2p", len(pfns), "MFN", *floor, {
        "p2mbatch": partial(bulk.lookup_m2p, t, h, mfns, out),
        "parallel": partial(bulk.lookup_m2p_parallel, t, h, mfns, out),
        "numpy": partial(peers.numpy_m2p, t, h, mfns),
        **guest.c("lookup_m2p", h, mfns, out, len(mfns)),
    })  # fmt: skip


def _rebuild_case(guest: BenchGuest) -> Case:
    t, h = guest.t, guest.life.host
    does = guest.life.policy.operations
    calls: dict[str, Call] = {
        "p2mbatch": partial(does.rebuild, t, h, 0),
        "parallel": partial(rebuild_parallel, does, t, h),
        "numpy": partial(peers.numpy_rebuild, t, guest.list_slots()),
        **guest.c("rebuild"),
    }
    if guest.memory_bytes <= NAIVE_BYTES:
        calls["naive"] = peers.NaiveTree(t).rebuild
    text = "20 bytes a leaf (its page's number, entry in, entry out) at copy's rate"
    floor = _floor(text, Ceilings.moving, "copy", 20 * guest.num_leaves)
    return Case("rebuild", guest.num_leaves, "leaf", *floor, calls)


def _walk_case(guest: BenchGuest) -> Case:
    t, h = guest.t, guest.life.host
    text = "20 bytes a leaf (its page's number, its entry, the list's) at read's rate"
    floor = _floor(text, Ceilings.moving, "read", 20 * guest.num_leaves)
    return Case("save_walk", guest.num_leaves, "leaf", *floor, {
        "p2mbatch": partial(save_walk, t, h, guest.work),
        "parallel": partial(save_walk_parallel, t, h, guest.work),
        "numpy": partial(peers.numpy_save_walk, t, h, guest.list_slots()),
        **guest.c("save_walk", h),
    })  # fmt: skip


def _filling(num_pages: int) -> Floor:
    return _floor("8 bytes a page at fill's rate", Ceilings.moving, "fill", 8 * num_pages)


def _populate_case(guest: BenchGuest) -> Case:
    """Balloon runs of pages out and in again, within leaves that exist."""
    t, h, set_runs = guest.t, guest.life.host, guest.life.policy.operations.set_runs
    n = guest.placement.geo.entries
    firsts = np.linspace(0, guest.num_leaves - 1, NUM_RUNS // 2).astype(np.int64) * n + 7
    mfns, counts = np.empty_like(firsts), np.full_like(firsts, RUN_PAGES)
    lookup(t, h, firsts, mfns)
    out = np.stack([firsts, np.full_like(firsts, INVALID), counts], axis=1)
    runs = np.concatenate([out, np.stack([firsts, mfns, counts], axis=1)])
    items = NUM_RUNS * RUN_PAGES
    return Case("populate", items, "page", *_filling(items), {
        "p2mbatch": partial(set_runs, t, h, runs, 0),
        "numpy": partial(peers.numpy_populate, t, runs),
        **guest.c("populate", runs, NUM_RUNS),
    })  # fmt: skip


def _restore_case(guest: BenchGuest, order: int, *, heavy: bool) -> Case:
    t, host = guest.t, guest.host(1 + order, order)
    slots = t.leaf_slot[: guest.num_leaves].astype(np.int64)
    floor = _filling(guest.num_pages)
    calls: dict[str, Call] = {
        "p2mbatch": partial(restore, t, host, guest.work),
        "parallel": partial(restore_parallel, t, host, guest.work),
    }
    if heavy or guest.memory_bytes <= 16 * GIB:
        calls["numpy"] = partial(peers.numpy_restore, t, host, slots)
        calls |= guest.c("restore", host)
    return Case(f"restore_order{order}", guest.num_pages, "page", *floor, calls)
