"""Stopping a sweep in order, by signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from p2mbatch.base import signals


class Stop:
    """Whether the work should stop: asked for by a signal, or by a failure with --fail-fast.

    The first SIGINT, SIGTERM or SIGHUP asks; a second one interrupts at once, and so does the first
    where there is nothing to lose.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.number = int(signal.SIGINT)
        """The signal that asked."""
        self._at_once = False

    def __bool__(self) -> bool:
        return bool(self.reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.reason == "signal"
        self.reason = "signal"
        self.number = number
        if again or self._at_once:
            raise signals.Interrupted(number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt what is inside."""
        if self.reason == "signal":
            raise signals.Interrupted(self.number)
        if signals.installed():
            with self._handled_by(signals.handle):
                yield
            return
        before = sys.unraisablehook
        timers: list[threading.Timer] = []

        def pass_on(unraisable: sys.UnraisableHookArgs) -> None:
            # What the compiler calls back from C can't be left by an exception: the signal is sent
            # once more when it has returned.
            if isinstance(unraisable.exc_value, KeyboardInterrupt):
                timers.append(threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)))
                timers[-1].start()
            else:
                before(unraisable)

        sys.unraisablehook = pass_on
        self._at_once = True
        try:
            yield
        except Exception:
            if self.reason == "signal":
                # A callback that was left half done is trouble for what had called it.
                raise signals.Interrupted(self.number) from None
            raise
        finally:
            self._at_once = False
            sys.unraisablehook = before
            for timer in timers:
                timer.cancel()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with self._handled_by(self._handle):
            yield

    @staticmethod
    @contextlib.contextmanager
    def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
        """Have `handler` called for the signals inside; one that is ignored stays so."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        before = [signal.signal(number, handler) for number in heard]
        try:
            yield
        finally:
            for number, earlier in zip(heard, before, strict=True):
                signal.signal(number, earlier)
