"""What a policy of one's own may name: the words of `p2mbatch/linux`, and what becomes of each."""

from __future__ import annotations

from typing import Final, NamedTuple


class Word(NamedTuple):
    """A function of the kernel's that may be called."""

    compiled: str
    """Its compiled form, a name in `compiled.own.words` or `compiled.own.memory`."""
    arguments: int
    returns: bool = True


WORDS: Final = {
    "virt_to_mfn": Word("virt_to_mfn", 1),
    "mfn_to_virt": Word("mfn_to_virt", 1),
    "virt_to_pfn": Word("virt_to_pfn", 1),
    "pfn_to_mfn": Word("pfn_to_mfn", 1),
    "extend_brk": Word("extend_brk", 2),
    "alloc_p2m_page": Word("alloc_p2m_page", 0),
    "free_p2m_page": Word("free_p2m_page", 1, returns=False),
    "cmpxchg": Word("exchange", 4),
    "memset_l": Word("fill", 3, returns=False),
    "p2m_top_index": Word("p2m_top_index", 1),
    "p2m_mid_index": Word("p2m_mid_index", 1),
    "p2m_index": Word("p2m_index", 1),
}

BUGS: Final = {"BUG_ON": 1, "BUG": 0}
"""The words that end a guest, and how many arguments come before the text."""

CONSTANTS: Final = {
    "NULL": "NULL",
    "PAGE_SIZE": "PAGE_SIZE",
    "INVALID_P2M_ENTRY": "INVALID_P2M_ENTRY",
    "FOREIGN_FRAME_BIT": "FOREIGN_BIT",
}

OF_THE_WIDTH: Final = {
    "P2M_PER_PAGE": "entries",
    "P2M_MID_PER_PAGE": "entries",
    "P2M_TOP_PER_PAGE": "entries",
    "MAX_P2M_PFN": "max_p2m_pfn",
    "MAX_DOMAIN_PAGES": "max_domain_pages",
}
"""Constants that a guest's width decides: functions of its tables."""

TYPES: Final = ("Pointer", "array")
"""Names that only declarations use."""

FIELDS: Final = {
    "xen_max_p2m_pfn": "set_xen_max_p2m_pfn",
    "nr_pages": "",
    "mfn_list": "",
    "pfn_to_mfn_frame_list_list": "set_frame_list_list_mfn",
    "max_pfn": "set_max_pfn",
}
"""Variables that the model has, and what sets each; "" for those that only a boot sets."""

READERS: Final = {"pfn_to_mfn_frame_list_list": "frame_list_list_mfn"}
"""Where a field's reader in `compiled.own.words` has another name."""

KNOWN: Final = (
    "p2m_missing",
    "p2m_mid_missing",
    "p2m_top",
    "p2m_mid_missing_mfn",
    "p2m_top_mfn_p",
    "p2m_top_mfn",
)
"""Static pointers that the model knows too, in the order of the `K_` registers."""

BUILT_IN: Final = {
    "get_phys_to_machine": Word("get_phys_to_machine", 1),
    "xen_setup_mfn_list_list": Word("shared_info", 0, returns=False),
}
"""Functions of `Kernel` that p2mbatch has itself, and what each is."""

PYTHON: Final = {"range", "min", "max", "abs", "int", "bool"}

RETURNS: Final = {
    "alloc_p2m": "whether there was memory for it",
    "get_phys_to_machine": "the entry of the PFN",
    "pfn_to_mfn": "the MFN of the PFN",
    "set_phys_to_machine": "whether the entry was set",
}
"""Functions that p2mbatch itself asks, and what they must answer."""

ARGUMENTS: Final = {
    "xen_build_mfn_list_list": 0,
    "xen_setup_mfn_list_list": 0,
    "xen_post_suspend": 0,
    "alloc_p2m": 1,
    "get_phys_to_machine": 1,
    "set_phys_to_machine": 2,
    "pfn_to_mfn": 1,
    "xen_build_dynamic_phys_to_machine": 0,
}
"""Functions that p2mbatch itself calls, and with how many arguments beside `self`."""

OWN_WAY: Final = {"virt_to_mfn": "own_virt_to_mfn", "pfn_to_mfn": "own_pfn_to_mfn"}
"""Words that go by the policy's own lookup, where it has one."""

OF_A_LAYOUT: Final = (
    "set_phys_to_machine",
    "xen_build_dynamic_phys_to_machine",
    "xen_setup_mfn_list_list",
)
"""What a policy that looks PFNs up itself must do itself, too."""

SHIPPED: Final = ("Kernel", "Stale", "Tracked")
"""The classes of `p2mbatch/linux` that one of one's own may inherit from."""

ALL: Final = (*WORDS, *BUGS, *CONSTANTS, *OF_THE_WIDTH, *TYPES, *SHIPPED)
"""Every name that `p2mbatch/linux` has."""

SHIPPED_LINES: Final = 1 << 32
"""Added to the lines of `p2mbatch/linux`, to tell them from those of the user's file."""
