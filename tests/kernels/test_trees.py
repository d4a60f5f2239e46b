"""Whole kernels, where there are some: P2MBATCH_LINUX_TREES names trees, with colons between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2mbatch.kernels.extract import extract
from p2mbatch.kernels.roots import ROOTS

TREES = [Path(name) for name in os.environ.get("P2MBATCH_LINUX_TREES", "").split(":") if name]


def kernel_of(tree: Path) -> Path:
    """Return the file of a tree that has the p2m."""
    later, earlier = (tree / "arch/x86/xen" / name for name in ("p2m.c", "mmu.c"))
    return later if later.exists() else earlier


@pytest.mark.skipif(not TREES, reason="P2MBATCH_LINUX_TREES names none")
@pytest.mark.parametrize("with_tree", [False, True])
@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_kernel_is_taken_whole_and_unmodified(tree: Path, with_tree: bool) -> None:
    found = extract(kernel_of(tree), tree=tree if with_tree else None)
    needed = {w.name for w in ROOTS if found.era in w.eras and not w.is_optional}
    assert needed <= set(found.roots)
    assert {"mididx", "mid_mfn_p != p2m_mid_missing_mfn"} <= {s.text for s in found.sites} or (
        found.era == "two-level"
    )
