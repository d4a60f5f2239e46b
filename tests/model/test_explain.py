"""Told lives: true to the recordings that they end as, in words that the policy's kernel has."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from campaign import explained
from campaign.explained import wrong
from campaign.numbers import lived, wrong_numbers
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.explain import large
from p2mbatch.model.explain.story import Step
from p2mbatch.model.explain.text import to_text
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.trace_file import load_trace

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"
MIB, GIB = 1 << 20, 1 << 30

_POLICY = re.compile(r'"policy":\s*"([^"]+)"')
_END = re.compile(r'"outcome":\s*"([^"]+)",\s*"detail":\s*(?:null|"([^"]*)")')
_FRAMES = re.compile(r'"frames":\s*(\d+)')


@cache
def ends() -> dict[tuple[str, str, str], Path]:
    """For each policy, outcome and kind of detail that a recording ends in its least trace."""
    best: dict[tuple[str, str, str], tuple[int, Path]] = {}
    for path in [*TRACES.glob("*.gz"), *TRACES.glob("eras*/*.gz")]:
        text = gzip.decompress(path.read_bytes()).decode()
        policy = _POLICY.search(text)
        assert policy
        *_, last = _END.finditer(text)
        key = (policy[1], last[1], re.sub(r"( \d+)+$", "", last[2] or "-"))
        cost = sum(map(int, _FRAMES.findall(text))) + 20 * len(text)
        if key not in best or cost < best[key][0]:
            best[key] = (cost, path)
    return {key: path for key, (_, path) in best.items()}


def chosen() -> list[Path]:
    """The least trace of each outcome and detail, and of each policy."""
    by_end: dict[Any, tuple[int, Path]] = {}
    for (policy, *end), path in ends().items():
        for key in (tuple(end), policy):
            size = path.stat().st_size
            if key not in by_end or size < by_end[key][0]:
                by_end[key] = (size, path)
    return sorted({path for _, path in by_end.values()})


@pytest.mark.parametrize("path", chosen(), ids=lambda path: path.name.removesuffix(".json.gz"))
def test_each_end_of_a_recording_is_told(path: Path) -> None:
    trace = load_trace(str(path))
    assert trace.expected
    told = explain_trace(trace)
    assert wrong(told, trace.expected) == ""
    assert told.conclusion.endswith(".") and told.advice.endswith((".", "", ":"))
    text = to_text(told)
    assert told.fate in text and told.name in text and "NO_PAGE" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("eras/two-level-none-balloon-64-107", "The list still has the frames of an earlier host"),
        ("eras/two-level-none-pool-page-out-32-112", "but not all that it had was saved."),
        ("eras/two-level-none-out-of-range-32-110", "past all that the p2m can hold"),
        ("eras/two-level-none-over-max-64-115", "more pages than this kernel's p2m was built for"),
        ("crafted-none-plain-32-0", "this kernel builds it at boot and never again"),
    ],
)
def test_what_an_end_means_is_what_led_to_it(name: str, said: str) -> None:
    told = explain_trace(load_trace(str(TRACES / f"{name}.json.gz")))
    assert said in told.conclusion
    bugs = [step for step in told.events[-1].steps if "BUG_ON(mfn" in step.text]
    assert all(step.function == "set_phys_to_machine()" for step in bugs)


def test_a_set_that_found_no_memory_says_how_far_it_came() -> None:
    told = explain_trace(load_trace(str(TRACES / "eras/tail-alloc-fail-32-106.json.gz")))
    assert told.events[2].title == "set 0 of 173 entries, returned false"


@pytest.mark.parametrize("source", explained.SOURCES)
def test_random_lives_are_told_as_the_naive_model_lives_them(source: str) -> None:
    # One of each policy of the eras: other tests have them compiled by then.
    for i in range(10 if source == explained.ERAS else 25):
        assert explained.check(explained.drawn("told", i, source, one_in_wide=0)) == "", f"life {i}"


def test_every_number_of_a_line_is_looked_up_where_it_comes_from() -> None:
    """Recorded lives too, and a number that is one off is not taken for the one that is there."""
    num_found = num_changed = 0
    for name in ("crafted-hit-top-mfn-32-0", "crafted-hit-top-mfn-64-1"):
        path = TRACES / f"{name}.json.gz"
        trace = json.loads(gzip.decompress(path.read_bytes()))
        told, lookups = explain_trace(load_trace(str(path))), lived(trace)
        assert wrong_numbers(told, lookups) == ""
        for story, lookup in zip(told.events, lookups, strict=True):
            for step in story.steps:
                if not list(lookup.claims(step)):
                    continue
                for at in re.finditer(r"0x[0-9a-f]+", step.text):
                    other = hex(int(at[0], 16) + 1)
                    text = step.text[: at.start()] + other + step.text[at.end() :]
                    changed = dataclasses.replace(step, text=text)
                    num_changed += 1
                    num_found += bool(lookup.denied(changed))
                far = {kind: [(1 << 61) + 12345] for kind in lookup.known}
                assert len(lookup.unknown(dataclasses.replace(step, numbers=far))) == len(far)
    assert num_found > num_changed // 2 > 0


SCENARIOS: list[dict[str, Any]] = [
    {"memory_bytes": 64 * MIB, "policy": "stale", "migrations": 3},
    {"memory_bytes": 64 * MIB, "policy": "stale", "migrations": 3, "word_bytes": 4},
    {"memory_bytes": 96 * MIB, "policy": "stale", "neighbours": 0.2, "seed": 3},
    {"memory_bytes": GIB + 8 * MIB, "policy": "stale"},
    {"memory_bytes": 2 * GIB, "policy": "stale"},
    {"memory_bytes": GIB, "sparsity": 0.5, "layout": "extents", "migrations": 2},
    {"memory_bytes": GIB, "policy": "none", "migrations": 2, "stuck": "stay"},
    {"memory_bytes": 256 * MIB, "policy": "stale", "hosts": "2GiB,1GiB,1GiB", "migrations": 2},
    {"memory_bytes": 64 * MIB, "sparsity": 0.5, "grow_bytes": 8 * MIB, "migrations": 2},
    {"memory_bytes": 64 * MIB, "grow_bytes": 8 * MIB, "grow_where": "beyond", "migrations": 2},
    {"memory_bytes": 4 * GIB, "policy": "stale", "word_bytes": 4, "sparsity": 0.5,
     "grow_bytes": 8 * MIB, "migrations": 2, "seed": 5},
    {"memory_bytes": 64 * MIB, "policy": "stale", "migrations": 2, "toolstack": "legacy"},
    {"memory_bytes": 2 * GIB, "sparsity": 0.6, "toolstack": "4.6"},
]  # fmt: skip


@pytest.mark.parametrize("fields", SCENARIOS)
def test_a_cell_is_told_as_its_rows_are(fields: dict[str, Any]) -> None:
    scenario = Scenario.make(**fields)
    rows, told = run_scenario(scenario), explain_scenario(scenario, digests=True)
    assert told.cell == scenario.cell_id
    assert wrong(told, rows, tools=[scenario.toolstack] * len(rows)) == ""
    for row, story in zip(rows, told.events, strict=True):
        losses = ("lost_pages", "ghost_pages", "stray_writes", "placeholder_writes")
        assert {name: story.damage[name] for name in losses} == {n: row[n] for n in losses}
    assert told.to_json()["scenario"] == scenario.canonical()


def test_a_large_rebuild_is_told_as_store_by_store(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario.make(
        memory_bytes=4 * GIB, sparsity=0.6, layout="extents", policy="tracked", migrations=2
    )
    whole = explain_scenario(scenario)
    monkeypatch.setattr("p2mbatch.model.explain.life.MAX_LOGGED_LEAVES", 16)
    assert large.MAX_LOGGED_LEAVES > 16
    assert explain_scenario(scenario).to_json() == whole.to_json()


def grown_steps(**fields: Any) -> list[Step]:
    told = explain_scenario(Scenario.make(**fields))
    assert told.events[1].op == "migrate"
    return [step for step in told.events[1].steps if step.part == "set"]


def test_growths_past_those_that_are_logged_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaf of 512 pages that a guest gets is a growth: 100 of them here."""
    fields = {"memory_bytes": GIB, "sparsity": 0.5, "grow_bytes": 200 * MIB}
    logged = grown_steps(**fields)
    monkeypatch.setattr("p2mbatch.model.explain.sets.MAX_LOGGED", 40)
    some = grown_steps(**fields)
    for steps in (logged, some):
        assert sum(step.times for step in steps if step.function == "alloc_p2m()") == 100
    first = 100 * 512 - 100
    assert logged[0].text == some[0].text
    assert f"{first} of {200 * 256} entries need no more than a store" in logged[0].text
    assert len(some) == len(logged) + 1 and "grows by 1 page." in some[-1].text


