"""Measuring p2mbatch itself: its compiled kernels beside this machine's limits and their peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.lazy import exports

if TYPE_CHECKING:
    from p2mbatch.bench.session import FULL, QUICK, SMOKE, run
else:
    _EXPORTS = dict.fromkeys(("FULL", "QUICK", "SMOKE", "run"), "session")
    __getattr__, __dir__ = exports(__name__, _EXPORTS)

__all__ = ["FULL", "QUICK", "SMOKE", "run"]
