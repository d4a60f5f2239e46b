"""No array's bounds are passed: by users' kernels that say too much, by lives of any family."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hunt import built
from p2mbatch.base.errors import PolicyError
from p2mbatch.base.geometry import INVALID
from p2mbatch.hunt.batch import Hunter
from p2mbatch.hunt.look import entries_of
from p2mbatch.model import policies, replay
from p2mbatch.model.own.named import named_policy
from p2mbatch.model.trace_file import parse_trace
from registry_support import files_forgotten

pytestmark = pytest.mark.lane

FAR = """
from p2mbatch.linux import *

class Far(Tracked):
    def xen_setup_mfn_list_list(self):
        super().xen_setup_mfn_list_list()
        self.max_pfn = MAX_P2M_PFN
"""


LONG = pytest.mark.skipif(
    "NUMBA_DISABLE_JIT" not in os.environ, reason="compiling it takes long, and bounds aren't seen"
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "own-policy.md"
TWO_LEVEL = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[str]:
    """A user's file whose kernel reports all PFNs that a tree can hold; forgotten afterwards."""
    (tmp_path / "far.py").write_text(FAR, encoding="utf-8")
    with files_forgotten():
        yield named_policy(str(tmp_path / "far.py"))


def test_leaves_past_those_that_are_cached_are_sent_and_restored(far: str) -> None:
    end, grown = 3072, 2600
    guest = built.tree_guest("tracked", nr_pages=1536)
    life = built.trace(
        far, guest, built.hosts(end), {"op": "boot", "host": 0},
        built.assign([grown, built.free_frame(end), 3]), built.move(1),
    )  # fmt: skip
    trace = parse_trace(life)
    lived = replay.new_life(trace)
    for event in trace.events:
        result = replay.run_event(lived, trace, event)
        assert (result.outcome, result.detail) == ("ok", None), event
        lost = result.lost_pages, result.ghost_pages, result.stray_writes
        assert lost == (0, 0, 0) or event["op"] != "migrate", event
    assert lived.scalar("walked_max_pfn") + 1 == 2 * built.N[8] ** 2
    # Host 1 has the PFNs from end/3 on from frame 7 + end on.
    pfns = np.array([0, grown, grown + 2, grown + 3, 1536, 5000])
    entries = entries_of(lived, pfns)
    first = 7 + end
    assert entries[1:3].tolist() == [first + grown - end // 3, first + grown + 2 - end // 3]
    assert entries[3:].tolist() == [INVALID] * 3


@LONG
def test_such_a_kernel_is_hunted(far: str) -> None:
    hunter = Hunter(policies.find(far), seed=1, threads=1)
    hunter.generation(0, 3)


@pytest.mark.usefixtures("far")
def test_arrays_that_no_drawn_guest_has_pages_for_are_refused(tmp_path: Path) -> None:
    text = TWO_LEVEL.replace("MAX_DOMAIN_PAGES // P2M_PER_PAGE)", "MAX_P2M_PFN // P2M_PER_PAGE)")
    (tmp_path / "large.py").write_text(text, encoding="utf-8")
    policy = policies.find(named_policy(f"{tmp_path / 'large.py'}:TwoLevel"))
    for word_bytes in (8, 4):
        with pytest.raises(PolicyError, match=r"pages of tables on .*: those of a hunt have room"):
            Hunter(policy, seed=1, threads=1, word_bytes=word_bytes)


@LONG
@pytest.mark.parametrize("name", ["tracked", "mid-identity", "two-level", "linear"])
def test_each_family_keeps_within_its_arrays(name: str) -> None:
    hunter = Hunter(policies.find(name), seed=4, threads=1)
    hunter.keep(hunter.generation(0, 6))
    assert hunter.corpus.count > 2
    hunter.generation(1, 6)
