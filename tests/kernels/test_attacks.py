"""A kernel's file that is out to break its child: jumps, forged answers, stacks that are elsewhere.

Each ends in an outcome or in one line, and no process is left. Those in assembler get past the
parser, which takes none, to show what is behind it.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from kernels.resumed import at_resume, children, line_of, lived, written
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import P2MBatchError, PolicyError, ResourceError
from p2mbatch.kernels import extract as taking
from p2mbatch.kernels.extract import extract
from p2mbatch.model import policies
from registry_support import files_forgotten

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Look that no process is left once a file is forgotten."""
    before = children()
    with files_forgotten():
        yield
        found = children(before)
        policies._REGISTRY.clear()
        gc.collect()
    _, alive = psutil.wait_procs(found, timeout=10)
    assert not alive


VLA = "volatile char a[n]; a[0] = 1; p2m_top_mfn[1] = a[5];"
PIVOT = "unsigned long n = (unsigned long)&n - {}; " + VLA
AS_FAULTS = {
    "to nowhere": "((void (*)(void))0)();",
    "to the kernel's half": "((void (*)(void))0xffffffff81000000)();",
    "to no address": "((void (*)(void))0x8000000000000000)();",
    "onto the stack": "int x = 3; int f(int y) { return x + y; } int (*volatile g)(int) = f; "
    "resumes += g(1);",
    "a stack without end": "unsigned long n = 1UL << 40; " + VLA,
    "a stack in the control block": PIVOT.format("0x10000000UL - (1 << 20)"),
    "a stack in the shim's variables": PIVOT.format("(unsigned long)p2mk_bug - 0xb000"),
    "a stack above": "long n = -(1 << 16); " + VLA,
    "all of the stack read": "volatile unsigned long a, *p = &a; for (;;) resumes += *p++;",
    "all of the stack written": "volatile unsigned long a, *p = &a; for (;;) *p++ = 0x41414141;",
    "the shim's text written": "*(char *)p2mk_bug = 0xc3;",
}


@pytest.mark.parametrize("what", AS_FAULTS)
def test_a_jump_and_a_stack_elsewhere_are_faults_at_their_line(what: str, tmp_path: Path) -> None:
    line = AS_FAULTS[what]
    assert lived(tmp_path, at_resume(f"\t\t{line}")) == [("ok", None), ("fault", line)]


SOMEHOW = {
    "into the shim": "((void (*)(void))((char *)p2mk_bug + 3))();",
    "all over the shim": "int i; for (i = 1; i < 4096; i += 7) "
    "((long (*)(long, long, long, long))((char *)p2mk_bug - i))(6, 0, 1 << 20, 0);",
    "to the child's beginning": "((void (*)(void))0x200000001000)();",
    "into an instruction": "void *p = &&here; p += 3; goto *p; here: resumes += 1;",
    "a stack in the guest": PIVOT.format("0x100000000000UL - (1 << 20)"),
    "a text that is nowhere": "p2mk_bug((char *)0x12345, 3);",
    "a text of the guest's": "p2mk_bug((char *)__va(0), 3);",
    "brk without end": "for (;;) p2mk_extend_brk(1UL << 60, 1);",
}


def comes_to_an_end(folder: Path, text: str) -> str:
    """Live a file; return the outcomes or the line that it came to."""
    try:
        return str(lived(folder, text))
    except P2MBatchError as error:
        assert "\n" not in str(error)
        return str(error)


@pytest.mark.parametrize("what", SOMEHOW)
def test_what_else_it_jumps_to_comes_to_an_end(what: str, tmp_path: Path) -> None:
    assert comes_to_an_end(tmp_path, at_resume(f"\t\t{SOMEHOW[what]}"))


def test_the_old_page_of_system_calls_has_none(tmp_path: Path) -> None:
    """Where the machine has that page at all."""
    line = "resumes += ((long (*)(void *))0xffffffffff600000)((void *)0);"
    text = at_resume(f"\t\t{line}")
    said = comes_to_an_end(tmp_path, text)
    call = f"mmu.c:{line_of(text, line)}: makes system call 96: a kernel's function makes none"
    assert said == call or "'fault'" in said


# --- what would run before its time, or lie elsewhere ------------------------------------------

NEVER_RUN = {
    "a constructor": "static void __attribute__((constructor)) begin(void) { resumed = 1; }",
    "an entry of .init_array": "static void begin(void) { resumed = 1; }\n"
    'static void (*f)(void) __attribute__((section(".init_array"), used)) = begin;',
    "a name of the shim's": "void *memset(void *a, int b, size_t n) { resumed = 1; return a; }",
    "a hook of the shim's": "void __tsan_read8(void *p) { resumed = 1; }",
    "an alias": 'void q(void) { resumed = 1; }\nvoid settle(void) __attribute__((alias("q")));',
}


@pytest.mark.parametrize("what", NEVER_RUN)
def test_nothing_of_a_file_runs_before_its_time(what: str, tmp_path: Path) -> None:
    above = f"static int resumed;\n{NEVER_RUN[what]}\n"
    text = at_resume("\t\tBUG_ON(resumed);", above)
    assert lived(tmp_path, text) == [("ok", None), ("ok", None)]


def test_a_variable_goes_to_no_section_of_the_shims(tmp_path: Path) -> None:
    above = 'static int x __attribute__((section(".shim_data"), used)) = 7;\n'
    path = written(tmp_path, at_resume("\t\tBUG_ON(x++ != 7);", above))
    assert "shim_data" not in extract(path).text


