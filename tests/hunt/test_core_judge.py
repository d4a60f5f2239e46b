"""The core's rules against those of `hunt/judge`, which looks at a trace's replay in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.hunt.program import SET, make_bank, program_of
from p2mbatch.compiled.hunt.room import make_room
from p2mbatch.compiled.hunt.rules import was_set
from p2mbatch.hunt.batch import Generation, Hunter
from p2mbatch.hunt.judge import judge
from p2mbatch.model import policies
from p2mbatch.model.own.named import named_policy
from p2mbatch.model.trace_file import parse_trace
from registry_support import files_forgotten

EVERY = [
    (name, word_bytes)
    for name in policies.names()
    for word_bytes in (8, 4)
    if word_bytes == 8 or not policies.find(name).is_linear
]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "own-policy.md"
SEED = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[0]
REFILL = "        else:\n            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)\n"


def compare(generation: Generation, indices: range) -> set[int]:
    """Compare the first event at which lives broke each rule; return the rules that were broken."""
    failures = generation.failures
    rules: set[int] = set()
    for index in indices:
        judged = judge(parse_trace(generation.trace(index)))
        assert judged.outside is None, (index, judged.outside)
        first: dict[int, int] = {}
        for broken in judged.broken:
            first.setdefault(broken.rule, broken.event)
        rows = np.flatnonzero(failures.life == index)
        found = dict(zip(failures.rule[rows].tolist(), failures.event[rows].tolist(), strict=True))
        assert found == first, (index, found, judged.broken)
        rules |= set(first)
    return rules


@pytest.mark.parametrize(("policy", "word_bytes"), [("tracked", 8), ("stale", 4)])
def test_lives_break_what_the_judge_says(policy: str, word_bytes: int) -> None:
    hunter = Hunter(policies.find(policy), seed=7, threads=1, word_bytes=word_bytes)
    drawn = hunter.generation(0, 2000)
    rules = compare(drawn, range(60))
    hunter.keep(drawn)
    rules |= compare(hunter.generation(1, 60), range(60))
    assert rules >= ({4, 7} if policy == "tracked" else {1, 2, 3, 5, 7})


@pytest.mark.lane
@pytest.mark.skipif("NUMBA_DISABLE_JIT" not in os.environ, reason="Python can't call inner kernels")
def test_what_a_set_did_not_come_to_was_never_set() -> None:
    room, bank = make_room(geometry(8)), make_bank(1)
    bank.events[0, 1]["op"], bank.events[0, 1]["num_runs"] = SET, 2
    bank.runs[0, 1, :2] = [[100, 7, 5], [200, 70, 5]]
    program = program_of(bank, 0)
    for done, last in ((3, 102), (5, 104), (6, 200), (9, 201)):
        room.entries_set[1] = done
        found = [pfn for pfn in (100, 102, 104, 200, 201) if was_set(program, 2, pfn, room)]
        assert (found[0], found[-1]) == (100, last)


@pytest.mark.thorough
@pytest.mark.parametrize(("policy", "word_bytes"), EVERY)
def test_many_lives_break_what_the_judge_says(policy: str, word_bytes: int) -> None:
    hunter = Hunter(policies.find(policy), seed=8, threads=1, word_bytes=word_bytes)
    for number in range(4):
        generation = hunter.generation(number, 16_384)
        compare(generation, range(100))
        hunter.keep(generation)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder for users' files, which are forgotten afterwards."""
    with files_forgotten():
        yield tmp_path


@pytest.mark.thorough
@pytest.mark.parametrize("text", [SEED, SEED.replace(REFILL, "")], ids=["seed", "no refill"])
def test_a_policy_of_ones_own_is_hunted_like_ours(own: Path, text: str) -> None:
    (own / "mine.py").write_text(text, encoding="utf-8")
    policy = policies.find(named_policy(str(own / "mine.py")))
    hunter = Hunter(policy, seed=3, threads=1)
    rules: set[int] = set()
    for number in range(3):
        generation = hunter.generation(number, 4096)
        rules |= compare(generation, range(150))
        hunter.keep(generation)
    # The refill that is forgotten leaves holes that name an old frame.
    assert (2 in rules) == (text != SEED)
