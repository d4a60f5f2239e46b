"""What a person reads: reports of sweeps, comparisons, audits and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.lazy import exports

if TYPE_CHECKING:
    from p2mbatch.report.sweep import html, to_markdown, write_html
else:
    _EXPORTS = {
        "html": "sweep",
        "to_markdown": "sweep",
        "write_html": "sweep",
    }
    __getattr__, __dir__ = exports(__name__, _EXPORTS)

__all__ = [
    "html",
    "to_markdown",
    "write_html",
]
