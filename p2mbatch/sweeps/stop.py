"""Stopping a sweep in order, by signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether the work should stop: asked for by a signal, or by a failure with --fail-fast.

    The first SIGINT or SIGTERM asks; a second one interrupts at once, and so does the first where
    there is nothing to lose.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._at_once = False

    def __bool__(self) -> bool:
        return bool(self.reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.reason == "signal"
        self.reason = "signal"
        if again or self._at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt what is inside."""
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
                raise KeyboardInterrupt from None
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
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
