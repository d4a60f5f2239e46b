"""Kernels of policies that a second process compiles, while this one compiles the toolstack's.

`python -m p2mbatch.model.beside FD POLICY...` compiles what lives of the policies call into the
cache and ends; it ends at once where the pipe FD does. It takes no lock: whoever starts it holds
that, and what the two compile has no file in common.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from p2mbatch.base.held import end_with, held_process
from p2mbatch.compiled import jit
from p2mbatch.model.calls import make_policy_ready, make_toolstack_ready
from p2mbatch.model.policies import find

_TOOLSTACKS_SHARE = 2
"""How many policies' kernels take as long to compile as those that all lives call, about."""


def compile_policies(names: Sequence[str]) -> None:
    """Compile what lives of these policies call, in two processes where there are two cores.

    What the other process could not compile is compiled here when it is first called.
    """
    theirs, ours = _shares(names)
    if jit.cache_dir() is None or (os.cpu_count() or 1) < 2:
        theirs, ours = [], names
    with _compiled_elsewhere(theirs):
        make_toolstack_ready()
        for name in ours:
            make_policy_ready(find(name))


def _shares(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what the other process compiles, and what this one does after the toolstack's."""
    num_theirs = -(-(len(names) + _TOOLSTACKS_SHARE) // 2)
    return names[:num_theirs], names[num_theirs:]


@contextlib.contextmanager
def _compiled_elsewhere(names: Sequence[str]) -> Iterator[None]:
    if not names:
        yield
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = subprocess.DEVNULL
    with held_process(
        __name__, *names, env=environment, stdin=quiet, stdout=quiet, stderr=quiet
    ) as running:
        yield
        running.wait()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    for policy in sys.argv[2:]:
        make_policy_ready(find(policy))