TOO_MUCH = {
    "an aligned one": ("static volatile char x __attribute__((aligned(1 << 28)));", "x++;",
                       r"its static variables are too large: at most 64 MiB"),
    "a number with a point": ("", "volatile double d = resumes; resumes = d * 1.5;",
                              r"line \d+: SSE register return with SSE disabled"),
    "memory of the compiler's": ("", "char *a = alloca(9); a[0] = 1;",
                                 r"line \d+: alloca is not known"),
    "its caller's address": ("", "resumes += (long)__builtin_return_address(0);",
                             r"line \d+: __builtin_return_address in xen_build_mfn_list_list"),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_no_kernels_function_has_is_refused(what: str, tmp_path: Path) -> None:
    above, lines, wanted = TOO_MUCH[what]
    with pytest.raises(PolicyError, match=wanted):
        lived(tmp_path, at_resume(f"\t\t{lines}", above and f"{above}\n"))


# --- in assembler ------------------------------------------------------------------------------


def system_call(number: int, descriptor: int, address: str, length: int) -> str:
    return (
        f'long r; __asm__ volatile("syscall" : "=a"(r) : "a"({number}L), "D"({descriptor}L), '
        f'"S"({address}), "d"({length}L) : "rcx", "r11", "memory");'
    )


ASSEMBLER = {
    "answers that were not asked for": (
        f"int i; for (i = 0; i < 5000; i++) {{ {system_call(1, 6, '&i', 1)} }}", ""),
    "a pipe full of answers": (f"for (;;) {{ {system_call(1, 6, '0x200000001000', 4096)} }}", ""),
    "the end": ('__asm__ volatile("syscall" : : "a"(231L), "D"(0L));',
                "its process has ended by itself, in resume"),
    "a way back from no signal": ('__asm__ volatile("syscall" : : "a"(15L));', "fault"),
    "an entry for 32 bits": ('__asm__ volatile("sysenter");', "runs into what is no instruction"),
    "one step at a time": ('__asm__ volatile("pushf; orq $0x100, (%rsp); popf");',
                           "runs into what is no instruction"),
    "all words aligned": ('__asm__ volatile("pushf; orq $0x40000, (%rsp); popf");', ""),
    "backwards": ('__asm__ volatile("std");', "[('ok', None), ('ok', None)]"),
    "no stack": ('__asm__ volatile("xor %esp, %esp; push %rax");', "fault"),
    "a stack of the signals'": (
        '__asm__ volatile("lea p2mk_bug(%rip), %rsp; add $0xb000, %rsp; ud2");', ""),
    "the control block wiped": ('__asm__ volatile("rep stosq" : : "D"(0x10000000L), '
                                '"c"(100000L), "a"(-1L) : "memory");', ""),
}  # fmt: skip


@pytest.mark.parametrize("what", ASSEMBLER)
def test_behind_the_parser_too_all_comes_to_an_end(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "refused_in", lambda *arguments: None)
    line, wanted = ASSEMBLER[what]
    assert wanted in comes_to_an_end(tmp_path, at_resume(f"\t\t{line}"))


@pytest.mark.parametrize("how", [".include", ".incbin"])
def test_what_an_assembler_reads_is_not_shown(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the_secret_word ! of mine\n")
    line = f'__asm__ volatile("{how} \\"{secret}\\"");'
    text = at_resume(f"\t\t{line}")
    assert f"line {line_of(text, line)}: assembler in" in comes_to_an_end(tmp_path, text)
    monkeypatch.setattr(taking, "refused_in", lambda *arguments: None)
    assert "the_secret_word" not in comes_to_an_end(tmp_path, text)


# --- files and trees ---------------------------------------------------------------------------


def test_a_tree_leads_to_no_file_outside_of_it(tmp_path: Path) -> None:
    """A file that was built with it would carry that away."""
    (tmp_path / "secret").write_text("#define the_secret_word 3\n")
    page = tmp_path / "tree/arch/x86/include/asm/xen/page.h"
    page.parent.mkdir(parents=True)
    path = written(tmp_path, at_resume(""))
    page.symlink_to(tmp_path / "secret")
    with pytest.raises(
        PolicyError, match=r"^arch/x86/include/asm/xen/page\.h: leads out of the tree$"
    ):
        extract(path, tree=tmp_path / "tree")
    page.unlink()
    page.write_text("int x;\n")
    beside = tmp_path / "tree/arch/x86/xen/own.h"
    beside.parent.mkdir(parents=True)
    beside.symlink_to(tmp_path / "secret")
    path = written(tmp_path, '#include "own.h"\n' + at_resume(""))
    with pytest.raises(PolicyError, match=r"^arch/x86/xen/own\.h: leads out of the tree$"):
        extract(path, tree=tmp_path / "tree")


@pytest.mark.parametrize("name", ["a\033[31m.c", "a\nb.c", "\u202ec.ummm", "%s%n.c", "x" * 300])
def test_a_name_is_harmless_text(name: str) -> None:
    from p2mbatch.cli.replay import replay

    trace = str(Path(__file__).parents[2] / "data" / "traces" / "dense-64-0.json.gz")
    done = CliRunner().invoke(replay, ["--kernel", name, trace])
    said = str(done.exception) + done.output
    assert isinstance(done.exception, P2MBatchError)
    assert not re.search("[\033\n\u202e]", said.rstrip("\n"))


def test_a_large_file_of_nothing_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "mmu.c"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(PolicyError, match="larger than 1048576 bytes"):
        extract(path)


def test_another_compiler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "cc"
    other.write_text("#!/bin/sh\necho \"clang: error: unknown argument: '-x'\" >&2\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("CC", str(other))
    with pytest.raises(ResourceError, match="cc is clang: gcc is wanted"):
        extract(written(tmp_path, at_resume("")))
