"""`p2mbatch explain`: a life told step by step, and what its end means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from p2mbatch.base.say import say

if TYPE_CHECKING:
    from p2mbatch.model.explain.story import Explanation


@click.command()
@click.argument("subject", metavar="TRACE")
@click.option(
    "--event", type=click.IntRange(0), metavar="K", help="All steps of event K, from 0, alone."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def explain(subject: str, event: int | None, as_json: bool) -> int:
    """Say step by step how a guest lived and why it died: checks, stores, and what they hit.

    TRACE is a trace file. Each check of the toolstack's is told with what it read, each store of a
    resume with the way that led to it, in the kernel's and the toolstack's own words.
    """
    from p2mbatch.base.errors import InputError
    from p2mbatch.model.explain.text import to_text

    told = _told(subject, as_json)
    if event is not None and event >= len(told.events):
        last = len(told.events) - 1
        raise InputError(f"--event: {subject}: there is no event {event}: use 0 to {last}")
    say(json.dumps(told.to_json()) if as_json else to_text(told, event))
    return 0


def _told(subject: str, digests: bool) -> Explanation:
    """Return the story of what SUBJECT names."""
    from p2mbatch.model.explain.trace import explain_trace
    from p2mbatch.model.trace_file import load_trace

    return explain_trace(load_trace(subject), digests)
