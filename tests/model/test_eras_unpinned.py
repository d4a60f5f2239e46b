"""What the eras' pages say and their recordings don't pin: guarded by the text alone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from oracle import eras
from oracle.ends import Bug
from oracle.eras import unpinned
from oracle.eras.identity import Identity, MidIdentity, Moved
from oracle.eras.linear import IDENTITY, Linear
from oracle.eras.linear_walk import list_walk
from oracle.eras.tail import Tail
from oracle.eras.toolstack import tree_walk
from oracle.eras.unpinned import BLOCK, TOP, TRACES, N

Results = list[dict[str, Any]]


def run(trace: dict[str, Any]) -> tuple[Any, Results]:
    """The guest after a life, and what each event gave."""
    guest = eras.machine(trace)
    return guest, [guest.run(event) for event in trace["events"]]


def case(name: str) -> tuple[Any, Results]:
    return run(TRACES[name]())


def test_marking_goes_on_where_the_next_pfn_begins_a_leaf() -> None:
    guest, (boot,) = case("mark-next-is-aligned")
    assert (boot["identity_pages"], boot["warnings"]) == (N + N + 1, 1)
    assert guest.get(5 * N) == guest.identity_value(5 * N)
    assert guest.get(6 * N) == guest.invalid


def test_a_split_under_a_whole_mid_takes_the_page_that_the_resume_needs() -> None:
    _, (boot, resume) = case("whole-mid")
    _, (split, split_resume) = case("split-under-whole-mid")
    assert (resume["outcome"], resume["detail"]) == ("bug", "_brk_start == 0")
    assert split["brk_pages_used"] == boot["brk_pages_used"] + 1
    # The split begins a leaf, so its step for leaves, which would warn here, is not done.
    assert split["warnings"] == 0
    assert split_resume["outcome"] == "ok"


def test_a_range_that_ends_at_a_top_index_does_not_open_it() -> None:
    guest, (boot, resume) = case("range-ends-at-top")
    past, (opened, _) = case("range-ends-past-top")
    # Placeholders 4, one mid, the 4-page request, the list's 3, one mid_mfn page.
    assert boot["brk_pages_used"] == 13
    assert opened["brk_pages_used"] == 15
    assert guest.mid_of(1) == guest.mid_missing
    assert past.mid_of(1) != past.mid_missing
    assert resume["outcome"] == "ok"


def test_a_refused_allocation_takes_nothing_and_counts() -> None:
    guest, results = case("refused-page-stays")
    sets = [(r["ok"], r["pool_pages_used"]) for r in results if r["op"] == "set"]
    assert sets == [(False, 0), (True, 1), (False, 1)]
    # The call that found the pool empty counts as well.
    assert guest.allocations == 3


def test_a_store_into_a_placeholder_releases_by_m2p() -> None:
    guest, results = case("placeholder-ownership")
    assert [r.get("placeholder_writes") for r in results[1:]] == [1, 1]
    # The word that was overwritten is the frame of another PFN: it stays the guest's.
    assert {20_000, 20_001} <= guest.host.owned
    assert guest.page(guest.identity)[7] == 20_001
    guest.set_phys_to_machine(5 * N + 7, guest.invalid)
    assert 20_001 not in guest.host.owned and 20_001 not in guest.host.m2p
    owned = set(guest.host.owned)
    # No store, no release: a value that a pointer says already, INVALID into a hole.
    guest.set_phys_to_machine(4 * N + 7, guest.identity_value(4 * N + 7))
    guest.set_phys_to_machine(7 * N, guest.invalid)
    assert guest.host.owned == owned


@pytest.mark.parametrize("policy", ["tail", "identity", "moved", "mid-identity", "late-list"])
def test_get_past_the_tree(policy: str) -> None:
    guest, _ = run(unpinned.tree(policy, [unpinned.BOOT]))
    whole_mids = policy in ("mid-identity", "late-list")
    for pfn in (N**3, N**3 + 77):
        wanted = pfn | 1 << 62 if whole_mids else guest.invalid
        assert guest.get(pfn) == wanted


@pytest.mark.parametrize("policy", ["moved", "mid-identity", "late-list"])
def test_a_move_that_does_not_fit_takes_nothing(policy: str) -> None:
    _, (boot,) = run(unpinned.tree(policy, [unpinned.BOOT], bootmem=[150, 3]))
    assert (boot["outcome"], boot["detail"]) == ("bug", "bootmem overflow")
    assert boot["bootmem_pages_used"] == 0 and boot["frame_list_list_mfn"] == 0


def test_the_trim_lowers_max_pfn_to_the_first_of_the_equal_entries() -> None:
    guest = cast(Tail, case("trim-lowers-max")[0])
    max_pfn, frames = tree_walk(guest, guest.shared_fll, guest.shared_max_pfn)
    assert (max_pfn, len(frames)) == (2 * TOP - 1, 2 * N)


def test_a_rebuild_refills_the_page_that_nothing_points_to() -> None:
    guest = cast(MidIdentity, case("mid-identity-mfn-refilled")[0])
    assert set(guest.page(guest.mid_identity_mfn)) == {5000 + guest.identity}
    assert set(guest.page(guest.mid_missing_mfn)) == {5000 + guest.missing}


def test_the_old_leaves_keep_their_bytes_after_the_move() -> None:
    guest = cast(Moved, case("old-leaves-keep-bytes")[0])
    assert guest.leaf_of(600) == 151
    assert guest.page(101) == list(range(1000 + N, 1000 + 2 * N))
    assert guest.page(151)[600 - N] == guest.invalid
    assert guest.page(151)[0] == 5000 + N


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("linear-max-too-large", f"max_pfn-too-large {N**3}"),
        ("linear-zeros-as-list", "bad-mfn-in-fll 0"),
        ("linear-leaf-as-list", "bad-mfn-in-fl 3"),
        ("linear-range-in-hole", "bad-p2m-range"),
        ("linear-range-past-hole", "bad-mfn-in-walk 4 0"),
    ],
)
def test_details_of_the_linear_save(name: str, detail: str) -> None:
    _, results = case(name)
    assert (results[-1]["outcome"], results[-1]["detail"]) == ("save-failed", detail)


def test_the_walk_drops_the_last_block_off_a_gib_boundary() -> None:
    guest, results = case("linear-block-dropped")
    assert results[-1]["lost_pages"] == 1
    says = {"p2m_cr3_mfn": guest.shared_cr3, "p2m_vaddr": guest.vaddr}
    max_pfn, frames = list_walk(guest, says | {"max_pfn": guest.shared_max_pfn})
    assert (max_pfn, len(frames)) == (BLOCK - 1, N)
    guest, results = case("linear-block-kept")
    assert results[-1]["lost_pages"] == 0 and guest.get(BLOCK + 5) == 60_000


def test_the_tree_walk_of_a_linear_guest_trims() -> None:
    guest = cast(Linear, case("linear-tree-trim")[0])
    assert guest.shared_max_pfn == 3 * BLOCK
    max_pfn, frames = tree_walk(guest, guest.shared_fll, guest.shared_max_pfn)
    assert (max_pfn, len(frames)) == (2 * BLOCK - 1, 2 * N)


def test_holes_give_their_frames_back_at_boot() -> None:
    trace = TRACES["linear-gives-back"]()
    guest = cast(Linear, eras.machine(trace))
    guest.run(trace["events"][0])
    for pfn in (1500, 1519, 2040, 2047):
        assert guest.get(pfn) == pfn | IDENTITY
        assert 1000 + pfn not in guest.host.owned and 1000 + pfn not in guest.host.m2p
    assert 1000 + 1520 in guest.host.owned
    resumed = guest.run(trace["events"][1])
    assert (resumed["lost_pages"], resumed["lost_identity_pages"]) == (0, 28)


@pytest.mark.parametrize("policy", unpinned.HINTS)
def test_growth_past_the_hint_writes_max_pfn_at_once(policy: str) -> None:
    _, (boot, grown, again) = run(unpinned.hint_trace(policy))
    assert boot["max_pfn"] == (BLOCK if policy == "linear-3.19" else 2048)
    assert grown["max_pfn"] == unpinned.HINTS[policy]
    # Where the leaf is there already nothing grows, so the hint stays.
    assert again["max_pfn"] == unpinned.HINTS[policy]
    assert grown["p2m_generation"] == (0 if policy == "linear-3.19" else 2)


def test_blocks_past_the_list() -> None:
    trace = unpinned.many_blocks()
    guest = cast(Linear, eras.machine(trace))
    guest.digests = dict  # type: ignore[method-assign]
    boot, grown = (guest.run(event) for event in trace["events"])
    assert boot["outcome"] == "ok" and grown["ok"]
    assert guest.list_slots == N * N
    # A level-1 page and a leaf, and no mid_mfn page.
    assert grown["pool_pages_used"] == 2
    assert guest.get(N**3 + 5) == 20_000 and guest.get(N**3 + 6) == N**3 + 6 | IDENTITY
    assert grown["max_pfn"] == N**3 + N


def test_a_shared_block_with_a_page_of_its_own_in_the_list_is_a_bug() -> None:
    guest, _ = run(unpinned.linear("linear", [unpinned.BOOT]))
    guest.level1[0] = guest.identity_pte
    with pytest.raises(Bug, match="mid_mfn_p != p2m_mid_missing_mfn"):
        guest.build()


def test_an_identity_value_under_a_missing_top_writes_the_shared_mid() -> None:
    guest = cast(Identity, run(unpinned.tree("identity", [unpinned.BOOT]))[0])
    pfn = 3 * TOP + 9 * N + 4
    assert guest.set_phys_to_machine(pfn, guest.identity_value(pfn) or 0)
    assert guest.placeholder_writes == 1
    other = 7 * TOP + 9 * N
    assert guest.get(other) == guest.identity_value(other)
    assert guest.get(other + N) == guest.invalid
