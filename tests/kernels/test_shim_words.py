"""Words that a patch may use, what of them is refused, and what tells which kernel a file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels.resumed import TRACKED, at_resume, children, lived, written
from kernels.variants import kernel_of
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import P2MBatchError, PolicyError, ResourceError
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels import build
from p2mbatch.kernels.child import Children
from p2mbatch.kernels.eras import era_of
from p2mbatch.kernels.extract import extract
from p2mbatch.kernels.named import named_policy
from p2mbatch.kernels.tell import told
from p2mbatch.model.policies import find
from registry_support import files_forgotten

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Forget afterwards which files were read."""
    with files_forgotten():
        yield


ABOVE = """
static __init_refok int of_boot(void) { return 1; }
static noinstr __section(".x") int beside(void) { return -ENOSYS - EIO - EAGAIN - ENODEV - ERANGE; }
static DECLARE_BITMAP(marked, 100);
static atomic_t count = ATOMIC_INIT(3);
static DEFINE_RAW_SPINLOCK(raw);
static DEFINE_SPINLOCK(lock);
"""
USES = """
	LIST_HEAD(all);
	struct list_head one;
	struct page *page = alloc_page(GFP_KERNEL), *at, *kept;
	void *small = kmalloc(64, GFP_KERNEL), *clear = kzalloc(64, GFP_KERNEL);
	int i, seen = 0;

	static_assert(sizeof(long) >= 4, "words");
	pr_err_once("a"); pr_warn_ratelimited("a"); printk_ratelimited("a"); pr_info_once("a");
	VM_BUG_ON(resumes > 0);
	for (i = 0; i < 3; i++)
		WARN_ON_ONCE(i >= 0);
	if (spin_trylock(&lock))
		spin_unlock(&lock);
	raw_spin_lock(&raw); lockdep_assert_held(&raw); raw_spin_unlock(&raw);
	set_bit(70, marked);
	set_bit(71, marked); clear_bit(71, marked);
	BUG_ON(!test_bit(70, marked) || find_next_bit(marked, 100, 0) != 70);
	BUG_ON(find_next_bit(marked, 100, 71) != 100);
	atomic_inc(&count);
	BUG_ON(atomic_read(&count) != 3 + resumes - 1);
	smp_store_release(&seen, 5); virt_wmb(); dma_wmb();
	BUG_ON(smp_load_acquire(&seen) != 5);
	BUG_ON(IS_ERR(page) || PTR_ERR(ERR_PTR(-ENOSYS)) != -ENOSYS || ULONG_MAX + 1 || !U64_MAX);
	BUG_ON(page_to_pfn(pfn_to_page(50)) != 50);
	BUG_ON(virt_to_page(__va(50UL << PAGE_SHIFT)) != pfn_to_page(50));
	BUG_ON(page_address(pfn_to_page(50)) != __va(50UL << PAGE_SHIFT));
	BUG_ON(memchr_inv("aa", 'a', 2) || !memchr_inv("ab", 'a', 2));
	BUG_ON(strcmp("ab", "ab") || !strncmp("ab", "ac", 2) || memcmp("a", "a", 1));
	BUG_ON(ilog2(512) != 9 || get_order(8192) != 1 || PFN_ALIGN(1UL) != PAGE_SIZE);
	list_add(&one, &all); list_del_init(&one);
	list_for_each_entry_safe(at, kept, &all, lru)
		BUG();
	switch (seen) {
	case 5:
		seen = of_boot();
		fallthrough;
	default:
		seen += beside();
	}
	make_lowmem_page_readonly(small); make_lowmem_page_readwrite(small);
	memblock_reserve(0, 4096); memblock_x86_reserve_range(0, 4096, "P2M"); reserve_early(0, 1, "x");
	if (!slab_is_available()) {
		memblock_phys_alloc(PAGE_SIZE, PAGE_SIZE); alloc_bootmem(64);
		alloc_bootmem_pages_nopanic(64); memblock_alloc_raw(64, 8); memblock_alloc_low(64, 8);
		HYPERVISOR_update_va_mapping(0, 0, 0); HYPERVISOR_mmu_update(NULL, 0, NULL, DOMID_SELF);
	}
	kfree(small); kfree(clear);
	if (page)
		__free_page(page);
"""


@pytest.mark.parametrize("bits", [64, 32])
def test_a_file_that_uses_them_all_is_taken(bits: int, tmp_path: Path) -> None:
    path = written(tmp_path, at_resume(USES, ABOVE))
    assert build.build(extract(path, bits=bits)).bits == bits


def test_what_they_do_is_what_the_kernels_do(tmp_path: Path) -> None:
    kept = USES.partition("\tif (!slab_is_available())")[0] + "\tkfree(small);\n"
    assert lived(tmp_path, at_resume(kept, ABOVE), migrations=2) == [("ok", None)] * 3


NOT_SIMULATED = {
    "__get_free_pages(GFP_KERNEL, 1);": "__get_free_pages of more than one page",
    "kmalloc(8192, GFP_KERNEL);": "kmalloc of more than one page",
    "HYPERVISOR_update_va_mapping(0, 0, 0);": "HYPERVISOR_update_va_mapping",
}


