"""Whole kernels, where there are some: P2MBATCH_LINUX_TREES names trees, with colons between.

None of their text is in this repository. Each is taken with and without its tree, and its own
functions live the recordings of its era.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kernels.plain import FILES
from kernels.plain_tree import TREES as OF_THREE_LEVELS
from kernels.test_era_files import lived, of_file, recordings
from p2mbatch.base.cc import find_compiler
from p2mbatch.kernels.extract import Extracted, extract
from p2mbatch.kernels.roots import ROOTS

TREES = [Path(name) for name in os.environ.get("P2MBATCH_LINUX_TREES", "").split(":") if name]
KINDS = {**FILES, **OF_THREE_LEVELS}

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
    pytest.mark.skipif(not TREES, reason="P2MBATCH_LINUX_TREES names none"),
]


def kernel_of(tree: Path) -> Path:
    """Return the file of a tree that has the p2m."""
    later, earlier = (tree / "arch/x86/xen" / name for name in ("p2m.c", "mmu.c"))
    return later if later.exists() else earlier


def policy_of(found: Extracted, text: str) -> str | None:
    """Return the policy whose recordings a kernel should live; None where there are none."""
    if found.era == "linear":
        return "linear" if "ALIGN(pfn + 1, P2M_PER_PAGE)" in text else None
    if found.era == "two-level":
        return "two-level"
    if "p2m_mid_identity" in {name for name, _, _ in found.kept}:
        return None
    if "identity" not in found.roots:
        return "tail" if "m2p_override_init" in text else None
    return "moved" if "revector" in found.roots else "identity"


@pytest.mark.parametrize("with_tree", [False, True])
@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_kernel_is_taken_whole_and_unmodified(tree: Path, with_tree: bool) -> None:
    found = extract(kernel_of(tree), tree=tree if with_tree else None)
    needed = {w.name for w in ROOTS if found.era in w.eras and not w.is_optional}
    assert needed <= set(found.roots)
    texts = {site.text for site in found.sites}
    assert found.era == "two-level" or {"mididx", "mid_mfn_p != p2m_mid_missing_mfn"} <= texts


@pytest.mark.parametrize("with_tree", [False, True])
@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_kernel_lives_as_its_era_was_recorded(tree: Path, with_tree: bool) -> None:
    file, own = kernel_of(tree), tree if with_tree else None
    policy = policy_of(extract(file, tree=own), file.read_text("latin-1"))
    if policy is None:
        pytest.skip("no recordings of this kernel's, or none that are lived here")
    kind: type[Any] = of_file(KINDS[policy], file, own)
    folders = "eras" if policy in OF_THREE_LEVELS else "eras*"
    traces = [param.values[0] for param in recordings((policy,), folders)]
    assert len(traces) > 8
    for trace in traces:
        assert lived(trace, kind) == trace["expected"], trace["name"]
