"""Our headers' words do what the kernel's do: a program of them, run on this machine."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.kernels.extract import AFTER_PAGE, BEFORE_PAGE

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

# Condition -> the statements before it.
HOLDS = {
    "min(3UL, 5UL) == 3 && max(3UL, 5UL) == 5": "",
    "min(min(1, 2), max(3, 0)) == 1": "",
    "min_t(unsigned char, 257, 2) == 1": "",
    "clamp(9, 2, 5) == 5 && clamp(0, 2, 5) == 2": "",
    "ALIGN(1025UL, 512) == 1536 && ALIGN(1024UL, 512) == 1024 && ALIGN(0UL, 512) == 0": "",
    "IS_ALIGNED(1024UL, 512) && !IS_ALIGNED(1025UL, 512)": "",
    "DIV_ROUND_UP(1025, 512) == 3 && round_down(1025UL, 512) == 1024": "",
    "PAGE_ALIGN(4097UL) == 8192 && PFN_UP(4097UL) == 2 && PFN_DOWN(8191UL) == 1": "",
    "PFN_PHYS(0x100000UL) == 0x100000000ULL": "",
    "ARRAY_SIZE(words) == 7": "int words[7]; (void)words;",
    "IS_ENABLED(CONFIG_XEN_PV) == 1 && IS_ENABLED(CONFIG_NO_SUCH) == 0": "",
    "w == 9 && old == 4": "unsigned long w = 4, old = cmpxchg(&w, 4, 9);",
    "w == 4 && old == 4 ": "unsigned long w = 4, old = cmpxchg(&w, 5, 9);",
    "p == &b && old == &a": "int a, b, *p = &a, *old = cmpxchg(&p, &a, &b);",
    "w == 9 && old == 4  ": "unsigned long w = 4, old = xchg(&w, 9);",
    "x == 2 && y == 1": "int x = 1, y = 2; swap(x, y);",
    "WARN_ON(1 == 1) == 1 && num_warned == 1": "",
    'WARN(0, "%d", 1) == 0 && num_warned == 0': "",
    "list_empty(&all)": "LIST_HEAD(all);",
    "sum == 11": "struct page a = {.private = 5}, b = {.private = 6}, *at; unsigned long sum = 0; "
    "LIST_HEAD(all); list_add(&a.lru, &all); list_add(&b.lru, &all); "
    "list_for_each_entry(at, &all, lru) sum += page_private(at);",
    "list_empty(&all) ": "struct page a; LIST_HEAD(all); list_add(&a.lru, &all); list_del(&a.lru);",
    "hash_long(77, 10) < 1024 && hash_long(77, 10) != hash_long(78, 10)": "",
    "to[0] == 3 && to[PAGE_SIZE / sizeof(long) - 1] == 3": "static unsigned long from[1024], "
    "to[1024]; unsigned i; for (i = 0; i < 1024; i++) from[i] = 3; copy_page(to, from);",
    "!(FOREIGN_FRAME(1UL) & 1) == 0 && INVALID_P2M_ENTRY == ~0UL": "",
    "pte_pfn(pfn_pte(77, PAGE_KERNEL_RO)) == 77 && pfn_pte(1, PAGE_KERNEL).pte == 4099": "",
    "container_of(&a.lru, struct page, lru) == &a": "struct page a;",
    "num_warned == 1 && sum == 3 ": "int i, sum = 0; for (i = 0; i < 3; i++) "
    "sum += WARN_ON_ONCE(i >= 0);",
    "ilog2(1) == 0 && ilog2(4097) == 12 && get_order(4096) == 0 && get_order(4097) == 1": "",
    "IS_ERR(ERR_PTR(-ENOMEM)) && !IS_ERR(&a) && !IS_ERR_OR_NULL(&a) && IS_ERR_OR_NULL(0)": "int a;",
    "n == 2 && find_next_bit(set, 130, 66) == 129 && find_first_zero_bit(set, 9) == 0": "DECLARE_"
    "BITMAP(set, 130) = {0}; int n = 0, bit; set_bit(65, set); set_bit(129, set); "
    "set_bit(3, set); clear_bit(3, set); for_each_set_bit(bit, set, 130) n++;",
    "!test_and_set_bit(9, &w) && test_and_clear_bit(9, &w) && w == 0": "unsigned long w = 0;",
    "atomic_read(&n) == 5 && atomic_dec_return(&n) == 4 && !atomic_dec_and_test(&n)": "atomic_t "
    "n = ATOMIC_INIT(3); atomic_inc(&n); atomic_add(2, &n); atomic_dec(&n);",
    "num == 2 && list_empty(&all)  ": "struct page a, b, *at, *kept; int num = 0; LIST_HEAD(all); "
    "list_add_tail(&a.lru, &all); list_add_tail(&b.lru, &all); "
    "list_for_each_entry_safe(at, kept, &all, lru) { num++; list_del_init(&at->lru); }",
    "page_to_pfn(pfn_to_page(77)) == 77": "",
    "asked == 0x123456789UL && pfn == 0x77": "unsigned long pfn; "
    "(void)__get_user(pfn, &machine_to_phys_mapping[0x123456789UL]);",
    "asked == ~0UL - 1 && pfn == 0x77": "unsigned long pfn; "
    "xen_safe_read_ulong(&machine_to_phys_mapping[~0UL - 1], &pfn);",
}

SHIM = """
int printf(const char *, ...);
int num_warned;
unsigned long asked;
void p2mk_warn(const char *text, int line) { num_warned++; }
void p2mk_copy_page(void *to, const void *from) { memcpy(to, from, 4096); }
unsigned long p2mk_mfn_to_pfn(unsigned long mfn) { asked = mfn; return 0x77; }
unsigned long p2mk_pa_pfn(const void *address) { return (unsigned long)address >> 12; }
unsigned long p2mk_note_virt_to_mfn(unsigned long pfn, unsigned long mfn) { return mfn; }
void *p2mk_note_mfn_to_virt(unsigned long mfn, unsigned long pfn) { return (void *)(pfn << 12); }
void *p2mk_va(unsigned long pfn) { return (void *)(pfn << 12); }
unsigned long get_phys_to_machine(unsigned long pfn) { return entry_of(pfn); }
"""


def run(tmp_path: Path, era: int, identity: int, entry: str, tests: dict[str, str]) -> list[str]:
    """Return which of the conditions don't hold."""
    folder = files("p2mbatch.kernels") / "include"
    headers = "".join((folder / name).read_text("utf-8")
                      for name in (*BEFORE_PAGE, "page.h", *AFTER_PAGE))  # fmt: skip
    body = "".join(
        f'{{ num_warned = 0; {before} if (!({condition})) printf("%s\\n", '
        f"{chr(34)}{condition.replace(chr(34), chr(39))}{chr(34)}); }}\n"
        for condition, before in tests.items()
    )
    linear = "unsigned long *xen_p2m_addr, xen_p2m_size, xen_max_p2m_pfn;\n" if era == 4 else ""
    source = tmp_path / "words.c"
    source.write_text(f"{headers}#define entry_of(pfn) ({entry})\n{linear}{SHIM}"
                      f"int main(void) {{ {body} return 0; }}\n")  # fmt: skip
    program = tmp_path / "words"
    defined = ["-DCONFIG_X86_64=1", "-DCONFIG_XEN_PV=1", f"-DP2MK_ERA={era}",
               f"-DP2MK_IDENTITY={identity}", "-DP2MK_MAX_DOMAIN_PAGES=1048576UL"]  # fmt: skip
    subprocess.run([find_compiler() or "", "-std=gnu11", "-O1", "-w", *defined,
                    "-o", str(program), str(source)], check=True)  # fmt: skip
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_each_word_does_what_the_kernels_does(tmp_path: Path) -> None:
    assert run(tmp_path, 4, 1, "pfn", HOLDS) == []


