"""`p2mbatch hunt`: random lives that break a kernel, found, made small, told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2mbatch.base import terminal
from p2mbatch.base.errors import InputError
from p2mbatch.base.say import one_line, say, say_above
from p2mbatch.cli import completing

if TYPE_CHECKING:
    from p2mbatch.hunt.hunting import MakeHunter
    from p2mbatch.hunt.state import Find, Progress

SECONDS = 60.0


@click.command()
@click.option(
    "--policy", metavar="P", shell_complete=completing.policies,
    help="The kernel to break: tracked, mine.py, mine.py:Class.",
)  # fmt: skip
@click.option("--linux", metavar="V", help="A release of Linux in place of a policy: 5.10.")
@click.option(
    "--seconds", type=click.FloatRange(0.0), metavar="S", help="For how long [60, or --lives]."
)
@click.option("--lives", type=click.IntRange(1), metavar="N", help="So many lives in all, exactly.")
@click.option(
    "--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True, metavar="S",
    help="The seed: the same finds the same, on any number of threads.",
)  # fmt: skip
@click.option("--out", "-o", metavar="DIR", help="Where finds go [hunts/<policy>].")
@click.option("--known", metavar="FILE", help="Kinds that are known, one a line: exit 0 for them.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads [cores].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def hunt(
    policy: str | None,
    linux: str | None,
    seconds: float | None,
    lives: int | None,
    seed: int,
    out: str | None,
    known: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Live random lives under a policy until one breaks: which life breaks this kernel?

    What broke is put into kinds. The first life of each kind is made as small as it can be, written
    to DIR as a trace, and told. The same command again goes on where it ended. Exit code 1 where
    something was found that --known does not list.
    """
    from p2mbatch.hunt.hunting import summary, write_summary
    from p2mbatch.hunt.kinds import read_known
    from p2mbatch.hunt.state import Folder
    from p2mbatch.model.policies import find, identity
    from p2mbatch.report.hunt import finds_table, in_words

    expected = read_known(known) if known is not None else frozenset()
    name = _policy(policy, linux)
    short = find(name).short
    folder = Folder(
        Path(out if out is not None else f"hunts/{Path(short).stem}"),
        {"policy": identity(name), "seed": seed},
    )
    if seconds is None and lives is None:
        seconds = SECONDS
    with folder.held():
        progress = _hunt(folder, _hunter(name, seed, threads), lives, seconds, expected)
        write_summary(folder, progress, expected)
    if as_json:
        say(json.dumps(summary(folder, progress, expected)))
    else:
        _tell(progress, expected)
        if progress.finds:
            say(finds_table(progress, expected).to_text(terminal.width()))
        say(f"{one_line(short)}: {in_words(progress)}; {one_line(folder.path)}")
    return int(any(found.kind not in expected for found in progress.finds))


def _policy(policy: str | None, linux: str | None) -> str:
    """Return the policy that is named, one of a user's file read."""
    from p2mbatch.kernels.named import named_policy
    from p2mbatch.model.kernels import kernel_of
    from p2mbatch.model.policies import find

    if policy is not None and linux is not None:
        raise InputError("--linux: a release is a policy: give it or --policy, not both")
    if linux is not None:
        return kernel_of(linux, 8).policy
    if policy is None:
        raise click.UsageError("name the kernel to break: --policy tracked, or --linux 5.10")
    return find(named_policy(policy)).name


def _hunter(name: str, seed: int, threads: int | None) -> MakeHunter:
    """Return what makes the hunter of a policy."""
    from p2mbatch.hunt.herd import Herd

    return lambda state: Herd(name, seed, threads, state)


def _hunt(
    folder: Any,
    make: MakeHunter,
    lives: int | None,
    seconds: float | None,
    known: frozenset[str],
) -> Progress:
    from tqdm import tqdm

    from p2mbatch.hunt.hunting import hunt as run

    with tqdm(
        total=lives, unit=" lives", leave=False, disable=None, dynamic_ncols=True, desc="compiling"
    ) as bar:
        return run(make, folder, lives, seconds, _Bar(bar, known))


class _Bar:
    """Tells on a progress bar how a hunt gets on: lives a second, kinds, what is new."""

    def __init__(self, bar: Any, known: frozenset[str]) -> None:
        self._bar = bar
        self._known = known

    def begin(self, progress: Progress) -> None:
        """Start the clock behind what was lived before."""
        self._bar.set_description("hunting")
        self._bar.initial = self._bar.n = progress.all_lives
        self._bar.unpause()
        self._bar.refresh()

    def looking(self) -> None:
        """Keep the bar alive while lives are judged one by one."""
        self._bar.update(0)

    def found(self, find: Find) -> None:
        """Say a find above the bar, once."""
        said = "known" if find.kind in self._known else "new"
        text = f"{said}: {one_line(find.kind)}: {one_line(find.sentence)}"
        say_above(self._bar, text, sys.stderr)

    def lived(self, progress: Progress) -> None:
        """Count a generation's lives."""
        self._bar.set_postfix({"kinds": len(progress.finds), **progress.coverage}, refresh=False)
        self._bar.update(progress.all_lives - self._bar.n)


def _tell(progress: Progress, known: frozenset[str]) -> None:
    """Tell each find that is not known in a few lines."""
    from p2mbatch.hunt.hunting import sorted_finds

    for find in sorted_finds(progress):
        if find.kind not in known:
            for line in find.lines:
                say(one_line(line))
            say()
