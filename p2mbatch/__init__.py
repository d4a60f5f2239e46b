"""p2mbatch: batch analysis of the Xen PV guest's p2m tree and mfn list list across migrations.

Importing the package compiles nothing and loads no heavy library: names arrive when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch._version import __version__
from p2mbatch.base.lazy import exports

if TYPE_CHECKING:
    from p2mbatch import bench, dumps, plots, report
    from p2mbatch.base.errors import InputError, P2MBatchError
    from p2mbatch.base.geometry import geometry
    from p2mbatch.guests.guest import Guest
    from p2mbatch.guests.rows import run_scenario
    from p2mbatch.guests.scenario import Scenario
    from p2mbatch.model.anonymise import anonymise
    from p2mbatch.model.replay import replay
    from p2mbatch.model.trace import GuestLayout, Trace
    from p2mbatch.model.trace_file import load_trace
    from p2mbatch.spec.sweep_spec import SweepSpec
    from p2mbatch.store.results import SweepResult
    from p2mbatch.sweeps.driver import sweep
else:
    _EXPORTS = {
        "Guest": "guests.guest",
        "GuestLayout": "model.trace",
        "InputError": "base.errors",
        "P2MBatchError": "base.errors",
        "Scenario": "guests.scenario",
        "SweepResult": "store.results",
        "SweepSpec": "spec.sweep_spec",
        "Trace": "model.trace",
        "anonymise": "model.anonymise",
        "bench": ".",
        "dumps": ".",
        "geometry": "base.geometry",
        "load_trace": "model.trace_file",
        "plots": ".",
        "replay": "model.replay",
        "report": ".",
        "run_scenario": "guests.rows",
        "sweep": "sweeps.driver",
    }
    __getattr__, __dir__ = exports(__name__, _EXPORTS)

__all__ = [
    "Guest",
    "GuestLayout",
    "InputError",
    "P2MBatchError",
    "Scenario",
    "SweepResult",
    "SweepSpec",
    "Trace",
    "__version__",
    "anonymise",
    "bench",
    "dumps",
    "geometry",
    "load_trace",
    "plots",
    "replay",
    "report",
    "run_scenario",
    "sweep",
]
