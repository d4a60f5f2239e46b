"""The kernel's own words, as a policy of one's own calls them (`p2mbatch/linux`).

Each takes the guest's tables and its host's first and the line of the user's file last.
"""

from __future__ import annotations

from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled import grow, lists
from p2mbatch.compiled import lookup as lu
from p2mbatch.compiled.boot import set_shared_info
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.own.layouts import make_array as make_array
from p2mbatch.compiled.own.layouts import max_domain_pages as max_domain_pages
from p2mbatch.compiled.own.memory import (
    given_back,
    load,
    make_known,
    store,
    taken,
    top_asked_for,
)
from p2mbatch.compiled.own.registers import (
    OWN_BUG,
    OWN_OUT_OF_PAGE,
    R_FOUND,
    R_FOUND_TOP,
    R_MFN,
    R_MFN_2,
    R_PAGE,
    R_PAGE_2,
    R_SITE,
    stop,
)
from p2mbatch.compiled.pages import address, page_at
from p2mbatch.compiled.status import FAULT_TOP, OK
from p2mbatch.compiled.tables import (
    P_PAGE,
    HostTables,
    P2MTables,
)

# --- looking up --------------------------------------------------------------------------------


@inline_kernel
def get_phys_to_machine(t: P2MTables, h: HostTables, pfn: int, line: int) -> int:
    """Return the p2m's entry of `pfn`, no bit masked."""
    entry = lu.get_phys_to_machine(t, h, pfn)
    if entry <= FAULT_TOP:
        stop(t, entry, line)
    return entry


@inline_kernel
def pfn_to_mfn(t: P2MTables, h: HostTables, pfn: int, line: int) -> int:
    """Return the p2m's entry of `pfn` without the foreign bit."""
    mfn = lu.pfn_to_mfn(t, h, pfn)
    if mfn <= FAULT_TOP:
        stop(t, mfn, line)
    return mfn


@inline_kernel
def virt_to_mfn(t: P2MTables, h: HostTables, where: int, line: int) -> int:
    """Return the MFN of the page at an address."""
    page = page_at(t, where)
    return noted(t, page, pfn_to_mfn(t, h, page, line))


@inline_kernel
def noted(t: P2MTables, page: int, mfn: int) -> int:
    """Note whose MFN was asked for, so that it is known where it is stored; return the MFN."""
    s = t.statics
    if page != s[R_PAGE]:
        s[R_PAGE_2] = s[R_PAGE]
        s[R_MFN_2] = s[R_MFN]
        s[R_PAGE] = page
    s[R_MFN] = mfn
    return mfn


@inline_kernel
def virt_to_pfn(t: P2MTables, h: HostTables, where: int, line: int) -> int:
    """Return the PFN of the page at an address."""
    return page_at(t, where)


@inline_kernel
def mfn_to_virt(t: P2MTables, h: HostTables, mfn: int, line: int) -> int:
    """Return the direct map's address of the page that m2p names for `mfn`."""
    where = lu.mfn_to_virt(t, h, mfn)
    t.statics[R_FOUND] = where
    t.statics[R_FOUND_TOP] = top_asked_for(t, mfn)
    return where


# --- memory ------------------------------------------------------------------------------------


@inner_kernel
def extend_brk(t: P2MTables, h: HostTables, size: int, align: int, line: int) -> int:
    """Return the address of the next page of brk; BUGs where there is none."""
    never_inline()
    slot = lists.extend_brk(t)
    if slot < 0:
        stop(t, -slot, line)
    return taken(t, as_int(t.slots[slot, P_PAGE]), line)


@inner_kernel
def alloc_p2m_page(t: P2MTables, h: HostTables, line: int) -> int:
    """Return the address of a page, or NULL where there is no memory."""
    never_inline()
    page = grow.alloc_p2m_page(t)
    return taken(t, page, line) if page >= 0 else as_int(0)


@inner_kernel
def free_p2m_page(t: P2MTables, h: HostTables, where: int, line: int) -> None:
    """Give a page back; it does not return to the pool (model section 5)."""
    given_back(t, where)


# --- bugs --------------------------------------------------------------------------------------


@inner_kernel
def bug(t: P2MTables, site: int, line: int) -> None:
    """End the guest at the BUG number `site` of the policy."""
    never_inline()
    t.statics[R_SITE] = site
    stop(t, OWN_BUG, line)


# --- numbers -----------------------------------------------------------------------------------


@inline_kernel
def entries(t: P2MTables) -> int:
    """Return the words in a page."""
    return as_int(1) << t.state[0].entries_shift


