"""What can be wrong with a kernel's file: one line with the file's name and the place in it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.cli import main
from p2mbatch.kernels.extract import extract

HERE = Path(__file__).parent
GOOD = (HERE / "tracked.c").read_text("utf-8")
INIT = "\tfill_page(leaf, INVALID_P2M_ENTRY);\n"
"""A line of a function that the roots reach."""

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def in_init(statement: str) -> str:
    """Return the good file with a statement more in `p2m_init`."""
    return changed(INIT, f"{INIT}{statement}\n")


def at(text: str, part: str) -> int:
    return text.count("\n", 0, text.index(part)) + 1


def refusal(file: Path, **how: object) -> str:
    with pytest.raises(P2MBatchError) as wrong:
        extract(file, **how)
    said = str(wrong.value)
    assert "\n" not in said and said.startswith(str(file)), said
    return said.removeprefix(str(file)).lstrip(",: ")


def refused(tmp_path: Path, text: str, name: str = "mmu.c", **how: object) -> str:
    """Return what is said of a file's text, without its name."""
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return refusal(file, **how)


def mark(text: str, part: str, said: str) -> None:
    """Assert that a refusal names the line in which `part` stands."""
    assert said.startswith(f"line {at(text, part)}: "), said


IN_A_FUNCTION = {
    "a syntax error": ("leaf[0] = ;", "expected expression"),
    "a word that is not known": ("p2m_int(leaf);", "p2m_int is not known"),
    "a variable that is not known": ("leaf[0] = p2m_mising;", "p2m_mising is not known"),
    "a type that is not known": ("struct_page x; (void)x;", "not known|undeclared|expected"),
    "a header's structure": ("struct mmuext_op op; op.cmd = 1;", "storage size|incomplete"),
    "assembler": ('asm volatile("mfence");', "assembler in p2m_init"),
    "assembler by another name": ('__asm__ __volatile__("nop");', "assembler in p2m_init"),
    "assembler that reads a file": ('asm(".incbin \\"/etc/passwd\\"");', "assembler"),
    "assembler out of a macro": ("BARRIER;", "assembler in p2m_init"),
    "a register by name": ('register long s asm("rsp"); leaf[0] = s;', "assembler"),
    "an attribute of C23": ('[[gnu::section("x")]] static int y; leaf[0] = y;', "attrib"),
    "an attribute over lines": ("[\n \n[gnu::used]\n] static int y; leaf[0] = y;", "attrib"),
    "an attribute in digraphs": ('<:<:gnu::section("x"):>:> static int y; leaf[0] = y;', "<: in"),
    "braces in digraphs": ("<% leaf[0] = 0; %>", "<% in p2m_init"),
    "a store that no hook sees": ("__builtin_memset(leaf, 0, 32);", "__builtin_memset in p2m_init"),
    "a jump of the compiler's": ("__builtin_longjmp((void **)leaf, 1);", "__builtin_longjmp in"),
    "a flush of the processor's": ("__builtin_ia32_clflush(leaf);", "__builtin_ia32_clflush in"),
    "a word out of a macro": ("COPY(set)(leaf, 0, 8);", "__builtin_memset in p2m_init"),
    "an address of another kind": ("*(__seg_gs int *)leaf = 1;", "__seg_gs in p2m_init"),
    "a variable of a thread": ("static __thread int y; leaf[0] = y;", "__thread in p2m_init"),
    "too few arguments": ("p2m_index();", "too few arguments"),
    "a function without its body": ("helper(leaf);", "helper is not known"),
}


@pytest.mark.parametrize("kind", IN_A_FUNCTION)
def test_what_is_wrong_in_a_function_is_told_at_its_line(kind: str, tmp_path: Path) -> None:
    statement, problem = IN_A_FUNCTION[kind]
    text = in_init(f"\t{statement}")
    macros = '#define BARRIER asm("nop")\n#define COPY(x) __builtin_mem##x\n'
    text = changed("#define TICKS_OF", f"{macros}#define TICKS_OF", text)
    if "helper" in statement:
        text = changed("static void p2m_init", "extern void helper(void *);\n"
                       "static void p2m_init", text)  # fmt: skip
    said = refused(tmp_path, text)
    assert re.search(problem, said), said
    line = at(text, "extern void helper") if "helper" in statement else at(text, f"\t{statement}")
    assert said.startswith(f"line {line}: "), said


