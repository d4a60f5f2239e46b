"""A child that writes what it likes where it likes: the parent believes nothing of it.

No file comes so far, since each store is looked at. Here one does: a function without hooks fills
the control block with numbers, in a process of its own, which must end in order.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.compiled.child import layout as lo

HERE = Path(__file__).parent

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
            word = word % 12 | 0x400000 << 8;
        if (what & 1 || !(seed & 2))
            control[first + i] = word;
    }}
}}
"""

LIVES = """
import dataclasses, sys
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.guests.guest import Guest
from p2mbatch.kernels import policy as kernels
from p2mbatch.kernels.named import named_policy
take = kernels.extract_from
def forged(source, **how):
    unit = take(source, **how)
    assert unit.text.count("resumes += 77777;") == 1
    text = FORGE + unit.text.replace("resumes += 77777;", "forge(resumes * 64 + xen_max_p2m_pfn);")
    return dataclasses.replace(unit, text=text)
kernels.extract_from = forged
name = named_policy("kernel:" + sys.argv[1])
ends = set()
for pages in range(int(sys.argv[2]), int(sys.argv[3])):
    try:
        guest = Guest.boot((16384 + pages) * 4096, policy=name,
                           sparsity=0.5, layout="extents")
        for _ in range(2):
            if not guest.migrate().ok:
                break
            guest.populate(range(9000, 9004))
            guest.lookup(range(0, 16384, 64))
        ends.add(str(guest.ended and guest.ended.outcome))
    except P2MBatchError as error:
        ends.add("told")
        assert "\\n" not in str(error)
print("lived", sorted(ends))
"""


@pytest.mark.parametrize("first", [0, 16])
def test_what_a_child_forges_harms_nobody(first: int, tmp_path: Path) -> None:
    text = (HERE / "tracked.c").read_text("utf-8")
    build = "void xen_build_mfn_list_list(void)\n{\n"
    assert text.count(build) == 1
    text = text.replace(build, f"static int resumes;\n{build}\tresumes++;\n")
    end = text.index("\n}\n", text.index(build))
    path = tmp_path / "mmu.c"
    path.write_text(text[:end] + "\n\tresumes += 77777;" + text[end:], encoding="utf-8")
    program = LIVES.replace("FORGE", repr(FORGE))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(first), str(first + 16)],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("lived")
