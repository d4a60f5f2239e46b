"""What a report says: the answer in words, and tables that a page can sort and filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from p2mbatch.guests.fields import FILES
from p2mbatch.model.fates import CORRUPTED, ENDS, SURVIVED
from p2mbatch.model.toolstacks import said
from p2mbatch.plots.style import value_text
from p2mbatch.report.places import Place, in_places, numbered, representatives
from p2mbatch.report.summary import summary_table
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.columns import BY_NAME, MEASURED_COLUMNS, SCENARIO_COLUMNS
from p2mbatch.store.fates import fate_order, fates, last_places, varies, varying_axes
from p2mbatch.store.names import told_apart
from p2mbatch.store.statistics import medians_of
from p2mbatch.store.survival import Survival

MAX_CELLS_SHOWN = 10_000
"""Cells that a page lists one by one; of more it has one of each kind, `p2mbatch export` all."""

_OF_LAST_ROW = ("detail", "structure_overhead")
_ALWAYS = ("policy", "memory_bytes", "migrations", "toolstack")

CellNames = Callable[[list[Any]], list[Any]]

# --- tables ------------------------------------------------------------------------------------


def survival_table(entries: list[Survival]) -> Table:
    """Return what became of the guests per policy and migration."""
    ends = [fate for fate in ENDS if any(entry.ends[fate] for entry in entries)]

    def column(name: str, title: str, values: list[Any], kind: str = "number") -> TableColumn:
        counts = name if name in ends else CORRUPTED if name == "corrupted" else ""
        return TableColumn(name, title, kind, values, name in ("policy", "migration"), counts)

    return Table(
        "survival",
        [
            column("policy", "policy", [e.policy for e in entries], "text")._replace(
                labels=told_apart(dict.fromkeys(e.policy for e in entries))
            ),
            column("migration", "migration", [e.migration for e in entries]),
            column("guests", "guests", [e.num_guests for e in entries]),
            column("survived", SURVIVED, [e.num_intact for e in entries]),
            column("corrupted", CORRUPTED, [e.num_corrupted for e in entries]),
            *(column(fate, fate, [e.ends[fate] for e in entries]) for fate in ends),
        ],
        "Migration 0 is the boot; each guest counts by what had become of it by then. Silently "
        "corrupted are those that came through as well, and whose pages were hit by stray writes, "
        "were lost or came out of nothing while all was reported ok.",
    )


_AXIS_DIGITS = 15
"""Of an axis: no value may come into another range than it is in."""


def _values(series: pd.Series[Any], digits: int = 6) -> list[Any]:
    """Return plain Python values; floats that are rounded enough for a page."""
    if series.dtype.kind == "f":
        return [None if np.isnan(v) else float(f"{v:.{digits}g}") for v in series.tolist()]
    return [None if value is None or value is pd.NA or value != value else value
            for value in series.tolist()]  # fmt: skip


def _axis_column(name: str, values: list[Any], title: str) -> TableColumn:
    if name in FILES:
        values = [value_text(name, value) for value in values]
    labels = told_apart(dict.fromkeys(map(str, values))) if name == "policy" else {}
    return TableColumn(name, title, _kind(name), values, is_axis=True, labels=labels)


def _axis_columns(frame: pd.DataFrame, names: list[str]) -> list[TableColumn]:
    return [_axis_column(name, _values(frame[name], _AXIS_DIGITS), _title(name)) for name in names]


def _title(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_ns").replace("_", " ")


def _kind(name: str) -> str:
    unit = BY_NAME[name].unit
    if unit == "bytes" and name != "word_bytes":
        return "size"
    return {"ns": "time", "": "text"}.get(unit, "number") if name != "seed" else "number"


def shown_axes(frame: pd.DataFrame) -> list[str]:
    """Return the axes that a table needs: policy, and what varies between the cells."""
    lengths = ["migrations"] if varies(frame["migrations"]) else []
    return ["policy", *varying_axes(frame), *lengths]


def fixed_axes(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (name, value) of the axes that are the same in all cells.

    An axis that no table shows need not be one: sizes that follow the guest's memory vary with it.
    """
    if frame.empty:
        return []
    constant = [
        (c.name, frame[c.name].iloc[0])
        for c in SCENARIO_COLUMNS
        if c.name not in ("cell", "policy") and not varies(frame[c.name])
    ]
    # Most runs have nothing from files, and no list of hosts.
    return [(_title(name), value_text(name, value)) for name, value in constant if value != ""]


