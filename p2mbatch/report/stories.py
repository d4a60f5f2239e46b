"""Why guests ended as they did: the first guest of each fate and policy, told in the report's page.

A life is told by living it again (`explained.py`), which for a large guest takes a second. So
the page tells few: those of the worst fates first, within `MAX_STORIES` and `MAX_WORK`. Of every
other the page has the command that tells it.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base.errors import InputError, P2MBatchError
from p2mbatch.base.say import one_line
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.fields import FILES
from p2mbatch.guests.snapshots import scenario_of
from p2mbatch.model.explain.story import EventStory, Explanation, Step
from p2mbatch.model.explain.text import step_text, tells
from p2mbatch.model.fates import CORRUPTED, ENDS, FATES, SURVIVED
from p2mbatch.model.policies import shown
from p2mbatch.plots.tree import tree_title
from p2mbatch.store.fates import fates, last_rows

if TYPE_CHECKING:
    import pandas as pd

    from p2mbatch.guests.scenario import Scenario
    from p2mbatch.store.results import SweepResult

MAX_STORIES = 24
"""Lives that a page tells; each takes some 10 kB of it."""

MAX_WORK = 100_000
"""What the lives that are told may cost together: leaves times events, 40 µs each or so."""

_SMALL = 8192
"""Up to so many leaves a resume is told store by store; of more, most of it runs compiled."""

_COMPILED = 8
"""How many leaves beyond `_SMALL` cost as much as one before it."""

_MAX_STEPS = 40
"""Steps of an event that a page shows; the first ones are left out where there are more."""

_MAX_EVENTS = 12
"""Events of a life that a page shows, likewise."""

MARKS = {None: ("", ""), True: ("held", "held"), False: ("failed", "went wrong")}
"""How a step is marked: its class, and what is said beside it."""


class Story(NamedTuple):
    """The first guest of a policy that came to a fate."""

    fate: str
    policy: str
    num_guests: int
    """How many of that policy came to that fate."""
    cell: str
    detail: str
    """Of its last row."""
    guest: str
    """Who it is, in a few words."""
    command: str
    """What tells all of it."""
    elsewhere: str
    """The same without the run; empty where options can't say it."""
    told: Explanation | None
    """None where it was left out."""
    why_not: str
    """Why it was."""

    @property
    def anchor(self) -> str:
        """Return the id of its element in the page."""
        return anchor_of(self.fate, self.policy)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events of the life as a template shows them."""
        return [] if self.told is None else list(_shown(self.told, self.anchor))

    @property
    def num_left_out(self) -> int:
        """Return how many events come before those that are shown."""
        return 0 if self.told is None else max(0, len(self.told.events) - _MAX_EVENTS)


def anchor_of(fate: str, policy: str) -> str:
    """Return the id of the story of a fate and policy."""
    # A policy may be named by a file: its name is made harmless, and a digest keeps it unique.
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in shown(policy).short)
    if name != policy:
        name += f"-{hashlib.sha256(policy.encode(errors='surrogatepass')).hexdigest()[:6]}"
    return f"story-{fate.replace(' ', '-')}-{name}"


def explain_command(result: SweepResult) -> str:
    """Return the command that tells a cell of `result`, but for the cell."""
    return f"p2mbatch explain {one_line(shlex.quote(str(result.path)))}"


def stories_of(result: SweepResult, frame: pd.DataFrame) -> list[Story]:
    """Return a story for each fate and policy of a run, the worst fates first.

    Of guests that survived intact one is told, whatever the policy. `frame` is its `compact`.
    """
    if frame.empty:
        return []
    ends = _first_ends(frame)
    names = result.cell_names(ends["cell"].tolist())
    command = explain_command(result)
    ends["_told"] = _affordable(ends)
    return [
        _story(row, name, f"{command} {name[:10]}")
        for (_, row), name in zip(ends.iterrows(), names, strict=True)
    ]


_TOLD_FIRST = (*ENDS[::-1], CORRUPTED, SURVIVED)
"""The fates in the order in which they take of what may be told."""


def _first_ends(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of the first cell of each fate and policy, with `num_guests` like it.

    The first is that which is not too large to be told, where there is one.
    """
    ends = last_rows(frame[["cell", "migration", "policy", "leaves"]]).assign(fate=fates(frame))
    ends["_dear"] = _work(ends) > MAX_WORK
    by = ["fate", "policy"]
    kinds = ends.groupby(by, observed=True, sort=False)["cell"]
    ends["num_guests"] = kinds.transform("size")
    told = ends.sort_values(["_dear", "cell"]).drop_duplicates(by)
    found = frame.loc[told.index].assign(
        fate=told["fate"], num_guests=told["num_guests"], _dear=told["_dear"]
    )
    places = {fate: place for place, fate in enumerate(FATES)}
    found = found.assign(_fate=found["fate"].astype(str).map(places)).sort_values(
        ["_fate", "_dear", "cell"]
    )
    intact = (found["fate"] == SURVIVED).to_numpy()
    found.loc[intact, "num_guests"] = found["num_guests"][intact].sum()
    first = ~(intact & found["fate"].astype(str).duplicated().to_numpy())
    return found[first]


