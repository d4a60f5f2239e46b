"""Signals that whoever started the tests had them ignore."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """Heed SIGINT, SIGTERM and SIGHUP again where they are ignored.

    A shell starts what runs beside it with SIGINT ignored, nohup with SIGHUP; so would be every
    command that is started from here, and rightly stay.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            is_int = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)
