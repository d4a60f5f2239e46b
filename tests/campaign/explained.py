"""Random lives told: `python -m campaign.explained`; what the story says is what happened.

Lives of each trace format, of the eras on both machines, and live ones; where a format has
toolstacks, of each of them. For each life: the naive model's observations are those of the
explanation, every digest included, so the last state is the row's; the steps' stray writes add up
to the events'; what must hold of every line does (`check`); and every number is one that the naive
guest, its hosts or the trace has, looked up without the code that printed it
(`campaign/numbers.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tqdm import tqdm

from campaign import live
from campaign.numbers import lived, wrong_numbers
from oracle import eras
from oracle.build import Json
from oracle.eras.lives import life as life_of_era
from oracle.lives import Wanted, lives
from oracle.machines import FORMATS
from p2mbatch.model.explain.story import Explanation, Step
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.policies import shown
from p2mbatch.model.trace_file import parse_trace

# Functions that not all kernels have, by the policies that have them.
LATER = {
    "mfn_to_virt": {"stale"},
    "extend_brk": {"tracked", "stale", "none", "tail", "identity", "moved", "mid-identity",
                   "late-list"},
    "set_phys_range_identity": {"identity", "moved", "mid-identity", "late-list"},
    "xen_revector_p2m_tree": {"moved", "mid-identity", "late-list"},
    "alloc_bootmem_pages": {"moved", "mid-identity", "late-list"},
    "xen_vmalloc_p2m_tree": {"linear-3.19", "linear-4.4", "linear"},
    "xen_alloc_p2m_entry": {"linear-4.4", "linear"},
    "alloc_p2m": {"tracked", "stale", "none", "two-level", "two-level-none", "tail", "identity",
                  "moved", "mid-identity", "late-list", "linear-3.19"},
    "alloc_p2m_page": {"tracked", "stale", "none", "tail", "identity", "moved", "mid-identity",
                       "late-list", "linear-3.19", "linear-4.4", "linear"},
    "xen_post_suspend": {"none", "two-level-none"},
}  # fmt: skip
EVERYWHERE = {
    "set_phys_to_machine", "xen_build_dynamic_phys_to_machine", "xen_build_mfn_list_list",
    "xen_setup_mfn_list_list",
}  # fmt: skip
_V2 = {"normalise_pagetable", "populate_pfns", "update_guest_p2m"}
# Functions of libxc, by the toolstack that a migration is done with.
TOOLS = {
    "legacy": {"xc_domain_save", "map_frame_list_list", "map_and_save_p2m_table", "apply_batch",
               "canonicalize_pagetable", "xc_domain_restore"},
    "4.6": _V2 | {"map_p2m"},
    "4.7": _V2 | {"map_p2m_tree", "map_p2m_leaves", "map_p2m_list",
                  "x86_pv_check_vm_state_p2m_list"},
    "tree": _V2 | {"map_p2m_tree", "map_p2m_leaves"},
}  # fmt: skip

ERAS = "eras"
SOURCES = (*sorted(FORMATS), ERAS, live.LIVE, live.CPUS)
"""What lives are drawn of: the trace formats, the eras' own, live ones, those of several CPUs."""


def without_bugs(text: str) -> str:
    """A line without the expressions of BUGs: those are the recording's."""
    return re.sub(r"BUG_ON\(.*?\)\.", "", text)


def numbers_of(text: str) -> list[int]:
    """The numbers of a line: not those of a BUG's expression, nor those that are part of a name."""
    found = re.findall(r"(?<![\w.])(0x[0-9a-f]+|\d+)(?![\w])", without_bugs(text))
    return [int(number, 0) for number in found]


def wrong_in(step: Step, policy: str, tool: str = "4.7") -> str:
    """What is wrong with a line; "" where nothing is."""
    kept = {number for values in step.numbers.values() for number in values}
    unknown = set(numbers_of(step.text)) - kept
    if unknown or not step.text or not step.function:
        return f"numbers {sorted(unknown)} of nothing: {step.text!r}"
    # The kernel's and the guest's words are never below 0 but for INVALID.
    if any(number is not None and number < 0 for number in kept):
        return f"a number below 0: {step.text!r}"
    for name in re.findall(r"\b([a-z_0-9]+)\(", f"{step.function} {without_bugs(step.text)}"):
        known = EVERYWHERE | TOOLS[tool]
        if name not in known and policy not in LATER.get(name, ()):
            return f"{policy} under {tool} has no {name}: {step.text!r}"
    return ""


