"""A told life as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from p2mbatch.base.say import one_line
from p2mbatch.model.explain.story import EventStory, Explanation, Step

WIDTH = 100

_MARKS = {None: "    ", True: " ok ", False: " !! "}


def to_text(told: Explanation, event: int | None = None, width: int = WIDTH) -> str:
    """Return the whole story, or with all steps only those of event `event`, from 0.

    Where none is named, uneventful migrations behind the first are told in one line each.
    """
    head = f"{one_line(told.name)}: {told.policy} ({told.meaning}), {told.guest}"
    lines = textwrap.wrap(head, width, subsequent_indent="  ")
    for number, story in enumerate(told.events):
        lines.append("")
        title = f"{number:3d}  {_title(story)}"
        lines += textwrap.wrap(title, width, subsequent_indent=" " * 7)
        if number == event or (event is None and tells(told, number)):
            lines += [line for step in story.steps for line in _step(step, width)]
    lines += ["", f"fate: {told.fate}"]
    for text in (told.conclusion, told.advice):
        lines += textwrap.wrap(one_line(text), width) if text else []
    return "\n".join(lines)


def _title(story: EventStory) -> str:
    text = f"{story.title}: {story.outcome}"
    if story.detail is not None:
        text += f" ({one_line(story.detail)})"
    strays = story.damage.get("stray_writes", 0)
    return text + (f", {strays} stray write{'' if strays == 1 else 's'}" if strays else "")


def tells(told: Explanation, number: int) -> bool:
    """Return whether event `number` has something to tell that none before it had."""
    story = told.events[number]
    if story.outcome != "ok" or any(story.damage.values()) or number == len(told.events) - 1:
        return True
    return story.op != "migrate" or story.number == 1


def step_text(step: Step) -> str:
    """Return a step's text, with what it is the same for."""
    if step.same is None:
        return step.text
    first, last = step.same
    if last == step.at:
        more = step.times - 1
        return f"{step.text} The same {'once' if more == 1 else f'{more} times'} more."
    which = f"{step.unit} {first}" if first == last else f"{_plural(step.unit)} {first} to {last}"
    return f"{step.text} The same for {which}."


def _plural(unit: str) -> str:
    return {"top index": "top indexes", "leaf": "leaves"}.get(unit, f"{unit}s")


def _step(step: Step, width: int) -> Iterator[str]:
    mark = _MARKS[step.held]
    text = f"{step.function}: {one_line(step_text(step))}"
    wrapped = textwrap.wrap(text, max(width - 11, 24))
    for i, line in enumerate(wrapped):
        yield f"     {mark} {line}" if i == 0 else f"{'':10s}{line}"
