"""A scenario explained: the sweep's cell lived once more, event for event, with the log on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import format_size
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.model.explain.life import Watcher
from p2mbatch.model.explain.meaning import conclude, fate_of_life
from p2mbatch.model.explain.story import EventStory, Explanation, Step
from p2mbatch.model.explain.trace import describe_guest, set_title, story_of
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.replay import observe
from p2mbatch.model.trace import LOSS_FIELDS

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields
    from p2mbatch.model.policies import Policy

Action = tuple[str, Int64Array | tuple[list[Int64Array], int] | None]
"""What a guest did behind its boot: ("migrate", None), ("set", runs), ("cpus", (sets, key)) or
("keep", None)."""


class _Living:
    """A scenario's guest that is being told."""

    def __init__(
        self, scenario: ScenarioFields, digests: bool, pictures: bool, *, spare_pool: bool
    ) -> None:
        self.guest = StagedGuest(scenario, spare_pool=spare_pool)
        self.watcher = Watcher(self.guest.life, pictures)
        self.guest.on_growth, self.guest.on_race = self.watcher.grew, self.watcher.raced
        self.digests = digests
        self.stories: list[EventStory] = []

    def add(self, op: str, title: str, result: EventResult, steps: list[Step]) -> bool:
        """Add an event that has just run; return whether the guest lives on."""
        told: dict[str, Any] = {}
        if self.digests:
            told = observe(self.guest.life, op, result)
            told |= {name: getattr(result, name) for name in LOSS_FIELDS.get(op, ())}
        self.stories.append(story_of(op, title, result, steps, self.watcher, told))
        return self.guest.goes_on(result)

    def boot(self) -> bool:
        """Boot, with all that comes before the first migration."""
        result = self.guest.boot()
        placement, event = self.guest.placement, {}
        if placement.marks_hole and not placement.policy.is_linear:
            event = {"identity": placement.boot_arguments[0]}
        steps = self.watcher.booted(result, event, placement.num_grown)
        return self.add("boot", "boot on host 0", result, steps)

    def migrate(self) -> bool:
        """Go to the next host."""
        number = self.guest.num_migrations + 1
        result, steps = self.watcher.migrate(self.guest.migrate, number, {})
        return self.add("migrate", f"migration {number} to host {number}", result, steps)

    def set_runs(self, runs: Int64Array) -> bool:
        """Populate or balloon out."""
        result, steps = self.watcher.set_runs(runs)
        return self.add("set", set_title(runs, result), result, steps)

    def set_on_cpus(self, sets: list[Int64Array], key: int) -> bool:
        """Let several CPUs populate pages."""
        result, steps = self.watcher.set_on_cpus(sets, key)
        title = set_title(np.concatenate(sets), result, len(sets))
        return self.add("cpus", title, result, steps)


def explain_scenario(
    scenario: ScenarioFields, digests: bool = False, pictures: bool = False
) -> Explanation:
    """Live `scenario` with the log on and tell it: the cell of a sweep, its rows' events.

    With `digests` each event has a trace's, which for a large guest takes seconds; with `pictures`
    each step has the guest before and after it. Raises `InputError` where the guest can't be
    placed.
    """
    living = _Living(scenario, digests, pictures, spare_pool=False)
    alive = living.boot()
    while alive and living.guest.num_migrations < scenario.migrations:
        alive = living.migrate()
    return _told(living)


def explain_actions(
    scenario: ScenarioFields, actions: Iterable[Action], pictures: bool = False
) -> Explanation:
    """Tell the life of a `Guest` that did `actions` behind its boot."""
    living = _Living(scenario, False, pictures, spare_pool=True)
    living.boot()
    for what, runs in actions:
        if what == "keep":
            living.guest.keep_frames_for_holes()
        elif isinstance(runs, tuple):
            living.set_on_cpus(*runs)
        elif runs is not None:
            living.set_runs(runs)
        else:
            living.migrate()
    return _told(living)


def _can_not_grow(scenario: ScenarioFields) -> bool:
    """Return whether the guest is to get more pages within a span that has no holes."""
    grows = scenario.grow_bytes > 0 and scenario.migrations > 0
    return grows and scenario.grow_where == "within" and scenario.sparsity == 0.0


def _left_out(scenario: ScenarioFields, policy: Policy) -> str:
    """Return what is said of memory that the kernel does not take, or ""."""
    most = scenario.max_domain_pages
    if policy.is_two_level or not 0 < most < scenario.memory_bytes // PAGE_BYTES:
        return ""
    end = format_size(most * PAGE_BYTES)
    return f", all that its kernel takes (CONFIG_XEN_MAX_DOMAIN_MEMORY {end})"


def _told(living: _Living) -> Explanation:
    scenario, placement = living.guest.scenario, living.guest.placement
    policy = placement.policy
    conclusion, advice = conclude(policy, living.stories)
    if _can_not_grow(scenario):
        conclusion += " It was to grow between migrations, and had nowhere to: all pages of its "
        conclusion += "span are there from boot on."
        advice = f"{advice} Grow it past its end (grow_where beyond), or boot it with less.".strip()
    return Explanation(
        f"cell {scenario.cell_id}",
        policy.short,
        policy.meaning,
        describe_guest(scenario.word_bytes, placement.nr_pages, placement.span)
        + _left_out(scenario, policy),
        living.stories,
        fate_of_life(living.stories),
        conclusion,
        advice,
        scenario.cell_id,
        scenario.canonical(),
    )
