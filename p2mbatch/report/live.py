"""What a report says of guests that grow while they move: how much they may get by kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2mbatch.plots.style import size_text
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.report.words import listed
from p2mbatch.store.live import LiveLine, live_lines

if TYPE_CHECKING:
    import pandas as pd

_PLACES = {
    "within": "within its memory",
    "beyond": "beyond the end that it booted with",
    "identity": "in its 1:1 pages",
}


_NOTE = (
    "Guests that get more in each round of a live migration, on average, within their memory or "
    "beyond the end that they booted with. Lost pages are a mean over migrations that were "
    "reported ok; tries are all that were made, aborted ones too, for each that came through."
)


def live_told(frame: pd.DataFrame) -> list[str]:
    """Return what a run says of guests that grow while they move; nothing for other runs.

    First a sentence on the kernels that lose nothing, then one on each place where guests grow.
    """
    lines = live_lines(frame)
    if not lines:
        return []
    most = size_text(min(float(line.churn_bytes[-1]) for line in lines))
    safe, details = [], []
    for where, place in _PLACES.items():
        here = [line for line in lines if line.where == where]
        if not here:
            continue
        well = [line.kernel for line in here if line.is_well.all()]
        safe.append(f"{place} under {listed(well) if well else 'none'}")
        kinds: dict[str, list[str]] = {}
        for line in here:
            kinds.setdefault(_told(line), []).append(line.kernel)
        told = [f"{listed(kernels)} {text}" for text, kernels in kinds.items()]
        details.append(f"Growing {place}: {'; '.join(told)}.")
    first = (
        f"A guest may get {most} more in each round while it moves, and lose nothing: "
        f"{'; '.join(safe)}."
    )
    return [first, *details]


def _told(line: LiveLine) -> str:
    """Return what one kernel's guests may get, and what becomes of them beyond."""
    good = line.is_well
    first = int(np.argmin(good)) if not good.all() else len(good)
    most = size_text(float(line.churn_bytes[-1]))
    if first == len(good):
        return f"lost nothing at the first try, with up to {most} more in each round"
    churn = size_text(float(line.churn_bytes[first]))
    worst = []
    if line.wrong[first:].max() > 0:
        share, all_wrong = line.wrong[first], np.flatnonzero(line.wrong == 1)
        every = size_text(float(line.churn_bytes[all_wrong[0]])) if len(all_wrong) else ""
        if share < 1:
            worst.append(f"moved {share * 100:.0f} % of the guests wrong at {churn} a round")
        if every:
            worst.append(f"all of them from {every} on" if worst else f"all wrong from {every} on")
            worst = [", ".join(worst)] if share < 1 else [f"moved {worst[0]}"]
    lost = np.nan_to_num(line.lost_pages)
    if lost.max() > 0:
        at = int(np.flatnonzero(lost > 0)[0])
        here = size_text(float(line.churn_bytes[at]))
        worst.append(f"lost {lost[at]:,.0f} pages in a move at {here} a round without a word")
    none = np.flatnonzero(np.isinf(line.tries))
    many = np.flatnonzero(np.isfinite(line.tries) & (line.tries > 1))
    if len(many):
        at = int(many[-1])
        here = size_text(float(line.churn_bytes[at]))
        worst.append(f"took {line.tries[at]:.2g} tries at {here} a round")
    if len(none):
        here = size_text(float(line.churn_bytes[none[0]]))
        worst.append(f"came through none of {line.most_tries} tries from {here} on")
    return listed(worst)


def live_table(frame: pd.DataFrame) -> Table | None:
    """Return every kernel's guests by what they got in a round; None for runs without such."""
    lines = live_lines(frame)
    if not lines:
        return None
    places = [(line, k) for line in lines for k in range(len(line.churn_bytes))]
    lost = [float(line.lost_pages[k]) for line, k in places]
    columns = [
        TableColumn("kernel", "kernel", "text", [line.kernel for line, _ in places], True),
        TableColumn("growing", "growing", "text", [line.where for line, _ in places], True),
        TableColumn(
            "churn_bytes",
            "more in a round",
            "size",
            [int(line.churn_bytes[k]) for line, k in places],
            True,
        ),
        TableColumn("guests", "guests", "number", [int(o.num_guests[k]) for o, k in places]),
        TableColumn("wrong", "moved wrong", "share", [float(o.wrong[k]) for o, k in places]),
        TableColumn(
            "lost",
            "pages lost in a move",
            "number",
            [round(pages, 1) if np.isfinite(pages) else None for pages in lost],
        ),
        TableColumn(
            "tries", "tries until it is moved", "figure", [_tries(line, k) for line, k in places]
        ),
    ]
    return Table("live", columns, _NOTE)


def _tries(line: LiveLine, k: int) -> str:
    tries = float(line.tries[k])
    if np.isnan(tries):
        return ""
    return f"none of {line.most_tries}" if np.isinf(tries) else f"{tries:.3g}"
