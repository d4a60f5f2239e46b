"""`p2mbatch anonymise`: a trace or a guest's file without anything but the shape."""

from __future__ import annotations

import click

from p2mbatch.base.say import one_line, say
from p2mbatch.cli.audit import width_option
from p2mbatch.cli.import_ import heal_option, policy_option


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="TRACE",
    type=click.Path(dir_okay=False, writable=True),
    help="The trace to write, gzipped where its name ends in .gz.",
)
@policy_option
@heal_option
@width_option
def anonymise(file: str, out: str, policy: str | None, heal: bool, width: str | None) -> int:
    """Write the guest in FILE as a trace with new frame numbers, fit for a bug report.

    FILE is a trace, or anything that audit reads. Kept: the layout, holes, and how long extents are
    and how they lie within 2 MiB. Gone: which frames, what is between them, other domains, names,
    page contents.
    """
    from p2mbatch.base.files import check_target, is_special
    from p2mbatch.cli.audit import read_with_progress
    from p2mbatch.dumps.importing.to_trace import import_trace, is_trace_file
    from p2mbatch.model.anonymise import anonymise as anonymise_trace
    from p2mbatch.model.trace_file import load_trace, write_trace

    check_target(file, out)
    if is_trace_file(file):
        trace = load_trace(file)
    else:
        trace = import_trace(read_with_progress(file, width), "anonymous", policy, heal=heal)
    write_trace(anonymise_trace(trace), out)
    say(f"{one_line(out)}: every frame renumbered", err=is_special(out))
    return 0
