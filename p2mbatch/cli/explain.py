"""`p2mbatch explain`: a life told step by step, and what its end means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from p2mbatch.base.errors import InputError
from p2mbatch.base.paths import is_dir
from p2mbatch.base.say import one_line, say
from p2mbatch.cli import completing
from p2mbatch.cli.sweep import AXES

if TYPE_CHECKING:
    from p2mbatch.guests.scenario import Scenario
    from p2mbatch.model.explain.story import Explanation

_FIELDS = tuple(
    (name, text) for name, text in AXES if name not in ("seeds", "guest", "sparsity", "layout")
)


def _scenario_options(command: Any) -> Any:
    """Give `command` an option for each field of a scenario."""
    for name, text in reversed(OPTIONS):
        command = click.option(f"--{name}", metavar="VALUE", help=text)(command)
    return command


OPTIONS = (
    ("memory", "A guest's span, such as 1GiB, in place of RUN or TRACE."),
    ("sparsity", "The part of it that is not populated, such as 0.5."),
    ("layout", "Where the holes lie: tail, scattered, extents."),
    *((name, text) for name, text in _FIELDS if name != "memory"),
    ("guest", "The trace file of a guest, in place of memory, sparsity, layout and word."),
    ("seed", "The seed."),
)
"""The options that say a scenario: those of a sweep, each with one value."""


@click.command()
@click.argument(
    "subject", required=False, metavar="[RUN|TRACE]", shell_complete=completing.run_or_file
)
@click.argument("cell", required=False, shell_complete=completing.cell)
@click.option(
    "--event", type=click.IntRange(0), metavar="K", help="All steps of event K, from 0, alone."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--html",
    metavar="OUT",
    type=click.Path(dir_okay=False),
    help="Write a page to step through to OUT.",
)
@_scenario_options
def explain(
    subject: str | None,
    cell: str | None,
    event: int | None,
    as_json: bool,
    html: str | None,
    **options: str | None,
) -> int:
    """Say step by step how a guest lived and why it died: checks, stores, and what they hit.

    Of a sweep's RUN and a CELL (the beginning of its id), of a TRACE, or of a guest that options
    describe (--memory 1GiB --policy stale). Each check of the toolstack's is told with what it
    read, each store of a resume with the way that led to it, in their own words.
    """
    from p2mbatch.base import terminal
    from p2mbatch.base.files import check_target
    from p2mbatch.model.explain.text import WIDTH, to_text

    given = {name: value for name, value in options.items() if value is not None}
    if html is not None and subject is not None:
        check_target(subject, html)
    told = _told(subject, cell, given, as_json, html is not None)
    if event is not None and event >= len(told.events):
        last = len(told.events) - 1
        raise InputError(f"--event: there is no event {event}: use 0 to {last}")
    if html is not None:
        from p2mbatch.report.explain import write_page

        write_page(told, html)
    if as_json:
        say(json.dumps(told.to_json()))
    elif html is None or event is not None:
        say(to_text(told, event, min(terminal.width() or WIDTH, WIDTH)), fates=True)
    else:
        say(f"{one_line(told.name)}: {told.fate}; {one_line(html)}", fates=True)
    return 0


def _told(
    subject: str | None, cell: str | None, given: dict[str, str], digests: bool, pictures: bool
) -> Explanation:
    """Return the story of what the command line names."""

    if subject is None:
        if not given:
            raise click.UsageError("name a RUN and a CELL, a TRACE, or a guest: --memory 1GiB")
        from p2mbatch.guests.explained import explain_scenario

        return explain_scenario(_scenario(given), digests, pictures)
    if given:
        option = "--" + next(iter(given)).replace("_", "-")
        raise InputError(f"{option}: {subject} says which guest it is: give that or options")
    if not is_dir(subject):
        if cell is not None:
            raise InputError(f"{subject}: is no sweep's RUN: a trace has no cell {cell!r}")
        from p2mbatch.model.explain.trace import explain_trace
        from p2mbatch.model.trace_file import load_trace

        return explain_trace(load_trace(subject), digests, pictures)
    if cell is None:
        raise InputError(f"{subject}: say which cell: p2mbatch explain {subject} CELL")
    from p2mbatch.store.results import SweepResult

    return SweepResult.open(subject).explain(cell, digests=digests, pictures=pictures)


def _scenario(given: dict[str, str]) -> Scenario:
    """Return the one scenario that options say."""
    from p2mbatch.spec.sweep_spec import SweepSpec

    options: dict[str, Any] = dict(given)
    seed = options.pop("seed", "0")
    if not seed.isdecimal():
        raise InputError(f"--seed: {seed!r} is no seed: use a whole number from 0")
    spec = SweepSpec.from_options(**options, seed=int(seed))
    if spec.num_cells != 1:
        raise InputError(f"the options name {spec.num_cells:,} cells: explain tells one")
    return next(iter(spec.scenarios()))
