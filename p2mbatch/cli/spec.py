"""`p2mbatch spec`: check sweep specs, print their schema, list the presets."""

from __future__ import annotations

import json

import click

from p2mbatch.base.say import counted, one_line, say


@click.group()
def spec() -> None:
    """Check sweep specs, print their JSON Schema, list the presets."""


@spec.command()
@click.argument("files", metavar="SPEC…", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check each SPEC (a file or a preset's name) and say how many cells it has."""
    from p2mbatch.base.shipped import find_spec
    from p2mbatch.spec.sweep_spec import SweepSpec

    for name in files:
        path = find_spec(name)
        parsed = SweepSpec.from_file(path)
        parsed.check()
        cells = counted(parsed.num_cells, "cell")
        say(f"{one_line(path)}: ok, {cells}, digest {parsed.digest[:12]}")


@spec.command()
def schema() -> None:
    """Print the JSON Schema of a spec file."""
    from p2mbatch.spec.sweep_spec import json_schema

    say(json.dumps(json_schema(), indent=2))


@spec.command()
def presets() -> None:
    """List the presets, each with its question."""
    from p2mbatch.base.shipped import find_spec, preset_names
    from p2mbatch.spec.sweep_spec import SweepSpec

    for name in preset_names():
        parsed = SweepSpec.from_file(find_spec(name))
        say(f"{name}  ({counted(parsed.num_cells, 'cell')})  {one_line(parsed.question)}")
