"""`p2mbatch plot`: one figure of a sweep as a file."""

from __future__ import annotations

from typing import Any

import click

NAMES = ("tree", "survival", "outcomes", "corruption", "overhead", "cost")
"""The figures of `p2mbatch.plots.PLOTS`, named here so that --help need not load them."""


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("name", metavar="NAME", type=click.Choice(NAMES))
@click.option("--output", "-o", required=True, metavar="FILE", help="Where to: .svg, .png or .pdf.")
@click.option("--x", metavar="AXIS", help="outcomes: the axis along x [memory_bytes].")
@click.option("--y", metavar="AXIS", help="outcomes: the axis along y [the next that varies].")
@click.option("--policy", metavar="POLICY", help="outcomes: whose guests [what fared worst].")
@click.option("--cell", metavar="ID", help="tree: the guest's cell, or the beginning of its id.")
@click.option("--migration", type=click.IntRange(0), metavar="N", help="outcomes, tree: which one.")
def plot(run: str, name: str, output: str, **options: Any) -> None:
    """Draw one figure of the sweep in RUN: SVG, PNG or PDF, by the ending of FILE."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import check_target
    from p2mbatch.plots.gallery import FORMATS, draw, save
    from p2mbatch.store.results import SweepResult

    takes = {"outcomes": ("x", "y", "policy", "migration"), "tree": ("cell", "migration")}
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in takes.get(name, ()):
            raise InputError(f"--{key}: the figure {name} has no such option")
    if output.rpartition(".")[2].lower() not in FORMATS:
        raise InputError(f"--output: {output!r}: end the name in .{', .'.join(FORMATS)}")
    check_target("-", output)
    result = SweepResult.open(run)
    save(draw(name, result, **given), output)
