"""What is taken of a kernel's file in C: the closure, its places, and that it compiles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.kernels.extract import COMPILED, Extracted, extract

HERE = Path(__file__).parent
SEED = ("stale", "tracked")

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def kernel(name: str) -> Path:
    return HERE / f"{name}.c"


def kept(found: Extracted) -> set[str]:
    return {name for name, _, _ in found.kept}


def line_of(path: Path, text: str) -> int:
    lines = path.read_text("utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("name", SEED)
def test_the_seeds_sides_become_one_unit(name: str, bits: int) -> None:
    found = extract(kernel(name), bits=bits)
    assert found.era == "three-level"
    assert {k: r.function for k, r in found.roots.items()} == {
        "boot": "xen_build_dynamic_phys_to_machine",
        "list": "xen_build_mfn_list_list",
        "report": "xen_setup_mfn_list_list",
        "get": "get_phys_to_machine",
        "set": "set_phys_to_machine",
        "grow": "alloc_p2m",
        "early_set": "__set_phys_to_machine",
    }
    ran = subprocess.run(
        [find_compiler() or "", *COMPILED, f"-m{bits}", "-c", "-o", "/dev/null", "-"],
        input=found.text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_the_roots_do_not_reach_is_left_out() -> None:
    found = extract(kernel("tracked"))
    assert {"p2m_top_mfn_p", "p2m_top_mfn_p_init", "fill_page", "alloc_p2m_page"} <= kept(found)
    assert not kept(found) & {"flush_everything", "own_mmu_ops", "debug_files", "count_pin",
                              "arbitrary_virt_to_machine"}  # fmt: skip
    assert found.num_items > len(found.kept)


def test_conditions_that_end_the_guest_stand_at_the_users_lines() -> None:
    path = kernel("tracked")
    at = {s.text: s.line for s in extract(path).sites}
    assert at["virt_to_mfn(mid_mfn) != *top_mfn_p"] == line_of(path, "BUG_ON(virt_to_mfn(mid_mfn)")
    assert at["mididx"] == line_of(path, "BUG_ON(mididx)")


def test_stores_into_the_list_say_which_page_they_meant() -> None:
    meant = {name: [(s.place, s.meant[0]) for s in extract(kernel(name)).true_pages]
             for name in SEED}  # fmt: skip
    assert meant == {
        "stale": [("mid_mfn_p[mididx]", "mfn_to_virt(p2m_top_mfn[topidx])"),
                  ("mid_mfn[mididx]", "mfn_to_virt(*top_mfn_p)")],
        "tracked": [("mid_mfn_p[mididx]", "p2m_top_mfn_p[topidx]"),
                    ("mid_mfn[mididx]", "p2m_top_mfn_p[topidx]")],
    }  # fmt: skip
