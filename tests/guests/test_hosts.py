"""Hosts of several sizes in one life, the hypervisor's version, guests that stay if refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.host_sizes import host_bytes
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario, nth_host
from p2mbatch.spec.sweep_spec import SweepSpec


def frames(scenario: Scenario, index: int) -> int:
    host = nth_host(scenario, check_scenario(scenario), index)
    return int(host.par[0].frames)


def test_each_host_has_its_size_and_the_last_is_for_all_that_follow() -> None:
    scenario = Scenario.make(memory_bytes="1GiB", hosts=["8GiB", "4GiB"], migrations=3)
    assert [frames(scenario, i) * 4096 // GIB for i in range(4)] == [8, 4, 4, 4]
    assert scenario.host_memory_bytes == 8 * GIB
    assert Scenario.make(**scenario.canonical()) == scenario


def test_a_range_is_drawn_for_each_host_by_the_seed() -> None:
    drawn = [host_bytes("2GiB..6GiB", seed, i) for seed in range(20) for i in range(20)]
    assert all(2 * GIB <= size <= 6 * GIB and size % MIB == 0 for size in drawn)
    assert len(set(drawn)) > 300
    assert 3.8 * GIB < np.mean(drawn) < 4.2 * GIB
    # Every whole MiB of it, the ends too.
    assert {host_bytes("5MiB..7MiB", 1, i) for i in range(60)} == {5 * MIB, 6 * MIB, 7 * MIB}
    assert drawn == [host_bytes("2GiB..6GiB", seed, i) for seed in range(20) for i in range(20)]


def test_on_a_smaller_host_old_numbers_may_lie_past_the_end_of_m2p() -> None:
    """Then the guest reads 0, and the rebuild stores into PFN 0's page (machine-v2 section 7)."""
    hit = set()
    for seed in range(12):
        guest = Guest.boot("256MiB", "stale", seed, hosts=["64GiB", "1GiB"])
        event = guest.migrate()
        assert event.ok
        hit |= set(guest.tree().hit_pages.tolist())
    assert 0 in hit


@pytest.mark.parametrize(("xen", "order"), [("", 32), ("4.0", 18), ("4.1.1", 18), ("4.1.2", 32)])
def test_the_version_decides_the_order_of_m2p(xen: str, order: int) -> None:
    scenario = Scenario.make(memory_bytes="256MiB", host_memory_bytes="1GiB", xen=xen)
    host = nth_host(scenario, check_scenario(scenario), 0)
    assert host.par[0].m2p_order == order


@pytest.mark.parametrize(("xen", "left"), [("", False), ("4.1.2", True), ("4.2", False)])
def test_departed_domains_leave_words_behind_before_4_2(xen: str, left: bool) -> None:
    """With no neighbours all old frames are free: a store there faults, or hits what was left."""
    outcomes = {
        Guest.boot("256MiB", "stale", seed, neighbours=0.0, host_memory="16GiB", xen=xen)
        .migrate()
        .outcome
        for seed in range(6)
    }
    assert outcomes == ({"ok"} if left else {"fault"})


def test_a_frame_that_the_guest_freed_keeps_its_word_before_4_2() -> None:
    for xen, kept in (("", False), ("4.1", True)):
        guest = Guest.boot("64MiB", sparsity=0.25, layout="scattered", xen=xen)
        pfns = np.arange(100)
        pfns = pfns[guest.lookup(pfns) >= 0]
        mfns = guest.lookup(pfns)
        guest.balloon_out(pfns)
        assert (guest.m2p(mfns) == (pfns if kept else -1)).all()
        guest.migrate()
        mfns = guest.lookup([200, 201, 202, 203])
        guest.balloon_out([200, 201, 202, 203])
        there = mfns >= 0
        expected = [200, 201, 202, 203] if kept else [-1] * 4
        assert (guest.m2p(mfns)[there] == np.array(expected)[there]).all()


def test_a_refused_guest_that_stays_is_tried_again() -> None:
    fields: dict[str, Any] = {"memory_bytes": "2GiB", "policy": "stale", "migrations": 3}
    ended = run_scenario(Scenario.make(**fields))
    stayed = run_scenario(Scenario.make(**fields, stuck="stay"))
    assert [row["outcome"] for row in ended] == ["ok", "save-failed"]
    assert [row["outcome"] for row in stayed] == ["ok"] + ["save-failed"] * 3
    assert [row["migration"] for row in stayed] == [0, 1, 2, 3]
    guest = Guest.boot("2GiB", "stale", stuck="stay")
    before = guest.lookup([5, 5000])
    assert guest.migrate().outcome == "save-failed"
    assert guest.lost is None
    assert (guest.lookup([5, 5000]) == before).all()
    assert guest.balloon_out([5]).ok
    assert guest.lookup([5])[0] == -1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hosts": "8GiB", "host_memory": "8GiB"}, "leave host_memory out"),
        ({"hosts": "8GiB..4GiB"}, "runs backwards"),
        ({"hosts": "x"}, "'x' is not a size"),
        ({"hosts": "8GiB,512MiB", "migrations": "1"}, "--hosts: 512MiB can't hold"),
        ({"hosts": "1MiB..8GiB"}, "--hosts: 1MiB can't hold"),
        ({"hosts": "5000000001"}, "is not whole pages"),
        ({"xen": "3.4"}, "before 4.0 is not known"),
        ({"xen": "four"}, "a version such as"),
        ({"stuck": "no"}, "'end' or 'stay'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        SweepSpec.from_options(memory="1GiB", **options).check()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_spec_with_such_hosts_reads_back_and_holds_its_cells() -> None:
    spec = SweepSpec.from_options(
        memory="1GiB", hosts="8GiB,16GiB..32GiB;4GiB", xen="4.0,4.1.2", stuck="end,stay"
    )
    assert spec.num_cells == 8
    again = SweepSpec.from_dict(spec.to_dict())
    assert again.digest == spec.digest
    assert all(values in spec.grid[0] for values in again.expand())
    listed = SweepSpec.from_dict(
        {"grid": {"memory": "1GiB", "hosts": [["8GiB", "16GiB..32GiB"], ["4GiB"]]}}
    )
    one = SweepSpec.from_dict({"grid": {"memory": "1GiB", "hosts": ["8GiB", "16GiB..32GiB"]}})
    assert (listed.num_cells, one.num_cells) == (2, 1)
