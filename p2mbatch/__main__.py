"""The `p2mbatch` command, and `python -m p2mbatch`: signals first, then everything else."""

import contextlib
import gc
import os
import sys

from p2mbatch.base import signals


def main() -> None:
    """Run the command line and end the process with its exit code."""
    signals.install()
    # Modules and kernels are a million objects that stay: the collector need not go over them again
    # and again while they are made.
    gc.set_threshold(50_000, 20, 50)
    code: object = 1
    try:
        try:
            from p2mbatch.base import crash

            crash.install()
            from p2mbatch.cli import main as run

            run()
        except SystemExit as stop:
            code = stop.code
        finally:
            # From here on a signal ends the process where it is. One that came just before is
            # raised inside this `try` at the latest.
            signals.unwind(False)
    except KeyboardInterrupt:
        pass
    if signals.received():
        signals.end(signals.received())
    signals.hold()
    _leave(code)


def _leave(code: object) -> None:
    """End the process with `code` as the interpreter does, but for taking itself apart.

    To free a million objects one by one was a quarter of a small command's time. Threads are waited
    for, what is to be done at the end is done, and what was printed is out.
    """
    if not isinstance(code, int | None) or sys.getprofile() or sys.gettrace():
        # Who measures or debugs it has more to do at the end.
        sys.exit(code)  # type: ignore[arg-type]
    # Not before signals are taken over.
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
