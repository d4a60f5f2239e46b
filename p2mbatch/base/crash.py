"""What Python itself prints of an error that nobody expected: through the one function, too.

A traceback shows the error's text, and that may hold a stranger's name. Only a command installs
these hooks; they are for bugs, for deliberate errors are told by `cli/`.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from p2mbatch.base.say import say


def install() -> None:
    """Have tracebacks of this process, of its threads and of its finalisers made printable."""
    sys.excepthook = _uncaught
    threading.excepthook = _in_thread
    before = sys.unraisablehook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if found.exc_value is None or isinstance(found.exc_value, KeyboardInterrupt):
            before(found)  # a signal's: base/signals.py has the hook
        else:
            say(f"p2mbatch: ignored in {found.object!r}:", err=True)
            _tell(found.exc_value, found.exc_traceback)

    sys.unraisablehook = unraisable


def _tell(error: BaseException, where: TracebackType | None) -> None:
    say("".join(traceback.format_exception(type(error), error, where)), err=True, end="")


def _uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    _tell(error, where)


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        say(f"p2mbatch: in thread {args.thread.name if args.thread else '?'}:", err=True)
        _tell(args.exc_value, args.exc_traceback)
