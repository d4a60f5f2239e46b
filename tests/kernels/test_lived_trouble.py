"""Kernels' C files that go wrong while they are lived: an outcome or a line, and no child left."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernels.resumed import TRACKED, at_resume, children, lived, written
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import PolicyError
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
from p2mbatch.model import policies
from registry_support import files_forgotten

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Forget afterwards which files were read, and with them their children."""
    with files_forgotten():
        yield


# --- what ends the guest ----------------------------------------------------------------------

FAULTS = {
    "a wild store": "*(unsigned long *)0x1234567 = 1;",
    "a wild load": "resumes += *(int *)0x1234567;",
    "a store by NULL": "p2m_top_mfn = NULL; p2m_top_mfn[3] = 1;",
    "a store into the kernel's text": "*(long *)(void *)xen_build_mfn_list_list = 1;",
    "a store behind the last page": "*(unsigned long *)((char *)__va(0) + (900UL << 20)) = 1;",
    "a store into what the shim keeps": "*(unsigned long *)0x10000000 = 1;",
    "a store above its own frames": "unsigned long a; p2m_top_mfn[0] = (unsigned long)&a; "
    "((unsigned long *)p2m_top_mfn[0])[9000] = 1;",
    "a store into the shim's own": "((unsigned long *)&xen_max_p2m_pfn)[-1200] = 1;",
}


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("bits", [64, 32])
def test_a_fault_is_the_guests_and_names_the_line(what: str, bits: int, tmp_path: Path) -> None:
    line = FAULTS[what]
    found = lived(tmp_path, at_resume(f"\t\t{line}"), word_bytes=bits // 8)
    assert found == [("ok", None), ("fault", line)]


def test_a_division_by_zero_is_a_fault(tmp_path: Path) -> None:
    line = "resumes = 7 / (resumes - resumes);"
    assert lived(tmp_path, at_resume(f"\t\t{line}"))[1] == ("fault", f"divide error: {line}")


def test_a_bug_has_the_files_words(tmp_path: Path) -> None:
    found = lived(tmp_path, at_resume("\t\tBUG_ON(resumes == 2 && p2m_top);"))
    assert found[1] == ("bug", "resumes == 2 && p2m_top")


# --- what ends the run ------------------------------------------------------------------------

DEEP = (
    "static int deep(int n)\n{\n\tvolatile int room[100];\n\troom[n % 100] = n;\n"
    "\treturn deep(n + 1) + room[n % 100];\n}\n"
)
TROUBLE = {
    "an endless loop": ("for (;;)\n\t\t\t;", "", "did not return from resume after 10 s"),
    "an endless loop of stores": (
        "for (;;)\n\t\t\tp2m_top_mfn[0] = 0;", "", "did not return from resume after 10 s",
    ),
    "too deep a call": ("resumes = deep(resumes);", DEEP, "runs out of its 256 KiB of stack"),
    "an instruction that is none": ("__builtin_trap();", "", "runs into what is no instruction"),
    "a mid of many leaves": (
        "unsigned long i, **mid = __va(1000UL << PAGE_SHIFT);\n"
        "\t\tfor (i = 0; i < P2M_MID_PER_PAGE; i++)\n"
        "\t\t\tmid[i] = __va((2000 + i) << PAGE_SHIFT);\n"
        "\t\tp2m_top[0] = mid;",
        "", "one call hits more than 256 pages",
    ),
    "all of memory": (
        "unsigned long pfn; for (pfn = 0; pfn < xen_max_p2m_pfn; pfn++)\n"
        "\t\t\t*(unsigned long *)__va(pfn << PAGE_SHIFT) = 1;",
        "", "one call hits more than 256 pages",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TROUBLE)
def test_trouble_is_one_line_with_the_files_place(what: str, tmp_path: Path) -> None:
    lines, above, wanted = TROUBLE[what]
    with pytest.raises(PolicyError) as told:
        lived(tmp_path, at_resume(f"\t\t{lines}", above))
    text = str(told.value)
    assert wanted in text
    assert "\n" not in text
    assert re.search(r"mmu\.c:\d+\b", text)


def test_what_one_call_may_hit_is_no_matter_of_the_guests_before(tmp_path: Path) -> None:
    """A larger guest leaves more room behind: what is refused is refused all the same."""
    large = Scenario.make(memory_bytes="4GiB", policy="tracked", migrations=1)
    assert [row["outcome"] for row in run_scenario(large, resident="all")] == ["ok", "ok"]
    lines, above, wanted = TROUBLE["a mid of many leaves"]
    with pytest.raises(PolicyError, match=wanted):
        lived(tmp_path, at_resume(f"\t\t{lines}", above))


def test_code_in_data_is_not_run(tmp_path: Path) -> None:
    """The page of a variable is no code: what a file would hide there from the parser stays so."""
    code = "static unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};"
    found = lived(tmp_path, at_resume(f"\t\t{code}\n\t\t((void (*)(void))code)();"))
    assert found[1][0] == "fault"


# --- isolation --------------------------------------------------------------------------------

SYSTEM_CALLS = {
    "open": (2, "\"p\"", "0"), "socket": (41, "2", "1"), "fork": (57, "0", "0"),
    "mmap": (9, "0", "3UL << 30"), "kill": (62, "1", "0"), "ptrace": (101, "16", "1"),
    "exit": (60, "0", "0"), "execve": (59, "0", "0"), "prctl": (157, "1", "0"),
    "write to another descriptor": (1, "2", "0"), "read of another": (0, "3", "0"),
}  # fmt: skip


@pytest.mark.parametrize("what", SYSTEM_CALLS)
def test_no_system_call_is_made(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser takes no assembler; even with it, the child makes no system call of the file's."""
    from p2mbatch.kernels import extract as taking

    monkeypatch.setattr(taking, "refused_in", lambda *arguments: None)
    number, first, second = SYSTEM_CALLS[what]
    call = (
        f'long r; __asm__ volatile("syscall" : "=a"(r) : "a"({number}L), "D"((long)({first})), '
        f'"S"((long)({second})), "d"(0L) : "rcx", "r11", "memory"); resumes += r;'
    )
    with pytest.raises(PolicyError, match=rf"mmu\.c:\d+: makes system call {number}: a kernel's"):
        lived(tmp_path, at_resume(f"\t\t{call}"))


def test_a_call_of_the_other_width_is_none_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2mbatch.kernels import extract as taking

    monkeypatch.setattr(taking, "refused_in", lambda *arguments: None)
    call = 'long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory"); resumes += r;'
    with pytest.raises(PolicyError, match=r"mmu\.c:\d+: makes system call 20"):
        lived(tmp_path, at_resume(f"\t\t{call}"))


PARENT = """
import sys, threading, time
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
policy = named_policy("kernel:" + sys.argv[1])
def live():
    run_scenario(Scenario.make(memory_bytes="64MiB", policy=policy, migrations=1))
if sys.argv[2] == "in a call":
    threading.Thread(target=live, daemon=True).start()
    time.sleep(1)
    while not __import__("psutil").Process().children():
        time.sleep(0.1)
else:
    live()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("when", ["in a call", "between calls"])
def test_a_child_ends_with_its_parent(when: str, tmp_path: Path) -> None:
    """Whether it waits or runs for ever: killed is killed, nobody is left to end it."""
    loop = "\t\tfor (;;)\n\t\t\t;" if when == "in a call" else ""
    path = written(tmp_path, at_resume(loop))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, path, when], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    found = psutil.Process(parent.pid).children(recursive=True)
    assert len(found) == 1
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(found, timeout=5)
    assert not alive


def test_a_child_has_nothing_open_but_what_it_needs(tmp_path: Path) -> None:
    before = children()
    lived(tmp_path, TRACKED)
    (child,) = children(before)
    entries = Path(f"/proc/{child.pid}/fd").iterdir()
    open_files = sorted(str(entry.readlink()).partition(":")[0] for entry in entries)
    assert [name for name in open_files if name != "/dev/null"] == [
        "/memfd", "/memfd", "pipe", "pipe",
    ]  # fmt: skip
    status = Path(f"/proc/{child.pid}/status").read_text("utf-8")
    assert re.search(r"(?m)^Seccomp:\s+2$", status)
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", status)
    assert os.getsid(child.pid) == child.pid


def test_a_child_that_is_gone_is_told(tmp_path: Path) -> None:
    from p2mbatch.guests.guest import Guest

    policy = named_policy(f"kernel:{written(tmp_path, TRACKED)}")
    before = children()
    guest = Guest.boot("64MiB", policy=policy)
    (child,) = children(before)
    child.kill()
    with pytest.raises(PolicyError, match="its process has ended by itself, in resume"):
        guest.migrate()
    # The next guest has another one.
    assert Guest.boot("64MiB", policy=policy).migrate().ok


def test_children_end_with_their_kernel(tmp_path: Path) -> None:
    before = children()
    lived(tmp_path, TRACKED)
    found = children(before)
    assert found
    policies._REGISTRY.clear()
    gc.collect()
    _, alive = psutil.wait_procs(found, timeout=5)
    assert not alive


def test_a_bugs_text_is_one_line(tmp_path: Path) -> None:
    found = lived(tmp_path, at_resume('\t\tp2mk_bug("a\\nb\\033[31m", 3);'))
    assert found[1][0] == "bug"
    assert found[1][1] is not None
    assert "\n" not in found[1][1]
    assert "\033" not in found[1][1]


def test_a_forked_process_has_no_part_in_a_guests_child(tmp_path: Path) -> None:
    from p2mbatch.guests.guest import Guest

    guest = Guest.boot("64MiB", policy=named_policy(f"kernel:{written(tmp_path, TRACKED)}"))
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            guest.migrate()
            told = "went on"
        except PolicyError as error:
            told = str(error)
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    assert b"its process has ended by itself" in os.read(read, 4096)
    os.close(read)
    os.waitpid(pid, 0)
    assert guest.migrate().ok


def test_large_statics_are_told(tmp_path: Path) -> None:
    above = "static char big[100 << 20];\n"
    with pytest.raises(
        PolicyError, match=r"mmu\.c: its static variables take 1\d\d MiB: at most 64"
    ):
        lived(tmp_path, at_resume("\t\tbig[resumes]++;\n\t\tresumes += big[3];", above))
