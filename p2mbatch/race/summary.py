"""What an exploration found, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from p2mbatch.base.errors import InputError
from p2mbatch.base.rates import CONFIDENCE
from p2mbatch.compiled.race.layout import LABEL_NAMES
from p2mbatch.race.config import Config
from p2mbatch.race.explorer import EndClass, Exploration
from p2mbatch.race.meaning import meaning_of
from p2mbatch.race.sample import Sampled
from p2mbatch.race.telling import lines_of, tell

ALLOCATOR_WORDS = {
    "never": "a freed page is never handed out again",
    "own": "a CPU takes its own freed pages first",
    "any": "a freed page may go to anybody",
}
MEMORY_WORDS = {
    "sc": "stores reach memory at once",
    "tso": "stores wait in each CPU's buffer (TSO)",
}
_TOOLSTACK_LABELS = ("T-abort", "T-fail", "T-ghost", "T-lost", "T-misdirected")


def describe(name: str, config: Config) -> Iterator[str]:
    """Yield the lines that say what is explored."""
    yield name
    yield (
        f"  kernel {config.kernel}; {ALLOCATOR_WORDS[config.allocator]}; "
        f"{MEMORY_WORDS[config.memory]}"
    )
    if config.populated_first:
        yield f"  populated before: PFN {', '.join(map(str, config.populated_first))}"
    for who, program in enumerate(config.cpus):
        yield f"  CPU {who}: {', '.join(map(str, program))}"
    if config.toolstack:
        yield f"  toolstack: walks the {config.toolstack} once, while they run"


def table(found: Exploration) -> Iterator[str]:
    """Yield the classes with their counts, then the labels that cannot be reached."""
    if found.reduced:
        yield (
            f"  reduced: {found.num_states:,} states stand for all; schedules and probabilities "
            f"are not counted"
        )
    else:
        yield (
            f"  {found.num_states:,} states, {found.num_transitions:,} transitions, "
            f"{_number(found.schedules)} schedules"
        )
    width = max(len("class"), *(len(name) for name in found.classes))
    yield f"  {'class':{width}s}  {'schedules':>22s}  probability  steps"
    for name, one in found.classes.items():
        chance = "-" if one.probability is None else f"{one.probability:.6f}"
        count = "not counted" if one.schedules is None else _number(one.schedules)
        yield f"  {name:{width}s}  {count:>22s}  {chance:>11s}  {len(one.witness):5d}"
    reached = {label for one in found.classes.values() for label in one.labels}
    never = [
        label
        for label in LABEL_NAMES
        if label not in reached
        and (found.config.toolstack or label not in _TOOLSTACK_LABELS)
        and (found.config.kernel == "new" or label != "max")
    ]
    yield f"  no schedule comes to: {', '.join(never)}"


def rate_table(found: Sampled) -> Iterator[str]:
    """Yield the classes of a sample with their rates and intervals."""
    yield (
        f"  {found.num_schedules:,} schedules drawn, {found.entries} words a page; intervals hold "
        f"together with {CONFIDENCE:.0%}"
    )
    width = max(len("class"), *(len(name) for name in found.rates))
    yield f"  {'class':{width}s}  {'drawn':>9s}      rate  from      to"
    for name, rate in found.rates.items():
        yield (
            f"  {name:{width}s}  {rate.count:9,}  {rate.share:.6f}  {rate.low:.6f}  {rate.high:.6f}"
        )


def _number(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}" if value < 10**15 else f"{value:.6e}"


def story(found: Exploration, one: EndClass) -> Iterator[str]:
    """Yield what a class means and its witness, step by step."""
    shortest = "a schedule, perhaps not a shortest" if found.reduced else "a shortest schedule"
    yield f"{one.name}: {shortest}, {len(one.witness)} steps"
    for label, text in meaning_of(one.name):
        yield f"  {label}: {text}"
    for line in lines_of(found.config, tell(found.config, one)):
        yield line.rstrip()


def class_asked_for(found: Exploration, name: str | None) -> EndClass:
    """Return the class called `name`; without a name the likeliest that is not ok.

    Raises `InputError` where no schedule ends so.
    """
    if name is None:
        bad = [one for one in found.classes.values() if one.name != "ok"]
        return max(bad or found.classes.values(), key=lambda one: one.probability or 0.0)
    labels = "+".join(sorted(name.split("+")))
    if labels not in found.classes:
        raise InputError(
            f"--class: no schedule ends in {name!r}; there are {', '.join(found.classes)}"
        )
    return found.classes[labels]
