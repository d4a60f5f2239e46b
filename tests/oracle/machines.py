"""The machines that a guest may run on, as data: one for each meaning that trace files have had.

Machine 1 is that of docs/model.md's recordings of format 1, kept so that they replay for ever.
Machine 2 is what an x86 host and its toolstack do. The naive model knows no machine by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

DIRECT_MAP = {8: 0xFFFF_8800_0000_0000, 4: 0xC000_0000}
IMAGE_MAP = 0xFFFF_FFFF_8000_0000
IMAGE_MAP_END = 0xFFFF_FFFF_FFE0_0000
"""First address of the kernel image map that holds nothing: the last 2 MiB."""


@dataclass(frozen=True)
class MappedTable:
    """How much of the m2p a host maps: steps of `step` entries for each `chunks` 1 GiB chunks."""

    step: int
    chunks: int
    most: int | None


@dataclass(frozen=True)
class MachineRecord:
    """What differs between machines; dicts are by `word_bytes`."""

    name: str
    kernel_base: dict[int, int]
    """Where the map begins that the kernel's own pages (brk, `mfn_list`) are known by."""
    kernel_end: dict[int, int]
    """The first address past that map."""
    absent_pages_fault: bool
    """Whether a page without a frame is out of the direct map."""
    m2p_order: dict[int, int]
    """log2 of the m2p's size as the kernel has it, where the host says nothing."""
    mapped_table: dict[int, MappedTable] | None
    """The part of the m2p that is mapped, where the host says nothing; None: all of it."""
    only_own_frames_are_sent: bool
    """Whether an entry has to be a frame of the guest's for its page to be saved."""
    each_sent_page_needs_a_frame: bool
    """Whether a restore is refused where the destination names no frame for a saved page."""
    restore_clears_frame_list_list: bool
    """Whether the shared info's `pfn_to_mfn_frame_list_list` is 0 until the resume sets it."""


MACHINE_1 = MachineRecord(
    name="machine 1",
    kernel_base=DIRECT_MAP,
    kernel_end={8: 1 << 64, 4: 1 << 32},
    absent_pages_fault=False,
    m2p_order={8: 64, 4: 32},
    mapped_table=None,
    only_own_frames_are_sent=False,
    each_sent_page_needs_a_frame=False,
    restore_clears_frame_list_list=False,
)

MACHINE_2 = MachineRecord(
    name="machine 2",
    kernel_base={8: IMAGE_MAP, 4: DIRECT_MAP[4]},
    kernel_end={8: IMAGE_MAP_END, 4: 1 << 32},
    absent_pages_fault=True,
    m2p_order={8: 32, 4: 26},
    mapped_table={8: MappedTable(262_144, 1, None), 4: MappedTable(524_288, 2, 43_515_904)},
    only_own_frames_are_sent=True,
    each_sent_page_needs_a_frame=True,
    restore_clears_frame_list_list=True,
)

FORMATS = {
    "p2mbatch-trace/1": MACHINE_1,
    "p2mbatch-trace/2": MACHINE_2,
    "p2mbatch-trace/3": MACHINE_2,
}
