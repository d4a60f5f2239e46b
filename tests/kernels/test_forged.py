"""A child that writes what it likes where it likes: the parent believes nothing of it.

No file comes so far, since each store is looked at. Here one does: a function without hooks fills
the control block with numbers, in a process of its own, which must end in order. It does so
at boot, in a set and in a report, by turns; where nothing is compiled, an index beyond an array is
an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.variants import HERE, VARIANTS, kernel_of
from p2mbatch.base.cc import find_compiler
from p2mbatch.compiled.child import layout as lo

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

# Words that say which guest it is, and the answer to the call, would only break the child itself.
FORGE = f"""
static __attribute__((no_sanitize("thread"), noinline)) void forge(unsigned long seed)
{{
    unsigned long long *control = (void *)0x10000000UL, key = seed * 2654435761UL + 1;
    unsigned long i, first = seed & 1 ? {lo.A_LOG} : {lo.C_TEXT};
    unsigned long count = seed & 1 ? 64 * {lo.ENTRY_WORDS} : {lo.HEADER - lo.C_TEXT};
    for (i = 0; i < count; i++) {{
        unsigned long long word, what;
        key = key * 6364136223846793005ULL + 1442695040888963407ULL;
        what = key >> 60;
        word = what < 4 ? key : what < 6 ? 0 : what < 8 ? ~0ULL : what < 10 ? key >> 20
            : what < 12 ? 0xffff880000000000ULL + (key >> 40 << 12) : key >> 50;
        if (seed & 1 && i % {lo.ENTRY_WORDS} == 0)
            word = word % {len(lo.ENTRIES)} | 0x200000001000ULL << 8;
        if (what & 1 || !(seed & 2))
            control[first + i] = word;
    }}
}}
"""

LIVES = """
import dataclasses, re, sys
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.guests.guest import Guest
from p2mbatch.kernels import policy as kernels
from p2mbatch.kernels.named import named_policy
take = kernels.extract_from
def forged(source, **how):
    unit = take(source, **how)
    text, count = re.subn(
        r"forged \\+= (7777[0-2]);",
        r"if (xen_start_info->nr_pages % 3 == \\1 - 77770) "
        r"forge(forged++ * 64 + xen_start_info->nr_pages / 3);",
        unit.text,
    )
    assert count == 3
    return dataclasses.replace(unit, text=FORGE + text)
kernels.extract_from = forged
name = named_policy("kernel:" + sys.argv[1])
ends = set()
for pages in range(int(sys.argv[2]), int(sys.argv[3])):
    try:
        guest = Guest.boot(pages * 4096, policy=name)
        for _ in range(2):
            guest.balloon_out(range(700, 704))
            guest.populate(range(700, 704))
            if guest.ended or not guest.migrate().ok:
                break
            guest.lookup(range(0, 1024, 64))
        ends.add(str(guest.ended and guest.ended.outcome))
    except P2MBatchError as error:
        ends.add("told")
        assert "\\n" not in str(error)
print("lived", sorted(ends))
"""

PLACES = (
    "void __init xen_build_dynamic_phys_to_machine(void)\n{\n",
    "bool set_phys_to_machine(unsigned long pfn, unsigned long mfn)\n{\n",
    "void xen_setup_mfn_list_list(void)\n{\n",
)


def lives(policy: str, folder: Path, first: int, end: int, uncompiled: bool) -> None:
    """Live guests of `first` to `end` pages, each of which forges in one of three places."""
    source = HERE / "tracked.c" if policy == "tracked" else kernel_of(policy, folder)
    text = source.read_text("utf-8")
    for k, place in enumerate(PLACES):
        assert text.count(place) == 1
        text = text.replace(place, f"{place}\tforged += 7777{k};\n")
    # Above all three of them.
    at = min(text.index(place) for place in PLACES)
    path = folder / "mmu.c"
    path.write_text(f"{text[:at]}static int forged;\n\n{text[at:]}", "utf-8")
    program = LIVES.replace("FORGE", repr(FORGE))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(first), str(end)],
        capture_output=True, text=True, check=False, timeout=500,
        env={**os.environ, **({"NUMBA_DISABLE_JIT": "1"} if uncompiled else {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("lived")


def some(*soon: str) -> list[object]:
    """Return all policies as parameters, those but `soon` for thorough runs."""
    return [
        pytest.param(policy, marks=[] if policy in soon else pytest.mark.thorough)
        for policy in ("tracked", *VARIANTS)
    ]


@pytest.mark.parametrize("policy", some("tracked", "linear"))
def test_what_a_child_forges_harms_nobody(policy: str, tmp_path: Path) -> None:
    lives(policy, tmp_path, 16384, 16384 + 24, False)


@pytest.mark.parametrize("policy", some("linear"))
def test_what_a_child_forges_leads_beyond_no_array(policy: str, tmp_path: Path) -> None:
    lives(policy, tmp_path, 1024, 1024 + 6, True)
