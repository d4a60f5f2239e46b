"""Which functions a kernel of each policy has, and what it calls them: no other may be told of.

From the eras' pages (policies-spec, linear-spec) and the kernels' own sources of those versions.
"""

from __future__ import annotations

from p2mbatch.model.policies import Policy

_ALL = {"get_phys_to_machine", "set_phys_to_machine", "xen_setup_mfn_list_list"}

_BRK = {"extend_brk"}

_THREE = _ALL | _BRK | {
    "alloc_p2m", "alloc_p2m_page", "free_p2m_page", "xen_build_dynamic_phys_to_machine",
    "xen_build_mfn_list_list",
}  # fmt: skip

_TAIL = _THREE | {"__set_phys_to_machine"}

_IDENTITY = _TAIL | {"set_phys_range_identity"}

_MOVED = _IDENTITY | {"xen_revector_p2m_tree", "alloc_bootmem_pages"}

_LINEAR = _ALL | {
    "__set_phys_to_machine", "xen_vmalloc_p2m_tree", "xen_rebuild_p2m_list", "alloc_p2m_page",
    "alloc_p2m_pmd", "xen_build_mfn_list_list", "xen_build_dynamic_phys_to_machine", "panic",
}  # fmt: skip

_TWO = _ALL | {"alloc_p2m", "xen_build_dynamic_phys_to_machine", "xen_build_mfn_list_list"}

KERNEL = {
    "tracked": _THREE,
    "stale": _THREE | {"mfn_to_virt"},
    "none": _THREE,
    "two-level": _TWO,
    "two-level-none": _TWO,
    "tail": _TAIL,
    "identity": _IDENTITY,
    "moved": _MOVED,
    "mid-identity": _MOVED,
    "late-list": _MOVED,
    "linear-3.19": _LINEAR | {"alloc_p2m"},
    "linear-4.4": _LINEAR | {"xen_alloc_p2m_entry"},
    "linear": _LINEAR | {"xen_alloc_p2m_entry"},
}
"""Policy -> the functions of its kernels."""

TOOLSTACK = {
    "map_p2m", "map_p2m_tree", "map_p2m_list", "update_guest_p2m", "populate_pfns",
    "normalise_pagetable", "x86_pv_check_vm_state_p2m_list",
}  # fmt: skip
"""The toolstack's, of the migration stream that Xen 4.6 brought."""


def boot_function(policy: Policy, what: str) -> str:
    """Return the function that builds the tree, or the list, at boot."""
    if what == "tree":
        return "xen_build_dynamic_phys_to_machine()"
    return "xen_build_mfn_list_list()"


def set_function(policy: Policy) -> str:
    """Return the function that grows the p2m."""
    if policy.is_linear:
        return "alloc_p2m()" if policy.whole_area else "xen_alloc_p2m_entry()"
    return "alloc_p2m()"