@inline_kernel
def load_in(t: P2MTables, h: HostTables, where: int, length: int, i: int, line: int) -> int:
    """Return word `i` of the static array of `length` words at `where`."""
    if i < 0 or i >= length:
        stop(t, OWN_OUT_OF_PAGE, line)
    shift = t.state[0].entries_shift
    return load(t, h, where + ((i >> shift) << 12), i & (entries(t) - 1), line)


@inline_kernel
def store_in(
    t: P2MTables, h: HostTables, where: int, length: int, i: int, word: int, line: int
) -> None:
    """Store `word` as word `i` of the static array of `length` words at `where`."""
    if i < 0 or i >= length:
        stop(t, OWN_OUT_OF_PAGE, line)
    shift = t.state[0].entries_shift
    store(t, h, where + ((i >> shift) << 12), i & (entries(t) - 1), word, line)


@inline_kernel
def max_p2m_pfn(t: P2MTables) -> int:
    """Return the PFNs that the tree can hold."""
    return as_int(t.state[0].max_p2m)


@inline_kernel
def p2m_top_index(t: P2MTables, h: HostTables, pfn: int, line: int) -> int:
    """Return which entry of `p2m_top` leads to `pfn`."""
    return pfn >> (2 * t.state[0].entries_shift)


@inline_kernel
def p2m_mid_index(t: P2MTables, h: HostTables, pfn: int, line: int) -> int:
    """Return which entry of its mid page leads to `pfn`."""
    return (pfn >> t.state[0].entries_shift) & (entries(t) - 1)


@inline_kernel
def p2m_index(t: P2MTables, h: HostTables, pfn: int, line: int) -> int:
    """Return which entry of its leaf is that of `pfn`."""
    return pfn & (entries(t) - 1)


# --- variables that the model knows ------------------------------------------------------------


@inline_kernel
def xen_max_p2m_pfn(t: P2MTables) -> int:
    """Return the end of the PFNs that the list is to name."""
    return as_int(t.state[0].xen_max)


@inline_kernel
def nr_pages(t: P2MTables) -> int:
    """Return how many pages the guest boots with."""
    return as_int(t.state[0].nr_pages)


@inline_kernel
def mfn_list(t: P2MTables) -> int:
    """Return the address of the first page of `mfn_list`."""
    return address(t, as_int(t.state[0].mfn_list_pfn))


@inline_kernel
def frame_list_list_mfn(t: P2MTables) -> int:
    """Return the MFN by which the toolstack finds the list."""
    return as_int(t.state[0].shared_fll)


@inline_kernel
def max_pfn(t: P2MTables) -> int:
    """Return the end of the PFNs as the toolstack is told."""
    return as_int(t.state[0].shared_max)


@inline_kernel
def set_xen_max_p2m_pfn(t: P2MTables, value: int) -> None:
    """Set the end of the PFNs that the list is to name."""
    t.state[0].xen_max = value


@inline_kernel
def set_frame_list_list_mfn(t: P2MTables, value: int) -> None:
    """Set the MFN by which the toolstack finds the list."""
    t.state[0].shared_fll = value


@inline_kernel
def set_max_pfn(t: P2MTables, value: int) -> None:
    """Set the end of the PFNs as the toolstack is told."""
    t.state[0].shared_max = value


@inline_kernel
def static(t: P2MTables, index: int) -> int:
    """Return a static variable of the policy."""
    return as_int(t.statics[index])


@inline_kernel
def set_static(t: P2MTables, index: int, value: int) -> None:
    """Set a static variable of the policy."""
    t.statics[index] = value


@inner_kernel
def set_pointer(t: P2MTables, index: int, value: int) -> None:
    """Set a pointer that the model knows too."""
    t.statics[index] = value
    make_known(t, index, value)


@inner_kernel
def shared_info(t: P2MTables, h: HostTables, line: int) -> None:
    """Report the list as the tree's kernels do: `xen_setup_mfn_list_list`."""
    status = set_shared_info(t, h)
    if status != OK:
        stop(t, status, line)


@inner_kernel
def report(t: P2MTables, h: HostTables) -> None:
    """Do `shared_info` where the policy says nothing of it."""
    shared_info(t, h, as_int(0))


# What an expression of the user's file is where it is a word of the kernel.
NULL = 0
PAGE_SIZE = 4096
INVALID_P2M_ENTRY = INVALID
FOREIGN_BIT = FOREIGN_FRAME_BIT
