"""The kernel of the tests with lines more at each resume, written and lived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil

from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy

TRACKED = (Path(__file__).parent / "tracked.c").read_text("utf-8")
_BUILD = "void xen_build_mfn_list_list(void)\n{\n"


def at_resume(lines: str, above: str = "") -> str:
    """Return the kernel of the tests with `lines` at each resume."""
    assert TRACKED.count(_BUILD) == 1
    return TRACKED.replace(
        _BUILD, f"{above}static int resumes;\n{_BUILD}\tif (resumes++) {{\n{lines}\n\t}}\n"
    )


def written(folder: Path, text: str) -> str:
    path = folder / "mmu.c"
    path.write_text(text, encoding="utf-8")
    return str(path)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def lived(folder: Path, text: str, **fields: object) -> list[tuple[str, str | None]]:
    """Return the outcomes of a small guest's life under a kernel."""
    policy = named_policy(f"kernel:{written(folder, text)}")
    rows = run_scenario(
        Scenario.make(**{"memory_bytes": "64MiB", "policy": policy, "migrations": 1, **fields})
    )
    return [(row["outcome"], row["detail"]) for row in rows]


def children(before: Sequence[psutil.Process] = ()) -> list[psutil.Process]:
    """Return this process's children that are kernels', those of `before` left out."""
    mine = [p for p in psutil.Process().children() if p.name() == "program"]
    return [p for p in mine if p not in before]
