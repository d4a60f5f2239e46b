"""The rules over lives: each known hazard is found, and nothing that is within contract."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hunt import built
from p2mbatch.hunt.judge import Broken, broken, in_world, judge
from p2mbatch.hunt.kinds import kind_of
from p2mbatch.model.trace_file import parse_trace

LIVES = built.lives()

KINDS = {
    "tracked-beyond-max": "set-bug-virt-to-mfn-mid-mfn-not-top-mfn-p-past-the-end",
    "tracked-half-grown": "resume-bug-brk-start-is-0-half-grown",
    "tracked-tail": "unset-entry-in-the-tail",
    "tracked-past-the-end": "lost-pages-past-the-end",
    "stale-strays": "stray-writes-resume",
    "stale-second-save": "save-refused-wrong-list",
    "two-level-none-second-save": "save-refused-wrong-list",
    "mid-identity-brk": "resume-bug-brk-start-is-0-an-identity-mid",
    "identity-shared-write": "shared-page-writes-p2m-identity",
    "identity-mid-missing-write": "shared-page-writes-p2m-mid-missing",
    "linear-4.4-last-leaf": "lost-pages-past-the-end",
    "linear-null-list-page": "resume-fault-null-list-page",
    "linear-trimmed": "lost-pages-trimmed-away",
}


def kinds(life: dict[str, Any]) -> dict[str, Broken]:
    found = judge(parse_trace(life))
    assert found.outside is None
    return {kind_of(one): one for one in found.broken}


@pytest.mark.parametrize("name", LIVES)
def test_a_known_hazard_is_found_and_named(name: str) -> None:
    life, rule = LIVES[name]
    assert kinds(life)[KINDS[name]].rule == rule


@pytest.mark.parametrize("name", LIVES)
def test_the_kernel_of_today_breaks_nothing_in_the_same_life(name: str) -> None:
    """Of the same memory on hosts with the same frames, under a kernel that has mended it."""
    life = copy.deepcopy(LIVES[name][0])
    if life["policy"] in ("linear", "linear-4.4"):
        life["guest"]["p2m_vaddr"] = built.VMALLOC
        life["guest"]["page_pool"] = [[64, 24]]
        life["policy"] = "linear"
    else:
        marks = life["events"][0].pop("identity", [])
        nr_pages, static = life["guest"]["nr_pages"], built.linear_guest()
        life["guest"] = static | {"nr_pages": nr_pages, "directmap_pages": nr_pages}
        life["guest"]["area_pfns"] = 3 * built.BLOCK
        life["guest"]["identity"] = [[start, end - start] for start, end in marks]
        life["policy"] = "linear"
    assert kinds(life) == {}


def test_the_first_that_broke_is_the_lifes() -> None:
    life = LIVES["stale-second-save"][0]
    first = broken(parse_trace(life))
    assert first is not None
    assert (first.rule, first.event) == (2, 2)
    assert [one.rule for one in judge(parse_trace(life)).broken] == [2, 3, 5]


def test_a_guest_that_lost_pages_is_not_looked_at_further() -> None:
    """The pool's page lies in what is lost: what growth does with it then is no fault of growth."""
    life = built.trace(
        "tracked", built.tree_guest("tracked"), built.hosts(3072), built.move(1),
        built.assign([2000, built.free_frame(3072) + 20, 30]), built.move(2), built.move(0),
        built.move(1),
    )  # fmt: skip
    found = judge(parse_trace(life))
    assert [(one.rule, one.event) for one in found.broken] == [(4, 3)]


@pytest.mark.parametrize("policy", ["tracked", "two-level"])
def test_a_kernel_that_has_no_memory_may_say_so(policy: str) -> None:
    """A growth that gets no page is false, or BUG p == NULL: neither breaks a rule."""
    guest = built.tree_guest(policy, page_pool=[], max_p2m_pfn=3072)
    grow = built.assign([2048, built.free_frame(3072), 10])
    life = built.trace(policy, guest, built.hosts(3072), grow, built.move(1))
    assert kinds(life) == {}
    life["guest"]["page_pool"] = [[64, 4]]
    life["events"].insert(1, built.fail(0))
    assert kinds(life) == {}


def test_identity_marks_that_a_migration_forgets_break_nothing() -> None:
    """They read INVALID then, in leaves of their own (policies-spec P0, linear-spec L9)."""
    boot = {"op": "boot", "host": 0, "identity": [[1600, 1700]]}
    guest = built.tree_guest("identity", max_p2m_pfn=3072)
    assert kinds(built.trace("identity", guest, built.hosts(3072), boot, built.move(1))) == {}
    guest = built.linear_guest(identity=[[1000, 30]])
    assert kinds(built.trace("linear", guest, built.hosts(3072), built.move(1))) == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda life: life["events"][1].update(runs=[[70, None, 1]]), "tables or of its pool"),
        (lambda life: life["events"][1].update(runs=[[700, 9, 1]]), "is the guest's own"),
        (lambda life: life["events"][1].update(runs=[[700, 1 << 20, 1]]), "is past host 0's"),
        (lambda life: life["events"][1].update(runs=[[700, 0, 1]]), "neither INVALID"),
        (lambda life: life["events"][1].update(runs=[[512**3, None, 1]]), "p2m holds"),
        (lambda life: life["events"][1].update(runs=[[700, 9000, 2], [800, 9001, 1]]), "set twice"),
        (lambda life: life["events"][2].update(toolstack="4.6"), "toolstack"),
        (lambda life: life["hosts"][1]["domain"].pop(), "names no frame for PFN"),
        (lambda life: life["hosts"][1].update(domain=[[0, 0, 3072]]), "frame 0 is nobody's"),
        (lambda life: life["guest"].update(brk_pages=3), "not memory enough to boot"),
        (lambda life: life["guest"].update(max_p2m_pfn=512**3 + 1), "more than the tree holds"),
        (lambda life: life["hosts"][0].update(foreign=[[9300, 5, 9]]), None),
        (lambda life: life["events"][1].update(runs=[[700, (1 << 31) + 5, 1]]), None),
    ],
)  # fmt: skip
def test_what_is_not_of_the_world_is_said(change: Any, why: str | None) -> None:
    life = copy.deepcopy(built.trace("tracked", built.tree_guest("tracked"), built.hosts(3072),
                                     built.assign([700, None, 9]), built.move(1)))  # fmt: skip
    life["hosts"][0]["frames"] += 1
    change(life)
    said = in_world(parse_trace(life))
    assert (said is None) if why is None else (said is not None and why in said)


def test_a_neighbours_frame_is_not_to_be_set() -> None:
    life = built.trace("tracked", built.tree_guest("tracked"), built.hosts(3072, neighbours=True),
                       built.assign([700, built.free_frame(0) + 3072 + 5, 1]))  # fmt: skip
    said = in_world(parse_trace(life))
    assert said is not None
    assert "another domain's" in said


def test_identity_is_set_whole_leaves_at_a_time() -> None:
    bit = 1 << 62
    guest = built.tree_guest("identity", max_p2m_pfn=3072)
    for pfn, count, ok in ((2048, 512, True), (2048, 511, False), (2047, 512, False)):
        life = built.trace("identity", guest, built.hosts(3072),
                           built.assign([pfn, pfn + bit, count]))  # fmt: skip
        assert (in_world(parse_trace(life)) is None) == ok
