"""`p2mbatch notebooks`: hand out the notebooks."""

from __future__ import annotations

import click

from p2mbatch.base.say import one_line, say


@click.command()
@click.argument("copy_to", metavar="COPY_TO")
def notebooks(copy_to: str) -> None:
    """Copy the notebooks into the directory COPY_TO; files that are there already are kept."""
    from p2mbatch.base.shipped import copy_notebooks

    for path, copied in copy_notebooks(copy_to):
        say(f"{one_line(path)}" if copied else f"{one_line(path)} is there already: kept")
    say("Run them with Jupyter; `pip install 'p2mbatch[notebook]'` brings what they need.")
