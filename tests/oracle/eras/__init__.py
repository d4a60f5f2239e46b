"""The eras' naive models: ten policies on two machines in plain Python, from the pages' text alone.

They share nothing with the package. `replay(trace)` takes a trace's JSON object, of format 1 (the
machine of the model's first recordings) or 3 (the corrected machine, with the loss columns), and
returns what its "expected" should be.
"""

from __future__ import annotations

from oracle.eras.identity import Identity, LateList, MidIdentity, Moved
from oracle.eras.linear import Linear, Linear44, Linear319
from oracle.eras.machine import Json, Machine
from oracle.eras.tail import Tail
from oracle.eras.two_level import TwoLevel, TwoLevelNone

POLICIES: dict[str, type[Machine]] = {
    "two-level": TwoLevel,
    "two-level-none": TwoLevelNone,
    "tail": Tail,
    "identity": Identity,
    "moved": Moved,
    "mid-identity": MidIdentity,
    "late-list": LateList,
    "linear-3.19": Linear319,
    "linear-4.4": Linear44,
    "linear": Linear,
}


def machine(trace: Json) -> Machine:
    """Return the guest of a trace before it boots."""
    return POLICIES[trace["policy"]](trace)


def goes_on(event: Json, result: Json) -> bool:
    """Whether the guest lives on: a refused one does where the event lets it stay."""
    outcome = result.get("outcome", "ok")
    stays = event.get("on_refused") == "stay"
    return outcome == "ok" or (stays and outcome in ("save-failed", "restore-failed"))


def replay(trace: Json) -> list[Json]:
    """Run a trace and return what its "expected" should be."""
    guest = machine(trace)
    results: list[Json] = []
    for event in trace["events"]:
        results.append(guest.run(event))
        if not goes_on(event, results[-1]):
            break
    return results
