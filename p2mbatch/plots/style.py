"""What all figures share: the style file, colours with hatches and markers, sizes on axes.

The colours are Okabe and Ito's, which differ for every kind of colour vision and in grey; every
colour comes with a hatch, a marker or a dash pattern of its own, so none carries meaning alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Float64Array
from p2mbatch.base.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION
from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import GIB, KIB, MIB, TIB
from p2mbatch.guests.fields import FILES
from p2mbatch.model import policies
from p2mbatch.model.fates import ABORTED, CORRUPTED, CRASHED, MOVED_WRONG, STUCK, SURVIVED
from p2mbatch.store.columns import BY_NAME

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


STYLE_FILE = Path(__file__).with_name("p2mbatch.mplstyle")

PAPER, PALE, GREY = "#ffffff", "#eef2f6", "#8a94a0"


class Look(NamedTuple):
    """How one value of an axis is drawn, wherever it is drawn."""

    label: str
    color: str
    hatch: str = ""
    marker: str = "o"
    dashes: Any = "-"


def policy_look(name: str) -> Look:
    """Return how a policy is drawn, one that is not known here included."""
    policy, (place, _) = policies.shown(name), policies.sort_key(name)
    # There are more eras than patterns that one would think of: each has a dot more.
    dashes = (0, (5, 1.5, *(1, 1.5) * place)) if policy.is_era else policy.dashes
    return Look(policy.label, policy.color, policy.hatch, policy.marker, dashes)


FATE_LOOKS = {
    SURVIVED: Look("survived, intact", "#cfe3f1", "", "o"),
    CORRUPTED: Look("survived, silently corrupted", ORANGE, "----", "D"),
    STUCK: Look("stuck where it was", VERMILION, "////", "s"),
    ABORTED: Look("aborted, may try again", GREEN, "++", "P"),
    CRASHED: Look("crashed", BLACK, "xx", "X"),
    MOVED_WRONG: Look("moved wrong", PURPLE, "\\\\\\\\", "v"),
}

LAYOUT_LOOKS = {
    "tail": Look("tail", BLUE, "", "o", "-"),
    "scattered": Look("scattered", VERMILION, "////", "s", (0, (5, 2))),
    "extents": Look("extents", GREEN, "--", "^", (0, (1, 1.6))),
    "identity": Look("identity", PURPLE, "..", "v", (0, (3, 1, 1, 1, 1, 1))),
    "guest": Look("as in the guest's file", BLACK, "xx", "D", (0, (4, 1, 1, 1))),
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw with p2mbatch's style inside this context, whatever the caller's own is."""
    import matplotlib as mpl

    interactive = mpl.is_interactive()
    try:
        with mpl.rc_context(fname=STYLE_FILE):
            yield
            # A notebook's backend is found when the first figure is made, in here, and says then
            # that it is interactive: it shows no later figure where that is forgotten again.
            interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)


