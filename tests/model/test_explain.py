"""Told lives: true to the recordings that they end as, in words that the policy's kernel has."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.model.explain.story import Explanation, Step
from p2mbatch.model.explain.text import step_text, to_text
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.trace_file import load_trace

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"

# Functions that kernels got later than the first of the policies, by those that have them; what is
# named in no line here is in all kernels or is the toolstack's.
LATER = {
    "mfn_to_virt": {"stale"},
    "extend_brk": {"tracked", "stale", "none", "tail", "identity", "moved", "mid-identity",
                   "late-list"},
    "set_phys_range_identity": {"identity", "moved", "mid-identity", "late-list"},
    "xen_revector_p2m_tree": {"moved", "mid-identity", "late-list"},
    "alloc_bootmem_pages": {"moved", "mid-identity", "late-list"},
    "xen_vmalloc_p2m_tree": {"linear-3.19", "linear-4.4", "linear"},
    "xen_alloc_p2m_entry": {"linear-4.4", "linear"},
    "map_p2m_list": {"linear-4.4", "linear"},
    "x86_pv_check_vm_state_p2m_list": {"linear-4.4", "linear"},
    "normalise_pagetable": {"linear-3.19", "linear-4.4", "linear"},
    "alloc_p2m": {"tracked", "stale", "none", "two-level", "two-level-none", "tail", "identity",
                  "moved", "mid-identity", "late-list", "linear-3.19"},
    "alloc_p2m_page": {"tracked", "stale", "none", "tail", "identity", "moved", "mid-identity",
                       "late-list", "linear-3.19", "linear-4.4", "linear"},
    "xen_post_suspend": {"none", "two-level-none"},
}  # fmt: skip
EVERYWHERE = {
    "set_phys_to_machine", "xen_build_dynamic_phys_to_machine", "xen_build_mfn_list_list",
    "xen_setup_mfn_list_list", "map_p2m", "map_p2m_tree", "update_guest_p2m", "populate_pfns",
}  # fmt: skip

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
    """The least trace of each outcome and detail, and of each policy: the campaign runs all."""
    by_end: dict[Any, tuple[int, Path]] = {}
    for (policy, *end), path in ends().items():
        for key in (tuple(end), policy):
            size = path.stat().st_size
            if key not in by_end or size < by_end[key][0]:
                by_end[key] = (size, path)
    return sorted({path for _, path in by_end.values()})


def without_bugs(text: str) -> str:
    """A line without the expressions of BUGs: those are the recording's."""
    return re.sub(r"BUG_ON\(.*?\)\.", "", text)


def numbers_of(text: str) -> list[int]:
    """The numbers of a line: not those of a BUG's expression, nor those that are part of a name."""
    bare = without_bugs(text)
    found = re.findall(r"(?<![\w.])(0x[0-9a-f]+|\d+)(?![\w])", bare)
    return [int(number, 0) for number in found]


def check_step(step: Step, policy: str) -> None:
    """What must hold of every line."""
    assert step.text and step.function
    kept = {number for values in step.numbers.values() for number in values}
    assert set(numbers_of(step.text)) <= kept, (step.text, kept)
    for name in re.findall(r"\b([a-z_0-9]+)\(", f"{step.function} {without_bugs(step.text)}"):
        assert name in EVERYWHERE or policy in LATER[name], (policy, name, step.text)
    words = to_words(step)
    assert "NO_PAGE" not in words and "-2" not in words.split(), words


def to_words(step: Step) -> str:
    """The line as it is printed."""
    return f"{step.function}: {step_text(step)}"


def check_told(told: Explanation, expected: list[dict[str, Any]]) -> None:
    """What must hold of a life that was told, against what is expected of it."""
    assert len(told.events) == len(expected)
    for story, want in zip(told.events, expected, strict=True):
        if story.op in ("fail_alloc", "tweak"):
            continue
        assert (story.outcome, story.detail) == (want["outcome"], want["detail"])
        assert story.steps or story.op == "set"
        if story.op != "boot":
            assert story.stray_writes == want.get("stray_writes", 0)
        for step in story.steps:
            check_step(step, told.policy)
        failed = [step for step in story.steps if step.held is False]
        assert story.outcome == "ok" or (failed and failed[-1] is story.steps[-1]), story.title
    assert told.conclusion.endswith(".") and told.advice.endswith((".", "", ":"))
    text = to_text(told)
    assert told.fate in text and told.name in text


@pytest.mark.parametrize("path", chosen(), ids=lambda path: path.name.removesuffix(".json.gz"))
def test_each_end_of_a_recording_is_told(path: Path) -> None:
    trace = load_trace(str(path))
    assert trace.expected
    check_told(explain_trace(trace), trace.expected)
