"""Signals of the command line: one line and 128 + the signal's number, at any moment.

A handler that raises is not enough. What it raises is lost where Python is called back from C (the
compiler, finalisers), becomes another error on its way through an import, and is not raised at all
while one long call of compiled code runs. So there are three steps:

1. While the command is being loaded there is nothing to clear away: the process ends at once. So it
   does where the compiler is at work: an exception that leaves LLVM's Python half way may have it
   free a module twice. What is open then is as after a kill, which stores survive.
2. Then the handler raises `Interrupted`, once, so that what is open is closed and put away. In
   whatever form that arrives at the command line, it is told as an interruption.
3. A thread that the C handler wakes ends the process where the main thread did not get to the
   handler in `_NOTICE_S` (compiled code runs without the interpreter's lock) or was not done in
   `_GRACE_S`. What `removed_at_end` and `done_at_end` name is removed and done then too.

A signal that was ignored from the start (nohup) stays ignored. Nothing of this is in force for who
imports the package: only `install` makes it so.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ClassVar

_LINES = {
    signal.SIGINT: b"p2mbatch: interrupted\n",
    signal.SIGTERM: b"p2mbatch: terminated\n",
    signal.SIGHUP: b"p2mbatch: hung up\n",
}

_NOTICE_S = 0.05

_GRACE_S = 2.0

_AGAIN_S = 0.02
"""After this a signal whose exception was lost in a callback is raised once more."""


class Interrupted(KeyboardInterrupt):
    """A signal ends the work; `number` says which."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


class _State:
    """What this process knows of its signals."""

    installed = False
    unwinds = False
    """Whether a handler raises: only while the command runs."""
    received = 0
    """The first signal that came, 0 before."""
    lost = False
    """Whether the exception that was raised for it got lost."""
    said = _thread.allocate_lock()
    duties: ClassVar[list[Callable[[], None]]] = []


def install() -> None:
    """Take SIGINT, SIGTERM and SIGHUP over for a command; the first thing that it does."""
    if _State.installed:
        return
    _State.installed = True
    for number in _LINES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    for_reading, for_writing = os.pipe()
    os.set_blocking(for_writing, False)
    signal.set_wakeup_fd(for_writing, warn_on_full_buffer=False)
    _thread.start_new_thread(_watch, (for_reading,))
    before = sys.unraisablehook

    def pass_on(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            before(unraisable)
        elif not _State.lost:
            _State.lost = True
            _thread.start_new_thread(_raise_again, ())

    sys.unraisablehook = pass_on


def installed() -> bool:
    """Return whether this process is a command that has taken the signals over."""
    return _State.installed


def received() -> int:
    """Return the number of the signal that ends this command, 0 where none does."""
    return _State.received


def unwind(wanted: bool) -> None:
    """Say whether a signal raises from now on (the command runs) or ends the process at once."""
    _State.unwinds = wanted


def handle(number: int, frame: FrameType | None) -> None:
    """Handle a signal; raises `Interrupted` where there may be something to put away."""
    again = _State.received and not _State.lost
    _State.received = _State.received or number
    _State.lost = False
    if again or not _State.unwinds or _compiles(frame):
        end(_State.received)
    raise Interrupted(_State.received)


def _compiles(frame: FrameType | None) -> bool:
    """Return whether the compiler called what runs in `frame`, or is it."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in ("llvmlite", "numba"):
            return True
        frame = frame.f_back
    return False


def end(number: int) -> None:
    """End the process by signal `number`: the line, what must not stay, the exit code."""
    say(number)
    for duty in list(_State.duties):
        # Whatever it comes to, the process ends.
        with contextlib.suppress(Exception):
            duty()
    os._exit(128 + number)


def say(number: int) -> None:
    """Write the line of signal `number` to stderr, once in a process."""
    if not _State.installed or _State.said.acquire(blocking=False):
        with contextlib.suppress(OSError):
            os.write(2, _LINES.get(signal.Signals(number), _LINES[signal.SIGINT]))


def hold() -> None:
    """Let no signal in any more: the exit code is decided.

    Ignored, not blocked: a mask is one thread's, and another could still take the signal.
    """
    for number in _LINES:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def removed_at_end(path: str) -> Iterator[None]:
    """Have the file or directory `path` removed where a signal ends the process inside."""
    with done_at_end(lambda: _remove(path)):
        yield


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - pathlib may not be loaded yet
    if os.path.isdir(path):  # noqa: PTH112
        import shutil

        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def done_at_end(duty: Callable[[], None]) -> Iterator[None]:
    """Have `duty` called, in whichever thread, where a signal ends the process inside."""
    _State.duties.append(duty)
    try:
        yield
    finally:
        _State.duties.remove(duty)


def _watch(fd: int) -> None:
    """Wait for signals, and end the process where the main thread does not."""
    while True:
        for number in os.read(fd, 64):
            if signal.getsignal(number) is not handle:
                continue  # somebody else's for now: a sweep stops at a batch
            time.sleep(_NOTICE_S)
            if _State.received:
                time.sleep(_GRACE_S)
            end(_State.received or number)


def _raise_again() -> None:
    time.sleep(_AGAIN_S)
    _thread.interrupt_main(signal.Signals(_State.received))
