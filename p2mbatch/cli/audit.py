"""`p2mbatch audit`: what a guest's file says of the guest, and whether it can be saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2mbatch.base.say import one_line, say
from p2mbatch.base.terminal import is_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2mbatch.dumps.audit.findings import Audit
    from p2mbatch.dumps.model import DumpGuest


width_option = click.option(
    "--width",
    type=click.Choice(["32", "64"]),
    help="The guest's width, for listings that do not tell it.",
)


def read_with_progress(file: str, width: str | None = None) -> DumpGuest:
    """Read the guest in `file`, with a bar on stderr where that is a terminal.

    `width` is the guest's, in bits, where a listing does not tell it.
    """
    import sys

    from tqdm import tqdm

    from p2mbatch.base.sources import file_bytes
    from p2mbatch.dumps.readers.read import read_dump

    with tqdm(
        total=file_bytes(file),
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=one_line(Path(file).name),
        leave=False,
        disable=not is_terminal(sys.stderr),
    ) as bar:

        def advance(offset: int) -> None:
            bar.update(offset - bar.n)

        return read_dump(file, advance, None if width is None else int(width) // 8)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
@click.option(
    "--html",
    "html",
    metavar="OUT",
    type=click.Path(dir_okay=False),
    help="Also write a page of pictures of one file to OUT.",
)
@click.option(
    "--host-memory",
    metavar="SIZE",
    help="How large the host was (64GiB): frames beyond are then refused on sight, as Xen does.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["check", "loss", "risk", "note"]),
    default="check",
    show_default=True,
    help="What exits 1: a failed save check, or hazards of that severity and worse too.",
)
@width_option
def audit(
    files: tuple[str, ...],
    as_json: bool,
    html: str | None,
    host_memory: str | None,
    fail_on: str,
    width: str | None,
) -> int:
    """Say what the guest in FILE looks like and whether it can be saved; exit 1 where it can't.

    FILE is a save file of xl, libvirt, XenServer or xend, a migration stream (v1 to v3), an xl
    dump-core file or a text listing (xen-mfndump dump-p2m, debugfs xen/mmu/p2m) as it was captured,
    recognised by content, also through gzip. "-" is standard input: xl save GUEST /dev/stdout |
    p2mbatch audit - . Several files end in a table.
    """
    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import check_target
    from p2mbatch.base.geometry import PAGE_BYTES
    from p2mbatch.base.sizes import parse_size
    from p2mbatch.dumps.audit.findings import audit as audit_guest

    if html is not None:
        if len(files) > 1:
            raise click.UsageError("--html is a page of one file: give one")
        check_target(files[0], html)
    frames = None if host_memory is None else parse_size(host_memory, "--host-memory") // PAGE_BYTES
    rows: list[tuple[str, str, str]] = []
    code = 0
    for file in files:
        try:
            result = audit_guest(read_with_progress(file, width), frames)
        except InputError as error:
            if len(files) == 1:
                raise
            # The other files are looked at all the same.
            say(f"p2mbatch: error: {one_line(error)}", err=True)
            rows.append((one_line(file), "-", "not read"))
            code = 2
            continue
        if html is not None:
            from p2mbatch.report.audit import write_page

            write_page(result, html)
        _say_one(result, as_json=as_json, several=len(files) > 1)
        rows.append((one_line(file), result.guest_in_words, result.verdict))
        code = max(code, int(result.is_as_bad_as(fail_on)))
    if len(files) > 1 and not as_json:
        say(text_table(("file", "guest", "verdict"), rows))
    return code


def _say_one(result: Audit, *, as_json: bool, several: bool) -> None:
    from p2mbatch.dumps.audit.findings import audit_text

    say(json.dumps(result.to_json()) if as_json else audit_text(result))
    if several and not as_json:
        say("")


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text under `titles` in columns, for a terminal."""
    from p2mbatch.report.table import Table, TableColumn

    columns = [
        TableColumn(title, title, "text", [row[i] for row in rows])
        for i, title in enumerate(titles)
    ]
    return Table("rows", columns).to_text()
