"""`p2mbatch make-stream` and `make-core`: a guest of a trace in the formats of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2mbatch.base.say import one_line, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from p2mbatch.dumps.writers.image import GuestImage


_out = click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="The file to write, gzipped where its name ends in .gz.",
)

_event = click.option(
    "--event",
    type=int,
    metavar="K",
    help="Write the guest as it is after event K, from 0 (default: the last that runs).",
)


def _write(
    trace: str, event: int | None, out: str, write: Callable[[GuestImage, BinaryIO], None]
) -> int:
    from p2mbatch.base.files import check_target, is_special, write_whole
    from p2mbatch.dumps.writers.image import image_at
    from p2mbatch.model.trace_file import load_trace

    check_target(trace, out)
    image = image_at(load_trace(trace), event)
    write_whole(out, lambda file: write(image, file))
    text = f"{out}: {8 * image.word_bytes}-bit guest of {image.p2m.size} PFNs"
    say(one_line(text), err=is_special(out))
    return 0


@click.command("make-stream")
@click.argument("trace", metavar="TRACE")
@_out
@_event
@click.option("--version", type=click.IntRange(2, 3), help="Of the stream (default 3).")
@click.option(
    "--as",
    "--wrapper",
    "kind",
    type=click.Choice(
        [
            *("libxc", "libxl", "xl", "libvirt", "xenserver"),
            *("legacy-libxc", "legacy-xl", "legacy-xend"),
            *("legacy-libvirt", "legacy-xenserver", "legacy-xenserver-1"),
        ]
    ),
    default="xl",
    show_default=True,
    help="A bare libxc stream, or what it lies in; legacy-…: the streams of Xen 4.5 and older.",
)
@click.option(
    "--toolstack-bits",
    type=click.Choice(["32", "64"]),
    help="The width of a legacy stream's toolstack (default 64).",
)
@click.option("--live", is_flag=True, help="Send the structures' pages twice, as live ones are.")
def make_stream(
    trace: str,
    out: str,
    event: int | None,
    version: int | None,
    kind: str,
    toolstack_bits: str | None,
    live: bool,
) -> int:
    """Write the guest of TRACE as a migration stream, valid by Xen's specification."""
    from p2mbatch.dumps.writers.legacy import write_legacy
    from p2mbatch.dumps.writers.stream import write_stream

    legacy = kind.startswith("legacy-")
    if legacy and (version is not None or live):
        raise click.UsageError(f"--as {kind} has no --version and no --live")
    if not legacy and toolstack_bits is not None:
        raise click.UsageError("--toolstack-bits belongs to a legacy stream (--as legacy-…)")

    def write(image: GuestImage, file: BinaryIO) -> None:
        if legacy:
            wrapper = kind.removeprefix("legacy-")
            write_legacy(image, file, wrapper=wrapper, toolstack_bits=int(toolstack_bits or 64))
        else:
            write_stream(image, file, version=version or 3, wrapper=kind, live=live)

    return _write(trace, event, out, write)


@click.command("make-core")
@click.argument("trace", metavar="TRACE")
@_out
@_event
@click.option("--flat", "kind", flag_value="flat", help="Its memory by PFN, nothing else.")
@click.option("--elf", "kind", flag_value="elf", help="An ELF core of segments for general tools.")
def make_core(trace: str, out: str, event: int | None, kind: str | None) -> int:
    """Write the guest of TRACE as an xl dump-core file, or for tools that know no Xen."""
    from p2mbatch.dumps.writers.core import write_core
    from p2mbatch.dumps.writers.general import write_elf, write_flat

    writers = {None: write_core, "flat": write_flat, "elf": write_elf}
    return _write(trace, event, out, writers[kind])
