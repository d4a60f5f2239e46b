"""Where a trace's guest keeps its tables and its pool."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.model.trace import GuestLayout
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout


def structures_of(guest: GuestLayout) -> Int64Array:
    """Return where a guest keeps its tables and its pool: int64[k, 2] of [first PFN, count]."""
    runs = [[guest.brk_pfn, guest.brk_pages], [guest.mfn_list_pfn, guest.mfn_list_pages]]
    runs += guest.page_pool.tolist()
    if isinstance(guest, EraLayout):
        runs += [list(guest.bootmem)] if guest.bootmem else []
        static = guest.static or {}
        runs += [[static[name], count] for name, count in guest.static_pages.items()]
    if isinstance(guest, LinearLayout):
        runs += [[guest.pgd_pfn, 1], *guest.boot_pool.tolist()]
    return np.array([run for run in runs if run[1]], np.int64).reshape(-1, 2)
