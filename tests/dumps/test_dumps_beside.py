"""What is wrong beside a list that passes the check is carried over into the trace too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dump_guests import core
from oracle import build, reference
from p2mbatch.cli import cli
from p2mbatch.dumps.audit.findings import audit
from p2mbatch.dumps.importing.beside_list import left_behind
from p2mbatch.dumps.importing.to_trace import check_import, import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.guests.file import find_guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json, write_trace

DATA = Path(__file__).parents[2] / "data"


def imported(guest, policy=None, **options):
    """Return the import of `guest` as it is read again, and what its own file is found to have."""
    trace = import_trace(guest, "x", policy, **options)
    check_import(guest, trace)
    trace = parse_trace(json.loads(json.dumps(trace_to_json(trace))))
    found = audit(read_bytes(core(image_at(trace))))
    return trace, [(hazard.kind, hazard.num) for hazard in found.hazards]


def hazards(guest):
    return [(hazard.kind, hazard.num) for hazard in audit(guest).hazards]


def next_resume(trace):
    """Return what becomes of a trace's guest at a migration, by the model, and by the naive one."""
    plain = trace_to_json(trace)
    pfns = np.flatnonzero(image_at(trace).has_page)
    away = build.host(1 << 18, {int(pfn): 4000 + i for i, pfn in enumerate(pfns)})
    plain |= {"hosts": [*plain["hosts"], away], "events": [*plain["events"], build.migrate(1)]}
    results = replay(parse_trace(plain))
    if trace.policy in ("tracked", "stale"):
        assert results == reference.replay(plain)
    return results[-1]["outcome"], results[-1]["detail"]


@pytest.fixture(scope="module")
def half_grown():
    """A guest with a mid page and no frame list at tops 1 and 3, and a leaf of its own at top 2."""
    n = 1024
    guest = build.guest(4, 3 * n, max_p2m_pfn=4 * n**2, page_pool=[[200, 30]])
    hosts = [build.host(1 << 15, build.frames_from(0x40, 3 * n))]
    events = [build.boot()]
    for top in (1, 3):
        events += [build.fail_alloc(1), build.assign((top * n**2 + 7, 3, 1))]
    events.append(build.assign((2 * n**2, 0x40 + 3 * n - 1, 1)))
    trace = parse_trace(build.trace("tracked", guest, hosts, events))
    return read_bytes(core(image_at(trace)))


def test_a_mid_page_without_a_list_kills_the_imported_guest_too(half_grown, tmp_path):
    assert ("mid-without-list", 2) in hazards(half_grown)
    trace, found = imported(half_grown)
    assert found == hazards(half_grown)
    assert next_resume(trace) == ("bug", "_brk_start == 0")
    path = tmp_path / "x.json.gz"
    write_trace(trace, path)
    cell = Scenario.make(guest=str(path), policy="tracked", migrations=1, seed=3)
    row = run_scenario(cell)[-1]
    assert (row["outcome"], row["detail"]) == ("bug", "_brk_start == 0")
    assert find_guest(str(path)).populated_pages == audit(half_grown).shape.populated
    healed, found = imported(half_grown, heal=True)
    assert "mid-without-list" not in dict(found)
    assert next_resume(healed)[0] == "ok"


def test_a_top_that_became_identity_while_it_ran_has_no_list_either():
    """Linux 3.14 to 3.16 hang `p2m_mid_identity` in without a frame list (policies-spec P5)."""
    path = DATA / "traces" / "eras" / "mid-identity-id-top-runtime-v0-32-116.json.gz"
    recorded = load_trace(path)
    kinds = [event["op"] for event in recorded.events]
    at = kinds.index("migrate") - 1
    guest = read_bytes(core(image_at(recorded, at)))
    trace, found = imported(guest, "mid-identity")
    assert found == hazards(guest)
    said = next(h.text for h in audit(guest).hazards if h.kind == "mid-without-list")
    assert "1:1 words were set there" in said
    outcome = recorded.expected[at + 1]["outcome"], recorded.expected[at + 1]["detail"]
    assert next_resume(trace) == outcome == ("bug", "_brk_start == 0")


def test_old_entries_of_the_list_beyond_the_guest_are_told_of(tmp_path):
    """Every restored guest has them; what a trace does not begin with is said."""
    file = DATA / "dumps" / "dense-64.core.gz"
    guest = read_dump(file)
    assert ("stale-list-tail", 511) in hazards(guest)
    trace, found = imported(guest)
    assert "stale-list-tail" not in dict(found)
    result = CliRunner().invoke(cli, ["import", str(file), "-o", str(tmp_path / "x.json.gz")])
    assert result.exit_code == 0
    assert "not carried over: 511 old entries of the list beyond max_pfn" in result.output
    # A damaged list comes as a whole, and a guest that never moved has none.
    sick = read_dump(DATA / "dumps" / "stale-64.core.gz")
    assert left_behind(sick, import_trace(sick, "x")) == ""
    assert "511 old entries" in left_behind(sick, import_trace(sick, "x", heal=True))
    assert left_behind(read_bytes(core(image_at(trace))), trace) == ""
