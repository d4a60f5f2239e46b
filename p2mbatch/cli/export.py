"""`p2mbatch export`: a sweep's table as a file."""

from __future__ import annotations

from pathlib import Path

import click

from p2mbatch.cli import completing


@click.command()
@click.argument("run", metavar="RUN", shell_complete=completing.run)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "json"]),
    help="The file's format [by the file's ending; parquet where it has none].",
)
@click.option("--output", "-o", required=True, metavar="FILE", help="Where to; - is stdout.")
def export(run: str, file_format: str | None, output: str) -> None:
    """Write the table of the store RUN, a row per cell and migration, sorted by scenario."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.store.export import FORMATS
    from p2mbatch.store.export import export as write
    from p2mbatch.store.results import SweepResult

    if file_format is None:
        ending = Path(output).suffix.lower().removeprefix(".")
        if ending and ending not in FORMATS:
            raise InputError(
                f"{output}: no format is called {ending!r}: name one of {', '.join(FORMATS)} with "
                "--format"
            )
        file_format = ending or "parquet"
    write(SweepResult.open(run), output, file_format)
