"""The kernels on both sides of the change, in the words that policies are written in.

`Kernel` has what all kernels of the tree share; `Stale` and `Tracked` are what `stale` and
`tracked` are (docs/model.md sections 4 to 6). A class of your own inherits from one of them and
says only what is different there.
"""

from __future__ import annotations

from p2mbatch.linux.words import (
    BUG_ON,
    INVALID_P2M_ENTRY,
    NULL,
    P2M_MID_PER_PAGE,
    P2M_PER_PAGE,
    P2M_TOP_PER_PAGE,
    PAGE_SIZE,
    Pointer,
    alloc_p2m_page,
    cmpxchg,
    extend_brk,
    free_p2m_page,
    memset_l,
    mfn_to_virt,
    p2m_mid_index,
    p2m_top_index,
    virt_to_mfn,
)


class Kernel:
    """A kernel that keeps its p2m in the three-level tree, without a way to keep its list."""

    p2m_missing: Pointer = NULL
    p2m_mid_missing: Pointer = NULL
    p2m_top: Pointer = NULL
    p2m_mid_missing_mfn: Pointer = NULL
    p2m_top_mfn: Pointer = NULL

    xen_max_p2m_pfn: int
    """The end of the PFNs that the list is to name."""
    nr_pages: int
    """How many pages the guest boots with."""
    mfn_list: Pointer
    """The first page of the flat list of MFNs that the domain builder leaves."""
    pfn_to_mfn_frame_list_list: int
    """In the shared info: the MFN by which the toolstack finds the list."""
    max_pfn: int
    """In the shared info: the end of the PFNs that the toolstack is to save."""

    def xen_build_mfn_list_list(self) -> None:
        """Build the list, at boot, and build it again at a resume."""
        raise NotImplementedError

    def alloc_p2m(self, pfn: int) -> bool:
        """Make the leaf of `pfn`; return whether there was memory for it."""
        raise NotImplementedError

    def get_phys_to_machine(self, pfn: int) -> int:
        """Return the entry of `pfn`, no bit masked."""
        raise NotImplementedError

    def set_phys_to_machine(self, pfn: int, mfn: int) -> bool:
        """Set the entry of `pfn`; return whether there was memory for it."""
        raise NotImplementedError

    def pfn_to_mfn(self, pfn: int) -> int:
        """Return the entry of `pfn` as an MFN: the foreign bit off, but not from INVALID."""
        raise NotImplementedError

    def xen_build_dynamic_phys_to_machine(self) -> None:
        """Build the p2m over `mfn_list`, first of all at boot."""
        raise NotImplementedError

    def xen_setup_mfn_list_list(self) -> None:
        """Report the list in the shared info, at boot and at each resume."""
        raise NotImplementedError

    def xen_post_suspend(self) -> None:
        """Do what a resume does with the list, before it is reported again."""
        self.xen_build_mfn_list_list()

    def p2m_init(self, page: Pointer) -> None:
        """Make `page` a leaf without frames."""
        memset_l(page, INVALID_P2M_ENTRY, P2M_PER_PAGE)

    def p2m_mid_init(self, page: Pointer) -> None:
        """Make `page` a mid without leaves."""
        memset_l(page, self.p2m_missing, P2M_MID_PER_PAGE)

    def p2m_mid_mfn_init(self, page: Pointer) -> None:
        """Make `page` a page of the list that names `p2m_missing` everywhere."""
        memset_l(page, virt_to_mfn(self.p2m_missing), P2M_MID_PER_PAGE)

    def p2m_top_mfn_init(self, page: Pointer) -> None:
        """Make `page` a `p2m_top_mfn` that names `p2m_mid_missing_mfn` everywhere."""
        mfn = virt_to_mfn(self.p2m_mid_missing_mfn)
        for i in range(P2M_TOP_PER_PAGE):
            page[i] = mfn


