"""`p2mbatch plot`: one figure of a sweep as a file."""

from __future__ import annotations

from typing import Any

import click

from p2mbatch.cli import completing

FIGURES = {
    "tree": "One guest before and after its first migration: its tree, its list, its memory.",
    "survival": "How many guests had come through each migration, and what became of the others.",
    "outcomes": "Fates over two axes of the sweep.",
    "corruption": "Words written into pages that are not the list's.",
    "overhead": "Memory of the tree and its list as a share of what the guest has.",
    "cost": "What a migration costs, beside copying as many bytes.",
    "drift": "Whether that stays while a guest is migrated again.",
    "live": "What becomes of guests that grow while they move, kernel by kernel.",
}
"""The figures of `p2mbatch.plots.PLOTS`, named here so that --help need not load them."""


class _Plot(click.Command):
    """A command whose help ends with the figures."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the figures show."""
        with formatter.section("Figures"):
            formatter.write_dl(list(FIGURES.items()))


@click.command(cls=_Plot)
@click.argument("run", metavar="RUN", shell_complete=completing.run)
@click.argument("name", metavar="NAME", type=click.Choice(list(FIGURES)), required=False)
@click.option("--output", "-o", metavar="FILE", help="Where to: .svg, .png or .pdf.")
@click.option("--all", "into", metavar="DIR", help="Draw every figure, as SVG files in DIR.")
@click.option("--x", metavar="AXIS", help="outcomes: the axis along x [memory_bytes].")
@click.option("--y", metavar="AXIS", help="outcomes: the axis along y [the next that varies].")
@click.option("--policy", metavar="POLICY", help="outcomes: whose guests [what fared worst].")
@click.option("--cell", metavar="ID", help="tree: the guest's cell, or the beginning of its id.")
@click.option("--migration", type=click.IntRange(0), metavar="N", help="outcomes, tree: which one.")
def plot(run: str, name: str | None, output: str | None, into: str | None, **options: Any) -> None:
    """Draw one figure of the sweep in RUN: SVG, PNG or PDF, by the ending of FILE."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import check_target
    from p2mbatch.plots.gallery import FORMATS, draw, save
    from p2mbatch.store.results import SweepResult

    takes = {"outcomes": ("x", "y", "policy", "migration"), "tree": ("cell", "migration")}
    given = {key: value for key, value in options.items() if value is not None}
    if into is not None:
        if name is not None or output is not None or given:
            raise click.UsageError("--all draws all figures as they are: give nothing beside it")
        _draw_all(SweepResult.open(run), into)
        return
    if name is None or output is None:
        raise click.UsageError("give the NAME of a figure and --output FILE, or --all DIR")
    for key in given:
        if key not in takes.get(name, ()):
            raise InputError(f"--{key}: the figure {name} has no such option")
    if output.rpartition(".")[2].lower() not in FORMATS:
        raise InputError(f"--output: {output!r}: end the name in .{', .'.join(FORMATS)}")
    check_target("-", output)
    result = SweepResult.open(run)
    save(draw(name, result, **given), output)


def _draw_all(result: Any, into: str) -> None:
    """Draw every figure that the sweep has something for; say which it has not."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import make_folder
    from p2mbatch.base.say import one_line, say
    from p2mbatch.plots.gallery import draw, save

    directory = make_folder(into, "--all")
    for name in FIGURES:
        path = directory / f"{name}.svg"
        try:
            figure = draw(name, result)
        except InputError as error:
            say(f"{name}: not drawn: {one_line(error)}")
            continue
        save(figure, path)
        say(one_line(path))
