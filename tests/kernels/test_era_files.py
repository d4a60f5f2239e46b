"""The C files of two eras against the recordings of each version's own functions.

Their functions run in this process over the naive models' memory (`plain.py`): a leg beside the
package's own way to run them. 32-bit lives need a program of 32 bits and are not run here.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kernels.plain import FILES
from oracle.eras import goes_on
from oracle.eras.machine import Json
from p2mbatch.base.cc import find_compiler

TRACES = Path(__file__).parents[2] / "data" / "traces"
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
ONE_IN = 1 if THOROUGH else 4

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def recordings(policies: tuple[str, ...], folders: str = "eras*") -> list[object]:
    """Return the 64-bit recordings of policies."""
    found = []
    for path in sorted(TRACES.glob(f"{folders}/*.json.gz")):
        if path.name.startswith(tuple(f"{name}-" for name in policies)):
            trace = json.loads(gzip.decompress(path.read_bytes()))
            if trace["guest"]["word_bytes"] == 8 and trace["policy"] in policies:
                found.append(pytest.param(trace, id=f"{path.parent.name}-{path.name[:-8]}"))
    return found


def lived(trace: Json, kind: type[Any] | None = None) -> list[Json]:
    """Live a trace under the C file of its policy, or of a kind; return what came out."""
    guest = (kind or FILES[trace["policy"]])(trace)
    results = []
    try:
        for event in trace["events"]:
            results.append(guest.run(event))
            if not goes_on(event, results[-1]):
                break
    finally:
        guest.unit.close()
    return results


def of_file(kind: type[Any], file: Path, tree: Path | None = None) -> type[Any]:
    """Return a kind of guest whose kernel is another file."""
    return type(kind.__name__, (kind,), {"file": file, "tree": tree})


@pytest.mark.parametrize("trace", recordings(("two-level", "two-level-none")))
def test_the_two_level_file_lives_as_recorded(trace: Json) -> None:
    assert lived(trace) == trace["expected"]


@pytest.mark.parametrize("trace", recordings(("linear",))[::ONE_IN])
def test_the_linear_file_lives_as_recorded(trace: Json) -> None:
    assert lived(trace) == trace["expected"]


def test_there_are_recordings_of_each() -> None:
    assert len(recordings(("two-level", "two-level-none"))) == 36
    assert len(recordings(("linear",))) == 108


CHANGES = {
    "two-level": ("p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);",
                  "if (!p2m_top_mfn[i]) p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);"),
    "linear": ("mid_mfn_p[mididx] = pte_mfn(*ptep);",
               "if (pfn) mid_mfn_p[mididx] = pte_mfn(*ptep);"),
}  # fmt: skip


@pytest.mark.parametrize("policy", CHANGES)
def test_a_file_with_a_line_changed_lives_otherwise(policy: str, tmp_path: Path) -> None:
    """What passes above passes because of what the file says."""
    text = FILES[policy].file.read_text("utf-8")
    old, new = CHANGES[policy]
    assert text.count(old) == 1
    (tmp_path / "mmu.c").write_text(text.replace(old, new))
    changed = of_file(FILES[policy], tmp_path / "mmu.c")
    traces = [param.values[0] for param in recordings((policy,))[:6]]
    assert any(lived(t, changed) != t["expected"] for t in traces)