def test_what_is_wrong_beside_the_p2m_is_nobodys_business(tmp_path: Path) -> None:
    text = changed("\tpv_mmu_ops = own_mmu_ops;\n", "\tpv_mmu_ops = ;\n\tno_such(thing);\n")
    (tmp_path / "mmu.c").write_text(text)
    assert extract(tmp_path / "mmu.c").era == "three-level"


def test_a_brace_that_is_missing_hides_what_is_behind_it(tmp_path: Path) -> None:
    text = changed(INIT + "}\n", INIT)
    said = refused(tmp_path, text)
    assert re.match(r"line \d+: ", said), said
    assert re.search("not C from here on|expected", said), said


def test_a_macro_gone_wrong_is_told_at_its_line(tmp_path: Path) -> None:
    text = changed("#define TICKS_OF_A_FLUSH 64", "#define TICKS_OF_A_FLUSH 64\n#if TICKS_OF(")
    said = refused(tmp_path, text)
    mark(text, "#if TICKS_OF(", said)


def test_an_error_directive_is_the_users_own(tmp_path: Path) -> None:
    text = changed("#define TICKS_OF_A_FLUSH 64", "#define TICKS_OF_A_FLUSH 64\n#error too old")
    said = refused(tmp_path, text)
    mark(text, "#error", said)
    assert "too old" in said


def refused_whole(tmp_path: Path, text: str, name: str) -> str:
    (tmp_path / name).write_text(text)
    with pytest.raises(P2MBatchError) as wrong:
        extract(tmp_path / name)
    return str(wrong.value)


def test_a_root_that_is_missing_is_named(tmp_path: Path) -> None:
    text = changed("void xen_build_mfn_list_list(void)", "void xen_build_list(void)")
    said = refused_whole(tmp_path, text, "mmu.c")
    assert said == f"no xen_build_mfn_list_list in {tmp_path}/mmu.c"


MOVED = "it moved to p2m.c in 2.6.38"


@pytest.mark.parametrize(
    ("name", "where"),
    [("mmu.c", MOVED), ("mmu_pv.c", MOVED), ("p2m.c", "before 2.6.38 it was in mmu.c")],
)
def test_a_root_in_the_other_file_says_so(name: str, where: str, tmp_path: Path) -> None:
    text = "#include <asm/xen/page.h>\nvoid xen_set_pte(void) { }\n"
    said = refused_whole(tmp_path, text, name)
    assert said == f"no xen_build_mfn_list_list in {tmp_path}/{name}: {where}"


def test_a_function_twice_is_told_at_the_second(tmp_path: Path) -> None:
    second = "static void p2m_init(unsigned long *leaf) { leaf[1] = 2; }\n"
    text = changed("/* From here on", second + "/* From here on")
    said = refused(tmp_path, text)
    mark(text, second, said)
    assert f"first in line {at(text, 'static void p2m_init')}" in said


@pytest.mark.parametrize("name", ["p2mk_bug", "p2mk_roots", "p2mk_extend_brk"])
def test_names_of_the_shim_are_refused(name: str, tmp_path: Path) -> None:
    text = changed("/* From here on", f"int {name}(int x) {{ return x; }}\n/* From here on")
    said = refused(tmp_path, text)
    assert f"{name}: names in p2mk_ are the shim's" in said


@pytest.mark.parametrize("name", ["main", "_start", "memset", "write", "__tsan_write8"])
def test_names_of_a_program_stay_within_the_unit(name: str, tmp_path: Path) -> None:
    text = in_init(f"\t{name}(leaf, 0, 0);")
    text = changed("static void p2m_init", f"void *{name}(void *p, int c, size_t n) "
                   "{ return p; }\nstatic void p2m_init", text)  # fmt: skip
    (tmp_path / "mmu.c").write_text(text)
    assert re.search(rf"static void \*{name}\(", extract(tmp_path / "mmu.c").text)


@pytest.mark.parametrize("attribute", ["constructor", 'section(".init_array")', 'alias("x")',
                                       'ifunc("x")', "destructor"])  # fmt: skip
