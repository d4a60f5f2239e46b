"""The one table of a sweep's result columns; stores, exports, reports and docs all read it.

A result holds one row per cell and migration that ran, migration 0 being the boot. `scenario`
columns say what the cell was, `exact` ones what happened and what it cost (the same on every
machine, engine and thread count), `measured` ones differ from run to run.
"""

from __future__ import annotations

from p2mbatch.store.column import Column as Column
from p2mbatch.store.scenario_columns import SCENARIO

COLUMNS: tuple[Column, ...] = (
    *SCENARIO,
    Column(
        "migration",
        "int64",
        "",
        "exact",
        "Which migration the row is about, counted from 1; 0 is the boot.",
    ),
    Column(
        "outcome",
        "str",
        "",
        "exact",
        "ok, bug, fault, save-failed, restore-failed or misdirected: what became of the guest "
        "is its fate (docs/sweeps.md).",
    ),
    Column(
        "detail",
        "str",
        "",
        "exact",
        "The BUG's expression, what the fault reached, or the toolstack's check that failed; "
        "null where the outcome is ok.",
        nullable=True,
    ),
    Column(
        "stray_writes",
        "int64",
        "writes",
        "exact",
        "Stores that this migration's rebuild and growth made through a mid_mfn page that is not "
        "the true one, or through any page that a CPU had given back.",
    ),
    Column(
        "stray_pages",
        "int64",
        "pages",
        "exact",
        "Distinct guest pages that those stray writes hit.",
    ),
    Column(
        "lost_pages",
        "int64",
        "pages",
        "exact",
        "Pages populated before the restore and not after the resume; 0 where the guest did not "
        "get through. Populated: the p2m's entry is a frame of the guest's, and m2p names the page "
        "for it. Pages that several CPUs' growth before the save lost count too: their set "
        "returned true, and no entry names them.",
    ),
    Column(
        "ghost_pages",
        "int64",
        "pages",
        "exact",
        "Pages that m2p names for a frame of the guest's after the resume and that were not "
        "populated before; 0 where the guest did not get through.",
    ),
    Column(
        "lost_identity_pages",
        "int64",
        "pages",
        "exact",
        "Pages that the p2m had by their own number before the migration and not after; 0 where "
        "the kernel knows no such entries.",
    ),
    Column(
        "placeholder_writes",
        "int64",
        "writes",
        "exact",
        "Stores of set_phys_to_machine, since the row before, into pages that many PFNs share.",
    ),
    Column(
        "stale_top_entries",
        "int64",
        "entries",
        "exact",
        "Entries of the frame list list that the toolstack would read and that do not hold the "
        "true page's present MFN.",
    ),
    Column(
        "stale_mid_entries",
        "int64",
        "entries",
        "exact",
        "Entries of the frame list that the toolstack would read and that do not hold the true "
        "leaf's present MFN.",
    ),
    Column(
        "leaves",
        "int64",
        "pages",
        "exact",
        "Leaf pages that the tree has.",
    ),
    Column(
        "mids",
        "int64",
        "pages",
        "exact",
        "Mid pages that the tree has.",
    ),
    Column(
        "mid_mfn_pages",
        "int64",
        "pages",
        "exact",
        "Pages of the frame list, one for each mid page that has one.",
    ),
    Column(
        "structure_bytes",
        "int64",
        "bytes",
        "exact",
        "Memory of all pages that the tree and its mfn list list are made of.",
    ),
    Column(
        "structure_overhead",
        "float64",
        "fraction",
        "exact",
        "structure_bytes over the guest's populated memory.",
    ),
    Column(
        "entries_written",
        "int64",
        "entries",
        "exact",
        "Words that the rebuild stored.",
    ),
    Column(
        "resident_leaves",
        "int64",
        "pages",
        "exact",
        "Leaves that had to be held as memory; it differs between --resident auto and all.",
    ),
    Column(
        "rebuild_ns",
        "int64",
        "ns",
        "measured",
        "Time of the rebuild of the mfn list list.",
    ),
    Column(
        "save_walk_ns",
        "int64",
        "ns",
        "measured",
        "Time of the toolstack's walk over the list with all its checks.",
    ),
    Column(
        "restore_ns",
        "int64",
        "ns",
        "measured",
        "Time of the restore on the new host.",
    ),
)

BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}

SCENARIO_COLUMNS = tuple(column for column in COLUMNS if column.kind == "scenario")

ROW_COLUMNS = tuple(column for column in COLUMNS if column.kind != "scenario")

EXACT_COLUMNS = tuple(column for column in COLUMNS if column.kind == "exact")

MEASURED_COLUMNS = tuple(column for column in COLUMNS if column.kind == "measured")

OUTCOMES = ("ok", "bug", "fault", "save-failed", "restore-failed", "misdirected")
"""Every value of `outcome`, in the order in which tables show them (model section 7)."""

LAYOUTS = ("tail", "scattered", "extents", "identity", "guest")
"""Every value of `layout`; guest is that of a guest from a file."""


def to_markdown() -> str:
    """Return the data dictionary as a Markdown table, one line per column."""
    lines = ["| column | type | unit | kind | meaning |", "|---|---|---|---|---|"]
    for column in COLUMNS:
        dtype = column.dtype + (", null allowed" if column.nullable else "")
        lines.append(
            f"| `{column.name}` | {dtype} | {column.unit or '–'} | {column.kind} "
            f"| {column.meaning} |"
        )
    return "\n".join(lines) + "\n"
