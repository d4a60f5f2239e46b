"""From lives that batches call broken to finds: judged, put into kinds, shrunk, written, told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.hunt.judge import Broken, judge
from p2mbatch.hunt.kinds import kind_of, sentence
from p2mbatch.hunt.layouts import Json
from p2mbatch.hunt.shrink import shrink
from p2mbatch.hunt.state import Find, Progress
from p2mbatch.hunt.tell import tell
from p2mbatch.model.policies import find as policy_of
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace, write_trace

LOOKED_AT = 24
"""Lives of one signature that are judged in a hunt: a signature may be of several kinds."""

AT_ONCE = 4
"""Those of one generation."""

SELDOM = 4
"""Once so many were, one life of the signature is judged in each so many generations: what shares
it with much that is known would not be found else."""


class Failures(Protocol):
    """Which lives broke which rule, a row each: by the lives, then by the rules."""

    @property
    def life(self) -> Int64Array:
        """The life's index in the generation."""

    @property
    def rule(self) -> Int64Array:
        """The rule that it broke."""

    @property
    def signature(self) -> Int64Array:
        """What broke, coarsely: lives of one signature may be of several kinds."""


class Generation(Protocol):
    """A batch's answer."""

    @property
    def num_lives(self) -> int:
        """How many lives were lived."""

    @property
    def coverage(self) -> dict[str, int]:
        """What lives have reached so far, by what is counted."""

    @property
    def failures(self) -> Failures:
        """Which lives broke which rule."""

    def trace(self, life: int) -> Json:
        """Return a life as the JSON object of a trace."""


def new_finds(
    generation: Generation,
    first: int,
    progress: Progress,
    folder: Path,
    on_look: Callable[[], None],
) -> Iterator[Find]:
    """Yield what a generation shows that was not found before, its trace written into `folder`.

    `first` is the number of the generation's first life. Counts in `progress` what was looked at;
    `on_look` is called for each life that is, and for
    each that is tried in making one small.
    """
    known = {find.kind for find in progress.finds}
    rules = _rules(generation.failures)
    for life, signatures in _worth_a_look(generation, progress):
        on_look()
        trace = generation.trace(life)
        found = _judged(trace)
        for signature in signatures:
            progress.looked_at[signature] = progress.looked_at.get(signature, 0) + 1
        if {broken.rule for broken in found} != rules[life]:
            progress.unconfirmed += 1
            _keep_doubt(trace, folder, progress.unconfirmed)
        for broken in found:
            kind = kind_of(broken)
            if kind not in known:
                known.add(kind)
                yield _find(trace, kind, first + life, folder, on_look)


def _rules(failures: Failures) -> dict[int, set[int]]:
    """Return which rules each life broke."""
    found: dict[int, set[int]] = {}
    for life, rule in zip(failures.life.tolist(), failures.rule.tolist(), strict=True):
        found.setdefault(life, set()).add(rule)
    return found


def _worth_a_look(generation: Generation, progress: Progress) -> Iterator[tuple[int, list[str]]]:
    """Yield (life, signatures) of the first few lives of each signature, and seldom of one more."""
    now: dict[str, int] = {}
    rows: dict[int, list[str]] = {}
    failures = generation.failures
    for life, signature in zip(failures.life.tolist(), failures.signature.tolist(), strict=True):
        name = str(signature)
        most = min(AT_ONCE, LOOKED_AT - progress.looked_at.get(name, 0))
        if most <= 0:
            most = int((progress.generation + signature) % SELDOM == 0)
        if now.get(name, 0) < most:
            now[name] = now.get(name, 0) + 1
            rows.setdefault(life, []).append(name)
    yield from sorted(rows.items())


def _judged(trace: Json) -> tuple[Broken, ...]:
    """Return what a life breaks; nothing where it is not within the world.

    Raises `PolicyError` where it is the user's file that ends it: nothing can be hunted then.
    """
    try:
        return judge(parse_trace(trace, "hunt")).broken
    except PolicyError:
        raise
    except InputError:
        return ()


def _keep_doubt(trace: Json, folder: Path, number: int) -> None:
    """Keep the first lives on which the two judges differ: one of the two is wrong."""
    if number <= AT_ONCE:
        try:
            parsed = parse_trace(trace, "hunt")
        except InputError:
            return
        write_trace(parsed, folder / f"unconfirmed-{number}.trace.json.gz")


def _find(trace: Json, kind: str, life: int, folder: Path, on_look: Callable[[], None]) -> Find:
    """Shrink, write and tell the first life of a kind."""

    def goes_on() -> bool:
        on_look()
        return False

    least = shrink(trace, kind, stop=goes_on)
    policy = policy_of(least.life["policy"]).short
    parsed = parse_trace(least.life | {"name": f"{policy} {kind}"}, "hunt")
    parsed = dataclasses.replace(parsed, expected=_expected(parsed))
    name = f"{kind}.trace.json.gz"
    write_trace(parsed, folder / name)
    return Find(
        kind=kind,
        rule=least.broken.rule,
        life=life,
        events=least.num_events,
        sentence=sentence(least.broken),
        trace=name,
        lines=tell(parsed, least.broken),
    )


def _expected(trace: Any) -> list[dict[str, Any]]:
    """Return what a replay of `trace` shows, but for the lines of a user's file."""
    return [{name: event[name] for name in event if name != "where"} for event in replay(trace)]
