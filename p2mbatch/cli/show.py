"""`p2mbatch show`: the table that a sweep ends in, again."""

from __future__ import annotations

import click

from p2mbatch.cli import completing


@click.command()
@click.argument("run", metavar="RUN", shell_complete=completing.run)
def show(run: str) -> None:
    """Print what became of the guests of the sweep in RUN: the table that it ended in."""
    from p2mbatch.cli.ending import say_ending
    from p2mbatch.store.results import SweepResult

    say_ending(SweepResult.open(run), run)
