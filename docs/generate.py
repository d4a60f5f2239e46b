"""Write the generated pages of docs: `python docs/generate.py`. Tests hold the files to it."""

from __future__ import annotations

import copy
from pathlib import Path

import click

from p2mbatch.cli import COMMANDS, cli
from p2mbatch.store.columns import to_markdown

DOCS = Path(__file__).resolve().parent
_WIDTH = 88


def data_dictionary() -> str:
    """Return docs/data-dictionary.md."""
    return (
        "# Data dictionary\n\n"
        "The columns of a sweep's table, in order: one row per cell and migration, migration 0\n"
        "being the boot. The same table is in every export. *scenario* columns say what the cell\n"
        "was, *exact* ones are the same on every machine, engine and number of threads,\n"
        "*measured* ones differ from run to run. Words are explained in [model.md](model.md),\n"
        "scenarios in [sweeps.md](sweeps.md).\n\n"
        "This page is generated from `p2mbatch/store/columns.py` by `python docs/generate.py`.\n\n"
        + to_markdown()
    )


def _fresh(command: click.Command) -> click.Command:
    """Return `command` as it is before anybody asked it for help: it keeps the option it made."""
    fresh = copy.copy(command)
    fresh._help_option = None
    return fresh


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> list[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **command.context_settings,
    )
    full = context.command_path
    parts = [f"## {full}\n\n```\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for sub_name in command.list_commands(context):
            sub = command.get_command(context, sub_name)
            assert sub is not None
            parts += _help(_fresh(sub), sub_name, context)
    return parts


def command_reference() -> str:
    """Return docs/cli.md."""
    assert set(cli.list_commands(click.Context(cli))) == set(COMMANDS)
    return (
        "# Command reference\n\n"
        "What each command says of itself with `--help`. Exit codes are the same everywhere: 0\n"
        "done, 1 the work found failures (failed cells, runs that differ, a guest that can't be\n"
        "saved), 2 usage or input, 130 interrupted.\n\n"
        "This page is generated from the commands by `python docs/generate.py`.\n\n"
        + "\n".join(_help(_fresh(cli), "p2mbatch"))
    )


PAGES = {"data-dictionary.md": data_dictionary, "cli.md": command_reference}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
