"""`p2mbatch kernel`: a kernel of one's own in C, checked before anyone boots it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from p2mbatch.base.say import counted, one_line, say

_BITS = {"64": 64, "32": 32}


def _source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--bits", type=click.Choice(list(_BITS)), default="64", show_default=True,
                     help="The kernel's width."),
        click.option("--tree", metavar="LINUX", type=click.Path(file_okay=False),
                     help="The Linux tree of FILE.c: its asm/xen/page.h is read in place of ours."),
        click.argument("file", metavar="FILE.c"),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group()
def kernel() -> None:
    """Check a kernel of your own: its mmu.c or p2m.c, unmodified but for your patch."""


@kernel.command()
@_source_options
def check(file: str, tree: str | None, bits: str) -> int:
    """Say what is taken of FILE.c, and what of it is wrong.

    What is reachable from the first build, the rebuild, get, set, grow and the report is taken and
    compiled; the rest of the file is left out. What is wrong is one line with file and line.
    """
    from p2mbatch.kernels.extract import extract
    from p2mbatch.kernels.tell import told

    for line in told(extract(file, tree=tree, bits=_BITS[bits]), file):
        say(line)
    return 0


@kernel.command()
@_source_options
@click.option("-o", "--out", required=True, metavar="KERNEL.p2mk", type=click.Path(dir_okay=False),
              help="The file to write: the kernel, with what its tree's headers say.")  # fmt: skip
def build(file: str, tree: str | None, bits: str, out: str) -> int:
    """Check FILE.c and write it, with what it needs of its tree, as one file.

    It is taken wherever a FILE.c is, without its tree. It is text, and is checked and compiled
    again where it is used.
    """
    from p2mbatch.base.files import check_target, is_special, write_whole
    from p2mbatch.kernels.carried import check_name, read_kernel, text_of
    from p2mbatch.kernels.extract import extract_from

    check_name(out)
    check_target(file, out)
    source = read_kernel(file, tree)
    found = extract_from(source, bits=_BITS[bits])
    write_whole(out, lambda raw: raw.write(text_of(source).encode()))
    items = counted(len(found.kept), "item")
    say(f"{one_line(out)}: {found.era}, {items} of {one_line(file)}", err=is_special(out))
    return 0
