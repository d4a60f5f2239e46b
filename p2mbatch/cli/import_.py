"""`p2mbatch import`: a real guest's file as a trace."""

from __future__ import annotations

from pathlib import Path

import click

from p2mbatch.base.say import one_line, say
from p2mbatch.cli.audit import width_option

policy_option = click.option(
    "--policy",
    metavar="NAME",
    help="The policy of the guest's kernel, where FILE does not show it.",
)

heal_option = click.option(
    "--heal",
    is_flag=True,
    help="Start the trace with a sound list where FILE's is damaged, not with that.",
)


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="TRACE",
    type=click.Path(dir_okay=False, writable=True),
    help="The trace to write, gzipped where its name ends in .gz.",
)
@click.option("--name", help="The trace's name (default: FILE's).")
@policy_option
@heal_option
@width_option
@click.option("--check/--no-check", default=True, help="Replay the trace and compare its p2m.")
def import_(
    file: str,
    out: str,
    name: str | None,
    policy: str | None,
    heal: bool,
    width: str | None,
    check: bool,
) -> int:
    """Write the guest in FILE (see audit) as a trace: its layout, holes, frames and structures.

    The trace is a boot and the sets that make its p2m what FILE shows; replay accepts it, and a
    sweep takes it as its guest.
    """
    from p2mbatch.base.files import check_target, is_special
    from p2mbatch.cli.audit import read_with_progress
    from p2mbatch.dumps.importing.beside_list import left_behind
    from p2mbatch.dumps.importing.to_trace import check_import, import_trace
    from p2mbatch.model.trace_file import write_trace

    check_target(file, out)
    guest = read_with_progress(file, width)
    own_name = "stdin" if file == "-" else Path(file).name
    trace = import_trace(guest, name or own_name, policy, heal=heal)
    if check:
        check_import(guest, trace)
    write_trace(trace, out)
    layout = trace.guest
    # Where the file does not tell these two apart the later one was taken.
    other = (
        " (linear-4.4 fits too: --policy)" if policy is None and trace.policy == "linear" else ""
    )
    say(
        f"{one_line(out)}: {8 * layout.word_bytes}-bit guest, boots with {layout.nr_pages} of "
        f"{layout.max_p2m_pfn} pages, {len(trace.events)} events, policy {trace.policy}{other}",
        err=is_special(out),
    )
    if left := left_behind(guest, trace):
        say(left, err=is_special(out))
    return 0