def test_attributes_that_run_or_place_code_are_gone(attribute: str, tmp_path: Path) -> None:
    for spelled in ("__attribute__((%s))", "__attribute ((__unused__, %s))",
                    "__attribute__\n\t((%s))"):  # fmt: skip
        text = changed("static void p2m_init", f"static {spelled % attribute} void p2m_init")
        (tmp_path / "mmu.c").write_text(text)
        found = extract(tmp_path / "mmu.c").text
        assert attribute.split("(")[0] not in found
        assert "init_array" not in found


# --- files ------------------------------------------------------------------------------------


def test_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "mmu.c") == "can't be read: No such file or directory"


def test_an_empty_file(tmp_path: Path) -> None:
    assert refused(tmp_path, " \n\n") == "empty: a kernel's mmu.c or p2m.c is wanted"


def test_a_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("a directory: name the mmu.c or p2m.c in it")


def test_a_binary(tmp_path: Path) -> None:
    (tmp_path / "mmu.o").write_bytes(b"\x7fELF\2\1\1\n\0\0\0")
    assert refusal(tmp_path / "mmu.o") == "line 2: not C text: it has a zero byte"


def test_a_file_without_end(tmp_path: Path) -> None:
    with (tmp_path / "mmu.c").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(tmp_path / "mmu.c").startswith("larger than 1048576 bytes")


def test_a_line_without_end(tmp_path: Path) -> None:
    text = "int x;\n" + "x" * 70_000
    assert refused(tmp_path, text) == "line 2: longer than 65536 characters: not C text"


@pytest.mark.parametrize("kind", ["fifo", "socket", "zero"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "mmu.c"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(file))
    else:
        file.symlink_to("/dev/zero")
    assert re.match("not a regular file|can't be read", refusal(file))


def test_old_files_of_the_kernels_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "mmu.c").write_bytes("/* J\xf6rg */\n".encode("latin-1") + GOOD.encode())
    assert extract(tmp_path / "mmu.c").roots["boot"].line == extract(
        HERE / "tracked.c").roots["boot"].line + 1  # fmt: skip


def test_ends_of_lines_of_another_system(tmp_path: Path) -> None:
    (tmp_path / "mmu.c").write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert extract(tmp_path / "mmu.c").text == extract(HERE / "tracked.c").text
    (tmp_path / "mmu.c").write_bytes(GOOD.replace("\n", "\r").encode())
    assert refusal(tmp_path / "mmu.c") == "line 1: a carriage return that ends no line"


def test_a_merge_that_was_not_ended(tmp_path: Path) -> None:
    text = changed("static void p2m_init", "<<<<<<< HEAD\nstatic void p2m_init", GOOD)
    said = refused(tmp_path, text)
    assert said == f"line {at(text, '<<<<<<<')}: a conflict of a merge that was left in"


def test_idioms_of_newer_kernels_are_taken(tmp_path: Path) -> None:
    more = (
        "\tunsigned long p2mk_seen = leaf[0];\n\tguard(spinlock_irqsave)(&p2m_lock);\n"
        "\tif (!try_cmpxchg(&leaf[0], &p2mk_seen, p2mk_seen))\n\t\tdump_stack();"
    ).replace("p2mk_", "")
    text = changed("static void p2m_init", "static DEFINE_SPINLOCK(p2m_lock);\n"
                   "static void p2m_init", in_init(more))  # fmt: skip
    (tmp_path / "mmu.c").write_text(text, encoding="utf-8")
    assert extract(tmp_path / "mmu.c").roots


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(P2MBatchError, match="no C compiler on this machine: install gcc"):
        extract(HERE / "tracked.c")


def test_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from p2mbatch.kernels import items

    items._parser.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_c", None)
    with pytest.raises(P2MBatchError, match=r"pip install 'p2mbatch\[own-c\]'"):
        extract(HERE / "tracked.c")


def test_a_linear_kernel_of_32_bits_is_not_modelled() -> None:
    said = refusal(HERE / "linear.c", bits=32)
    assert said == "a linear p2m with 32 bits is not modelled (Linux 3.19 to 5.8 had it)"


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "build"])
def test_a_command_ends_with_2_and_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = in_init("\tleaf[0] = ;")
    file = tmp_path / "a\x1b[2J.c"
    file.write_text(text)
    out = ["-o", str(tmp_path / "k.p2mk")] if command == "build" else []
    code, said = commanded(capsys, "kernel", command, str(file), *out)
    assert code == 2
    assert said == [f"p2mbatch: error: {tmp_path}/a\\x1b[2J.c, line {at(text, 'leaf[0] = ;')}: "
                    "expected expression before ';' token"]  # fmt: skip
    assert not (tmp_path / "k.p2mk").exists()