@pytest.mark.parametrize("what", NOT_SIMULATED)
def test_what_is_not_simulated_ends_the_command(what: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as said:
        lived(tmp_path, at_resume(f"\t\t{what}"))
    line = at_resume(f"\t\t{what}")[: at_resume(f"\t\t{what}").index(what)].count("\n") + 1
    wanted = f"mmu.c:{line}: not simulated: {NOT_SIMULATED[what]}, in resume"
    assert str(said.value).endswith(wanted)


def test_a_page_s_structure_can_not_be_looked_at(tmp_path: Path) -> None:
    found = lived(tmp_path, at_resume("\t\tresumes += alloc_page(GFP_KERNEL)->flags;"))
    assert found[1][0] == "fault"


# --- locked in --------------------------------------------------------------------------------


def test_without_a_filter_of_system_calls_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = children(), build.shim_files()
    asked = "22 /* PR_SET_SECCOMP */"
    assert files["runner.c"].count(asked) == 1
    files["runner.c"] = files["runner.c"].replace(asked, "99999")
    monkeypatch.setattr(build, "shim_files", lambda: files)
    program = build.build(extract(HERE / "tracked.c"))
    with pytest.raises(ResourceError, match=r"^kernel: this machine has no filter of system calls"):
        Children(program).take(1 << 20)
    assert children(before) == []


def test_a_flat_tables_pages_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, most = build.shim_files(), "++flat_pages > TOUCHED_PAGES"
    assert files["flat.h"].count(most) == 1
    files["flat.h"] = files["flat.h"].replace(most, "++flat_pages > 3")
    monkeypatch.setattr(build, "shim_files", lambda: files)
    text = kernel_of("linear", tmp_path).read_text("utf-8")
    moved, look = "\txen_p2m_addr = vm.addr;", "\n\t{ int i; for (i = 0; i < 9; i++) "
    assert text.count(moved) == 1
    look += "if (READ_ONCE(((volatile unsigned long *)xen_p2m_addr)[512 * i]) == 5) BUG(); }"
    policy = named_policy(f"kernel:{written(tmp_path, text.replace(moved, moved + look))}")
    with pytest.raises(PolicyError, match="reads or writes more than"):
        run_scenario(Scenario.make(memory_bytes="64MiB", policy=policy, migrations=1))


# --- which kernel it is -----------------------------------------------------------------------


def test_what_is_not_compiled_or_not_reached_says_nothing_of_marks(tmp_path: Path) -> None:
    more = (
        "#if 0\nstatic long a = IDENTITY_FRAME(1); long p2m_identity, *xen_vmalloc_p2m_tree;\n"
        "#endif\nlong unreached(void)\n{\n\treturn IDENTITY_FRAME(1);\n}\n"
    )
    plain, other = (extract(written(tmp_path, text)) for text in (TRACKED, TRACKED + more))
    assert (other.text, other.era) == (plain.text, plain.era)
    in_use = "\treturn leaf == p2m_missing ? IDENTITY_FRAME(pfn) : 0;\n"
    marked = extract(written(tmp_path, TRACKED.replace("\tleaf[p2m_index(pfn)] = mfn;\n", in_use)))
    assert "(BITS_PER_LONG - 2)" not in marked.text
    assert "(64 - 2)" in marked.text


BY = {
    "tail": "m2p_override_init",
    "identity": "p2m_identity without xen_revector_p2m_tree",
    "moved": "p2m_identity with xen_revector_p2m_tree",
    "linear-3.19": "xen_vmalloc_p2m_tree without xen_p2m_last_pfn",
}


@pytest.mark.parametrize("policy", BY)
def test_a_check_says_as_which_kernel_it_is_lived(policy: str, tmp_path: Path) -> None:
    lines = list(told(extract(kernel_of(policy, tmp_path)), "p2m.c"))
    assert lines[2].startswith(f"lived as   {policy}, by ")
    assert BY[policy] in lines[2]


def test_a_check_says_which_name_a_kernel_lacks_to_be_lived(tmp_path: Path) -> None:
    text = (HERE / "moved.c").read_text("utf-8").replace("p2m_identity", "p2m_same")
    path = written(tmp_path, text)
    lines = list(told(extract(path), "mmu.c"))
    assert lines[2].startswith("not lived  its boot asks for ")
    assert "it has no p2m_identity: checked" in lines[2]
    with pytest.raises(P2MBatchError, match="it has no p2m_identity: checked, but not lived"):
        named_policy(f"kernel:{path}")


def test_a_file_of_two_eras_is_refused_in_the_other_width(tmp_path: Path) -> None:
    late = (HERE / "late_list.c").read_text("utf-8")
    path = written(tmp_path, f"#ifdef CONFIG_X86_64\n{late}#else\n{TRACKED}#endif\n")
    assert era_of(extract(path, bits=32), "mmu.c").base != "late-list"
    own = find(named_policy(f"kernel:{path}")).own
    assert own is not None
    with pytest.raises(PolicyError, match=r"with 32 bits a kernel as .*, with 64 as late-list"):
        own.hold(4, 1 << 16, 0)
