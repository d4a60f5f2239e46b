"""A life before it is lived: its guest, its hosts and its events, as arrays of fixed sizes.

A `Program` is one life's, a `Bank` those of many. What is drawn, bred, lived and written out as a
trace is always one of these; each array has a count that says how much of it is meant.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.records import NO_PAGE, OneRecord, record_dtype

MAX_HOSTS = 4
MAX_DOMAIN = 24
MAX_FOREIGN = 16
"""Runs of a host."""
MAX_EVENTS = 9
"""The boot and eight more."""
MAX_RUNS = 4
"""Runs of a set."""
MAX_POOL = 4
MAX_RANGES = 3

BOOT, SET, FAIL_ALLOC, MIGRATE = range(4)

NOT_SAID = -1
"""Of a host's m2p: what the width and the frames make of it."""

XENS = ("", "4.0", "4.1.1", "4.1.2", "4.2", "4.17")
"""The hypervisor's versions that a host may have, by `HostPlan.xen`; empty: not said."""

SMALL_ORDER_XENS = 2
"""The first of them up to here tell a 64-bit guest the smallest m2p order."""

KEEPING_XENS = 3
"""The first of them up to here keep the word of a frame that is freed."""


@dataclasses.dataclass(slots=True, kw_only=True)
class GuestPlan:
    """A guest's layout, as a trace has it. Counts and PFNs in pages; NO_PAGE for what has none."""

    nr_pages: int = 0
    max_p2m_pfn: int = 0
    """Of a linear p2m the area's PFNs."""
    reach: int = 0
    """The PFN after the last that any event may set; each host names a frame for all below it."""
    mfn_list_pfn: int = 0
    brk_pfn: int = 0
    brk_pages: int = 0
    directmap: int = 0
    num_pool: int = 0
    bootmem_pfn: int = NO_PAGE
    bootmem_pages: int = 0
    max_domain_pages: int = 0
    missing: int = NO_PAGE
    top: int = NO_PAGE
    top_mfn: int = NO_PAGE
    top_mfn_list: int = NO_PAGE
    """Where the static arrays of a p2m of two levels begin."""
    pgd: int = NO_PAGE
    boot_pool_pfn: int = NO_PAGE
    boot_pool_pages: int = 0
    p2m_vaddr: int = 0
    told: int = 0
    """Of a linear p2m: whether `virt_p2m_4tools` is in force at boot."""
    num_ranges: int = 0
    num_extra: int = 0
    num_hosts: int = 0
    num_events: int = 0


@dataclasses.dataclass(slots=True, kw_only=True)
class HostPlan:
    """A host's numbers beside its runs."""

    frames: int = 0
    num_domain: int = 0
    num_foreign: int = 0
    m2p_order: int = NOT_SAID
    m2p_entries: int = NOT_SAID
    xen: int = 0


@dataclasses.dataclass(slots=True, kw_only=True)
class EventPlan:
    """One event."""

    op: int = 0
    host: int = 0
    """Of a boot and a migration."""
    at: int = 0
    """Of a failed allocation: which of the next."""
    num_runs: int = 0
    """Of a set."""


class Program(NamedTuple):
    """One life. Runs are as a trace has them, domains ascending by PFN."""

    guest: OneRecord[GuestPlan]
    pool: Int64Array
    """int64[MAX_POOL, 2]: [first PFN, count]."""
    ranges: Int64Array
    """int64[MAX_RANGES, 2]: 1:1 ranges that boot marks, [start, end); of a linear p2m
    [first PFN, count]."""
    extra: Int64Array
    """int64[MAX_RANGES, 2]: extra memory of a linear p2m, [first PFN, count]."""
    hosts: OneRecord[HostPlan]
    domain: Int64Array
    """int64[MAX_HOSTS, MAX_DOMAIN, 3]."""
    foreign: Int64Array
    """int64[MAX_HOSTS, MAX_FOREIGN, 3]."""
    events: OneRecord[EventPlan]
    runs: Int64Array
    """int64[MAX_EVENTS, MAX_RUNS, 3]: [pfn, word, count]; words as int64 bit patterns."""