class Stale(Kernel):
    """The kernel before the change: the list's pages are found by their old MFNs."""

    def xen_build_mfn_list_list(self) -> None:
        """Build the list; nothing is refilled at a resume."""
        if self.p2m_top_mfn == NULL:
            self.p2m_mid_missing_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)
            self.p2m_top_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_top_mfn_init(self.p2m_top_mfn)
        for pfn in range(0, self.xen_max_p2m_pfn, P2M_PER_PAGE):
            top = p2m_top_index(pfn)
            index = p2m_mid_index(pfn)
            mid = self.p2m_top[top]
            if mid[index] == self.p2m_missing:
                continue
            mid_mfn = mfn_to_virt(self.p2m_top_mfn[top])
            if mid_mfn == self.p2m_mid_missing_mfn:
                mid_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
                self.p2m_mid_mfn_init(mid_mfn)
                self.p2m_top_mfn[top] = virt_to_mfn(mid_mfn)
            mid_mfn[index] = virt_to_mfn(mid[index])

    def list_page(self, top: int) -> Pointer:
        """Return the page of the list for a top index, as growth finds it."""
        return mfn_to_virt(self.p2m_top_mfn[top])

    def list_page_hung(self, top: int, page: Pointer) -> None:
        """Note that `page` is the list's page for a top index from now on."""

    def alloc_p2m(self, pfn: int) -> bool:
        """Make the mid, the list's page and the leaf of `pfn`, as far as they are missing."""
        top = p2m_top_index(pfn)
        index = p2m_mid_index(pfn)
        mid = self.p2m_top[top]
        if mid == self.p2m_mid_missing:
            mid = alloc_p2m_page()
            if mid == NULL:
                return False
            self.p2m_mid_init(mid)
            self.p2m_top[top] = mid
        mid_mfn = self.list_page(top)
        if mid_mfn == self.p2m_mid_missing_mfn:
            mid_mfn = alloc_p2m_page()
            if mid_mfn == NULL:
                return False
            self.p2m_mid_mfn_init(mid_mfn)
            missing_mfn = virt_to_mfn(self.p2m_mid_missing_mfn)
            mfn = virt_to_mfn(mid_mfn)
            if cmpxchg(self.p2m_top_mfn, top, missing_mfn, mfn) == missing_mfn:
                self.list_page_hung(top, mid_mfn)
            else:
                free_p2m_page(mid_mfn)
        if self.p2m_top[top][index] == self.p2m_missing:
            leaf = alloc_p2m_page()
            if leaf == NULL:
                return False
            self.p2m_init(leaf)
            mid[index] = leaf
            mid_mfn[index] = virt_to_mfn(leaf)
        return True


class Tracked(Stale):
    """The kernel after the change: `p2m_top_mfn_p` has the addresses of the list's pages."""

    p2m_top_mfn_p: Pointer = NULL

    def xen_build_mfn_list_list(self) -> None:
        """Build the list; at a resume every MFN in it is stored anew."""
        if self.p2m_top_mfn == NULL:
            self.p2m_mid_missing_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)
            self.p2m_top_mfn_p = extend_brk(PAGE_SIZE, PAGE_SIZE)
            memset_l(self.p2m_top_mfn_p, self.p2m_mid_missing_mfn, P2M_TOP_PER_PAGE)
            self.p2m_top_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE)
            self.p2m_top_mfn_init(self.p2m_top_mfn)
        else:
            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)
        pfn = 0
        while pfn < self.xen_max_p2m_pfn:
            top = p2m_top_index(pfn)
            mididx = p2m_mid_index(pfn)
            mid = self.p2m_top[top]
            mid_mfn_p = self.p2m_top_mfn_p[top]
            if mid == self.p2m_mid_missing:
                BUG_ON(mididx)
                BUG_ON(mid_mfn_p != self.p2m_mid_missing_mfn)
                self.p2m_top_mfn[top] = virt_to_mfn(self.p2m_mid_missing_mfn)
                pfn += P2M_MID_PER_PAGE * P2M_PER_PAGE
                continue
            if mid_mfn_p == self.p2m_mid_missing_mfn:
                mid_mfn_p = extend_brk(PAGE_SIZE, PAGE_SIZE)
                self.p2m_mid_mfn_init(mid_mfn_p)
                self.p2m_top_mfn_p[top] = mid_mfn_p
            self.p2m_top_mfn[top] = virt_to_mfn(mid_mfn_p)
            mid_mfn_p[mididx] = virt_to_mfn(mid[mididx])
            pfn += P2M_PER_PAGE

    def list_page(self, top: int) -> Pointer:
        """Return the page of the list for a top index, as growth finds it."""
        page = self.p2m_top_mfn_p[top]
        BUG_ON(
            virt_to_mfn(page) != self.p2m_top_mfn[top],
            "virt_to_mfn(mid_mfn) != *top_mfn_p",
        )
        return page

    def list_page_hung(self, top: int, page: Pointer) -> None:
        """Note that `page` is the list's page for a top index from now on."""
        self.p2m_top_mfn_p[top] = page