def commanded(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, list[str]]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code, capsys.readouterr().err.splitlines()


def damage(name: str) -> Callable[[dict[str, object]], object]:
    changes: dict[str, Callable[[dict[str, object]], object]] = {
        "another format": lambda d: d.update(format="p2mbatch-kernel/2"),
        "a name with a path": lambda d: d.update(name="../x"),
        "no parts": lambda d: d.update(parts=[]),
        "parts that are none": lambda d: d.update(parts=[["mmu.c", 1]]),
        "a line of long ago": lambda d: d.update(parts=[["mmu.c", 0, GOOD]]),
        "an include": lambda d: d.update(parts=[["mmu.c", 1, '#include "/etc/passwd"\n']]),
        "too much": lambda d: d.update(parts=[["mmu.c", 1, "int x;\n" * 200_000]] * 3),
    }
    return changes[name]


@pytest.mark.parametrize("kind", ["another format", "a name with a path", "no parts",
                                  "parts that are none", "a line of long ago", "an include",
                                  "too much"])  # fmt: skip
def test_a_built_file_is_trusted_no_more_than_another(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    file = tmp_path / "k.p2mk"
    with pytest.raises(SystemExit) as end:
        main(["kernel", "build", str(HERE / "tracked.c"), "-o", str(file)])
    assert end.value.code == 0
    found = json.loads(file.read_text())
    damage(kind)(found)
    file.write_text(json.dumps(found))
    code, said = commanded(capsys, "kernel", "check", str(file))
    assert code == 2
    assert len(said) == 1


def test_a_built_file_is_the_same_kernel(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["kernel", "build", str(HERE / "tracked.c"), "-o", str(tmp_path / "k.p2mk")])
    built, read = extract(tmp_path / "k.p2mk"), extract(HERE / "tracked.c")
    assert (built.text, built.digest, built.sites) == (read.text, read.digest, read.sites)


def test_a_kernel_is_named_by_what_it_says(tmp_path: Path) -> None:
    """Not by what its file is called, nor by where it lies."""
    (tmp_path / "other.c").write_text(GOOD)
    (tmp_path / "changed.c").write_text(in_init("\tleaf[0] = 0;"))
    names = [extract(file).digest for file in (HERE / "tracked.c", tmp_path / "other.c",
                                               tmp_path / "changed.c")]  # fmt: skip
    assert names[0] == names[1] != names[2]


def test_a_boot_allocator_without_marks_is_checked_and_not_lived(tmp_path: Path) -> None:
    from p2mbatch.kernels.named import named_policy

    file = tmp_path / "p2m.c"
    file.write_text(in_init("\tleaf = alloc_bootmem_align(PAGE_SIZE, PAGE_SIZE);"))
    assert extract(file).era
    with pytest.raises(P2MBatchError, match=f"^kernel:{file}: .* checked, but not lived"):
        named_policy(f"kernel:{file}")


def test_words_of_the_compiler_that_only_compute_are_taken(tmp_path: Path) -> None:
    text = in_init("\tleaf[0] = __builtin_expect(__builtin_popcountl(leaf[1]), 0) + "
                   "__builtin_bswap32(3) + __builtin_constant_p(4);")  # fmt: skip
    (tmp_path / "mmu.c").write_text(text)
    assert "__builtin_popcountl" in extract(tmp_path / "mmu.c").text


@pytest.mark.parametrize("size", ["1UL << 33", "1UL << 28"])
@pytest.mark.parametrize("value", ["= { 1 }", ""])
def test_a_static_variable_without_end_fills_no_disk(size: str, value: str, tmp_path: Path) -> None:
    from p2mbatch.kernels.build import build

    text = in_init("\tbig[leaf[1]] = 1; leaf[0] = big[leaf[2]];")
    declared = f"static char big[{size}] {value};\n"
    text = changed("static void p2m_init", f"{declared}static void p2m_init", text)
    (tmp_path / "mmu.c").write_text(text)
    with pytest.raises(P2MBatchError, match=r"its static variables .* at most 64 MiB"):
        build(extract(tmp_path / "mmu.c"))
