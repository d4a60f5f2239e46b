"""The tables of a comparison."""

from __future__ import annotations

from p2mbatch.base.sizes import format_size
from p2mbatch.report.compare import Comparison
from p2mbatch.report.table import Table, TableColumn

# --- tables of a comparison --------------------------------------------------------------------


def ratio_table(found: Comparison) -> Table | None:
    """Return the table of measured ratios, or None where there are none."""
    if not found.ratios:
        return None
    sizes = ["all" if r.memory_bytes is None else format_size(r.memory_bytes) for r in found.ratios]
    return Table(
        "ratios",
        [
            TableColumn("column", "column", "text", [r.column for r in found.ratios], True),
            TableColumn("memory", "memory", "text", sizes, True),
            TableColumn("ratio", "B / A", "number", [r.ratio for r in found.ratios]),
            TableColumn("low", "95 % from", "number", [r.low for r in found.ratios]),
            TableColumn("high", "to", "number", [r.high for r in found.ratios]),
            TableColumn("cells", "cells", "number", [r.num_cells for r in found.ratios]),
        ],
        "Geometric mean over cells of the ratio of medians, with its bootstrap interval.",
    )


def difference_table(found: Comparison) -> Table | None:
    """Return the table of cells whose exact columns differ, or None where all are equal."""
    if found.equal:
        return None
    listed = found.differences[:1000]
    keys = ("policy", "memory_bytes", "layout", "sparsity", "seed")
    kinds = {"memory_bytes": "size", "sparsity": "number", "seed": "number"}
    axes = [
        TableColumn(key, key.removesuffix("_bytes"), kinds.get(key, "text"),
                    [d.scenario[key] for d in listed], True)
        for key in keys
        if all(key in d.scenario for d in listed)
    ]  # fmt: skip
    return Table(
        "differences",
        [
            TableColumn("cell", "cell", "id", [d.cell[:10] for d in listed]),
            *axes,
            TableColumn("migration", "migration", "number", [d.migration for d in listed]),
            TableColumn("column", "column", "text", [d.column for d in listed], True),
            TableColumn("a", "A", "text", [str(d.a) for d in listed]),
            TableColumn("b", "B", "text", [str(d.b) for d in listed]),
        ],
        f"The first {len(listed):,} of {found.num_differences:,}."
        if found.num_differences > len(listed)
        else "",
    )
