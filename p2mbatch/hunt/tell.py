"""A find told in a few lines: the life, the event that broke, what that means."""

from __future__ import annotations

import textwrap

from p2mbatch.base.say import one_line
from p2mbatch.hunt.judge import RULES, Broken
from p2mbatch.hunt.kinds import kind_of, sentence
from p2mbatch.hunt.known_hazards import TRIMMED, hazard_of
from p2mbatch.model.explain.story import EventStory, Explanation, Step
from p2mbatch.model.explain.text import step_text
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.trace import Trace

_MOST_STEPS = 4

_WIDTH = 100


def tell(trace: Trace, broken: Broken) -> list[str]:
    """Return a find's lines. `trace` is its shrunk life, `broken` what that breaks.

    Raises `ResourceError` as a replay does.
    """
    told = explain_trace(trace)
    story = told.events[broken.event]
    lines = [
        f"{kind_of(broken)}: {sentence(broken)}.",
        f"rule {broken.rule}: {RULES[broken.rule]}.",
        f"the life: {told.policy}, {told.guest}: " + "; ".join(e.title for e in told.events) + ".",
        f"event {broken.event}, {story.title}: {_came_to(story)}",
    ]
    lines += [f"  {step.function}: {step_text(step)}" for step in _steps(story, broken)]
    hazard = hazard_of(trace.policy, broken)
    lines += _meaning(told, broken) if hazard is not TRIMMED else []
    if hazard is not None:
        mended = f"mended by {hazard.mended}" if hazard.mended else "mended nowhere yet"
        lines.append(f"This is known: {hazard.what}; {mended}.")
    return [part for line in lines for part in _wrapped(one_line(line))]


def _came_to(story: EventStory) -> str:
    return story.outcome if story.detail is None else f"{story.outcome} ({story.detail})"


def _steps(story: EventStory, broken: Broken) -> list[Step]:
    """Return the steps that tell of the break: that failed, else that stored, else the last."""
    failed = [step for step in story.steps if step.held is False]
    stray = [step for step in story.steps if step.stray_writes]
    stored = [step for step in story.steps if step.stores] if broken.rule in (2, 3) else []
    return (stray or failed or stored or story.steps)[-_MOST_STEPS:]


def _meaning(told: Explanation, broken: Broken) -> list[str]:
    """Return what the story says that it means, where it tells of what broke."""
    is_end = broken.event == len(told.events) - 1
    tells = broken.rule in (1, 3, 4, 5) and is_end
    return [text for text in (told.conclusion, told.advice) if text and tells]


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent + "  ", break_long_words=False)