def axes_for(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """Return `ax`, or the axes of a new figure that pyplot manages, so that notebooks show it."""
    if ax is not None:
        from matplotlib.text import Text

        # Texts that were made in the caller's style: no name is a formula there either.
        for text in ax.findobj(Text):
            text.set_parse_math(False)
        return ax
    import matplotlib.pyplot as plt

    _, new = plt.subplots(figsize=figsize)
    return new


def new_figure(figsize: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure that only the caller knows (no window, no registry), and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.add_subplot()


def say_empty(ax: Axes, why: str) -> Axes:
    """Say in the middle of empty axes why there is nothing to see."""
    ax.set_axis_off()
    ax.text(
        0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, color=GREY, fontsize=11,
        wrap=True,
    )  # fmt: skip
    return ax


def time_text(ns: float) -> str:
    """Return a time with three digits and its unit."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        # What three digits would round up to a thousand belongs to the next unit.
        if ns >= 0.9995 * factor:
            return f"{digits(ns / factor)} {unit}"
    return f"{digits(ns)} ns"


def size_text(num_bytes: float) -> str:
    """Return a size as an axis shows it: three digits (four from 1000 to 1023), binary units."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if num_bytes >= factor:
            return f"{digits(num_bytes / factor)} {unit}"
    return f"{digits(num_bytes)} B"


def digits(value: float, most: int = 3) -> str:
    """Return a number with `most` digits, and with all of those before its point.

    A page's script writes the same: what lies in the middle is rounded away from zero.
    """
    exact = Decimal(float(value))
    if abs(exact) >= 10**most - Decimal("0.5"):
        return f"{exact.to_integral_value(ROUND_HALF_UP):f}"
    rounded = Context(prec=most, rounding=ROUND_HALF_UP).create_decimal(exact)
    if rounded and abs(rounded) < Decimal("1e-6"):
        mantissa, _, power = f"{rounded.normalize():e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{rounded.normalize() + 0:f}"


def value_text(column: str, value: Any) -> str:
    """Return one value of a scenario column as a reader sees it."""
    unit = BY_NAME[column].unit if column in BY_NAME else ""
    if unit == "bytes" and column != "word_bytes":
        return size_text(float(value))
    if isinstance(value, float | np.floating):
        return digits(float(value))
    if column in FILES:
        # A file's name says more than where it lies; the digest tells namesakes apart.
        path, _, digest = str(value).rpartition("#")
        return f"{path.rpartition('/')[2]}#{digest[:6]}" if value else "none"
    return str(value)


def axis_title(column: str) -> str:
    """Return a column's name and unit as an axis label."""
    titles = {
        "memory_bytes": "guest memory (span)",
        "host_memory_bytes": "host memory",
        "neighbour_memory_bytes": "memory of each neighbour",
        "sparsity": "sparsity (fraction of the span not populated)",
        "neighbours": "fraction of the host's other frames that neighbours own",
        "build_order": "build order (log2 pages per extent)",
        "restore_order": "restore order (log2 pages per extent)",
        "word_bytes": "word (bytes)",
    }
    return titles.get(column, column)


def size_axis(ax: Axes, values: npt.ArrayLike, which: str = "x", max_labels: int = 9) -> None:
    """Make an axis logarithmic in bytes, labelled at (some of) the sizes that there are.

    Labels that would come too close are left out; their ticks stay, unlabelled.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

    sizes = np.unique(np.asarray(values, np.float64))
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=2)
    low, high = sizes[0], sizes[-1]
    pad = (high / low) ** 0.05 if high > low else 1.5
    (ax.set_xlim if which == "x" else ax.set_ylim)(low / pad, high * pad)
    kept = _spread(np.log2(sizes), max_labels)
    axis.set_major_locator(FixedLocator(list(sizes[kept])))
    axis.set_major_formatter(FixedFormatter([size_text(s) for s in sizes[kept]]))
    axis.set_minor_locator(
        FixedLocator([s for i, s in enumerate(sizes) if i not in set(kept)])
        if len(sizes) <= 100
        else NullLocator()
    )
    axis.set_minor_formatter(NullFormatter())


def _spread(places: Float64Array, max_labels: int) -> list[int]:
    """Return which of ascending `places` can be labelled with equal room for each label."""
    if len(places) == 1:
        return [0]
    room = (places[-1] - places[0]) / max_labels
    kept = [0]
    for i in range(1, len(places) - 1):
        if places[i] - places[kept[-1]] >= room and places[-1] - places[i] >= room:
            kept.append(i)
    return [*kept, len(places) - 1]


def thinned(count: int, max_labels: int) -> list[int]:
    """Return at most `max_labels` of the indices below `count`, evenly spaced from the first."""
    step = max(1, -(-count // max_labels))
    return list(range(0, count, step))


def frame_of(result: Any) -> pd.DataFrame:
    """Return the table of a `SweepResult` in narrow columns, or the table that is given itself."""
    import pandas as pd

    frame = result if isinstance(result, pd.DataFrame) else getattr(result, "compact", None)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{result!r} is not a sweep's result or its table")
    return frame


def legend_above(ax: Axes, handles: Sequence[Any], ncols: int = 3) -> None:
    """Put the legend between title and axes, where it can't cover data at any grid size."""
    if handles:
        ax.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=ncols,
            borderaxespad=0.2, handlelength=2.4, columnspacing=1.6,
        )  # fmt: skip
    rows = -(-len(handles) // ncols)
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=8 + 14 * rows)