def wrong(
    told: Explanation,
    expected: list[dict[str, Any]],
    digests: bool = False,
    tools: Sequence[str] = (),
) -> str:
    """What is wrong with a life that was told, against what is expected of it; "" for nothing.

    `tools` has the toolstack of each event, where one is not today's.
    """
    tools = tools or ["4.7"] * len(expected)
    if len(told.events) != len(expected):
        return f"{len(told.events)} events, {len(expected)} expected"
    for story, want, tool in zip(told.events, expected, tools, strict=False):
        if digests and story.observed != want:
            return f"{story.title}: {story.observed} is not {want}"
        if story.op in ("fail_alloc", "tweak", "poke"):
            continue
        if (story.outcome, story.detail) != (want["outcome"], want["detail"]):
            return f"{story.title}: {story.outcome} {story.detail}"
        if not story.steps and story.op != "set":
            return f"{story.title}: no steps"
        if story.op != "boot" and story.stray_writes != want.get("stray_writes", 0):
            return f"{story.title}: {story.stray_writes} stray writes told of {want}"
        for step in story.steps:
            if problem := wrong_in(step, told.policy, tool):
                return f"{story.title}: {problem}"
        failed = [step for step in story.steps if step.held is False]
        if story.outcome != "ok" and not (failed and failed[-1] is story.steps[-1]):
            return f"{story.title}: {story.outcome} and no step says why"
    json.dumps(told.to_json())
    return ""


def check(trace: Json) -> str:
    """What is wrong with the story of a life, by the naive model; "" where nothing is."""
    parsed = parse_trace(trace)
    told = explain_trace(parsed, digests=True)
    assert told.policy == shown(parsed.policy).short
    lookups = lived(trace)
    tools = [event.get("toolstack", "4.7") for event in trace["events"]]
    problem = wrong(told, [lookup.want for lookup in lookups], True, tools)
    return problem or wrong_numbers(told, lookups)


def drawn(seed: str, i: int, source: str, one_in_wide: int = 60) -> Json:
    """Life `i` of a seed; `one_in_wide` is that of `Wanted`."""
    dice = random.Random(f"{seed}/{i}/{source}")
    if source in (live.LIVE, live.CPUS):
        policies = live.POLICIES if source == live.LIVE else live.RACING
        return live.drawn(policies[i % len(policies)], dice.getrandbits(32), source)
    if source == ERAS:
        policy = list(eras.POLICIES)[i % len(eras.POLICIES)]
        trace = life_of_era(policy, dice.getrandbits(32), dice.random() < 0.5)
    else:
        [trace] = lives(seed, i, 1, Wanted(source, one_in_wide=one_in_wide))
    for event in trace["events"]:
        if trace["format"].endswith("/3") and event["op"] == "migrate":
            event |= dice.choice([{}, {"toolstack": "4.6"}, {"toolstack": "legacy"}])
    return trace


def check_some(seed: str, first: int, count: int, source: str) -> list[str]:
    """Check some lives of a seed; return a line for each that is told wrongly."""
    found = []
    for i in range(first, first + count):
        if problem := check(drawn(seed, i, source)):
            found.append(f"{source}: life {i} of seed {seed}: {problem}")
    return found


def main() -> int:
    """Check `--lives` of each format; 0 where all are told as they were, else 1."""
    parser = argparse.ArgumentParser(prog="campaign.explained", description=__doc__)
    parser.add_argument("--lives", type=int, default=1000, help="of each format, and of the eras")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    work = [(args.seed, first, min(50, args.lives - first), name)
            for name in SOURCES for first in range(0, args.lives, 50)]  # fmt: skip
    problems: list[str] = []
    with ProcessPoolExecutor(args.processes) as pool:
        found = pool.map(check_some, *zip(*work, strict=True))
        for some in tqdm(found, total=len(work), unit="50 lives", disable=None):
            problems += some
    print("\n".join(problems[:10]) or f"no difference in {args.lives * len(SOURCES):,} lives")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
