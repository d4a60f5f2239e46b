"""The event `cpus` in the naive models: who takes the next step, and what all of it came to."""

from __future__ import annotations

from typing import Any

from oracle import reference
from oracle.cpus_flat import Flat
from oracle.cpus_tree import LOCKS, Kernel, Steps, Tracked
from oracle.eras.identity import Identity, LateList
from oracle.eras.linear import Linear
from oracle.eras.tail import Tail

Json = dict[str, Any]

_MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """The last steps of splitmix64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def chosen(key: int, number: int, ready: list[int]) -> int:
    """Who takes step `number`, counted from 1, of those that can go on."""
    z = mix((mix(key) + number * 0x9E3779B97F4A7C15) & _MASK)
    return ready[((z >> 32) * len(ready)) >> 32]


def run(guest: Any, event: Json, result: Json) -> None:
    """Run a `cpus` event on a naive guest: entries set, whether all sets returned true."""
    entry = steps_of(guest)
    waiting = [
        [
            (pfn + i, guest.word_of(pfn + i, value, i))
            for pfn, value, count in runs
            for i in range(count)
        ]
        for runs in event["sets"]
    ]
    result["entries_set"], result["ok"] = 0, True
    doing: list[Steps | None] = [None] * len(waiting)
    locks = [False] * len(waiting)
    number = 0
    while True:
        ready = [
            who
            for who in range(len(waiting))
            if (doing[who] or waiting[who]) and not (locks[who] and entry.locked)
        ]
        if not ready:
            return
        number += 1
        # What is told of the race names it: campaign/numbers.py looks at all that a guest has.
        guest.num_steps = number
        who = chosen(event["schedule"], number, ready)
        steps = doing[who] or entry.set(*waiting[who].pop(0))
        try:
            locks[who] = next(steps) == LOCKS
            doing[who] = steps
        except StopIteration as done:
            doing[who], locks[who] = None, False
            result["entries_set"] += done.value
            if not done.value:
                result["ok"], waiting[who] = False, []


def steps_of(guest: Any) -> Kernel:
    """The steps of a naive guest's kernel."""
    if isinstance(guest, reference.Machine):
        assert guest.policy == "tracked"
        return Tracked(guest, "old")
    if isinstance(guest, Linear):
        return Flat(guest, "new")
    kinds: list[tuple[type[Tail], str]] = [(LateList, "late"), (Identity, "orig"), (Tail, "old")]
    return Kernel(guest, next(name for kind, name in kinds if isinstance(guest, kind)))
