"""A `Guest` on function hosts against the naive model of its life, written out event by event."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import reference
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, PAGE_BYTES
from p2mbatch.base.sizes import MIB
from p2mbatch.compiled.hosts import write_out_host
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest, nth_host
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.replay import observe
from p2mbatch.model.runs import frame_runs
from p2mbatch.model.trace import FORMAT_3, LOSS_FIELDS, REFUSED
from p2mbatch.model.trace_file import trace_to_json


@st.composite
def scenarios(draw: Any) -> Scenario:
    """Guests of a few leaves on crowded hosts: old frame numbers lead to all kinds of pages."""
    memory = draw(st.integers(700, 1600)) * PAGE_BYTES
    return Scenario.make(
        memory_bytes=memory,
        sparsity=draw(st.sampled_from([0.0, 0.2, 0.6])),
        layout=draw(st.sampled_from(["tail", "scattered"])),
        policy=draw(st.sampled_from(["stale", "stale", "stale", "tracked"])),
        neighbours=draw(st.sampled_from([0.5, 1.0])),
        word_bytes=draw(st.sampled_from([8, 4])),
        build_order=0,
        neighbour_memory_bytes=draw(st.sampled_from([70 * PAGE_BYTES, memory])),
        migrations=3,
        hosts=draw(
            st.lists(st.sampled_from([memory + 2 * MIB, memory + 8 * MIB]), min_size=1, max_size=3)
        ),
        xen=draw(st.sampled_from(["", "4.0"])),
        stuck=draw(st.sampled_from(["end", "stay"])),
        seed=draw(st.integers(0, 1 << 20)),
    )


class Written:
    """A guest, and the trace of what it lives through: every host keeps a frame for every page."""

    def __init__(self, scenario: Scenario) -> None:
        staged = StagedGuest(scenario, spare_pool=True)
        self.guest = Guest(staged)
        staged.keep_frames_for_holes()
        plain = trace_to_json(scenario_trace(scenario))
        layout = [event for event in plain["events"] if "host" not in event]
        events = [plain["events"][0], *layout]
        self.trace = plain | {"format": FORMAT_3, "hosts": [], "events": events}
        self.at = 0
        self.trace["guest"]["page_pool"] = staged.placement.page_pool.tolist()
        self.states: list[dict[str, Any]] = [self.state("boot", self.guest.booted)]
        self.states += [{} for _ in self.trace["events"][1:]]
        for index in range(scenario.migrations + 1):
            host = nth_host(scenario, staged.placement, index, names_all=True)
            mfns = np.empty(staged.placement.span, np.int64)
            others = np.empty(int(host.par[0].frames), np.int64)
            write_out_host(host.par, host.m2p, mfns, others)
            pfns, owned = np.arange(len(mfns)), np.flatnonzero(others >= 0)
            self.trace["hosts"].append(
                {
                    "frames": len(others),
                    "domain": frame_runs(pfns, mfns).tolist(),
                    "foreign": frame_runs(owned, others[owned]).tolist(),
                }
            )

    def state(self, op: str, result: Any) -> dict[str, Any]:
        return observe(self.guest.life, op, result)

    def act(self, op: str, pfns: list[int]) -> None:
        """Let the guest do one thing, and note it and what is seen afterwards."""
        guest = self.guest
        if op == "migrate":
            result = guest.migrate()
            scenario, event = guest.scenario, {"op": op, "host": guest.num_migrations}
            event |= {"xen": scenario.xen} if scenario.xen else {}
            event["toolstack"] = scenario.toolstack
            event |= {"on_refused": "stay"} if scenario.stuck == "stay" else {}
            self.trace["events"].append(event)
            losses = {name: getattr(result, name) for name in LOSS_FIELDS[op]}
            self.states.append(self.state(op, result) | losses)
            self.at = self.at if result.outcome in REFUSED else guest.num_migrations
            return
        before = guest.lookup(np.unique(pfns))
        result = guest.populate(pfns) if op == "populate" else guest.balloon_out(pfns)
        runs = [
            [int(pfn), self.frame(pfn) if op == "populate" else None, 1]
            for pfn, entry in zip(np.unique(pfns), before, strict=True)
            if op != "populate" or entry == INVALID
        ]
        self.trace["events"].append({"op": "set", "runs": runs})
        counts = {"entries_set": result.entries_set, "ok": result.set_returned}
        counts |= {name: getattr(result, name) for name in LOSS_FIELDS["set"]}
        self.states.append(self.state("set", result) | counts)

    def frame(self, pfn: int) -> int:
        runs = self.trace["hosts"][self.at]["domain"]
        return next(mfn + pfn - first for first, mfn, count in runs if 0 <= pfn - first < count)


@settings(deadline=None, max_examples=30)
@given(scenario=scenarios(), draw=st.data())
def test_whatever_a_guest_does_is_what_the_naive_model_does(
    scenario: Scenario, draw: st.DataObject
) -> None:
    try:
        written = Written(scenario)
    except InputError:
        return
    guest = written.guest
    placement = guest.placement
    # Structures, what strays hit, and any page at all; holes are grown out of p2m_missing.
    first, last = placement.brk_pfn, placement.brk_pfn + placement.struct_pages - 1
    pfns = st.integers(first, last) | st.integers(0, placement.span - 1)
    for _ in range(draw.draw(st.integers(1, 7))):
        if guest.ended is not None:
            break
        op = draw.draw(st.sampled_from(["migrate", "migrate", "populate", "balloon_out"]))
        if op == "migrate" and guest.num_migrations == scenario.migrations:
            break
        near = guest.tree().hit_pages.tolist()
        anywhere = st.lists(pfns | st.sampled_from(near) if near else pfns, min_size=1, max_size=6)
        written.act(op, [p for p in draw.draw(anywhere) if p < placement.span] or [0])
    expected = reference.replay(written.trace)
    # The layout's own sets belong to the boot; they are looked at once they are all done.
    num_layout = sum(1 for state in written.states if not state)
    if num_layout:
        kept = ("outcome", "detail", "p2m_sha256", "frame_list_sha256")
        assert {k: expected[num_layout][k] for k in kept} == {k: written.states[0][k] for k in kept}
    assert expected[1 + num_layout :] == written.states[1 + num_layout :]
