"""Random guests and lives: the compiled model against the naive one, and the invariants of both."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from oracle import invariants, models, strategies
from oracle.build import Json

# Ways for a life to end, of the 18 that there are, that even a quick run has to come across.
LEAST_ENDS = {"tracked": 4, "stale": 7, "none": 4}


def compare(word_bytes: int, policy: str, num_examples: int) -> set[str]:
    """Compare every field of every event of random lives; return the ways in which they ended."""
    ends: set[str] = set()

    @settings(max_examples=num_examples)
    @given(strategies.traces(word_bytes, policy))
    def check(trace: Json) -> None:
        expected = models.REPLAYS[models.Reference](trace)
        assert models.REPLAYS[models.Compiled](trace) == expected
        for invariant in invariants.RESULTS:
            invariant(trace, expected)
        for result in expected:
            outcome, detail = result.get("outcome", "ok"), result.get("detail")
            stray = "with stray writes" if result.get("stray_writes") else ""
            kind = (detail or stray).split(" ")[0] if outcome == "save-failed" else detail or stray
            ends.add(f"{outcome} {kind}")

    check()
    return ends


@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
@pytest.mark.parametrize("word_bytes", [8, 4])
def test_compiled_model_is_the_reference(word_bytes: int, policy: str) -> None:
    """On guests of either width under every policy, and on lives that end in many ways."""
    ends = compare(word_bytes, policy, settings().max_examples)
    assert len(ends) >= LEAST_ENDS[policy], ends


@pytest.mark.lane
@pytest.mark.parametrize("policy", ["tracked", "stale"])
@pytest.mark.parametrize("word_bytes", [8, 4])
def test_compiled_model_is_the_reference_on_a_few_lives(word_bytes: int, policy: str) -> None:
    compare(word_bytes, policy, 8)


def live(guest: models.Model) -> None:
    """Run a guest that never strays, and hold it to the invariants after every event."""
    listed = False
    for event, result in zip(guest.trace["events"], guest.run(), strict=False):
        if result.get("outcome", "ok") != "ok":
            return
        if event["op"] in ("boot", "migrate"):
            listed = guest.trace["policy"] == "tracked" or event["op"] == "boot"
        elif event["op"] == "set" and invariants.touches_structures(guest.trace, event):
            listed = False
        for invariant in invariants.ALWAYS + invariants.LIST * listed:
            invariant(guest)
        if event["op"] == "migrate":
            host = guest.trace["hosts"][event["host"]]
            invariants.restored_entries_are_the_new_hosts_frames(guest, host)


@pytest.mark.parametrize("policy", ["tracked", "none"])
@pytest.mark.parametrize("word_bytes", [8, 4])
def test_invariants_hold_through_any_life(
    model: type[models.Model], word_bytes: int, policy: str
) -> None:
    @settings(max_examples=max(20, settings().max_examples // 4))
    @given(strategies.traces(word_bytes, policy))
    def check(trace: Json) -> None:
        live(model(trace))

    check()
