"""What a state file says of the lives that are bred on, looked at before anything compiled sees it.

Compiled code takes a life's numbers as they are, counts and indices too. So each life has to be one
that its arrays' fixed sizes hold, that is a trace, and that is within the world.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.hunt import program as kp
from p2mbatch.compiled.hunt.coverage import MAP
from p2mbatch.compiled.hunt.room import MOST_REACH, MOST_SPARE
from p2mbatch.compiled.records import NO_PAGE
from p2mbatch.hunt.columns import trace_of
from p2mbatch.hunt.world import bound_of, most_tops, outside
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace import Trace
from p2mbatch.model.trace_file import parse_trace

Arrays = dict[str, np.ndarray[Any, Any]]

_MOST_LEAVES = 4
"""Leaves of the memory that a guest boots with."""

_LINEAR_MOST_PFNS = 3 << 18

_SIZES = {
    "num_pool": kp.MAX_POOL,
    "num_ranges": kp.MAX_RANGES,
    "num_extra": kp.MAX_RANGES,
    "num_hosts": kp.MAX_HOSTS,
    "num_events": kp.MAX_EVENTS,
}


def check_arrays(state: Arrays, most: int, seen: str) -> None:
    """Raise `InputError` unless `state` is a corpus's arrays of at most `most` lives.

    Those are int64[lives, k] by the names of `Bank`, and uint8[MAP] by the name `seen`.
    """
    bank = kp.make_bank(0)._asdict()
    if set(state) != {*bank, seen}:
        raise InputError(f"the arrays are {sorted(state)} and not {sorted({*bank, seen})}")
    if state[seen].dtype != np.uint8 or state[seen].shape != (MAP,):
        raise InputError(f"{seen}: is {_shape(state[seen])} and not uint8[{MAP}]")
    lives = state["guest"].shape[0] if state["guest"].ndim == 2 else 0
    if lives > most:
        raise InputError(f"guest: is of {lives} lives and not of at most {most}")
    for name, array in bank.items():
        wanted = (lives, array.dtype.itemsize * int(np.prod(array.shape[1:])) // 8)
        if state[name].dtype != np.int64 or state[name].shape != wanted:
            raise InputError(
                f"{name}: is {_shape(state[name])} and not int64[{wanted[0]}, {wanted[1]}]"
            )


def _shape(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


def check_life(bank: kp.Bank, k: int, policy: Policy, word_bytes: int) -> None:
    """Raise `InputError` with the place unless the `k`-th life of a bank can be lived and bred."""
    why = _sizes(bank, k) or _unused(bank, k, policy)
    if why is None:
        trace = parse_trace(trace_of(bank, k, policy, word_bytes, "kept"), f"life {k}")
        why = outside(trace) or _room(bank, k, policy, trace)
    if why is not None:
        raise InputError(f"life {k}: {why}")


def _sizes(bank: kp.Bank, k: int) -> str | None:
    """Return which count or index of a life the arrays are too short for; None without one."""
    guest: Any = bank.guest[k]
    for name, most in _SIZES.items():
        if not 0 <= guest[name] <= most:
            return f"guest.{name}: {guest[name]} is not from 0 to {most}"
    for i, host in enumerate(bank.hosts[k, : int(guest["num_hosts"])]):
        limits = {
            "num_domain": (1, kp.MAX_DOMAIN),
            "num_foreign": (0, kp.MAX_FOREIGN),
            "xen": (0, len(kp.XENS) - 1),
        }
        if why := _limits(host, limits):
            return f"hosts[{i}].{why}"
    events = bank.events[k, : int(guest["num_events"])]
    if len(events) == 0 or (events["op"] == kp.BOOT).tolist() != [True] + [False] * (
        len(events) - 1
    ):
        return "events: do not begin with their only boot"
    for i, event in enumerate(events):
        limits = {"op": (kp.BOOT, kp.MIGRATE)}
        if event["op"] == kp.SET:
            limits["num_runs"] = (1, kp.MAX_RUNS)
        elif event["op"] != kp.FAIL_ALLOC:
            limits["host"] = (0, int(guest["num_hosts"]) - 1)
        if why := _limits(event, limits):
            return f"events[{i}].{why}"
    return None


def _limits(record: Any, limits: dict[str, tuple[int, int]]) -> str | None:
    for name, (least, most) in limits.items():
        if not least <= record[name] <= most:
            return f"{name}: {record[name]} is not from {least} to {most}"
    return None


def _unused(bank: kp.Bank, k: int, policy: Policy) -> str | None:
    """Return which number of a guest is one that its kernel has none of; None without one."""
    none: dict[str, int] = {}
    if policy.is_linear:
        none |= {"brk_pfn": 0, "brk_pages": 0}
    else:
        none |= {"pgd": NO_PAGE, "boot_pool_pfn": NO_PAGE, "boot_pool_pages": 0}
        none |= {"p2m_vaddr": 0, "told": 0, "num_extra": 0}
        none |= {} if policy.marks else {"num_ranges": 0}
    if not policy.is_two_level:
        none |= {"max_domain_pages": 0, "missing": NO_PAGE, "top": NO_PAGE}
        none |= {"top_mfn": NO_PAGE, "top_mfn_list": NO_PAGE}
    if not policy.bootmem:
        none |= {"bootmem_pfn": NO_PAGE, "bootmem_pages": 0}
    guest: Any = bank.guest[k]
    for name, number in none.items():
        if guest[name] != number:
            return f"guest.{name}: {guest[name]} is not {number}, as this kernel has none"
    return None


def _room(bank: kp.Bank, k: int, policy: Policy, trace: Trace) -> str | None:
    """Return what of a life, a trace of the world, is more than there is room for."""
    guest: Any = bank.guest[k]
    geo = geometry(trace.guest.word_bytes)
    n, most = geo.entries, MOST_REACH[geo.word_bytes]
    reach = int(guest["reach"])
    limits = {
        "nr_pages": (1, _MOST_LEAVES * n),
        "max_p2m_pfn": (1, _LINEAR_MOST_PFNS if policy.is_linear else most),
        "directmap": (1, min(most, geo.direct_map_limit_pages)),
        "reach": (int(guest["nr_pages"]), min(most, bound_of(trace.guest, policy))),
        "told": (0, 1),
        "max_domain_pages": (0, most_tops(policy) * n * n),
    }
    if why := _limits(guest, limits):
        return f"guest.{why}"
    for i, host in enumerate(trace.hosts):
        if not 1 < host.frames <= most + MOST_SPARE:
            return f"hosts[{i}].frames: {host.frames} is not from 2 to {most + MOST_SPARE}"
        ends = host.domain[:, 0] + host.domain[:, 2]
        starts = np.concatenate([[0], ends[:-1]])
        if (host.domain[:, 0] != starts).any() or ends[-1] != reach:
            return f"hosts[{i}].domain: is not of the PFNs up to {reach}, all and in order"
        if (host.domain[:, 1:] < 1).any() or (host.foreign[:, 2] < 1).any():
            return f"hosts[{i}]: a run has no page, or frame 0"
    if (trace.guest.page_pool[:, 1] < 1).any():
        return "guest.page_pool: a run has no page"
    for i, event in enumerate(trace.events):
        if event["op"] == "set" and (event["runs"][:, 0] + event["runs"][:, 2]).max() > reach:
            return f"events[{i}].runs: go past PFN {reach}"
    return None
