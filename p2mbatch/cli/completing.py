"""What a shell offers for an argument: presets, files, runs, cells, policies.

Nothing here may fail or take long: a shell calls it at each press of the key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from p2mbatch.base.errors import InputError
from p2mbatch.base.filenames import JOURNAL_NAME
from p2mbatch.base.paths import is_dir, is_file
from p2mbatch.base.say import one_line

if TYPE_CHECKING:
    import click

_MAX_CELLS = 50

_MOST_CELLS = 20_000
"""Cells of a run that are read for a press of the key."""

_CELL_DIGITS = 12
"""The beginning of an id, which is enough for commands."""


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _files(incomplete: str) -> CompletionItem:
    """Let the shell offer files as it does."""
    return CompletionItem(incomplete, type="file")


def spec(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer presets, and files."""
    from p2mbatch.base.shipped import preset_names

    return [*_items(preset_names(), incomplete), _files(incomplete)]


def run(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer directories that are a sweep's, and those that may lead to one."""
    before, slash, _ = incomplete.rpartition("/")
    folder, found = Path(f"{before}{slash}" or ".").expanduser(), []
    with contextlib.suppress(OSError, RuntimeError, InputError):
        for path in sorted(folder.iterdir()):
            name = f"{before}{slash}{path.name}"
            # A shell reads what is offered line by line.
            if is_dir(path) and name.startswith(incomplete) and one_line(name) == name:
                is_run = is_file(path / JOURNAL_NAME)
                found.append(CompletionItem(name, type="plain" if is_run else "dir"))
    # Of a single directory the shell goes on into it.
    return found


def run_or_file(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer sweeps' directories, and files."""
    return [*run(ctx, param, incomplete), _files(incomplete)]


def cell(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the first cells of the run that stands before, if it is not too large to be read."""
    subject = ctx.params.get("subject")
    if not subject:
        return []
    from p2mbatch.base.errors import P2MBatchError

    with contextlib.suppress(P2MBatchError, OSError):
        from p2mbatch.store.results import SweepResult

        result = SweepResult.open(subject)
        if result.progress.num_finished > _MOST_CELLS:
            return []
        near = result.cells_beginning(incomplete.lower())[:_MAX_CELLS]
        return [CompletionItem(name[:_CELL_DIGITS]) for name in result.cell_names(near)]
    return []


def policies(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer policies for the last entry of a list, and files."""
    from p2mbatch.model.policies import names

    before, comma, last = incomplete.rpartition(",")
    offered = [f"{before}{comma}{name}" for name in names() if name.startswith(last)]
    return [*(CompletionItem(name) for name in offered), _files(incomplete)]