def _cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell: what varies, its end, its sums and medians over its migrations."""
    # What all cells have alike is not copied: it is most of a table of a million cells.
    axes = [c.name for c in SCENARIO_COLUMNS if c.name != "cell"]
    axes = [name for name in axes if name in _ALWAYS or varies(frame[name])]
    names = ["cell", *axes, *_OF_LAST_ROW]
    numbers = frame["cell"].to_numpy()
    # A cell's rows are together and in turn.
    at = last_places(frame)
    first = np.insert(at[:-1] + 1, 0, 0)
    # Where cells are numbers they need not come in order.
    order = np.argsort(numbers[at]) if numbers.dtype.kind == "i" else np.arange(len(at))
    cells = frame[[*names, "migration", "outcome"]].take(at[order])
    cells["fate"] = fates(frame).iloc[at[order]].to_numpy()
    cells["survived"] = (cells["migration"] - (cells["outcome"] != "ok")).clip(lower=0)
    for name in ("stray_writes", "stray_pages", "lost_pages", "ghost_pages"):
        cells[name] = np.add.reduceat(frame[name].to_numpy(np.int64), first)[order]
    cells = cells.drop(columns=["migration", "outcome"]).set_index("cell")
    number = np.repeat(np.arange(len(at)), np.diff(at, prepend=-1))
    moved = (frame["migration"] > 0).to_numpy()
    for column in MEASURED_COLUMNS:
        values = frame[column.name].to_numpy()
        ran = moved & (values > 0)
        cells[column.name] = medians_of(values[ran], number[ran], len(cells))[order]
    return cells


def cell_tables(frame: pd.DataFrame, names: CellNames = list) -> list[Table]:
    """Return the table by scenario (all seeds of one together) and the table of all cells.

    `names` gives the ids of cells by their values of `cell`. Of more scenarios than a page can hold
    the axes are cut into ranges; of more cells one of each scenario and fate is shown.
    """
    if frame.empty:
        return []
    cells = _cells(frame)
    axes = shown_axes(cells)
    places, note = in_places(cells, [name for name in axes if name != "seed"])
    return [_scenario_table(cells, places, note), _cell_table(cells, places, axes, names)]


def _scenario_table(cells: pd.DataFrame, places: list[Place], note: str) -> Table:
    found = fate_order([str(fate) for fate in cells["fate"].unique()])
    number, keys = numbered(places)
    told = ["fate", "stray_writes", "structure_overhead", *(c.name for c in MEASURED_COLUMNS)]
    table = (
        cells[told]
        .groupby(number, sort=False)
        .agg(
            guests=("fate", "size"),
            stray_writes=("stray_writes", "median"),
            structure_overhead=("structure_overhead", "median"),
            **{column.name: (column.name, "median") for column in MEASURED_COLUMNS},
        )
    )
    counts = pd.crosstab(number, cells["fate"].to_numpy()).reindex(table.index)
    titles = {SURVIVED: "intact"}
    columns = [
        *_place_columns(places, keys[table.index]),
        TableColumn("guests", "guests", "number", _values(table["guests"])),
        *(
            TableColumn(fate, titles.get(fate, fate), "number", _values(counts[fate]), counts=fate)
            for fate in found
        ),
        TableColumn("stray_writes", "stray writes", "number", _values(table["stray_writes"])),
        TableColumn(
            "structure_overhead", "overhead", "share", _values(table["structure_overhead"])
        ),
        *(
            TableColumn(c.name, _title(c.name), "time", _values(table[c.name]))
            for c in MEASURED_COLUMNS
        ),
    ]
    text = "All seeds of a scenario together; stray writes, overhead and times are medians."
    return Table("scenarios", columns, f"{text} {note}".strip())


def _place_columns(places: list[Place], keys: Any) -> list[TableColumn]:
    """Return the axes' columns of a table by scenario, `keys` being the places of its rows."""
    columns = []
    for index, place in enumerate(places):
        values = [place.shown[key] for key in keys[:, index].tolist()]
        if not place.edges:
            values = _values(pd.Series(values), _AXIS_DIGITS)
        column = _axis_column(place.name, values, _title(place.name))
        columns.append(column._replace(edges=tuple(place.edges)))
    return columns


