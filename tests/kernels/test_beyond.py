"""Kernels in C that store where no kernel does, in plain C: we read and write nothing of our own.

Nothing is compiled here, so that an index beyond an array is an error and not what lies behind it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.variants import HERE
from p2mbatch.base.cc import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

_SET = "bool set_phys_to_machine(unsigned long pfn, unsigned long mfn)\n{\n"
_TOLD = "\tarch->p2m_cr3 = xen_pfn_to_cr3(virt_to_mfn(swapper_pg_dir));\n"
_MOVED = "\tmfn_list = alloc_bootmem_align(size, PAGE_SIZE);\n"
_REFUSED = "lived ok ok save-failed ok save-failed"

FILES = {
    "an entry of the leaf that 1:1 PFNs share": (
        "moved.c", _SET,
        "\tif (mfn != INVALID_P2M_ENTRY)\n\t\tp2m_identity[p2m_index(pfn)] = mfn;\n",
        "lived ok ok ok ok ok",
    ),
    "a page table given back, and what it leads to by then": (
        "linear.c", _TOLD,
        """
	{
		unsigned long *pgd = (unsigned long *)swapper_pg_dir, *page;
		unsigned i, k;

		for (k = 0; k < 5; k++) {
			page = __va((600UL + k) << PAGE_SHIFT);
			for (i = 0; i < 512; i++)
				page[i] = ((k * 512UL + i + 1) << 30) + 0x41414141;
		}
		free_page((unsigned long)pgd);
		for (i = 0; i < 512; i++)
			if (pgd[i] & 1)
				pgd[i] = pfn_to_mfn(pgd[i] >> PAGE_SHIFT) << PAGE_SHIFT | 7;
		for (k = 0; k < 5; k++)
			pgd[300 + k] = 600UL + k;
	}
""",
        "told has page tables over its p2m that don't lead to tables everywhere",
    ),
    "a leaf that nobody has worked out yet, where the shared one is": (
        "moved.c", _MOVED,
        """
	{
		unsigned long **kept = p2m_top_mfn_p;

		p2m_identity = mfn_list;
		p2m_top_mfn_p = (void *)mfn_list;
		copy_page(mfn_list, (void *)va_start);
		p2m_top_mfn_p = kept;
		return 0;
	}
""",
        "lived ok ok ok ok ok",
    ),
    "an end that no area has": (
        "linear.c", _TOLD, _TOLD + "\tarch->max_pfn = 1UL << 50;\n", _REFUSED,
    ),
    "an end before the beginning": (
        "linear.c", _TOLD, _TOLD + "\tarch->max_pfn = 3UL << 62;\n", _REFUSED,
    ),
    "a shared leaf that is nowhere": (
        "linear.c", _TOLD, _TOLD + "\tp2m_missing = NULL;\n",
        "told has done what no such call can do",
    ),
}  # fmt: skip
"""What it is -> the file, where a line goes in, which, and how its guest's life ends."""

LIFE = """
import sys
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.compiled.pages import page_code
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
try:
    policy = named_policy("kernel:" + sys.argv[1])
    guest = Guest.boot("16MiB", policy=policy)
    tables = guest.life.tables
    assert page_code(tables, tables.state[0].identity) >= 0
    told = ["lived", guest.balloon_out(range(600, 604)).outcome]
    told.append(guest.populate(range(600, 604)).outcome)
    told.append(guest.migrate().outcome)
    # In a batch, too.
    rows = run_scenario(Scenario.make(memory_bytes="16MiB", policy=policy, migrations=1))
    told += [row["outcome"] for row in rows]
except P2MBatchError as error:
    told = ["told", str(error)]
print(*told)
"""


@pytest.mark.parametrize("what", FILES)
def test_a_store_anywhere_harms_nothing_of_ours(what: str, tmp_path: Path) -> None:
    name, place, lines, wanted = FILES[what]
    text = (HERE / name).read_text("utf-8")
    assert text.count(place) == 1
    path = tmp_path / "mmu.c"
    path.write_text(text.replace(place, place + lines.removeprefix(place)), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LIFE, str(path)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.replace(f"{path}: ", "")
    assert said.count("\n") == 1
    assert said.startswith(wanted), said
