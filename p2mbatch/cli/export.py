"""`p2mbatch export`: a sweep's table as a file."""

from __future__ import annotations

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "json"]),
    help="The file's format [by the file's ending, or parquet].",
)
@click.option("--output", "-o", required=True, metavar="FILE", help="Where to; - is stdout.")
def export(run: str, file_format: str | None, output: str) -> None:
    """Write the table of the store RUN, a row per cell and migration, sorted by scenario."""
    from p2mbatch.export import FORMATS
    from p2mbatch.export import export as write
    from p2mbatch.results import SweepResult

    if file_format is None:
        ending = output.rpartition(".")[2].lower()
        file_format = ending if ending in FORMATS else "parquet"
    write(SweepResult.open(run), output, file_format)