def walked(**fields: Any) -> list[Step]:
    told = explain_scenario(Scenario.make(**fields))
    return [step for step in told.events[-1].steps if step.part == "save"]


def test_a_walk_is_told_in_the_order_and_the_words_of_its_toolstack() -> None:
    """Old ones look at no number before they map it, and only today's trims equal entries."""
    large = {"memory_bytes": 4 * GIB, "sparsity": 0.6, "layout": "tail"}
    steps = {tool: walked(toolstack=tool, **large) for tool in ("legacy", "4.6", "4.7")}
    assert [len(steps[tool]) for tool in steps] == [6, 8, 9]
    trims = {tool: [s for s in found if "are all alike" in s.text] for tool, found in steps.items()}
    assert [len(found) for found in trims.values()] == [0, 0, 1]
    assert {s.function for s in steps["4.6"]} == {"map_p2m()"}
    assert [s.function for s in steps["legacy"]] == [
        "xc_domain_save()", *["map_frame_list_list()"] * 2, *["map_and_save_p2m_table()"] * 3,
    ]  # fmt: skip
    assert not any("can have" in s.text or "frames of this host" in s.text for s in steps["legacy"])
    # The list of a kernel that never builds it again, read on the second host.
    old = {"memory_bytes": 64 * MIB, "policy": "none", "migrations": 2}
    said = [walked(toolstack=tool, **old)[-1] for tool in ("legacy", "4.6", "4.7")]
    assert [step.text.partition('"')[2] for step in said] == [
        'Couldn\'t map p2m_frame_list"', *['Failed to map p2m frame list"'] * 2,
    ]  # fmt: skip


