"""What must hold of a guest after an event, one function for each invariant.

Those of RESULTS are of the recorded objects and hold for every policy; those of ALWAYS hold after
any event that ended ok, unless the policy is `stale`, whose stray writes spare nothing; those of
LIST hold for `tracked` once the list has been built, until an entry of a structure's page is set.
"""

from __future__ import annotations

from collections.abc import Callable

from oracle.build import Json
from oracle.models import Model

Invariant = Callable[[Model], None]


# --- the recorded objects ----------------------------------------------------------------------


def detail_says_why_unless_ok(trace: Json, results: list[Json]) -> None:
    for result in results:
        if result["op"] != "fail_alloc":
            assert (result["outcome"] == "ok") == (result["detail"] is None)


def a_life_ends_at_the_first_outcome_that_is_not_ok(trace: Json, results: list[Json]) -> None:
    outcomes = [result.get("outcome", "ok") for result in results]
    assert outcomes[:-1] == ["ok"] * (len(outcomes) - 1)
    assert len(results) == len(trace["events"]) or outcomes[-1] != "ok"


def pages_used_never_shrink_nor_exceed_what_there_is(trace: Json, results: list[Json]) -> None:
    guest = trace["guest"]
    pool = sum(count for _, count in guest["page_pool"])
    events = [result for result in results if result["op"] != "fail_alloc"]
    for before, after in zip([None, *events], events, strict=False):
        assert after["brk_pages_used"] <= guest["brk_pages"]
        assert after["pool_pages_used"] <= pool
        if before:
            assert before["brk_pages_used"] == after["brk_pages_used"], "brk closes after boot"
            assert before["pool_pages_used"] <= after["pool_pages_used"]
            assert after["op"] == "set" or before["pool_pages_used"] == after["pool_pages_used"]


def stray_writes_hit_pages_and_only_under_stale(trace: Json, results: list[Json]) -> None:
    for result in results:
        if result["op"] != "fail_alloc":
            assert (result["stray_writes"] == 0) == (result["stray_pages"] == 0)
            assert result["stray_pages"] <= result["stray_writes"]
            assert trace["policy"] == "stale" or result["stray_writes"] == 0


def a_set_stops_at_the_first_entry_that_fails(trace: Json, results: list[Json]) -> None:
    for event, result in zip(trace["events"], results, strict=False):
        if event["op"] == "set":
            total = sum(count for *_, count in event["runs"])
            complete = result["ok"] and result["outcome"] == "ok"
            assert (result["entries_set"] == total) == complete
            assert result["ok"] or result["outcome"] == "ok"


def what_is_not_rebuilt_changes_only_by_sets(trace: Json, results: list[Json]) -> None:
    """A save that fails changes nothing of the guest."""
    keys = ("frame_list_list_mfn", "frame_list_list_sha256", "frame_list_sha256", "p2m_sha256")
    before: Json | None = None
    for result in results:
        if result["op"] == "fail_alloc":
            continue
        if before and result["outcome"] in ("save-failed", "misdirected"):
            assert [result[key] for key in keys] == [before[key] for key in keys]
        before = result


RESULTS = (
    detail_says_why_unless_ok,
    a_life_ends_at_the_first_outcome_that_is_not_ok,
    pages_used_never_shrink_nor_exceed_what_there_is,
    stray_writes_hit_pages_and_only_under_stale,
    a_set_stops_at_the_first_entry_that_fails,
    what_is_not_rebuilt_changes_only_by_sets,
)


# --- the tree ----------------------------------------------------------------------------------


def tops(guest: Model) -> list[int]:
    """PFN of the mid page of each top index."""
    return [guest.pfn_at(word) for word in guest.page(guest.structure("top"))]


def leaves(guest: Model) -> dict[int, int]:
    """PFN of the leaf page of each leaf index that has one."""
    found = {}
    for top, mid in enumerate(tops(guest)):
        if mid != guest.structure("mid_missing"):
            for i, word in enumerate(guest.page(mid)):
                if guest.pfn_at(word) != guest.structure("missing"):
                    found[top * guest.n + i] = guest.pfn_at(word)
    return found


def pool_pages(guest: Model) -> list[int]:
    return [pfn + i for pfn, count in guest.trace["guest"]["page_pool"] for i in range(count)]


def tracked_pages(guest: Model) -> list[int]:
    """PFN of the page that `p2m_top_mfn_p` names for each top index."""
    return [guest.pfn_at(word) for word in guest.page(guest.structure("top_mfn_p"))]


def placeholders_are_what_they_were_made(guest: Model) -> None:
    """`p2m_missing` holds INVALID only, `p2m_mid_missing` its address only."""
    assert guest.page(guest.structure("missing")) == [guest.invalid] * guest.n
    mids = {guest.pfn_at(word) for word in guest.page(guest.structure("mid_missing"))}
    assert mids == {guest.structure("missing")}


def pointers_are_addresses_of_whole_pages(guest: Model) -> None:
    mid_missing = guest.structure("mid_missing")
    pointer_pages = {guest.structure("top"), guest.structure("top_mfn_p"), *tops(guest)}
    for pfn in {*pointer_pages, mid_missing}:
        for word in guest.page(pfn):
            assert word >= guest.base
            assert (word - guest.base) % 4096 == 0
            assert guest.pfn_at(word) < guest.trace["guest"]["directmap_pages"]


