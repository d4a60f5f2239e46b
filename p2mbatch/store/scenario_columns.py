"""The columns that say what a cell was: its id, and its scenario's fields in their order."""

from __future__ import annotations

from p2mbatch.model.policies import names
from p2mbatch.store.column import Column

SCENARIO: tuple[Column, ...] = (
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
        "cpus",
        "int64",
        "",
        "scenario",
        "How many CPUs set the entries of what the guest gets before each migration at the same "
        "time, a page for each in turn, under a schedule that the seed decides.",
        earlier=1,
    ),
    Column(
        "live",
        "str",
        "",
        "scenario",
        "Whether the guest goes on living while it is sent: yes or no.",
        earlier="no",
    ),
    Column(
        "rounds",
        "int64",
        "",
        "scenario",
        "How many rounds of copying a live migration has before the pause.",
        earlier=5,
    ),
    Column(
        "churn_bytes",
        "int64",
        "bytes",
        "scenario",
        "What the guest gets more in each round of a live migration, on average, where grow_where "
        "says.",
    ),
    Column(
        "balloon_bytes",
        "int64",
        "bytes",
        "scenario",
        "What the guest gives back in each round of a live migration, on average, and takes again "
        "in the next.",
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
)