def _work(ends: pd.DataFrame) -> pd.Series[Any]:
    """Return what telling each life costs, of its last row: leaves times events, int64."""
    leaves = ends["leaves"].astype("int64").clip(lower=1)
    each = leaves.clip(upper=_SMALL) + (leaves - _SMALL).clip(lower=0) // _COMPILED
    return each * (ends["migration"].astype("int64") + 1)


def _affordable(ends: pd.DataFrame) -> list[bool]:
    """Return which lives are told: each fate's first, then others, while there is work left."""
    work = _work(ends).tolist()
    found = ends["fate"].tolist()
    order = sorted(
        range(len(ends)),
        key=lambda at: (
            found[at] in found[:at],
            _TOLD_FIRST.index(found[at]),
            work[at],
        ),
    )
    chosen, left = [False] * len(ends), MAX_WORK
    for at in order:
        if work[at] <= left and sum(chosen) < MAX_STORIES:
            chosen[at] = True
            left -= work[at]
    return chosen


def _story(row: Any, cell: str, command: str) -> Story:
    told, why_not, elsewhere = None, "", ""
    try:
        scenario = scenario_of(row)
        elsewhere = _by_options(scenario)
        if row["_told"]:
            told = explain_scenario(scenario)
        else:
            why_not = "it takes long to tell"
    except P2MBatchError as error:
        # The file that a guest or a policy is from need not be where its results are.
        why_not = one_line(error)
    return Story(
        str(row["fate"]),
        str(row["policy"]),
        int(row["num_guests"]),
        cell,
        row["detail"] if isinstance(row["detail"], str) else "",
        tree_title(row),
        command,
        elsewhere,
        told,
        why_not,
    )


def _by_options(scenario: Scenario) -> str:
    """Return the command that tells a guest by what it is; empty where options can't say it."""
    from p2mbatch.spec.sweep_spec import SweepSpec

    given = scenario.canonical()
    if any(given[name] for name in FILES) or shown(scenario.policy).own is not None:
        return ""
    usual = type(scenario).make(memory_bytes=scenario.memory_bytes).canonical()
    options = {
        name.removesuffix("_bytes") if name != "word_bytes" else name: _written(name, value)
        for name, value in given.items()
        if name == "memory_bytes" or value != usual[name]
    }
    if "linux" in options:
        options.pop("policy", None)
    try:
        same = next(iter(SweepSpec.from_options(**options).scenarios()))
    except InputError:
        return ""
    if same.cell_id != scenario.cell_id:
        return ""
    words = [f"--{name.replace('_', '-')} {shlex.quote(text)}" for name, text in options.items()]
    return f"p2mbatch explain {' '.join(words)}"


def _written(name: str, value: Any) -> str:
    """Return a field's value as an option has it."""
    is_size = name.endswith("_bytes") and name != "word_bytes"
    if is_size and value and value % (1 << 20) == 0:
        return f"{value >> 20}MiB"
    return str(value)


# --- what a template shows ---------------------------------------------------------------------


def _shown(told: Explanation, anchor: str) -> Iterator[dict[str, Any]]:
    first = max(0, len(told.events) - _MAX_EVENTS)
    for number, story in enumerate(told.events[first:], first):
        event = event_of(number, story, f"{anchor}-")
        if not tells(told, number):
            event["steps"] = []
        event["num_left_out"] = max(0, len(event["steps"]) - _MAX_STEPS)
        event["steps"] = event["steps"][-_MAX_STEPS:]
        yield event


def event_of(number: int, story: EventStory, prefix: str = "") -> dict[str, Any]:
    """Return an event as a template shows it; `prefix` begins the ids of its steps."""
    strays = story.damage.get("stray_writes", 0)
    return {
        "number": number,
        "title": story.title,
        "outcome": story.outcome,
        "detail": story.detail,
        "strays": strays,
        "bad": story.outcome != "ok" or any(story.damage.values()),
        "steps": [_step(f"{prefix}e{number}s{i}", step) for i, step in enumerate(story.steps)],
    }


def _step(name: str, step: Step) -> dict[str, Any]:
    mark, said = MARKS[step.held]
    return {
        "id": name,
        "part": step.part,
        "function": step.function,
        "text": step_text(step),
        "mark": mark,
        "said": said,
    }
