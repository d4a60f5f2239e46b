"""What is taken of a kernel's file in C: the closure, its places, and that it compiles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.kernels.extract import COMPILED, Extracted, extract

HERE = Path(__file__).parent
SEED = ("stale", "tracked")
WIDTHS = {"stale": (64, 32), "tracked": (64, 32), "two_level": (64, 32), "linear": (64,)}

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def kernel(name: str) -> Path:
    return HERE / f"{name}.c"


def kept(found: Extracted) -> set[str]:
    return {name for name, _, _ in found.kept}


def line_of(path: Path, text: str) -> int:
    lines = path.read_text("utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


THREE_LEVEL = {
    "boot": "xen_build_dynamic_phys_to_machine",
    "list": "xen_build_mfn_list_list",
    "report": "xen_setup_mfn_list_list",
    "get": "get_phys_to_machine",
    "set": "set_phys_to_machine",
    "grow": "alloc_p2m",
    "early_set": "__set_phys_to_machine",
}
TWO_LEVEL = {k: f for k, f in THREE_LEVEL.items() if k not in ("grow", "early_set")}
LINEAR = {**THREE_LEVEL, "grow": "xen_alloc_p2m_entry", "identity": "set_phys_range_identity",
          "vmalloc": "xen_vmalloc_p2m_tree"}  # fmt: skip
ROOTS = {"stale": THREE_LEVEL, "tracked": THREE_LEVEL, "two_level": TWO_LEVEL, "linear": LINEAR}
ERAS = {"two_level": "two-level", "linear": "linear"}


@pytest.mark.parametrize(("name", "bits"), [(n, b) for n, bs in WIDTHS.items() for b in bs])
def test_each_eras_file_becomes_one_unit(name: str, bits: int, tmp_path: Path) -> None:
    found = extract(kernel(name), bits=bits)
    assert found.era == ERAS.get(name, "three-level")
    assert {k: r.function for k, r in found.roots.items()} == ROOTS[name]
    made = tmp_path / "unit.o"
    ran = subprocess.run(
        [find_compiler() or "", *COMPILED, f"-m{bits}", "-fno-pic", "-c", "-o", str(made), "-"],
        input=found.text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert exported(made) == {"p2mk_roots", "p2mk_arrays"}


def exported(made: Path) -> set[str]:
    """Return the names that an object file defines for others."""
    listed = subprocess.run(["nm", "-g", "--defined-only", str(made)],
                            capture_output=True, text=True, check=True)  # fmt: skip
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def test_static_arrays_are_pages_that_nothing_else_is_in(tmp_path: Path) -> None:
    """Of 2.6.32 the list's top is shorter than the page that it is."""
    text = kernel("two_level").read_text("utf-8")
    text = text.replace("p2m_top_mfn_list[P2M_ENTRIES_PER_PAGE] __page_aligned_bss",
                        "p2m_top_mfn_list[TOP_ENTRIES / P2M_ENTRIES_PER_PAGE]")  # fmt: skip
    (tmp_path / "mmu.c").write_text(text)
    made = tmp_path / "unit.o"
    subprocess.run([find_compiler() or "", *COMPILED, "-fno-pic", "-c", "-o", str(made), "-"],
                   input=extract(tmp_path / "mmu.c").text, check=True, text=True)  # fmt: skip
    listed = subprocess.run(["nm", "-n", str(made)], capture_output=True, text=True, check=True)
    at = {line.split()[-1]: int(line.split()[0], 16) for line in listed.stdout.splitlines()
          if line.split()[-2] in "dD" and not line.endswith("p2mk_roots")}  # fmt: skip
    assert [name for name in at if not name.startswith("p2mk_")] == list(
        extract(kernel("two_level")).arrays
    )
    assert all(address % 4096 == 0 for address in at.values()), at


def test_static_arrays_are_told() -> None:
    arrays = ("p2m_missing", "p2m_top", "p2m_top_mfn", "p2m_top_mfn_list")
    assert extract(kernel("two_level")).arrays == arrays
    assert extract(kernel("tracked")).arrays == ()


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
    top = ("p2m_top_mfn[topidx]", "extend_brk(PAGE_SIZE, PAGE_SIZE)")
    assert meant == {
        "stale": [top, ("mid_mfn_p[mididx]", "mfn_to_virt(p2m_top_mfn[topidx])"),
                  ("mid_mfn[mididx]", "mfn_to_virt(*top_mfn_p)")],
        "tracked": [top, top, ("mid_mfn_p[mididx]", "p2m_top_mfn_p[topidx]"),
                    ("mid_mfn[mididx]", "p2m_top_mfn_p[topidx]")],
    }  # fmt: skip


def test_stores_into_the_lists_of_two_levels_are_told() -> None:
    places = [(s.place, s.meant) for s in extract(kernel("two_level")).true_pages]
    assert places == [
        ("p2m_top_mfn[i]", ("p2m_top_mfn",)),
        ("p2m_top_mfn_list[i]", ("p2m_top_mfn_list",)),
    ]
