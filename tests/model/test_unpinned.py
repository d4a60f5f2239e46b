"""Clauses of machine 2 that no recording decides: both models, and readings that are refuted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from oracle import machines, models, reference, toolstack, unpinned
from oracle.ends import Fault
from oracle.hosts import Host
from oracle.machines import MACHINE_2, MappedTable
from oracle.reference import Machine
from oracle.unpinned import Case

CASES = {case.name: case for case in unpinned.cases()}
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
MOST_FRAMES = 1 << 24
"""The compiled model keeps a word for each frame: hosts with more are for thorough runs."""

Patch = Callable[[pytest.MonkeyPatch], None]


def holds(case: Case, results: list[dict[str, Any]]) -> bool:
    """Whether the events came out as the text says."""
    for index, expected in case.expected.items():
        if index >= len(results):
            return False
        if {key: results[index].get(key) for key in expected} != expected:
            return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_naive_model_follows_the_text(name: str) -> None:
    assert holds(CASES[name], reference.replay(CASES[name].trace))


@pytest.mark.parametrize("name", CASES)
def test_compiled_model_follows_the_text(name: str) -> None:
    case = CASES[name]
    if any(host["frames"] > MOST_FRAMES for host in case.trace["hosts"]) and not THOROUGH:
        pytest.skip("a host of many frames, for a thorough run only")
    results = models.REPLAYS[models.Compiled](case.trace)
    assert holds(case, results)
    assert results == reference.replay(case.trace)


# --- readings that the text rules out ---------------------------------------------------------


def with_record(**changes: Any) -> Patch:
    """A machine that differs in its record."""
    altered = replace(MACHINE_2, **changes)
    return lambda patch: patch.setitem(machines.FORMATS, "p2mbatch-trace/2", altered)


def with_method(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """A machine of which one function is another, made from the one that it replaces."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


def boot_makes_present(pages: Callable[[Machine], set[int]]) -> Patch:
    def make(boot: Callable[[Machine, Host], None]) -> Callable[[Machine, Host], None]:
        def altered(self: Machine, host: Host) -> None:
            boot(self, host)
            self.present = pages(self)

        return altered

    return with_method(Machine, "boot", make)


def image_map_asks(can_store: Callable[[Machine, int], bool]) -> Callable[[Machine, int], bool]:
    def altered(self: Machine, address: int) -> bool:
        return can_store(self, address) and self.pfn_at(address) in self.present

    return altered


def store_is_checked_first(patch: pytest.MonkeyPatch) -> None:
    """The fault of the leaf's MFN is kept back until the store has been checked."""
    virt_to_mfn, store = Machine.virt_to_mfn, Machine.store_leaf_mfn
    kept: list[Fault] = []

    def altered_lookup(self: Machine, address: int) -> int:
        try:
            return virt_to_mfn(self, address)
        except Fault as fault:
            kept.append(fault)
            return self.invalid

    def altered_store(self: Machine, mid_mfn: int, pfn: int, mfn: int) -> None:
        store(self, mid_mfn, pfn, mfn)
        if kept:
            raise kept.pop()

    patch.setattr(Machine, "virt_to_mfn", altered_lookup)
    patch.setattr(Machine, "store_leaf_mfn", altered_store)


def from_max_mfn_on(is_bad: Callable[[Machine, int], bool]) -> Callable[[Machine, int], bool]:
    return lambda guest, mfn: is_bad(guest, mfn) or mfn == guest.host.frames


def foreign_again(release: Callable[[Host, int, int], None]) -> Callable[[Host, int, int], None]:
    def altered(self: Host, pfn: int, mfn: int) -> None:
        release(self, pfn, mfn)
        if mfn not in self.owned:
            self.written.pop(mfn, None)

    return altered


def invalid_below_the_image(pfn_at: Callable[[Machine, int], int]) -> Callable[[Machine, int], int]:
    def altered(self: Machine, address: int) -> int:
        if address == self.invalid:
            return ((address - self.base) & self.invalid) // 4096
        return pfn_at(self, address)

    return altered


def tracked_may_always(can_store: Callable[[Machine, int], bool]) -> Callable[[Machine, int], bool]:
    def altered(self: Machine, address: int) -> bool:
        return can_store(self, address) or (self.policy != "stale" and self.can_reach(address))

    return altered


def holes_lose_their_page(
    try_set: Callable[[Machine, int, int], bool],
) -> Callable[[Machine, int, int], bool]:
    def altered(self: Machine, pfn: int, mfn: int) -> bool:
        if mfn == self.invalid:
            self.present.discard(pfn)
        return try_set(self, pfn, mfn)

    return altered


