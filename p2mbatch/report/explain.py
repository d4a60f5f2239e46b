"""A told life as one HTML page: a stepper with tree, list and memory, nothing to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p2mbatch._version import __version__
from p2mbatch.model.explain.story import EventStory, Explanation, Step
from p2mbatch.model.explain.text import step_text
from p2mbatch.report.page import asset, template, write_text

MARKS = {None: ("", ""), True: ("held", "held"), False: ("failed", "went wrong")}
"""How a step is marked: its class, and what is said beside it."""


def write_page(told: Explanation, path: str | Path) -> None:
    """Write the page of `told` to `path`, all or nothing. Raises `InputError` where it can't."""
    text = template("explain.html.j2").render(
        version=__version__,
        css=asset("report.css") + asset("explain.css"),
        js=asset("explain.js"),
        told=told,
        end=told.events[-1],
        events=[_event(number, story) for number, story in enumerate(told.events)],
        data=_embedded(_pictures(told)),
    )
    write_text(Path(path), text)


def _event(number: int, story: EventStory) -> dict[str, Any]:
    """Return an event as the template shows it."""
    strays = story.damage.get("stray_writes", 0)
    return {
        "number": number,
        "title": story.title,
        "outcome": story.outcome,
        "detail": story.detail,
        "strays": strays,
        "bad": story.outcome != "ok" or any(story.damage.values()),
        "steps": [_step(number, i, step) for i, step in enumerate(story.steps)],
    }


def _step(event: int, number: int, step: Step) -> dict[str, Any]:
    mark, said = MARKS[step.held]
    return {
        "id": f"e{event}s{number}",
        "part": step.part,
        "function": step.function,
        "text": step_text(step),
        "mark": mark,
        "said": said,
    }


def _pictures(told: Explanation) -> dict[str, Any]:
    """Return what the script draws: pictures, which of them each step has, and its changes."""
    pictures: list[dict[str, Any]] = []
    steps: dict[str, Any] = {}
    for number, story in enumerate(told.events):
        base = len(pictures)
        pictures += story.views
        for i, step in enumerate(story.steps):
            before, after = (base + k for k in step.views) if story.views else (None, None)
            changes = [
                [c.page, c.pfn, c.index, c.count, c.num_changed, _word(c.before), _word(c.after)]
                for c in step.changes[:8]
            ]
            steps[f"e{number}s{i}"] = [before, after, changes]
    return {"pictures": pictures, "steps": steps}


def _word(value: int) -> str:
    return "INVALID" if value == -1 else f"{value:#x}"


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON that may stand inside a script element."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
