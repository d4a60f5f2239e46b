"""p2mbatch: batch analysis of the Xen PV guest's p2m tree and mfn list list across migrations.

Importing the package compiles nothing and loads no heavy library: names arrive when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from p2mbatch._version import __version__

_EXPORTS = {
    "Guest": "guest",
    "GuestLayout": "trace",
    "InputError": "errors",
    "P2MBatchError": "errors",
    "Scenario": "scenario",
    "SweepResult": "results",
    "SweepSpec": "spec",
    "Trace": "trace",
    "geometry": "geometry",
    "load_trace": "trace",
    "replay": "replay",
    "run_scenario": "cell",
    "sweep": "driver",
}
_MODULES = ("plots", "report", "bench", "dumps")

__all__ = ["__version__", *_MODULES, *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"p2mbatch.{_EXPORTS[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"p2mbatch.{name}")
    else:
        raise AttributeError(f"module 'p2mbatch' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