BITS_64, BITS_32 = (machines.MACHINE_2.mapped_table or {})[8], MappedTable(524_288, 2, 43_515_904)

# An altered reading, and the cases that have to refute it.
ALTERED: dict[str, tuple[Patch, tuple[str, ...]]] = {
    "order 33 on 64-bit": (with_record(m2p_order={8: 33, 4: 26}), ("order-64-4294967296",)),
    "order 30 on 64-bit": (with_record(m2p_order={8: 30, 4: 26}), ("order-64-2147483647",)),
    "order 27 on 32-bit": (with_record(m2p_order={8: 32, 4: 27}), ("order-32-67108864",)),
    "order 25 on 32-bit": (with_record(m2p_order={8: 32, 4: 25}), ("order-32-67108863",)),
    "as many entries as frames, in whole pages": (
        with_record(mapped_table={8: MappedTable(1, 1, 3584), 4: MappedTable(1, 1, 3072)}),
        ("entries-64-3000-262143", "entries-32-3000-524287"),
    ),
    "twice the entries on 64-bit": (
        with_record(mapped_table={8: MappedTable(524_288, 1, None), 4: BITS_32}),
        ("entries-64-3000-262144", "entries-64-262144-262144", "entries-64-262145-524288"),
    ),
    "chunks not rounded up to two on 32-bit": (
        with_record(mapped_table={8: BITS_64, 4: MappedTable(262_144, 1, 43_515_904)}),
        ("entries-32-3000-524287", "entries-32-524289-1048575"),
    ),
    "no limit on 32-bit": (
        with_record(mapped_table={8: BITS_64, 4: MappedTable(524_288, 2, None)}),
        ("entries-32-most",),
    ),
    "a lower limit on 32-bit": (
        with_record(mapped_table={8: BITS_64, 4: MappedTable(524_288, 2, 43_000_000)}),
        ("entries-32-most-less-one",),
    ),
    "every page is present at boot": (
        boot_makes_present(lambda guest: set(range(guest.guest["nr_pages"]))),
        ("absent-unnamed-64", "absent-unnamed-32"),
    ),
    "no page is present at boot": (
        boot_makes_present(lambda guest: set()),
        ("present-named-64", "present-named-32"),
    ),
    "all that `domain` names is present at boot": (
        boot_makes_present(lambda guest: set(guest.host.domain)),
        ("absent-past-nr-pages-64", "absent-past-nr-pages-32"),
    ),
    "presence is asked through the image map": (
        with_method(Machine, "can_store", image_map_asks),
        ("image-map-absent",),
    ),
    "the store is checked before the leaf's MFN": (
        store_is_checked_first,
        ("leaf-mfn-first-64", "leaf-mfn-first-32"),
    ),
    "an MFN of max_mfn is refused": (
        with_method(toolstack, "is_bad", from_max_mfn_on),
        tuple(f"max-mfn-{what}-{bits}-3000" for what in ("fl", "fll") for bits in (64, 32)),
    ),
    "a frame given back is the neighbour's again": (
        with_method(Host, "release", foreign_again),
        ("released-64", "released-32"),
    ),
    "the last 2 MiB can be stored to": (
        with_record(kernel_end={8: 1 << 64, 4: 1 << 32}),
        ("image-map-past-the-end", "image-map-last-address"),
    ),
    "the image map's last page holds nothing either": (
        with_record(kernel_end={8: machines.IMAGE_MAP_END - 4096, 4: 1 << 32}),
        ("image-map-last-page",),
    ),
    "INVALID as a pointer is past every page": (
        with_method(Machine, "pfn_at", invalid_below_the_image),
        ("invalid-as-pointer",),
    ),
    "`tracked` stores into absent pages": (
        with_method(Machine, "can_store", tracked_may_always),
        ("tracked-absent-64", "tracked-absent-32"),
    ),
    "INVALID set into a hole takes its page away": (
        with_method(Machine, "try_set", holes_lose_their_page),
        ("hole-64", "hole-32"),
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_reading_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, refuted_by = ALTERED[name]
    patch(monkeypatch)
    for case in refuted_by:
        assert not holds(CASES[case], reference.replay(CASES[case].trace)), case


def test_every_case_refutes_a_reading() -> None:
    assert {case for _, refuted_by in ALTERED.values() for case in refuted_by} <= set(CASES)
    clauses = {CASES[case].clause for _, refuted_by in ALTERED.values() for case in refuted_by}
    assert clauses == {case.clause for case in CASES.values()}