class Bank(NamedTuple):
    """Many lives: each array of `Program` with one dimension more in front, `guest` excepted."""

    guest: OneRecord[GuestPlan]
    pool: Int64Array
    ranges: Int64Array
    extra: Int64Array
    hosts: Any
    domain: Int64Array
    foreign: Int64Array
    events: Any
    runs: Int64Array


GUEST, HOST, EVENT = (record_dtype(kind) for kind in (GuestPlan, HostPlan, EventPlan))


def make_bank(count: int) -> Bank:
    """Return a bank of so many lives, all of it zeros."""
    return Bank(
        guest=np.zeros(count, GUEST),
        pool=np.zeros((count, MAX_POOL, 2), np.int64),
        ranges=np.zeros((count, MAX_RANGES, 2), np.int64),
        extra=np.zeros((count, MAX_RANGES, 2), np.int64),
        hosts=np.zeros((count, MAX_HOSTS), HOST),
        domain=np.zeros((count, MAX_HOSTS, MAX_DOMAIN, 3), np.int64),
        foreign=np.zeros((count, MAX_HOSTS, MAX_FOREIGN, 3), np.int64),
        events=np.zeros((count, MAX_EVENTS), EVENT),
        runs=np.zeros((count, MAX_EVENTS, MAX_RUNS, 3), np.int64),
    )


@inner_kernel
def program_of(bank: Bank, k: int) -> Program:
    """Return the `k`-th life of a bank, in place."""
    return Program(
        bank.guest[k : k + 1],  # type: ignore[call-overload]
        bank.pool[k],
        bank.ranges[k],
        bank.extra[k],
        bank.hosts[k],
        bank.domain[k],
        bank.foreign[k],
        bank.events[k],
        bank.runs[k],
    )


@inner_kernel
def copy_program(source: Program, out: Program) -> None:
    """Copy a life over another, as far as it is meant."""
    never_inline()
    out.guest[0] = source.guest[0]
    guest = source.guest[0]
    _copy_rows(source.pool, out.pool, guest.num_pool)
    _copy_rows(source.ranges, out.ranges, guest.num_ranges)
    _copy_rows(source.extra, out.extra, guest.num_extra)
    for i in range(guest.num_hosts):
        copy_host(source, i, out, i)
    for i in range(guest.num_events):
        copy_event(source, i, out, i)


@inner_kernel
def copy_host(source: Program, i: int, out: Program, j: int) -> None:
    """Copy the `i`-th host of `source` over the `j`-th of `out`."""
    never_inline()
    out.hosts[j] = source.hosts[i]
    _copy_rows(source.domain[i], out.domain[j], source.hosts[i].num_domain)
    _copy_rows(source.foreign[i], out.foreign[j], source.hosts[i].num_foreign)


@inner_kernel
def copy_event(source: Program, i: int, out: Program, j: int) -> None:
    """Copy the `i`-th event of `source` over the `j`-th of `out`."""
    out.events[j] = source.events[i]
    _copy_rows(source.runs[i], out.runs[j], source.events[i].num_runs)


@inner_kernel
def _copy_rows(source: Int64Array, out: Int64Array, count: int) -> None:
    for i in range(count):
        for j in range(source.shape[1]):
            out[i, j] = source[i, j]


@inner_kernel
def new_plan(program: Program) -> None:
    """Begin a life: no pool, ranges, hosts or events, and none of what only some kernels have."""
    guest = program.guest[0]
    guest.num_pool = guest.num_ranges = guest.num_extra = 0
    guest.num_hosts = guest.num_events = 0
    guest.bootmem_pages = guest.boot_pool_pages = 0
    guest.bootmem_pfn = guest.boot_pool_pfn = guest.pgd = as_int(NO_PAGE)
    guest.missing = guest.top = guest.top_mfn = guest.top_mfn_list = as_int(NO_PAGE)
    guest.brk_pfn = guest.brk_pages = guest.max_domain_pages = 0
    guest.p2m_vaddr = guest.told = 0
