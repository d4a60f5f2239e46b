"""A told life as one HTML page: a stepper with tree, list and memory, nothing to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2mbatch._version import __version__
from p2mbatch.model.explain.story import Explanation
from p2mbatch.report.page import asset, template, write_text
from p2mbatch.report.stories import event_of
from p2mbatch.report.table import script_json


def write_page(told: Explanation, path: str | Path) -> None:
    """Write the page of `told` to `path`, all or nothing. Raises `InputError` where it can't."""
    text = template("explain.html.j2").render(
        version=__version__,
        css=asset("report.css") + asset("explain.css"),
        js=asset("explain.js"),
        told=told,
        end=told.events[-1],
        events=[event_of(number, story) for number, story in enumerate(told.events)],
        data=script_json(_pictures(told)),
    )
    write_text(Path(path), text)


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
