"""Random guests and lives: the compiled model against the naive one, and the invariants of both."""

from __future__ import annotations

import invariants
import models
import pytest
import strategies
from hypothesis import given, settings

from build import Json


@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
@pytest.mark.parametrize("word_bytes", [8, 4])
def test_compiled_model_is_the_reference(word_bytes: int, policy: str) -> None:
    """Every field of every event, on guests of either width under every policy."""

    @given(strategies.traces(word_bytes, policy))
    def check(trace: Json) -> None:
        expected = models.REPLAYS[models.Reference](trace)
        assert models.REPLAYS[models.Compiled](trace) == expected
        for invariant in invariants.RESULTS:
            invariant(trace, expected)

    check()


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