def test_a_condition_that_fails_is_seen(tmp_path: Path) -> None:
    assert run(tmp_path, 4, 1, "pfn", {"min(1, 2) == 2": ""}) == ["min(1, 2) == 2"]


BIT_31, BIT_62, BIT_63 = (f"(1UL << {bit})" for bit in (31, 62, 63))
INVALID_OF = {
    # era, identity -> the MFNs of an invalid entry, a marked one, and INVALID asked through the m2p
    (2, 0): ("~0UL & ~(1UL << 31)", BIT_31),
    (3, 0): ("~0UL", BIT_31),
    (3, 1): ("~0UL", f"{BIT_63} | {BIT_62}"),
}


@pytest.mark.parametrize(("era", "identity"), INVALID_OF)
def test_an_entry_becomes_an_mfn_as_in_its_era(era: int, identity: int, tmp_path: Path) -> None:
    """docs/model.md: two levels clear the bit from INVALID too, later kernels do not."""
    invalid, marks = INVALID_OF[era, identity]
    entry = f"pfn == 5 ? ~0UL : pfn == 6 ? (9 | {marks}) : pfn + 100"
    tests = {
        f"pfn_to_mfn(5) == ({invalid})": "",
        "pfn_to_mfn(6) == 9": "",
        "pfn_to_mfn(7) == 107": "",
        "virt_to_mfn((void *)0x7123) == 107": "",
        "mfn_to_virt(177) == (void *)0x77000": "",
    }
    assert run(tmp_path, era, identity, entry, tests) == []
