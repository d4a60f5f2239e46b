"""What a run says of cost, in a sentence each: of holes, of size, and of migrating again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.base.say import counted
from p2mbatch.model.policies import MENDED, sort_key
from p2mbatch.plots.style import size_text
from p2mbatch.report.compare import geometric_mean
from p2mbatch.report.table import show
from p2mbatch.report.words import listed
from p2mbatch.store.columns import LAYOUTS
from p2mbatch.store.fates import last_rows, ordered, varies
from p2mbatch.store.names import told_apart
from p2mbatch.store.statistics import came_through, through_all

if TYPE_CHECKING:
    import pandas as pd

LONG_LIFE = 20
"""From so many migrations on a report says whether their cost stays."""

_TIMES = {"rebuild_ns": "a rebuild", "save_walk_ns": "a save's walk", "restore_ns": "a restore"}

_COLUMNS = [
    "cell", "migration", "outcome", "memory_bytes", "sparsity", "layout", "structure_overhead",
    *_TIMES,
]  # fmt: skip

_MAX_SPARSITIES = 30

_STAYS = 0.1
"""A cost that changes by no more than this part is said to stay."""


class Costs(NamedTuple):
    """What there is to say; each empty where a run has nothing to say it of."""

    of_holes: str
    of_size: str
    of_time: str

    @property
    def sentences(self) -> list[str]:
        """Return those that there are, what the run is about first."""
        return [text for text in (self.of_time, self.of_holes, self.of_size) if text]


def costs_of(frame: pd.DataFrame) -> Costs:
    """Return what a run says of cost; `frame` is its `compact`.

    Of holes and sizes only one policy's guests are told: of the mended kernel, or of the one with
    the most guests that came through.
    """
    if frame.empty:
        return Costs("", "", "")
    told = _told_of(frame)
    own = frame[_COLUMNS][(frame["policy"] == told).to_numpy()]
    ends = last_rows(own)
    ends = ends[(ends["outcome"] == "ok").to_numpy()]
    moved = came_through(own)
    if ends.empty or moved.empty:
        return Costs("", "", of_time(frame))
    size = "" if varies(ends["sparsity"]) else _of_size(ends, moved)
    holes = _of_holes(ends, moved)
    if varies(frame["policy"]):
        name = told_apart(map(str, frame["policy"].unique()))[told]
        holes, size = (_told_under(name, text) for text in (holes, size))
    return Costs(holes, size, of_time(frame))


def _told_under(name: str, text: str) -> str:
    """Return a sentence with the name of the policy of the guests that it is of."""
    return f"{text[:-1]}; all under {name}." if text else ""


def _told_of(frame: pd.DataFrame) -> str:
    # Guests, not their migrations: of those that were lost later no cost is told.
    ends = last_rows(frame[["cell", "migration", "policy", "outcome"]])
    counts = ends["policy"][(ends["outcome"] == "ok").to_numpy()].value_counts()
    through = counts[counts > 0]
    if MENDED in through.index or through.empty:
        return MENDED
    return str(min(through.index, key=lambda name: (-through[name], sort_key(name))))


def _median(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].median())


def _of_holes(ends: pd.DataFrame, moved: pd.DataFrame) -> str:
    """Return what the most holes cost against the fewest, by where they lie."""
    # Of a sample hardly two guests have the same.
    if not 1 < ends["sparsity"].nunique() <= _MAX_SPARSITIES:
        return ""
    few, most = float(ends["sparsity"].min()), float(ends["sparsity"].max())
    largest = int(moved["memory_bytes"].max())
    tables, times = [], []
    layouts = ordered([str(name) for name in ends["layout"].unique()], LAYOUTS)
    for layout in layouts:
        told = ends[((ends["layout"] == layout) & (ends["sparsity"] == most)).to_numpy()]
        rows = _at(moved, layout, most, largest)
        if len(told):
            where = f" ({layout})" if len(layouts) > 1 else ""
            tables.append(f"{show('share', _median(told, 'structure_overhead'))}{where}")
        if len(rows):
            times.append(f"{show('time', _median(rows, 'rebuild_ns'))} ({layout})")
    percent = show("share", few)
    before = _median(ends[(ends["sparsity"] == few).to_numpy()], "structure_overhead")
    text = (
        f"With {show('share', most)} of the span in holes the tables take {listed(tables)} of the "
        f"memory, {f'with {percent}' if few else 'without'} {show('share', before)}"
    )
    whole = moved[((moved["sparsity"] == few) & (moved["memory_bytes"] == largest)).to_numpy()]
    if times and len(whole):
        text += (
            f"; a rebuild of {size_text(largest)} takes {listed(times)} against "
            f"{show('time', _median(whole, 'rebuild_ns'))}"
        )
    return text + "."


def _at(moved: pd.DataFrame, layout: str, sparsity: float, memory: int) -> pd.DataFrame:
    here = (moved["layout"] == layout) & (moved["sparsity"] == sparsity)
    return moved[(here & (moved["memory_bytes"] == memory)).to_numpy()]


def _of_size(ends: pd.DataFrame, moved: pd.DataFrame) -> str:
    """Return what a migration costs, of the smallest and the largest guests."""
    low, high = int(moved["memory_bytes"].min()), int(moved["memory_bytes"].max())
    parts: list[str] = []
    for column, what in _TIMES.items():
        ran = moved[(moved[column] > 0).to_numpy()]
        at = [ran[(ran["memory_bytes"] == size).to_numpy()] for size in (low, high)]
        if all(len(rows) for rows in at):
            first, last = (show("time", _median(rows, column)) for rows in at)
            takes = "" if parts else " takes"
            parts.append(f"{what}{takes} {first}" + (f" to {last}" if low != high else ""))
    if not parts:
        return ""
    sizes = size_text(low) + (f" to {size_text(high)}" if low != high else "")
    share = show("share", _median(ends, "structure_overhead"))
    return f"In guests of {sizes} {listed(parts)}, and the tables take {share} of the memory."


def of_time(frame: pd.DataFrame) -> str:
    """Return whether cost stays over long lives: the last tenth of migrations against the first.

    Of guests that came through all, a ratio each of the medians of both tenths; told are the
    geometric mean over guests and its 95 % bootstrap interval. Empty where lives are short.
    """
    if frame.empty or frame["migrations"].max() < LONG_LIFE:
        return ""
    rows = through_all(frame, ["policy", *_TIMES])
    longest = int(rows["migrations"].max()) if len(rows) else 0
    rows = rows[(rows["migrations"] == longest).to_numpy()]
    if longest < LONG_LIFE:
        return ""
    tenth = longest // 10
    early = rows[(rows["migration"] <= tenth).to_numpy()].groupby("cell")
    late = rows[(rows["migration"] > longest - tenth).to_numpy()].groupby("cell")
    parts: list[str] = []
    stays = True
    for column, what in _TIMES.items():
        first, last = early[column].median(), late[column].median()
        known = ((first > 0) & (last > 0)).to_numpy()
        if not known.any():
            continue
        mean, low, high = geometric_mean(np.log(last.to_numpy()[known] / first.to_numpy()[known]))
        stays = stays and abs(mean - 1) <= _STAYS
        interval = "" if low is None else f" [{low:.3g}, {high:.3g}]"
        how = f" takes {mean:.3g} times as long as in the first {tenth:,}"
        parts.append(f"{what}{f' {mean:.3g}' if parts else how}{interval}")
    if not parts:
        return ""
    verdict = f"Cost stays within {show('share', _STAYS)}" if stays else "Cost changes"
    guests = _guests(rows, told_apart(map(str, frame["policy"].unique())))
    return (
        f"{verdict} over {longest:,} migrations: in the last {tenth:,} {listed(parts)}; of the "
        f"{guests} that came through all."
    )


def _guests(rows: pd.DataFrame, names: dict[str, str]) -> str:
    number = rows["cell"].nunique()
    policies: list[Any] = sorted({str(name) for name in rows["policy"].unique()}, key=sort_key)
    return counted(number, f"{listed([names[name] for name in policies])} guest")