def boot_leaves_are_the_pages_of_mfn_list(guest: Model) -> None:
    layout = guest.trace["guest"]
    found = leaves(guest)
    for x in range(-(-layout["nr_pages"] // guest.n)):
        assert found[x] == layout["mfn_list_pfn"] + x


def every_page_of_the_tree_has_one_place_in_it(guest: Model) -> None:
    """No page is two structures, and what boot did not lay out comes from the pool."""
    placeholders = {guest.structure("mid_missing"), guest.structure("mid_missing_mfn")}
    used = [pfn for pfn in tops(guest) + tracked_pages(guest) if pfn not in placeholders]
    used += leaves(guest).values()
    assert len(used) == len(set(used))
    layout = guest.trace["guest"]
    brk = range(layout["brk_pfn"], layout["brk_pfn"] + layout["brk_pages"])
    num_list = -(-layout["nr_pages"] // guest.n)
    mfn_list = range(layout["mfn_list_pfn"], layout["mfn_list_pfn"] + num_list)
    assert all(pfn in brk or pfn in mfn_list or pfn in pool_pages(guest) for pfn in used)


def tracked_page_is_the_page_last_installed(guest: Model) -> None:
    """What the change is about: p2m_top_mfn_p knows where the mid_mfn pages are."""
    assert tracked_pages(guest) == [guest.true_mid_mfn(top) for top in range(guest.n)]


def a_mid_mfn_page_implies_its_mid_page(guest: Model) -> None:
    """The reverse does not hold: model section 9.2."""
    for mid, mid_mfn in zip(tops(guest), tracked_pages(guest), strict=True):
        if mid_mfn != guest.structure("mid_missing_mfn"):
            assert mid != guest.structure("mid_missing")


def frames_that_are_the_guests_are_in_its_p2m(guest: Model) -> None:
    """m2p and p2m agree on every frame that the host counts as the guest's."""
    for mfn in range(guest.num_frames):
        if guest.owns(mfn):
            pfn = guest.m2p(mfn)
            assert pfn is not None
            assert guest.lookup(pfn) == mfn


ALWAYS: tuple[Invariant, ...] = (
    placeholders_are_what_they_were_made,
    pointers_are_addresses_of_whole_pages,
    boot_leaves_are_the_pages_of_mfn_list,
    every_page_of_the_tree_has_one_place_in_it,
    tracked_page_is_the_page_last_installed,
    a_mid_mfn_page_implies_its_mid_page,
    frames_that_are_the_guests_are_in_its_p2m,
)


# --- the mfn list list -------------------------------------------------------------------------


def shared_info_names_the_present_top_mfn_page(guest: Model) -> None:
    here = guest.mfn_of_page(guest.structure("top_mfn"))
    assert guest.shared_info == (here, guest.trace["guest"]["max_p2m_pfn"])


def frame_list_list_holds_present_mfns_of_true_pages(guest: Model) -> None:
    words = guest.page(guest.structure("top_mfn"))
    for top in range(-(-guest.xen_max_p2m_pfn // guest.n**2)):
        assert words[top] == guest.mfn_of_page(guest.true_mid_mfn(top))


def frame_list_holds_present_mfns_of_true_leaves(guest: Model) -> None:
    """Every entry that the toolstack reads; holes hold the MFN of `p2m_missing`."""
    found = leaves(guest)
    hole = guest.structure("missing")
    pages: dict[int, list[int]] = {}
    mfns: dict[int, int] = {}
    for x in range(-(-guest.xen_max_p2m_pfn // guest.n)):
        top, i = divmod(x, guest.n)
        leaf = found.get(x, hole)
        if top not in pages:
            pages[top] = guest.page(guest.true_mid_mfn(top))
        if leaf not in mfns:
            mfns[leaf] = guest.mfn_of_page(leaf)
        assert pages[top][i] == mfns[leaf]


def missing_mid_mfn_page_holds_the_present_mfn_of_missing(guest: Model) -> None:
    here = guest.mfn_of_page(guest.structure("missing"))
    assert set(guest.page(guest.structure("mid_missing_mfn"))) == {here}


LIST: tuple[Invariant, ...] = (
    shared_info_names_the_present_top_mfn_page,
    frame_list_list_holds_present_mfns_of_true_pages,
    frame_list_holds_present_mfns_of_true_leaves,
    missing_mid_mfn_page_holds_the_present_mfn_of_missing,
)


def restored_entries_are_the_new_hosts_frames(guest: Model, host: Json) -> None:
    """After a migration every saved PFN has the frame that the host names, or none."""
    domain = {pfn + i: mfn + i for pfn, mfn, count in host["domain"] for i in range(count)}
    near = guest.trace["guest"]["nr_pages"] + guest.n
    for pfn in {*range(near), *domain}:
        if pfn >= guest.xen_max_p2m_pfn:
            continue
        entry = guest.lookup(pfn)
        assert entry in (guest.invalid, domain.get(pfn))
        assert entry == guest.invalid or guest.owns(entry)


def touches_structures(trace: Json, event: Json) -> bool:
    """Whether a set event writes the entry of a page that is, or may become, a structure."""
    layout = trace["guest"]
    num_list = -(-layout["nr_pages"] * layout["word_bytes"] // 4096)
    spans = [
        [layout["brk_pfn"], layout["brk_pages"]],
        [layout["mfn_list_pfn"], num_list],
        *layout["page_pool"],
    ]
    return any(
        pfn < first + length and first < pfn + count
        for pfn, _, count in event["runs"]
        for first, length in spans
    )
