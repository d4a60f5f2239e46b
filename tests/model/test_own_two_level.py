"""A kernel of another era as a user's file: two levels, held to what was recorded of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracle.recordings import TRACES
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.own import registers as rg
from p2mbatch.guests.guest import Guest
from p2mbatch.model import policies
from p2mbatch.model.hosts import table_host
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.own.named import named_policy
from p2mbatch.model.own.policy import OwnPolicy

DOCS = Path(__file__).resolve().parents[2] / "docs" / "own-policy.md"
TWO_LEVEL = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("own") / "two_level.py"
    path.write_text(TWO_LEVEL, encoding="utf-8")
    return str(path)


def rows(value: list[list[int | None]]) -> Any:
    return np.array([[-1 if c is None else c for c in r] for r in value], np.int64).reshape(-1, 3)


def digest(words: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(words, np.int64).data).hexdigest()


class Recorded:
    """A recorded life of a two-level kernel, its static arrays where the recording has them."""

    def __init__(self, trace: dict[str, Any], policy: policies.Policy) -> None:
        self.guest, self.trace, self.policy = trace["guest"], trace, policy
        guest = self.guest
        self.geo = geometry(guest["word_bytes"])
        self.num_top = guest["max_domain_pages"] // self.geo.entries
        tables = tb.allocate(
            self.geo, nr_pages=guest["nr_pages"], max_p2m_pfn=guest["max_p2m_pfn"],
            mfn_list_pfn=guest["mfn_list_pfn"], brk_pfn=guest["brk_pfn"],
            brk_pages=guest["brk_pages"], pool=np.array(guest["page_pool"], np.int64),
            directmap_pages=guest["directmap_pages"], machine=tb.MACHINE_1, table_presence=True,
            num_slots=guest["nr_pages"] // self.geo.entries + 400,
            num_blocks=guest["directmap_pages"] // 512 + 40,
        )  # fmt: skip
        own = policy.own
        assert isinstance(own, OwnPolicy)
        statics = own.written.statics
        for name, page in guest["static"].items():
            at = statics.index(name)
            address = self.geo.va_base + (page << 12)
            register = rg.K_MISSING if at == 0 else rg.K_OWN + at - 1
            tables.statics[register] = address % 2**32 if self.geo.word_bytes == 4 else address
        tables.statics[rg.R_MAX_DOMAIN] = guest["max_domain_pages"]
        self.life = Life(tables, self.host(trace["events"][0]["host"]), policy)

    def host(self, index: int) -> tb.HostTables:
        host = self.trace["hosts"][index]
        return table_host(host["frames"], rows(sorted(host["domain"])), rows(host["foreign"]))

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Run one event; return what the recording can be held to."""
        life, op = self.life, event["op"]
        if op == "fail_alloc":
            life.fail_alloc(event["at"])
            return {"op": op}
        result: EventResult
        if op == "boot":
            result = life.boot()
        elif op == "set":
            result = life.set_runs(rows(event["runs"]))
        else:
            result = life.migrate(self.host(event["host"]))
        found = {
            "op": op, "outcome": result.outcome, "detail": result.detail,
            "brk_pages_used": life.scalar("brk_used"),
            "pool_pages_used": life.scalar("pool_used"),
            "frame_list_list_mfn": life.scalar("shared_fll") % (1 << 64),
            "stray_writes": result.stray_writes, "stray_pages": result.stray_pages,
        }  # fmt: skip
        if op == "set":
            found |= {"entries_set": result.entries_set, "ok": result.set_returned}
        return found | self.digests()

    def digests(self) -> dict[str, str]:
        n, life = self.geo.entries, self.life
        num_leaves = min(self.num_top, -(-self.guest["max_p2m_pfn"] // n))
        entries = np.empty(self.guest["max_p2m_pfn"], np.int64)
        self.policy.operations.get_row(life.tables, life.host, 0, entries)
        slots = life.tables.leaf_slot[:num_leaves]
        return {
            "frame_list_list_sha256": digest(self.array("p2m_top_mfn_list", self.num_top // n)),
            "frame_list_sha256": digest(self.array("p2m_top_mfn", num_leaves)),
            "p2m_sha256": digest(entries),
            "leaf_words_sha256": digest(life.tables.words[slots]),
        }

    def array(self, name: str, count: int) -> Any:
        """The first words of a static array."""
        pages = self.life.tables.slots[:, tb.P_PAGE]
        first = self.guest["static"][name]
        num_pages = -(-count // self.geo.entries)
        found = [int(np.flatnonzero(pages == first + k)[0]) for k in range(num_pages)]
        return self.life.tables.words[found].ravel()[:count]


FILES = sorted((TRACES / "eras").glob("two-level*.json.gz"), key=lambda p: p.stat().st_size)
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"


@pytest.mark.thorough
def test_recorded_lives_are_as_recorded(file: str) -> None:
    before, never = (
        policies.find(named_policy(f"{file}:{name}")) for name in ("TwoLevel", "Never")
    )
    assert len(FILES) == 32
    for path in FILES if THOROUGH else FILES[:16]:
        trace = json.loads(gzip.decompress(path.read_bytes()))
        policy = never if trace["policy"].endswith("none") else before
        recorded = Recorded(trace, policy)
        for event, expected in zip(trace["events"], trace["expected"], strict=False):
            assert recorded.event(event) == expected, path.name


@pytest.mark.thorough
def test_a_sweeps_guest_migrates_under_it(file: str) -> None:
    guest = Guest.boot("256MiB", policy=f"{file}:TwoLevel", sparsity=0.5, layout="extents")
    pages = list(range(100, 70, -1))
    before = guest.lookup(pages)
    assert (before >= 0).all()
    assert guest.balloon_out(pages).ok and (guest.lookup(pages) == -1).all()
    assert guest.populate(pages).ok and (guest.lookup(pages) == before).all()
    for _ in range(3):
        event = guest.migrate()
        assert event.ok and not event.stray_writes
        assert guest.life.count_stale() == (0, 0)
        assert (guest.lookup(pages) != before).any()


@pytest.mark.thorough
def test_a_kernel_that_never_rebuilds_is_lost_at_its_second_save(file: str) -> None:
    guest = Guest.boot("64MiB", policy=f"{file}:Never")
    assert guest.migrate().ok
    assert guest.migrate().outcome == "save-failed"
