"""A program of the compiled core as a trace's JSON object (format p2mbatch-trace/3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.hunt.program import (
    BOOT,
    FAIL_ALLOC,
    MIGRATE,
    NOT_SAID,
    SET,
    XENS,
    Bank,
)
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace import FORMAT_3
from p2mbatch.model.trace_eras import unsigned
from p2mbatch.model.trace_linear import spelled_back

Json = dict[str, Any]


def trace_of(bank: Bank, k: int, policy: Policy, word_bytes: int, name: str) -> Json:
    """Return the `k`-th life of a bank as the JSON object of a trace."""
    guest = bank.guest[k]
    return {
        "format": FORMAT_3,
        "name": name,
        "policy": policy.name,
        "guest": _guest(bank, k, policy, word_bytes),
        "hosts": [_host(bank, k, i) for i in range(int(guest.num_hosts))],
        "events": [_event(bank, k, i, policy) for i in range(int(guest.num_events))],
    }


def _rows(array: Int64Array, count: int) -> list[list[int]]:
    return np.asarray(array)[: int(count)].tolist()  # type: ignore[no-any-return]


def _guest(bank: Bank, k: int, policy: Policy, word_bytes: int) -> Json:
    """Return the guest's layout."""
    plan = bank.guest[k]
    common = {
        "word_bytes": word_bytes,
        "nr_pages": int(plan.nr_pages),
        "mfn_list_pfn": int(plan.mfn_list_pfn),
        "page_pool": _rows(bank.pool[k], plan.num_pool),
        "directmap_pages": int(plan.directmap),
    }
    if policy.is_linear:
        return common | {
            "pgd_pfn": int(plan.pgd),
            "boot_pool": [[int(plan.boot_pool_pfn), int(plan.boot_pool_pages)]],
            "area_pfns": int(plan.max_p2m_pfn),
            "p2m_vaddr": int(plan.p2m_vaddr) % (1 << 64),
            "virt_p2m_4tools": bool(plan.told),
            "identity": _rows(bank.ranges[k], plan.num_ranges),
            "extra": _rows(bank.extra[k], plan.num_extra),
        }
    common |= {
        "max_p2m_pfn": int(plan.max_p2m_pfn),
        "brk_pfn": int(plan.brk_pfn),
        "brk_pages": int(plan.brk_pages),
    }
    if policy.bootmem:
        common["bootmem"] = [int(plan.bootmem_pfn), int(plan.bootmem_pages)]
    if policy.is_two_level:
        common["max_domain_pages"] = int(plan.max_domain_pages)
        common["static"] = {
            "p2m_missing": int(plan.missing),
            "p2m_top": int(plan.top),
            "p2m_top_mfn": int(plan.top_mfn),
            "p2m_top_mfn_list": int(plan.top_mfn_list),
        }
    return common


def _host(bank: Bank, k: int, i: int) -> Json:
    """Return a host."""
    plan = bank.hosts[k][i]
    said = {
        name: int(getattr(plan, name))
        for name in ("m2p_order", "m2p_entries")
        if getattr(plan, name) != NOT_SAID
    }
    return {
        "frames": int(plan.frames),
        "domain": _rows(bank.domain[k, i], plan.num_domain),
        "foreign": _rows(bank.foreign[k, i], plan.num_foreign),
        **said,
    }


def _event(bank: Bank, k: int, i: int, policy: Policy) -> Json:
    """Return an event."""
    plan = bank.events[k][i]
    op = int(plan.op)
    if op == FAIL_ALLOC:
        return {"op": "fail_alloc", "at": int(plan.at)}
    if op == SET:
        rows = _rows(bank.runs[k, i], plan.num_runs)
        return {"op": "set", "runs": [[pfn, _word(policy, pfn, m), c] for pfn, m, c in rows]}
    event: Json = {"op": "boot" if op == BOOT else "migrate", "host": int(plan.host)}
    if xen := XENS[int(bank.hosts[k][int(plan.host)].xen)]:
        event["xen"] = xen
    ranges = bank.guest[k].num_ranges
    if op == BOOT and policy.marks and ranges:
        event["identity"] = _rows(bank.ranges[k], ranges)
    assert op in (BOOT, MIGRATE)
    return event


def _word(policy: Policy, pfn: int, word: int) -> int | str | None:
    """Return a word of a set as a trace has it."""
    said = unsigned(word)
    return spelled_back(pfn, said) if policy.is_linear else said
