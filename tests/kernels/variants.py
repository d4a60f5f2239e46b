"""Kernels of the eras in C: files of this folder, and others as changes of their text."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

_NO_MOVE = [("#ifdef CONFIG_X86_64\n/* The leaves move", "#if 0\n/* The leaves move")]

_TAIL = [
    ("unsigned long xen_max_p2m_pfn __read_mostly;\n",
     "unsigned long xen_max_p2m_pfn __read_mostly;\n\nstatic void m2p_override_init(void);\n"),
    ("\t\t(*slot)[p2m_mid_index(pfn)] = mfn_list + pfn;\n\t}\n}\n",
     "\t\t(*slot)[p2m_mid_index(pfn)] = mfn_list + pfn;\n\t}\n\n"
     "\tfor (pfn = max_pfn; p2m_index(pfn); pfn++)\n\t\tmfn_list[pfn] = INVALID_P2M_ENTRY;\n\n"
     "\tm2p_override_init();\n}\n"),
    ("/* From here on nothing has to do with the p2m. */\n",
     "#define NUM_CHAINS 1024\n\nstatic RESERVE_BRK_ARRAY(struct list_head, m2p_overrides, "
     "NUM_CHAINS);\n\nstatic void __init m2p_override_init(void)\n{\n\tunsigned i;\n\n"
     "\tm2p_overrides = extend_brk(sizeof(*m2p_overrides) * NUM_CHAINS, sizeof(long));\n\n"
     "\tfor (i = 0; i < NUM_CHAINS; i++)\n\t\tINIT_LIST_HEAD(&m2p_overrides[i]);\n}\n\n"
     "/* From here on nothing has to do with the p2m. */\n"),
]  # fmt: skip

_MID_IDENTITY = [
    ("return alloc_bootmem_align(PAGE_SIZE, PAGE_SIZE);",
     "return extend_brk(PAGE_SIZE, PAGE_SIZE);"),
    ("static unsigned long *p2m_top_mfn;",
     "static unsigned long *p2m_mid_identity_mfn;\nstatic unsigned long *p2m_top_mfn;"),
    ("\t\tp2m_top_mfn_p = list_page();",
     "\t\tp2m_mid_identity_mfn = list_page();\n"
     "\t\tfill_page(p2m_mid_identity_mfn, virt_to_mfn(p2m_identity));\n\n"
     "\t\tp2m_top_mfn_p = list_page();"),
    ("\t} else {\n\t\tfill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));\n",
     "\t} else {\n\t\tfill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));\n"
     "\t\tfill_page(p2m_mid_identity_mfn, virt_to_mfn(p2m_identity));\n"),
]  # fmt: skip

# The hint was off by one, and what is beyond the area was set's own to find out.
_LINEAR_4_4 = [
    ("\tif (pfn >= xen_p2m_last_pfn) {\n\t\txen_p2m_last_pfn = ALIGN(pfn + 1, P2M_PER_PAGE);",
     "\tif (pfn > xen_p2m_last_pfn) {\n\t\txen_p2m_last_pfn = pfn;"),
    ("\tif (unlikely(pfn >= xen_p2m_size))\n\t\treturn mfn == INVALID_P2M_ENTRY;\n",
     "\tif (unlikely(pfn >= xen_p2m_size)) {\n\t\tBUG_ON(mfn != INVALID_P2M_ENTRY);\n"
     "\t\treturn true;\n\t}\n"),
]  # fmt: skip

# Nothing was told but the list, whole and whatever the start flags say.
_LINEAR_3_19 = [
    ("\tif (xen_start_info->flags & SIF_VIRT_P2M_4TOOLS)\n\t\treturn;\n\n", ""),
    ("\tarch->pfn_to_mfn_frame_list_list = ~0UL;\n"
     "\tif (!(xen_start_info->flags & SIF_VIRT_P2M_4TOOLS))\n\t\t", "\t"),
    ("\tarch->max_pfn = xen_p2m_last_pfn;\n\tarch->p2m_generation = 0;\n"
     "\tarch->p2m_vaddr = (unsigned long)xen_p2m_addr;\n"
     "\tarch->p2m_cr3 = xen_pfn_to_cr3(virt_to_mfn(swapper_pg_dir));\n",
     "\tarch->max_pfn = xen_max_p2m_pfn;\n"),
    ("/* Up to here PFNs may have frames: what the toolstack is told. */\n"
     "static unsigned long xen_p2m_last_pfn;\n\n", ""),
    ("\txen_p2m_last_pfn = xen_max_p2m_pfn;\n\n", ""),
    ("\tif (pfn >= xen_p2m_last_pfn) {\n\t\txen_p2m_last_pfn = ALIGN(pfn + 1, P2M_PER_PAGE);\n"
     "\t\tHYPERVISOR_shared_info->arch.max_pfn = xen_p2m_last_pfn;\n\t}\n\n", ""),
    ("\tHYPERVISOR_shared_info->arch.p2m_generation++;\n\twmb();\n", "\twmb();\n"),
    ("\twmb();\n\tHYPERVISOR_shared_info->arch.p2m_generation++;\n", "\twmb();\n"),
    ("\txen_inv_extra_mem();\n}\n",
     "\txen_inv_extra_mem();\n\talloc_bootmem_align(16384, PAGE_SIZE);\n}\n"),
    _LINEAR_4_4[1],
]  # fmt: skip

VARIANTS = {
    "tail": ("tracked.c", _TAIL),
    "identity": ("moved.c", _NO_MOVE),
    "moved": ("moved.c", []),
    "mid-identity": ("late_list.c", _MID_IDENTITY),
    "late-list": ("late_list.c", []),
    "linear-3.19": ("linear.c", _LINEAR_3_19),
    "linear-4.4": ("linear.c", _LINEAR_4_4),
    "linear": ("linear.c", []),
}
"""Policy -> the file of this folder, and what its kernel has otherwise."""


def kernel_of(policy: str, folder: Path) -> Path:
    """Return a file with the kernel of a policy, written into `folder` where there is none here."""
    name, changes = VARIANTS[policy]
    if not changes:
        return HERE / name
    text = (HERE / name).read_text("utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / f"{policy}.c"
    path.write_text(text, "utf-8")
    return path
