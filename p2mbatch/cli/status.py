"""`p2mbatch status`: how far a sweep has come."""

from __future__ import annotations

import json
import textwrap
import time
from typing import Any

import click

from p2mbatch.base import terminal
from p2mbatch.base.say import counted, one_line, say
from p2mbatch.cli import completing

WATCH_S = 2.0

_MAX_FAILURES = 20
"""Different messages that are shown to a person."""


@click.command()
@click.argument("run", metavar="RUN", shell_complete=completing.run)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--watch", is_flag=True, help="Say it again every two seconds until the sweep is at its end."
)
def status(run: str, as_json: bool, watch: bool) -> int:
    """Say how far the sweep in the store RUN has come, also while it runs; exit 1 on failures."""
    from p2mbatch.store.results import SweepResult

    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other")
    result = SweepResult.open(run)
    if watch:
        _watch(result)
    progress = result.progress
    failures = result.failure_counts()
    if as_json:
        found = {
            **progress._asdict(),
            "failures": [
                {"error": error, "message": message, "num_cells": count}
                for error, message, count in failures
            ],
            "provenance": result.provenance,
        }
        say(json.dumps(found))
    else:
        _print(result, failures)
    return 1 if progress.num_failed else 0


def _watch(result: Any) -> None:
    """Say in a line how a sweep gets on, until nobody runs it."""
    from p2mbatch.cli.watching import Watch

    watch = Watch(result)
    while result.progress.state == "running":
        say(watch.line(result), fates=True)
        time.sleep(WATCH_S)
        result.refresh()


_INDENT = " " * 10


def _say(name: str, text: str) -> None:
    """Say what there is to a name, wrapped where the terminal is narrow."""
    line = f"{name:{len(_INDENT)}}{text}"
    width = terminal.width()
    if width is not None:
        line = textwrap.fill(
            line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
        )
    say(line)


def _print(result: Any, failures: list[tuple[Any, ...]]) -> None:
    progress = result.progress
    details = result.provenance
    at = f" by process {progress.pid}" if progress.pid else ""
    _say("state", f"{progress.state}{at}")
    _say(
        "cells",
        f"{progress.num_finished:,} finished, {progress.num_failed:,} failed, "
        f"{max(progress.num_cells - progress.num_settled, 0):,} to go",
    )
    _say("rows", f"{progress.num_rows:,}")
    for spec in details["specs"]:
        _say("spec", f"{one_line(spec['source'])} ({counted(spec['num_cells'], 'cell')})")
    if details["runs"]:
        last = details["runs"][-1]
        _say("started", f"{details['started_at']}, {counted(len(details['runs']), 'run')}")
        if last["ended_at"]:
            _say("ended", f"{last['ended_at']} ({last['state']})")
        _say("command", f"{one_line(' '.join(last['command']))}")
        _say(
            "made by",
            f"p2mbatch {last['p2mbatch']} (model {last['model_version']}), "
            f"numba {last['numba']}, on {one_line(last['cpu'])}, {last['cores']} cores",
        )
    for error, message, count in failures[:_MAX_FAILURES]:
        _say("failed", f"{count:,} × {one_line(error)}: {one_line(message)}")
    if len(failures) > _MAX_FAILURES:
        more = sum(count for _, _, count in failures[_MAX_FAILURES:])
        _say("failed", f"{more:,} more, with other messages: --json has them all")
    if progress.state == "interrupted":
        say("The same sweep command continues it.")
