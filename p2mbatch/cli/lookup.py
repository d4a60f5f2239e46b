"""`p2mbatch lookup`: what is at a PFN, whose a frame is, and by which way."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from p2mbatch.base.paths import is_dir
from p2mbatch.base.say import say
from p2mbatch.cli.audit import width_option

if TYPE_CHECKING:
    from p2mbatch.dumps.lookup.subject import Subject
    from p2mbatch.model.trace import Trace

_NUMBER = r"0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19}"

_ONE = re.compile(_NUMBER)

_RANGE = re.compile(f"({_NUMBER})-({_NUMBER})")


def _pfns(ctx: click.Context, param: click.Parameter, values: Any) -> list[tuple[int, int]]:
    """Return (first, last) of each N or N-M, decimal or 0x…"""
    found = []
    for value in values:
        match = _RANGE.fullmatch(value)
        if match is None and not _ONE.fullmatch(value):
            raise click.BadParameter(f"{value!r} is no number: use 4096, 0x1000 or 0x1000-0x1fff")
        first, last = (match[1], match[2]) if match else (value, value)
        low, high = int(first, 0), int(last, 0)
        if high < low or high >> 52:
            raise click.BadParameter(f"{value!r} is no range of PFNs")
        found.append((low, high))
    return found


def _mfns(ctx: click.Context, param: click.Parameter, values: Any) -> list[int]:
    """Return each N, decimal or 0x…"""
    for value in values:
        if not _ONE.fullmatch(value) or int(value, 0) >> 52:
            raise click.BadParameter(f"{value!r} is no frame number: use 4096 or 0x1000")
    return [int(value, 0) for value in values]


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--pfn",
    "pfns",
    multiple=True,
    metavar="N[-M]",
    callback=_pfns,
    help="A PFN, or a range of them; decimal or 0x…",
)
@click.option(
    "--mfn", "mfns", multiple=True, metavar="N", callback=_mfns, help="A frame of the host."
)
@click.option("--event", type=int, metavar="K", help="Of a trace: after event K [the last].")
@click.option("--cell", metavar="ID", help="Of a sweep: the cell, or the beginning of its id.")
@click.option(
    "--migration", type=click.IntRange(0), metavar="N", help="Of a cell: after migration N [all]."
)
@width_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a question and line.")
def lookup(
    file: str,
    pfns: list[tuple[int, int]],
    mfns: list[int],
    event: int | None,
    cell: str | None,
    migration: int | None,
    width: str | None,
    as_json: bool,
) -> int:
    """Say what is at a PFN of the guest in FILE, whose a frame is, and by which way in the tree.

    FILE is a real guest's file (see audit), a trace, or a sweep's RUN with --cell. The way is that
    of the guest (p2m_top, mid, leaf) and that of the toolstack (its list, or the page tables).
    """
    from p2mbatch.dumps.lookup import answers

    if not pfns and not mfns:
        raise click.UsageError("ask something: --pfn N, --pfn N-M or --mfn N")
    subject = _subject(file, event, cell, migration, width)
    told: list[tuple[dict[str, Any], str]] = []
    for first, last in pfns:
        if first == last:
            answer = answers.pfn_answer(subject, first)
            told.append((answer, answers.pfn_text(answer)))
        else:
            answer = answers.range_answer(subject, first, last)
            told.append((answer, answers.range_text(answer)))
    for mfn in mfns:
        answer = answers.mfn_answer(subject, mfn)
        told.append((answer, answers.mfn_text(answer)))
    for answer, text in told:
        say(json.dumps(answer) if as_json else text)
    return 0


def _subject(
    file: str, event: int | None, cell: str | None, migration: int | None, width: str | None
) -> Subject:
    """Return the guest that FILE and the options name."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.cli.audit import read_with_progress
    from p2mbatch.dumps.importing.to_trace import is_trace_file
    from p2mbatch.dumps.lookup.subject import subject_of, subject_of_image
    from p2mbatch.dumps.writers.image import image_at
    from p2mbatch.model.trace_file import load_trace

    if is_dir(file):
        if cell is None or event is not None:
            raise InputError(f"{file}: say which cell of the sweep with --cell ID, not --event")
        trace = _cell_trace(file, cell)
        return subject_of_image(image_at(trace, _event_of(trace, migration)), trace.name)
    if cell is not None or migration is not None:
        raise InputError(f"{file}: --cell and --migration belong to a sweep's RUN")
    if is_trace_file(file):
        return subject_of_image(image_at(load_trace(file), event), file)
    if event is not None:
        raise InputError(f"{file}: --event belongs to a trace")
    return subject_of(read_with_progress(file, width))


def _cell_trace(run: str, cell: str) -> Trace:
    """Return the trace of the cell of `run` whose id begins with `cell`."""
    from p2mbatch.store.results import SweepResult

    return SweepResult.open(run).scenario(cell).to_trace()


def _event_of(trace: Trace, migration: int | None) -> int | None:
    """Return the event that ends migration `migration`: the boot and its sets are 0."""
    from p2mbatch.base.errors import InputError

    if migration is None:
        return None
    at = [i for i, event in enumerate(trace.events) if event["op"] == "migrate"]
    if migration > len(at):
        raise InputError(f"--migration: the cell has {len(at)} migrations, not {migration}")
    if migration:
        return at[migration - 1]
    return at[0] - 1 if at else len(trace.events) - 1
