"""What the performance report runs: a booted guest of a size, each kernel beside its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.sizes import GIB
from p2mbatch.bench import peers
from p2mbatch.bench.ceilings import Ceilings
from p2mbatch.bench.measure import Call, SelfTimed, scaled
from p2mbatch.compiled import m2p as bulk
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.lookup import lookup, lookup_parallel
from p2mbatch.compiled.policies.operations import rebuild_parallel
from p2mbatch.compiled.restore import restore, restore_parallel
from p2mbatch.compiled.save import save_walk, save_walk_parallel
from p2mbatch.guests.fields import ScenarioFields
from p2mbatch.guests.stage import StagedGuest, nth_host

NUM_LOOKUPS = 1 << 20
"""Lookups in one call."""

NAIVE_BYTES = GIB
"""The largest guest that plain Python is asked to do."""

NUM_NAIVE = 1 << 16
"""Lookups that plain Python does, its time scaled to all."""

RUN_PAGES = 300
"""Pages in each run that `populate` sets."""

NUM_RUNS = 512

SEED = 7


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one guest, and who else does the same."""

    kernel: str
    """What is measured; `_order9` and `_order0` say how the host hands its frames out."""
    items: int
    """PFNs, leaves or pages that one call does."""
    unit: str
    """What an item is."""
    floor: Callable[[Ceilings, int], Call]
    """A call that does nothing but move the bytes that must be moved, on so many threads."""
    floor_text: str
    calls: dict[str, Call]
    """Who (p2mbatch, parallel, numpy, naive, c) to one call."""


class BenchGuest:
    """A booted guest with every leaf resident, its hosts, and the peers' views of it."""

    def __init__(self, memory_bytes: int, peer: peers.Peer | None) -> None:
        self.memory_bytes = memory_bytes
        self.peer = peer
        staged = StagedGuest(_scenario(memory_bytes), "all")
        self.placement = staged.placement
        self.life = staged.life
        result = staged.boot()
        if result.outcome != "ok":
            raise RuntimeError(f"the guest to measure did not boot: {result}")
        self.num_pages = self.placement.span
        self.num_leaves = self.placement.num_boot_leaves
        self.work = np.empty(self.placement.geo.entries, np.int64)
        self.random = np.random.default_rng(SEED)

    @property
    def t(self) -> tb.P2MTables:
        """Return the guest's tables."""
        return self.life.tables

    def host(self, index: int, order: int) -> tb.HostTables:
        """Return the `index`-th host, four times the guest's size, wholly owned by neighbours."""
        return nth_host(_scenario(self.memory_bytes, order), self.placement, index)

    def list_slots(self) -> Int64Array:
        """Return the slots of the mid_mfn pages in order: int64[mids]."""
        t = self.t
        slot_of = {page: slot for slot, page in enumerate(t.slots[:, tb.P_PAGE].tolist())}
        pages = t.true_mid_mfn[: self.placement.num_tops].tolist()
        return np.array([slot_of[page] for page in pages], np.int64)

    def c(self, kernel: str) -> dict[str, Call]:
        """Return the C program's call for `kernel`, where there is one."""
        if self.peer is None:
            return {}
        peer = self.peer
        return {"c": SelfTimed(lambda repeats: peer.sample(kernel, repeats))}


def _scenario(memory_bytes: int, order: int = 9) -> ScenarioFields:
    return ScenarioFields.make(
        memory_bytes=memory_bytes,
        host_memory_bytes=4 * memory_bytes,
        build_order=order,
        restore_order=order,
        seed=SEED,
    )


def place_guest(memory_bytes: int) -> tuple[tb.P2MTables, tb.HostTables]:
    """Return the tables of a guest that has not booted, and its host."""
    life = StagedGuest(_scenario(memory_bytes), "all").life
    return life.tables, life.host


def cases(guest: BenchGuest, *, heavy: bool) -> list[Case]:
    """Return every case for one guest; `heavy` ones only where asked: slow peers on big guests.

    The last ones change the guest: they must be run in order, and the guest then be let go.
    """
    orders = _lookup_orders(guest)
    return [
        *(_lookup_case(guest, name, pfns) for name, pfns in orders.items()),
        _m2p_case(guest),
        _rebuild_case(guest),
        _walk_case(guest),
        _populate_case(guest),
        _restore_case(guest, 9, heavy=heavy),
        _restore_case(guest, 0, heavy=heavy),
    ]


def _moving(name: str, num_bytes: int) -> Callable[[Ceilings, int], Call]:
    return lambda ceilings, threads: ceilings.moving(name, num_bytes, threads)


def _gathering(count: int, table_bytes: int) -> Callable[[Ceilings, int], Call]:
    return lambda ceilings, threads: ceilings.gathering(count, table_bytes, threads)