def test_a_guest_tells_what_it_did() -> None:
    guest = Guest.boot("64MiB", policy="stale", sparsity=0.5)
    guest.populate([9000, 9001])
    guest.balloon_out([17])
    guest.migrate()
    told = guest.explain(pictures=True)
    assert [story.op for story in told.events] == ["boot", "set", "set", "migrate"]
    assert "leaf" in told.events[1].steps[-1].text
    ended = told.events[-1]
    assert (
        (ended.outcome, ended.detail) == (guest.ended.outcome, guest.ended.detail)
        if (guest.ended)
        else ended.outcome == "ok"
    )
    assert ended.views and all(step.views[1] < len(ended.views) for step in ended.steps)


def test_only_kernels_have_twins() -> None:
    with pytest.raises(TypeError, match="is no kernel"):
        Interpreter({}).of(test_only_kernels_have_twins)


OWN = '''"""Finds its list's pages by old MFNs."""
from p2mbatch.linux import *

class Mine(Stale):
    def xen_build_mfn_list_list(self):
        if self.p2m_top_mfn == NULL:
            self.p2m_mid_missing_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)
            self.p2m_top_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_top_mfn_init(self.p2m_top_mfn)
        pfn = 0
        while pfn < self.xen_max_p2m_pfn:
            topidx, mididx = p2m_top_index(pfn), p2m_mid_index(pfn)
            mid_mfn = mfn_to_virt(self.p2m_top_mfn[topidx])
            mid_mfn[mididx] = virt_to_mfn(self.p2m_top[topidx][mididx])
            pfn = pfn + P2M_PER_PAGE
'''


@pytest.mark.lane
@pytest.mark.skipif("NUMBA_DISABLE_JIT" not in os.environ, reason="compiling it takes long")
def test_a_policy_of_ones_own_is_told_by_its_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    policy = str(tmp_path / "mine.py")
    scenario = Scenario.make(memory_bytes=16 * MIB, policy=policy, migrations=2)
    rows, told = run_scenario(scenario), explain_scenario(scenario)
    strays = [row["stray_writes"] for row in rows]
    assert [story.stray_writes for story in told.events] == strays and any(strays)
    stray = next(step for story in told.events for step in story.steps if step.stray_writes)
    assert stray.function == "xen_build_mfn_list_list()" and stray.text.startswith("Line 15:")


def test_pages_that_the_trim_dropped_are_the_toolstacks_fault() -> None:
    """Another release of Linux loses as many: what helps is another place, or another toolstack."""
    for linux in ("4.4", "6.1"):
        told = explain_scenario(
            Scenario.make(memory_bytes="2GiB", linux=linux, p2m_vaddr="0xffffc90000200000")
        )
        assert told.fate == "silently corrupted"
        assert "a multiple of 1 GiB" in told.advice
        assert "boot Linux 5.14" not in told.advice and "max_pfn" not in told.advice


def test_memory_that_a_kernel_does_not_take_is_told() -> None:
    told = explain_scenario(Scenario.make(memory_bytes="129GiB", linux="2.6.38", migrations=0))
    assert told.guest.endswith("(CONFIG_XEN_MAX_DOMAIN_MEMORY 128GiB)")
    told = explain_scenario(Scenario.make(memory_bytes="64MiB", linux="2.6.38", migrations=0))
    assert "CONFIG_XEN" not in told.guest


def test_a_guest_that_can_not_grow_is_no_proof_of_growing() -> None:
    fields = {"memory_bytes": "64MiB", "linux": "4.4", "grow_bytes": "4MiB"}
    told = explain_scenario(Scenario.make(**fields))
    assert "It was to grow between migrations, and had nowhere to" in told.conclusion
    for more in ({"sparsity": 0.5}, {"grow_where": "beyond"}):
        told = explain_scenario(Scenario.make(**fields, **more))
        assert "had nowhere to" not in told.conclusion
