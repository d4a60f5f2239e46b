"""The one table of a sweep's result columns; stores, exports, reports and docs all read it.

A result holds one row per cell and migration that ran, migration 0 being the boot. `scenario`
columns say what the cell was, `exact` ones what happened and what it cost (the same on every
machine, engine and thread count), `measured` ones differ from run to run.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from p2mbatch.model.policies import names

Kind = Literal["scenario", "exact", "measured"]

Dtype = Literal["int64", "float64", "str"]


class Column(NamedTuple):
    """One column of the results."""

    name: str
    dtype: Dtype
    """The pandas dtype's name; in Arrow `int64`, `float64` and `string`."""
    unit: str
    """"bytes", "pages", "ns", "fraction", "entries" and so on; empty for names."""
    kind: Kind
    meaning: str
    """One sentence."""
    nullable: bool = False
    earlier: int | str = 0
    """What a store has in it that was made before there was the column."""


COLUMNS: tuple[Column, ...] = (
    Column(
        "cell",
        "str",
        "",
        "scenario",
        "The cell's id: a digest of its canonical scenario and of the model's version.",
    ),
    Column(
        "memory_bytes",
        "int64",
        "bytes",
        "scenario",
        "The guest's span: max_p2m_pfn pages of 4096 bytes.",
    ),
    Column(
        "sparsity",
        "float64",
        "fraction",
        "scenario",
        "The part of the span's pages that are not populated.",
    ),
    Column(
        "layout",
        "str",
        "",
        "scenario",
        "Where the holes lie: tail, scattered, extents or identity; guest where a file says it.",
    ),
    Column(
        "migrations",
        "int64",
        "migrations",
        "scenario",
        "How many migrations the guest is put through, unless it comes to an end before.",
    ),
    Column(
        "policy",
        "str",
        "",
        "scenario",
        f"What the kernel does with its p2m and mfn list list: {', '.join(names())}.",
    ),
    Column(
        "host_memory_bytes",
        "int64",
        "bytes",
        "scenario",
        "The machine memory of each host, or of the largest; every migration goes to a new one.",
    ),
    Column(
        "neighbours",
        "float64",
        "fraction",
        "scenario",
        "The part of the host's frames that are not the guest's and belong to other domains.",
    ),
    Column(
        "neighbour_memory_bytes",
        "int64",
        "bytes",
        "scenario",
        "How large each other domain on the host is.",
    ),
    Column(
        "build_order",
        "int64",
        "log2 pages",
        "scenario",
        "The domain builder gets its frames in aligned extents of 2^build_order pages.",
    ),
    Column(
        "restore_order",
        "int64",
        "log2 pages",
        "scenario",
        "A restore gets its frames in aligned extents of 2^restore_order pages.",
    ),
    Column(
        "word_bytes",
        "int64",
        "bytes",
        "scenario",
        "The guest's word: 8 (64-bit) or 4 (32-bit).",
    ),
    Column(
        "guest",
        "str",
        "",
        "scenario",
        "The trace file that the guest is from, as path#digest, of which the digest counts; empty "
        "where there is none.",
        earlier="",
    ),
    Column(
        "hosts",
        "str",
        "",
        "scenario",
        "Each host's memory in turn, the last for all that follow, a range drawn by the seed; "
        "empty where all have host_memory_bytes.",
        earlier="",
    ),
    Column(
        "xen",
        "str",
        "",
        "scenario",
        "The hypervisor's version, which decides what m2p shows; empty for one of today.",
        earlier="",
    ),
    Column(
        "stuck",
        "str",
        "",
        "scenario",
        "What becomes of a guest whose save or restore is refused: its life ends, or it stays "
        "where it is and is tried again.",
        earlier="end",
    ),
    Column(
        "max_domain_pages",
        "int64",
        "pages",
        "scenario",
        "PFNs that a kernel of two levels holds; 0 for as many as it was configured for.",
    ),
    Column(
        "linux",
        "str",
        "",
        "scenario",
        "The release of Linux that the guest runs, which picked the policy; empty where that was "
        "named.",
        earlier="",
    ),
    Column(
        "toolstack",
        "str",
        "",
        "scenario",
        "Which toolstack saves the guest: legacy (to Xen 4.5), 4.6, or 4.7 and newer.",
        earlier="4.7",
    ),
    Column(
        "hotplug_gib",
        "int64",
        "GiB",
        "scenario",
        "What a linear p2m's area is long enough for, at least.",
        earlier=512,
    ),
    Column(
        "p2m_vaddr",
        "str",
        "",
        "scenario",
        "Where a linear p2m begins.",
        earlier="0xffffc90000000000",
    ),
    Column(
        "told",
        "str",
        "",
        "scenario",
        "Whether the domain builder tells a guest that its linear list can be read: yes, "
        "no, or auto, by the toolstack.",
        earlier="auto",
    ),
    Column(
        "hole_bytes",
        "int64",
        "bytes",
        "scenario",
        "How much of the span is 1:1 with layout identity.",
    ),
    Column(
        "hole_at_bytes",
        "int64",
        "bytes",
        "scenario",
        "Where the 1:1 hole begins with layout identity.",
    ),
    Column(
        "grow_bytes",
        "int64",
        "bytes",
        "scenario",
        "What the guest gets more before each migration.",
    ),
    Column(
        "grow_where",
        "str",
        "",
        "scenario",
        "Where the guest gets it: within the span's holes, beyond the span, or in the "
        "1:1 hole (identity).",
        earlier="within",
    ),
    Column(
        "neighbour_map",
        "str",
        "",
        "scenario",
        "The real host's map whose frames the neighbours have, as path#digest, of which the digest "
        "counts; empty where neighbours says it.",
        earlier="",
    ),
    Column(
        "seed",
        "int64",
        "",
        "scenario",
        "What every random choice in the cell is keyed by.",
    ),
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
        "the true one.",
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
        "for it.",
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