def _cell_table(
    cells: pd.DataFrame, places: list[Place], axes: list[str], names: CellNames
) -> Table:
    shown = cells
    if len(cells) > MAX_CELLS_SHOWN:
        shown = representatives(cells, places)
    flat = shown.reset_index()
    num_policies = flat["policy"].nunique()
    note = (
        f"Stray writes and pages are sums over a guest's life, times medians; {num_policies} "
        + ("policies." if num_policies != 1 else "policy.")
    )
    if len(cells) > len(shown):
        note += (
            f" The first cell of each scenario and fate, {len(shown):,} of {len(cells):,} cells; "
            "`p2mbatch export RUN -o cells.parquet` writes them all."
        )
    numbers = (
        *((("like_it", "cells like it", "number"),) if "like_it" in flat else ()),
        ("survived", "migrations survived", "number"),
        ("stray_writes", "stray writes", "number"),
        ("stray_pages", "pages hit", "number"),
        ("lost_pages", "pages lost", "number"),
        ("ghost_pages", "ghost pages", "number"),
        ("structure_overhead", "overhead", "share"),
        *((c.name, _title(c.name), "time") for c in MEASURED_COLUMNS),
    )
    return Table(
        "cells",
        [
            TableColumn("cell", "cell", "id", [str(c)[:10] for c in names(flat["cell"].tolist())]),
            *_axis_columns(flat, axes),
            TableColumn("fate", "what became of it", "text", _values(flat["fate"]), is_axis=True),
            TableColumn("detail", "detail", "text", _values(flat["detail"])),
            *_tool_words(flat),
            *(TableColumn(n, title, kind, _values(flat[n])) for n, title, kind in numbers),
        ],
        note,
    )


def _tool_words(flat: pd.DataFrame) -> list[TableColumn]:
    """Return what the real tool prints for each cell's detail; nothing where it prints nothing."""
    told = [
        said(str(toolstack), detail)
        for toolstack, detail in zip(flat["toolstack"], _values(flat["detail"]), strict=True)
    ]
    if not any(told):
        return []
    return [TableColumn("tool_says", "what the tool says", "text", told)]


def failure_table(failures: pd.DataFrame, max_rows: int = 500) -> Table | None:
    """Return the failed cells with their messages, or None where there are none."""
    if failures.empty:
        return None
    shown = failures.head(max_rows)
    axes = shown_axes(failures)
    note = "" if len(shown) == len(failures) else f"The first {max_rows:,} of {len(failures):,}."
    return Table(
        "failures",
        [
            TableColumn("cell", "cell", "id", [cell[:10] for cell in shown["cell"]]),
            *_axis_columns(shown, axes),
            TableColumn("error", "error", "text", _values(shown["error"]), is_axis=True),
            TableColumn("message", "message", "text", _values(shown["message"])),
        ],
        note,
    )


def survival_text(entries: list[Survival]) -> str:
    """Return the survival table as aligned text."""
    return summary_table(entries).to_text() if entries else ""
