"""`p2mbatch report`: a sweep's report as one HTML page, or as Markdown."""

from __future__ import annotations

import click

from p2mbatch.base.say import one_line, say
from p2mbatch.cli import completing


@click.command()
@click.argument("run", metavar="RUN", shell_complete=completing.run)
@click.option("--output", "-o", metavar="FILE", help="Where to [RUN/report.html]; - is stdout.")
@click.option("--against", metavar="RUN", help="Another run to compare with, in a section.")
@click.option("--markdown", is_flag=True, help="Markdown for a mailing list, to stdout or FILE.")
def report(run: str, output: str | None, against: str | None, markdown: bool) -> None:
    """Write the report of the sweep in RUN: question, answer, figures, tables, provenance."""
    from pathlib import Path

    from p2mbatch.base.files import check_target
    from p2mbatch.report.page import write_text
    from p2mbatch.report.sweep import html, to_markdown
    from p2mbatch.store.results import SweepResult

    if output is not None and output != "-":
        check_target("-", output)
    result = SweepResult.open(run)
    other = None if against is None else SweepResult.open(against)
    text = to_markdown(result, other) if markdown else html(result, other)
    if output == "-" or (output is None and markdown):
        say(text, end="")
        return
    path = Path(run) / "report.html" if output is None else Path(output)
    write_text(path, text)
    say(f"report: {one_line(path)}")
