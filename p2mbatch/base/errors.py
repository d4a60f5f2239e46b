"""The errors that p2mbatch raises on purpose: one line and an exit code on the command line."""

from __future__ import annotations

from collections.abc import Callable


class P2MBatchError(Exception):
    """Base of every error that p2mbatch raises on purpose. Its text is one line for a person."""

    exit_code = 2


class InputError(P2MBatchError):
    """Bad input: the text names the input, the place in it and what would be right."""


class PolicyError(InputError):
    """A policy of the user's own is wrong: the text names its file and, as a rule, the line."""


class ResourceError(P2MBatchError):
    """The work needs more of something than there is; the text gives both numbers."""


IsStopped = Callable[[], bool]
"""Whether work is to stop before it is done, with `StoppedError`."""


class StoppedError(Exception):
    """Work was told to stop before it was done: its results are left out."""
