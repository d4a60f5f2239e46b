"""`p2mbatch cache`: where the compiled kernels are, how large they are, and to clear them."""

from __future__ import annotations

import click

from p2mbatch.base.say import one_line, say


@click.command()
@click.option("--clear", is_flag=True, help="Delete the kernels of every version.")
def cache(clear: bool) -> int:
    """Say where the compiled kernels are kept and how large they are.

    There is one directory for each version of p2mbatch, numba and processor that was used.
    Deleting them costs the next command the time of compiling, about a minute.
    """
    from p2mbatch.compiled import cache as kept
    from p2mbatch.compiled import jit

    base = jit.cache_base()
    if base is None:
        say("where    nowhere: kernels are compiled in memory and not kept")
        return 0
    directory, fd = base
    say(f"where    {one_line(directory)}")
    own = jit.digest()
    found = kept.builds(fd)
    if clear:
        kept.clear(fd)
        say(f"cleared  {_size(sum(found.values()))} of {len(found)} versions")
        return 0
    state = _size(found.pop(own)) if own in found else "nothing yet"
    say(f"this     {state} ({own})")
    say(f"others   {_size(sum(found.values()))} of {len(found)} versions")
    return 0


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
