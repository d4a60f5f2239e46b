"""The `p2mbatch` command, and `python -m p2mbatch`: signals first, then everything else."""

import gc
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
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
