"""Labels of logarithmic axes as plain text: matplotlib writes formulas, the style has none.

Imported where an axis is drawn only: it needs matplotlib.
"""

from __future__ import annotations

import math

from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class PowerFormatter(LogFormatter):
    """Writes powers of ten as "10⁻³", what lies between them as "2×10³"."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of the tick at `x`; empty where there is no room for it."""
        return power_text(x) if super().__call__(x, pos) else ""


def power_text(value: float) -> str:
    """Return a positive value as a power of ten, or as so many times one."""
    exponent = math.floor(math.log10(value) + 1e-9)
    times = f"{value / 10.0**exponent:.3g}"
    power = f"10{str(exponent).translate(_RAISED)}"
    return power if times == "1" else f"{times}×{power}"


def label_powers(*axes: Axis) -> None:
    """Label logarithmic axes of base ten, minor ticks too where there is less than a decade."""
    for axis in axes:
        axis.set_major_formatter(PowerFormatter())
        axis.set_minor_formatter(PowerFormatter(minor_thresholds=(1, 0.4)))
