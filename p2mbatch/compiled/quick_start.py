"""What a command need not load: SciPy, which numba imports for linear algebra that no kernel has.

Numba does so with its array functions, before the first kernel is loaded, and it takes as long as a
hundred small guests' lives. Where there is no SciPy it goes without. In a process that is somebody
else's it stays as it is: their kernels may multiply matrices.
"""

from __future__ import annotations

import importlib
import sys

from p2mbatch.base import signals

_LINALG = "scipy.linalg"


def without_scipy() -> None:
    """Have numba import its array functions as where there is no SciPy, in a command's process."""
    if not signals.installed() or _LINALG in sys.modules:
        return
    sys.modules[_LINALG] = None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[_LINALG]
