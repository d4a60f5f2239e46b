"""`p2mbatch compare`: two sweeps cell by cell."""

from __future__ import annotations

import json

import click

from p2mbatch.base.say import say
from p2mbatch.cli import completing


@click.command()
@click.argument("a", metavar="A", shell_complete=completing.run)
@click.argument("b", metavar="B", shell_complete=completing.run)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(a: str, b: str, as_json: bool) -> int:
    """Compare the sweeps A and B, stores or exports; exit 1 where what must be equal is not.

    Cells are matched by scenario. Exact columns that differ are listed; measured ones are given
    as ratios B / A with a bootstrap interval, by size.
    """
    from p2mbatch.report.compare import compare as run_compare
    from p2mbatch.report.compare import to_text
    from p2mbatch.store.exported import open_table

    found = run_compare(open_table(a), open_table(b))
    say(json.dumps(found.to_dict(), indent=2) if as_json else to_text(found))
    return 0 if found.equal else 1
