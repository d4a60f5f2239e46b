"""A trace explained: its life lived once more, with the log on."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import format_size
from p2mbatch.model.explain.life import Watcher
from p2mbatch.model.explain.meaning import conclude, fate_of_life
from p2mbatch.model.explain.story import EventStory, Explanation, RaceFacts, Step
from p2mbatch.model.fates import DAMAGE
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import shown
from p2mbatch.model.replay import new_life, observed, run_event
from p2mbatch.model.trace import Trace, goes_on


def describe_guest(word_bytes: int, nr_pages: int, span: int) -> str:
    """Return a guest in a few words."""
    end = format_size(span * PAGE_BYTES)
    return f"{8 * word_bytes}-bit, boots with {nr_pages} pages below {end}"


def explain_trace(trace: Trace, digests: bool = False, pictures: bool = False) -> Explanation:
    """Live `trace` with the log on and tell it. With `digests` each event has a trace's.

    With `pictures` each step has the guest before and after it, for a page.

    Raises `ResourceError` as a replay does.
    """
    life = new_life(trace)
    watcher = Watcher(life, pictures)
    stories = []
    for event in trace.events:
        result, steps = _run(watcher, life, trace, event)
        told = observed(life, trace, event, result) if digests else {}
        title = title_of(event, trace, result)
        stories.append(story_of(event["op"], title, result, steps, watcher, told))
        if not goes_on(event, result.outcome):
            break
    policy, guest = shown(trace.policy), trace.guest
    conclusion, advice = conclude(policy, stories)
    return Explanation(
        trace.name,
        policy.short,
        policy.meaning,
        describe_guest(guest.word_bytes, guest.nr_pages, guest.max_p2m_pfn),
        stories,
        fate_of_life(stories),
        conclusion,
        advice,
    )


def story_of(
    op: str,
    title: str,
    result: EventResult,
    steps: list[Step],
    watcher: Watcher,
    observed: dict[str, Any],
) -> EventStory:
    """Return one event's story."""
    return EventStory(
        title,
        op,
        result.outcome,
        result.detail,
        observed or {"op": op, "outcome": result.outcome, "detail": result.detail},
        steps,
        list(watcher.views),
        number=watcher.num_migrations if op == "migrate" else 0,
        damage={name: getattr(result, name) for name in DAMAGE},
        lost_identity=result.lost_identity_pages,
        race=watcher.race if op in ("cpus", "migrate") else RaceFacts(),
    )


def _run(
    watcher: Watcher, life: Life, trace: Trace, event: dict[str, Any]
) -> tuple[EventResult, list[Step]]:
    op = event["op"]
    if op == "boot":
        result = run_event(life, trace, event)
        return result, watcher.booted(result, event)
    if op == "set":
        return watcher.set_runs(np.asarray(event["runs"]))
    if op == "cpus":
        return watcher.set_on_cpus(event["sets"], event["schedule"])
    if op == "migrate":
        return watcher.migrate(lambda: run_event(life, trace, event), event["host"], event)
    return run_event(life, trace, event), watcher.noted(event)


def set_title(runs: Int64Array, result: EventResult, num_cpus: int = 0) -> str:
    """Return a set of `runs` (int64[k, 3]) that came to `result` in a few words.

    Of several CPUs' runs together where `num_cpus` says of how many.
    """
    if num_cpus:
        who = f"{num_cpus} CPU{'s' * (num_cpus != 1)}"
        return f"{who} {set_title(runs, result)}"
    count = int(runs[:, 2].sum())
    if not result.set_returned:
        return f"set {result.entries_set} of {count} entries, returned false"
    return f"set {count} {'entry' if count == 1 else 'entries'}"


def title_of(event: dict[str, Any], trace: Trace, result: EventResult) -> str:
    """Return an event that came to `result` in a few words."""
    op = str(event["op"])
    if op == "boot":
        return f"boot on host {event['host']}"
    if op == "migrate":
        before = [e for e in trace.events if e["op"] == "migrate"]
        number = next(i for i, e in enumerate(before, 1) if e is event)
        return f"migration {number} to host {event['host']}"
    if op == "set":
        return set_title(np.asarray(event["runs"]), result)
    if op == "cpus":
        return set_title(np.concatenate(event["sets"]), result, len(event["sets"]))
    if op == "fail_alloc":
        return f"allocation {event['at']} from here on will fail"
    return op
