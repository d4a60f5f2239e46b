"""`p2mbatch fleet`: which of a directory's guests survive a move to the planned hosts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2mbatch.base.say import one_line, say
from p2mbatch.cli.audit import text_table

if TYPE_CHECKING:
    from p2mbatch.report.fleet import Judged, PlannedHost

_FAIL_ON = ("stuck", "shutdown", "not-judged")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--to",
    "hosts",
    metavar="HOSTS",
    required=True,
    help="The planned hosts: 64GiB/4.17,NAME=128GiB, or a CSV table of memory, name, xen.",
)
@click.option("--out", "-o", default="runs/fleet", show_default=True, help="The result store.")
@click.option(
    "--policy", metavar="NAME", help="The policy of guests whose file does not show theirs."
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice([*_FAIL_ON, "never"]),
    multiple=True,
    help="Which verdicts exit 1 (may be given several times) [stuck, shutdown].",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a guest.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def fleet(
    directory: str,
    hosts: str,
    out: str,
    policy: str | None,
    seeds: int,
    fail_on: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Say which guests of DIR survive a migration to each planned host.

    DIR holds real guests' files (see audit) and traces. Every guest goes through one migration to
    every host, in one sweep (--out): it survives, is stuck where it is, or needs a shutdown first.
    """
    from p2mbatch.report import fleet as rooms
    from p2mbatch.sweeps.driver import sweep

    planned = rooms.planned_hosts(hosts)
    guests = rooms.gather(directory, Path(out) / "guests", policy)
    spec, at = rooms.fleet_spec(guests, planned, seeds)
    result = None
    if spec is not None:
        hushed = quiet or as_json
        store = Path(out) / "sweep"
        result = sweep(spec, store, progress="quiet" if hushed else "auto", extend=True)
    judged = rooms.judge(guests, planned, result, at)
    if as_json:
        for one in judged:
            say(json.dumps(one.to_json()))
    else:
        say(_text(judged, planned))
    bad = set(fail_on or ("stuck", "shutdown"))
    names = {rooms.STUCK: "stuck", rooms.SHUTDOWN: "shutdown", rooms.NOT_JUDGED: "not-judged"}
    return int(any(names.get(one.verdict) in bad for one in judged))


def _text(judged: list[Judged], planned: list[PlannedHost]) -> str:
    """Return the table of guests, what follows for each that does not survive, and the sums."""
    from p2mbatch.report.fleet import VERDICTS

    names = [host.name for host in planned]
    rows = [
        [
            one_line(one.guest.file),
            one.guest.policy or "-",
            one.verdict,
            *(one.by_host.get(name, "-") for name in names),
        ]
        for one in judged
    ]
    lines = [text_table(["guest", "policy", "verdict", *map(one_line, names)], rows)]
    told = [one for one in judged if one.follows]
    lines += [f"{one_line(one.guest.file)}: {one_line(one.follows)}" for one in told]
    verdicts = [one.verdict for one in judged]
    lines.append(", ".join(f"{name}: {verdicts.count(name)}" for name in VERDICTS))
    return "\n".join(lines)
