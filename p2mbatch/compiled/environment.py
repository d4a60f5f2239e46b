"""What the environment says to numba, looked at before numba is loaded.

Numba takes a number that is none with a stack printed to stderr, and one that is out of range with
an exception in the middle of its own import. Here either is one line.
"""

from __future__ import annotations

import os

from p2mbatch.base.errors import InputError

_WHOLE = {
    "NUMBA_NUM_THREADS": (1, 1 << 16),
    "NUMBA_OPT": (0, 3),
    "NUMBA_DISABLE_JIT": (0, 1),
    "NUMBA_BOUNDSCHECK": (0, 1),
    "NUMBA_DISABLE_INTEL_SVML": (0, 1),
    "NUMBA_ENABLE_AVX": (0, 1),
    "NUMBA_DEBUG": (0, 1),
    "NUMBA_DEVELOPER_MODE": (0, 1),
    "NUMBA_FULL_TRACEBACKS": (0, 1),
    "NUMBA_WARNINGS": (0, 1),
}
"""Variables that are whole numbers, and from where to where."""

_LAYERS = ("default", "safe", "threadsafe", "forksafe", "tbb", "omp", "workqueue")


def check() -> None:
    """Raise `InputError` naming the first variable that numba could not start with."""
    for name, (low, high) in _WHOLE.items():
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # As numba reads them: underscores and a sign are numbers too.
        try:
            fits = low <= int(text) <= high
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"environment: {name} is {text!r}: use a whole number from {low} to {high}, or "
                "none at all"
            )
    layer = os.environ.get("NUMBA_THREADING_LAYER", "")
    if layer and layer not in _LAYERS:
        raise InputError(
            f"environment: NUMBA_THREADING_LAYER is {layer!r}: use one of {', '.join(_LAYERS)}"
        )