def _lookup_orders(guest: BenchGuest) -> dict[str, Int64Array]:
    """Return the PFNs that are looked up, by the order in which they come."""
    count = min(NUM_LOOKUPS, guest.num_pages)
    random = guest.random.integers(0, guest.num_pages, count)
    start = (guest.num_pages - count) // 2
    in_order = np.arange(start, start + count)
    return {"random": random, "sorted": np.sort(random), "sequential": in_order}


def _lookup_case(guest: BenchGuest, name: str, pfns: Int64Array) -> Case:
    t, h = guest.t, guest.life.host
    count = len(pfns)
    out = np.empty(count, np.int64)
    calls: dict[str, Call] = {
        "p2mbatch": partial(lookup, t, h, pfns, out),
        "parallel": partial(lookup_parallel, t, h, pfns, out),
        "numpy": partial(peers.numpy_lookup, t, pfns),
        **guest.c(f"lookup_{name}"),
    }
    if guest.memory_bytes <= NAIVE_BYTES and name == "random":
        some = pfns[:NUM_NAIVE].tolist()
        calls["naive"] = scaled(partial(peers.NaiveTree(t).lookups, some), len(some), count)
    floor, text = _gathering(count, t.words.nbytes), "one gather over as large a table"
    if name == "sequential":
        floor, text = _moving("copy", 24 * count), "24 bytes a PFN at copy's rate"
    return Case(f"lookup_{name}", count, "PFN", floor, text, calls)


def _m2p_case(guest: BenchGuest) -> Case:
    t, h = guest.t, guest.life.host
    count = min(NUM_LOOKUPS, guest.num_pages)
    mfns, out = np.empty(count, np.int64), np.empty(count, np.int64)
    lookup(t, h, guest.random.integers(0, guest.num_pages, count), mfns)
    calls: dict[str, Call] = {
        "p2mbatch": partial(bulk.lookup_m2p, t, h, mfns, out),
        "parallel": partial(bulk.lookup_m2p_parallel, t, h, mfns, out),
        "numpy": partial(peers.numpy_m2p, t, h, mfns),
        **guest.c("lookup_m2p"),
    }
    floor = _gathering(count, t.own.nbytes)
    return Case("lookup_m2p", count, "MFN", floor, "one gather over the owners' bits", calls)


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
    floor = _moving("copy", 20 * guest.num_leaves)
    return Case("rebuild", guest.num_leaves, "leaf", floor, text, calls)


def _walk_case(guest: BenchGuest) -> Case:
    t, h = guest.t, guest.life.host
    calls: dict[str, Call] = {
        "p2mbatch": partial(save_walk, t, h, guest.work),
        "parallel": partial(save_walk_parallel, t, h, guest.work),
        "numpy": partial(peers.numpy_save_walk, t, h, guest.list_slots()),
        **guest.c("save_walk"),
    }
    text = "20 bytes a leaf (its page's number, its entry, the list's) at read's rate"
    floor = _moving("read", 20 * guest.num_leaves)
    return Case("save_walk", guest.num_leaves, "leaf", floor, text, calls)


def _populate_case(guest: BenchGuest) -> Case:
    """Balloon runs of pages out and in again, within leaves that exist."""
    t, h, set_runs = guest.t, guest.life.host, guest.life.policy.operations.set_runs
    n = guest.placement.geo.entries
    firsts = np.linspace(0, guest.num_leaves - 1, NUM_RUNS // 2).astype(np.int64) * n + 7
    mfns = np.empty(len(firsts), np.int64)
    lookup(t, h, firsts, mfns)
    counts = np.full(len(firsts), RUN_PAGES)
    out = np.stack([firsts, np.full(len(firsts), INVALID), counts], axis=1)
    runs = np.concatenate([out, np.stack([firsts, mfns, counts], axis=1)])
    items = NUM_RUNS * RUN_PAGES
    calls: dict[str, Call] = {
        "p2mbatch": partial(set_runs, t, h, runs, 0),
        "numpy": partial(peers.numpy_populate, t, runs),
        **guest.c("populate"),
    }
    return Case("populate", items, "page", _moving("fill", 8 * items), _FILLED, calls)


_FILLED = "8 bytes a page at fill's rate"


def _restore_case(guest: BenchGuest, order: int, *, heavy: bool) -> Case:
    t, host = guest.t, guest.host(1 + order, order)
    slots = t.leaf_slot[: guest.num_leaves].astype(np.int64)
    calls: dict[str, Call] = {
        "p2mbatch": partial(restore, t, host, guest.work),
        "parallel": partial(restore_parallel, t, host, guest.work),
    }
    if heavy or guest.memory_bytes <= 16 * GIB:
        calls["numpy"] = partial(peers.numpy_restore, t, host, slots)
        calls |= guest.c(f"restore_order{order}")
    floor, kernel = _moving("fill", 8 * guest.num_pages), f"restore_order{order}"
    return Case(kernel, guest.num_pages, "page", floor, _FILLED, calls)
