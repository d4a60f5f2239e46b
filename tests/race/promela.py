"""Races as Promela models, and SPIN's word on them: an oracle that shares no code with the package.

`growth.pml` and `judge.pml` are the steps and the judge, written from docs/races.md. What differs
between configurations is written here: constants, memory at the start, CPUs and their operations.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MISSING = [
    f"{program} (apt-get install {package})"
    for program, package in (("spin", "spin"), ("gcc", "gcc"))
    if shutil.which(program) is None
]
"""The programs that are needed and not installed; SPIN itself calls gcc for its macros."""

KERNELS = ["old", "orig", "loser", "relax", "new"]
ALLOCATORS = ["never", "own", "any"]
TOOLSTACKS = ["none", "tree", "list"]
STEPS = (
    "G1, G2, G3, S1, S2, S3, T1, T2, T3, A1, A2, A3, A4, A5, A5r, A6, A7, A8, A9, A10, A11, A11f, "
    "A12, A13, A14, A15, A16, A17, A18, O1, O2, K1, K2, K3, K4, K5, K6, K8, J1, J2, J3, J4, J5, "
    "J6, J7, J8, Z1, Z2, Z3, W0, WG, W1, W2, DONE"
)
LABELS = [
    "alias", "bug", "deadlock", "false", "fault", "freed-in-tree", "leak", "list", "lost", "max",
    "mirror", "read", "stray", "T-abort", "T-fail", "T-ghost", "T-lost", "T-misdirected", "uaf",
    "wild",
]  # fmt: skip

INVALID, LARGEST_NUMBER = 255, 99
POINTER, MACHINE = 100, 200
LM, MM, XM, FIRST_FRESH = 0, 1, 2, 3
SHARED_WORDS = 10
FIFO = 12
MAX_SECONDS = 300

Config = dict[str, Any]
"""A configuration as given.json has it."""


@dataclass(frozen=True)
class Verdict:
    """What SPIN found: each class of ends with its distinct end states, states and transitions."""

    classes: dict[str, int]
    num_states: int
    num_transitions: int


def word_of(value: int) -> int:
    """Return the word that stands for a value; models have words for small numbers only."""
    assert value <= LARGEST_NUMBER
    return INVALID if value == -1 else value


def num_pages_of(config: Config) -> int:
    """Return how many pages there can be: three of `populated_first` and of each growing set."""
    growing = [op for program in config["cpus"] for op in program if op[0] == "set" and op[2] != -1]
    return FIRST_FRESH + 3 * (len(config["populated_first"]) + len(growing))


def first_memory(config: Config) -> tuple[list[int], int]:
    """Return memory after the populated PFNs were set, and the next fresh page.

    Words: p2m_top, p2m_top_mfn, p2m_top_mfn_p (two each), generation, last, shared
    max, lock, pages.
    """
    pages = [[0, 0] for _ in range(num_pages_of(config))]
    pages[LM], pages[MM], pages[XM] = [INVALID] * 2, [POINTER + LM] * 2, [MACHINE + LM] * 2
    top, top_mfn, page = [MM, MM], [XM, XM], FIRST_FRESH
    for pfn in config["populated_first"]:
        t, m = pfn // 4, pfn // 2 % 2
        if top[t] == MM:
            top[t], top_mfn[t] = page, page + 1
            pages[page], pages[page + 1] = [POINTER + LM] * 2, [MACHINE + LM] * 2
            page += 2
        if pages[top[t]][m] == POINTER + LM:
            pages[top[t]][m], pages[top_mfn[t]][m] = POINTER + page, MACHINE + page
            pages[page] = [INVALID] * 2
            page += 1
        pages[pages[top[t]][m] - POINTER][pfn % 2] = 9
    shared = [POINTER + word for word in top] + [MACHINE + word for word in top_mfn]
    shared += [POINTER + word for word in top_mfn] + [0, config["last"], config["last"], 0]
    return shared + [word for words in pages for word in words], page


def model_of(config: Config, *, merged: bool = False) -> str:
    """Return the Promela model of a configuration; `merged` as growth.pml says it."""
    assert not merged or (config["allocator"], config["memory"]) == ("never", "sc")
    parts = [
        *constants(config, merged),
        *variables(config),
        f'#include "{HERE / "growth.pml"}"',
        f'#include "{HERE / "judge.pml"}"',
        *programs(config),
        *processes(config, merged),
    ]
    return "\n".join(parts) + "\n"


def constants(config: Config, merged: bool) -> Iterator[str]:
    """Yield the constants of a configuration."""
    for names in (KERNELS, ALLOCATORS, TOOLSTACKS):
        yield from (f"#define {name.upper()} {k}" for k, name in enumerate(names))
    for bit, label in enumerate(LABELS):
        yield f"#define LABEL_{label.replace('-', '_')} {1 << bit}"
    yield f"#define KERNEL {config['kernel'].upper()}"
    yield f"#define ALLOCATOR {config['allocator'].upper()}"
    yield f"#define TOOLSTACK {(config['toolstack'] or 'none').upper()}"
    yield f"#define TSO {int(config['memory'] == 'tso')}"
    yield f"#define CPUS {len(config['cpus'])}"
    yield f"#define OPS {max(map(len, config['cpus']))}"
    yield f"#define PAGES {num_pages_of(config)}"
    yield f"#define PAGES_AT {SHARED_WORDS}"
    yield f"#define FIFO {FIFO if config['memory'] == 'tso' else 1}"
    yield f"#define STACK {num_pages_of(config) if config['allocator'] == 'own' else 1}"
    yield f"#define MERGED {int(merged)}"
    yield "#define TRUE 1"
    yield "#define FALSE 2"
    yield f"mtype = {{ {STEPS} }}"


def variables(config: Config) -> Iterator[str]:
    """Yield the shared variables with their first values."""
    memory, next_page = first_memory(config)
    first = [9 if pfn in config["populated_first"] else INVALID for pfn in range(8)]
    steps = [first_step(program[0]) for program in config["cpus"]]
    yield f"byte mem[{len(memory)}] = {{ {listed(memory)} }};"
    yield f"hidden byte first[8] = {{ {listed(first)} }};"
    yield f"byte next_page = {next_page};"
    yield f"mtype pc[CPUS] = {{ {listed(steps)} }};"
    yield f"hidden byte own_pages[CPUS * OPS] = {{ {listed(own_pages(config))} }};"
    yield "bool is_free[PAGES], was_taken[PAGES], bug, fault, uaf_read, uaf_write;"
    yield "byte result[CPUS * OPS], num_freed[CPUS], freed[CPUS * STACK];"
    yield "byte buffered[CPUS], fifo_at[CPUS * FIFO + 1], fifo_word[CPUS * FIFO + 1];"
    yield f"mtype walking = {'W0' if config['toolstack'] else 'DONE'};"
    yield "byte max, generation, num_fll, num_fl, fll[2], fl[4];"
    yield "bool failed;"
    taking = ["MAY_TAKE(who) -> take_next(who, local)"]
    if config["allocator"] == "any":
        taking += [
            f"QUIET(who) && is_free[{page}] -> is_free[{page}] = 0; local = P({page})"
            for page in range(FIRST_FRESH, num_pages_of(config))
        ]
    options = [f":: d_step {{ pc[who] == here && {one}; pc[who] = after }}" for one in taking]
    yield f"#define TAKING(who, here, local, after) {' '.join(options)}"


def own_pages(config: Config) -> list[int]:
    """Return the first of the three pages that each operation may take, a row of OPS a CPU."""
    page = FIRST_FRESH + 3 * len(config["populated_first"])
    num = max(map(len, config["cpus"]))
    pages = [0] * (num * len(config["cpus"]))
    for who, program in enumerate(config["cpus"]):
        for number, operation in enumerate(program):
            if operation[0] == "set" and operation[2] != -1:
                pages[who * num + number], page = page, page + 3
    return pages


def listed(values: Iterable[Any]) -> str:
    """Return `values` with commas between."""
    return ", ".join(map(str, values))


def first_step(operation: list[Any]) -> str:
    """Return the step that an operation begins with."""
    return "G1" if operation[0] == "get" else "S1"


def programs(config: Config) -> Iterator[str]:
    """Yield how each operation begins and what the judge asks of each."""
    yield "inline begin(who) { if"
    for who, program in enumerate(config["cpus"]):
        for number, operation in enumerate(program[1:], 1):
            value = word_of(operation[2]) if operation[0] == "set" else 0
            yield (
                f":: who == {who} && op == {number} -> pfn = {operation[1]}; value = {value}; "
                f"pc[who] = {first_step(operation)}"
            )
    yield ":: else -> pfn = 0; value = 0; pc[who] = DONE fi }"
    yield "inline each_operation() {"
    for who, program in enumerate(config["cpus"]):
        for number, operation in enumerate(program):
            pfn = operation[1]
            if operation[0] == "set":
                yield f"set_came_to({who}, {number}, {pfn}, {word_of(operation[2])});"
                continue
            others = [p for k, p in enumerate(config["cpus"]) if k != who]
            sets = [op for p in others for op in p if op[0] == "set" and op[1] == pfn]
            told = " || ".join(["0", *(f"seen == {word_of(op[2])}" for op in sets)])
            yield f"get_came_to({who}, {number}, {pfn}, {told});"
    yield "skip }"


def processes(config: Config, merged: bool) -> Iterator[str]:
    """Yield the CPUs, the toolstack and the judge, who has the last step."""
    cpus = range(len(config["cpus"]))
    going_on = "!bug && !fault"
    for who, program in enumerate(config["cpus"]):
        operation = program[0]
        value = word_of(operation[2]) if operation[0] == "set" else 0
        waits = [f"!AT_A_PAGE({other})" for other in cpus if merged and other != who]
        yield f"active proctype cpu{who}() provided ({' && '.join([going_on, *waits])}) {{"
        yield f"byte pfn = {operation[1]}, value = {value}, op, mid, x, q, a, b;"
        yield f"bool dead_mid, dead_x; steps({who}) }}"
    if config["toolstack"]:
        yield f"active proctype toolstack() provided ({going_on}) {{ walk() }}"
    done = [f"pc[{who}] == DONE && buffered[{who}] == 0" for who in cpus]
    over = " && ".join([*done, "walking == DONE"])
    yield 'inline note() { c_code { printf("class %d\\n", labels); } }'
    yield "active proctype judging() { if"
    yield f":: d_step {{ bug || fault || {over} -> judge(); note() }}"
    yield ":: d_step { timeout -> labels = LABEL_deadlock; note() }"
    yield "fi; false }"


def ask_spin(config: Config, folder: Path, *, merged: bool = False) -> Verdict:
    """Return what SPIN says of a configuration; its files are written to `folder`.

    Every step of the model is one of SPIN's, no variable is dropped and no order left out. `merged`
    (growth.pml) keeps classes only.
    """
    (folder / "race.pml").write_text(model_of(config, merged=merged))
    run(folder, "spin", "-a", "-o1", "-o2", "-o3", "race.pml")
    run(
        folder,
        "gcc",
        "-O2" if merged else "-O0",
        "-w",
        "-DSAFETY",
        "-DNOREDUCE",
        "-DVECTORSZ=2048",
        "-o",
        "pan",
        "pan.c",
    )
    said = run(folder, "./pan", "-E", "-m10000", "-w20")
    assert "errors: 0" in said, said
    assert "Search not completed" not in said, said
    assert "max search depth too small" not in said, said
    ends = Counter(re.findall(r"^class (\d+)$", said, re.MULTILINE))
    # The judge's step is one more transition and leads to one more state from each end; one more
    # transition is SPIN's way to begin.
    return Verdict(
        classes={class_name(int(labels)): number for labels, number in ends.items()},
        num_states=counted(r"(\d+) states, stored", said) - ends.total(),
        num_transitions=counted(r"(\d+) transitions", said) - ends.total() - 1,
    )


def counted(pattern: str, said: str) -> int:
    """Return the number that `pattern` finds."""
    found = re.search(pattern, said)
    assert found, said
    return int(found[1])


def class_name(labels: int) -> str:
    """Return the name of a class of ends."""
    names = [label for bit, label in enumerate(LABELS) if labels >> bit & 1]
    return "+".join(sorted(names)) or "ok"


def run(folder: Path, *command: str) -> str:
    """Run a program in `folder`; return what it said, and fail where it failed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
