"""A kernel's file from a stranger: the compiler is not led to other files, nor kept for long."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.kernels import compiler
from p2mbatch.kernels.extract import extract
from p2mbatch.kernels.source import logical_lines

GOOD = (Path(__file__).parent / "tracked.c").read_text("utf-8")
SECRET = "int the_secret_word;"

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that the user may read and the kernel's file may not."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


def refused(folder: Path, text: str, **how: object) -> str:
    file = folder / "mmu.c"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(P2MBatchError) as wrong:
        extract(file, **how)
    assert "the_secret_word" not in str(wrong.value)
    assert "\n" not in str(wrong.value)
    return str(wrong.value)


READS = {
    "absolute": '#include "{}"',
    "absolute in brackets": "#include <{}>",
    "up": '#include "../../../../../../../..{}"',
    "up in the kernel's folder": "#include <linux/../../../../../../../../..{}>",
    "standard input": '#include "/dev/stdin"',
    "a descriptor": "#include </proc/self/fd/0>",
    "a macro": '#define F "{}"\n#include F',
    "a macro with arguments": "#define F(x) <x>\n#include F({})",
    "include_next": '#include_next "{}"',
    "import": '#import "{}"',
    "embed": 'char x[] = {{\n#embed "{}"\n}};',
    "digraph": '%:include "{}"',
    "spaces": '\t \f\v# \t include\t"{}"',
    "behind a comment": '/* x */ # /* y */ include /* z */ "{}"',
    "behind a comment of lines": '/*\n\n*/#include "{}"',
    "spliced": '#inc\\\nlude "{}"',
    "spliced with blanks": '#inc\\ \t\nlude "{}"',
    "spliced comment": '/\\\n* x *\\\n/ #include "{}"',
    "behind a quote": '#define Q \'\n#include "{}"',
    "a comment in a quote": 'int q = \' /*\n;\n*/#include "{}"\n',
    "a raw string": 'char *s = R"("/*)";\n#include "{}"\n/**/',
    "a wide raw string": 'int *s = LR"("/*)";\n#include "{}"\n/**/',
    "a comment that opens late": 'char *s = "/*";\n#include "{}"\n/**/',
    "an escape in a quote": 'char *s = "\\"/*";\n#include "{}"\n/**/',
    "carriage returns": 'int x;\r#include "{}"\r',
    "a line marker": '# 1 "{}"\nint x = ;',
    "a line marker with flags": '# 1 "{}" 1 3 4\nint x = ;',
    "a line directive": '#line 1 "{}"\nint x = ;',
    "has_include": '#if __has_include("{}")\n#endif',
    "has_include in a macro": '#define H(x) __has_include(x)\n#if H("{}")\n#endif',
    "a pragma operator": '#define P _Pragma("GCC dependency \\"{}\\"")\nP',
    "ident": '#ident "x"',
    "assert": "#assert machine(x)",
    "unassert": "#unassert machine",
    "sccs": '#sccs "x"',
}


@pytest.mark.parametrize("how", READS)
def test_no_other_file_is_read(how: str, secret: Path) -> None:
    line = READS[how].format(secret)
    said = refused(secret.parent, f"int before;\n{line}\n{GOOD}")
    assert "mmu.c, line " in said


@pytest.mark.parametrize("line", ['#pragma GCC dependency "{}"', "#pragma GCC poison p2m_top",
                                  "#pragma once", "#pragma GCC system_header",
                                  '#pragma push_macro("BUG_ON")',
                                  "#pragma GCC optimize (\"O3\")"])  # fmt: skip
def test_a_pragma_is_left_out(line: str, secret: Path) -> None:
    file = secret.parent / "mmu.c"
    file.write_text(f"{line.format(secret)}\n{GOOD}")
    assert "pragma" not in extract(file).text


def test_a_pragma_that_is_put_together_reaches_no_unit(secret: Path) -> None:
    text = ("#define CAT(a, b) a##b\n#define P CAT(_Pra, gma)(\"GCC optimize \\\"O3\\\"\")\n"
            "#define HASH #\nHASH 1 \"p2mk-m0.c\"\nP\n")  # fmt: skip
    file = secret.parent / "mmu.c"
    file.write_text(text + GOOD)
    assert "pragma" not in extract(file).text


def test_markers_of_the_users_own_do_not_make_it_ours(tmp_path: Path) -> None:
    """Our own layer wins where two define a word, and its names are not looked at."""
    text = '#define HASH #\nHASH 2 "p2mk-m4.c"\nint p2mk_shared_info;\n'
    assert "p2mk_shared_info: names in p2mk_" in refused(tmp_path, text + GOOD)


@pytest.mark.parametrize("name", ["CPATH", "C_INCLUDE_PATH", "DEPENDENCIES_OUTPUT",
                                  "SUNPRO_DEPENDENCIES", "GCC_EXEC_PREFIX"])  # fmt: skip
def test_the_environment_says_nothing_to_the_compiler(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    monkeypatch.setenv(name, str(made))
    assert extract(Path(__file__).parent / "tracked.c").era == "three-level"
    assert not made.exists()


def test_what_cpp_would_open_is_not_there_to_be_opened(secret: Path) -> None:
    """The second wall: had a directive got through, its file would be named, and nothing shown."""
    ran = compiler.run(["-E", "-x", "c", "-std=gnu89", "-nostdinc", "-fno-diagnostics-show-caret"],
                       '# 1 "p2mk-u0.c"\n#include "stdio.h"\nint x;\n')  # fmt: skip
    assert not ran.is_ok
    assert [(file, line) for file, line, _ in ran.errors] == [("p2mk-u0.c", 1)]


def test_a_tree_is_not_left_by_its_headers(secret: Path) -> None:
    page = secret.parent / "tree/arch/x86/include/asm/xen/page.h"
    page.parent.mkdir(parents=True)
    page.write_text(f'#include "{secret}"\n')
    said = refused(secret.parent, GOOD, tree=secret.parent / "tree")
    assert "arch/x86/include/asm/xen/page.h, line 1" in said


def test_a_header_beside_is_of_the_tree(secret: Path) -> None:
    tree = secret.parent / "tree"
    page = tree / "arch/x86/include/asm/xen/page.h"
    page.parent.mkdir(parents=True)
    page.write_text((Path(compiler.__file__).parent / "include/page.h").read_text())
    beside = tree / "arch/x86/xen"
    beside.mkdir(parents=True)
    (beside / "own.h").write_text("#define OWN INVALID_P2M_ENTRY\n#include <no/such.h>\n")
    lines = [line for line in GOOD.splitlines(keepends=True) if not line.startswith("#include")]
    text = '#include "own.h"\n' + "".join(lines).replace("leaf, INVALID_P2M_ENTRY", "leaf, OWN")
    said = refused(secret.parent, text, tree=tree)
    assert said.startswith("arch/x86/xen/own.h, line 2: no 'no/such.h' in the tree")
    said = refused(secret.parent, text)
    assert said.endswith("line 1: no 'own.h' here: give the kernel's tree with --tree LINUX")
    (beside / "own.h").write_text("#define OWN INVALID_P2M_ENTRY\n")
    assert extract(secret.parent / "mmu.c", tree=tree).has_tree


BOMBS = {
    "macros": "".join(f"#define A{n} A{n - 1} A{n - 1} A{n - 1} A{n - 1}\n" for n in range(1, 40))
    + "int A0 A39;\n",
    "parentheses": "int x = " + "(" * 60_000 + "1" + ")" * 60_000 + ";\n",
    "braces": "void f(void) { " + "{\n" * 200_000 + "}\n" * 200_000 + "}\n",
    "types": "struct a { " + "struct { int x;\n" * 50_000 + "} y;\n" * 50_000 + "};\n",
    "declarators": "int " + "(*\n" * 100_000 + "x" + ")" * 60_000 + ";\n",
    "attributes": "int x\n" + "__attribute__((\n" * 60_000 + ";\n",
    "layout attributes": "__attribute__((" + "aligned(\n" * 90_000 + ";\n",
    "comments": "/*" + "/*\n" * 200_000,
    "roots without end": "xen_build_mfn_list_list(\n" * 35_000,
    "ranges": "int x[] = {" + "[1 ...\n" * 100_000 + "};\n",
    "items": "int a;" * 9_000 + "\n" + "int b;\n" * 100_000,
    "operators": "int x = 1" + "+\n-" * 250_000 + "1;\n",
    "an array": "static char huge[1ULL << 62];\n",
}


@pytest.mark.timeout(100)
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_comes_to_an_end(what: str, tmp_path: Path) -> None:
    file = tmp_path / "mmu.c"
    file.write_text(f"{GOOD}\n{BOMBS[what]}")
    try:
        assert extract(file).era == "three-level"
    except P2MBatchError as error:
        assert "\n" not in str(error)


def test_a_compiler_that_takes_all_memory_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hungry = tmp_path / "cc"
    hungry.write_text(f"#!{sys.executable}\nbytearray({compiler.MAX_MEMORY_BYTES})\n")
    hungry.chmod(0o755)
    monkeypatch.setenv("CC", str(hungry))
    assert refused(tmp_path, GOOD).endswith("the compiler ran out of its 1024 MiB")


def test_a_compiler_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "cc"
    pids = tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\n(sleep 1000 & echo $! > {pids})\necho $$ >> {pids}\nsleep 1000\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CC", str(slow))
    monkeypatch.setattr(compiler, "MAX_SECONDS", 1)
    said = refused(tmp_path, GOOD)
    assert said.endswith("the compiler was not done after 1 seconds")
    for pid in pids.read_text().split():
        assert is_gone(int(pid)), pid


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_lines_are_those_of_the_file() -> None:
    text = 'a /* x\n y */ b\nc \\\n d // e\n"/*" f\n'
    assert logical_lines(text, "x") == [
        (1, "a  \n"),
        (2, " b\n"),
        (3, "c  d  \n\n"),
        (5, '"/*" f\n'),
    ]
