"""Guests from trace files as an axis of sweeps: their rows are their traces', their ids content."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cell import exact, trace_rows

from oracle import build
from oracle.strategies import guests
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB
from p2mbatch.cli import cli
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.guests import file as guestfile
from p2mbatch.guests.file import find_guest, guest_of
from p2mbatch.guests.references import digest_of
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario, estimate_memory_bytes
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.runs import OWN, merged_runs
from p2mbatch.model.trace_file import write_trace
from p2mbatch.report.sweep import html
from p2mbatch.spec.sweep_spec import SweepSpec, json_schema
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

DUMPS = Path(__file__).parents[2] / "data" / "dumps"
FOREIGN_BIT = 1 << 31
IDENTITY_BIT = 1 << 30


@st.composite
def guest_traces(draw: Any) -> build.Json:
    """A guest with holes, foreign and identity entries, replaced pages and grown leaves."""
    word_bytes = draw(st.sampled_from([8, 4]))
    layout = draw(guests(word_bytes))
    nr_pages, span = layout["nr_pages"], layout["max_p2m_pfn"]
    frames = span + 64
    events = [build.boot(0)]
    policy = draw(st.sampled_from(["tracked", "stale"]))
    aims = sorted({p for p in build.structures(policy, layout).values() if p < nr_pages})
    pfns = st.integers(0, nr_pages - 1) | st.sampled_from(aims)
    if span > nr_pages:
        pfns |= st.integers(nr_pages, span - 1)
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 5)) == 0:
            events.append(build.fail_alloc(draw(st.integers(0, 3))))
        rows: list[tuple[int, int | None, int]] = []
        for _ in range(draw(st.integers(1, 4))):
            pfn = draw(pfns)
            # Structures are seldom taken away: such a guest does not get far.
            kinds = ["own", "own", "hole", "foreign", "identity"]
            kind = draw(st.sampled_from(["own"] * 9 + kinds if pfn in aims else kinds))
            count = min(draw(st.sampled_from([1, 3, 90])), span - pfn)
            mfn = {
                "own": draw(st.integers(0, frames - count)),
                "hole": None,
                "foreign": FOREIGN_BIT | draw(st.integers(0, 1000)),
                "identity": IDENTITY_BIT | pfn,
            }[kind]
            rows.append((pfn, mfn, count))
        events.append(build.assign(*rows))
    host = build.host(frames, {pfn: frames - 1 - pfn for pfn in range(nr_pages)}, {})
    return build.trace(policy, layout, [host, host], [*events, build.migrate(1)])


@st.composite
def cells(draw: Any) -> tuple[build.Json, dict[str, Any]]:
    """A guest and the other fields of its scenario: hosts that are crowded, or much larger."""
    trace = draw(guest_traces())
    span_bytes = trace["guest"]["max_p2m_pfn"] * PAGE_BYTES
    fields = {
        "policy": draw(st.sampled_from(["tracked", "stale", "stale", "none"])),
        "migrations": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 1 << 20)),
        "neighbours": draw(st.sampled_from([0.0, 0.4, 1.0])),
        "neighbour_memory_bytes": draw(st.sampled_from([50 * PAGE_BYTES, 4 << 20, span_bytes])),
        "host_memory_bytes": span_bytes + draw(st.sampled_from([4 << 20, 64 << 20])),
        "build_order": draw(st.sampled_from([0, 9])),
        "restore_order": draw(st.sampled_from([0, 9])),
    }
    return trace, fields


@settings(deadline=None, max_examples=50)
@given(cell=cells())
def test_rows_are_those_of_the_replayed_trace(
    cell: tuple[build.Json, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    trace, fields = cell
    path = tmp_path_factory.mktemp("guest") / "guest.trace.json"
    path.write_text(json.dumps(trace))
    try:
        scenario = Scenario.make(guest=str(path), **fields)
        check_scenario(scenario)
    except InputError as error:
        assert any(word in str(error) for word in ("pages of brk", "no page left")), error
        return
    rows = exact(run_scenario(scenario))
    assert rows == exact(run_scenario(scenario, "all"))
    if scenario.host_memory_bytes < 6 * GIB:
        assert rows == exact(trace_rows(scenario))


def dense(word_bytes: int = 8, **changes: Any) -> build.Json:
    """A guest of three leaves with 500 pages of extra memory and brk for either policy."""
    layout = build.guest(
        word_bytes,
        3 * build.entries(word_bytes),
        max_p2m_pfn=3 * build.entries(word_bytes) + 500,
        **{"page_pool": [[100, 8]], **changes},
    )
    host = build.host(
        layout["nr_pages"] + 1000, {p: p + 500 for p in range(layout["nr_pages"])}, {}
    )
    n = layout["nr_pages"]
    events = [build.boot(0), build.assign((n + 40, 20, 30), (300, None, 5), (400, FOREIGN_BIT, 2))]
    return build.trace("tracked", layout, [host, host], [*events, build.migrate(1)])


def written(path: Path, trace: build.Json) -> str:
    path.write_text(json.dumps(trace))
    return str(path)


@pytest.mark.parametrize("word_bytes", [8, 4])
@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
def test_a_guest_with_growth_holes_and_foreign_pages(
    word_bytes: int, policy: str, tmp_path: Path
) -> None:
    name = written(tmp_path / "g.trace.json", dense(word_bytes))
    fields = {"policy": policy, "migrations": 2, "neighbour_memory_bytes": "4MiB"}
    scenario = Scenario.make(guest=name, host_memory_bytes="64MiB", **fields)
    assert scenario.layout == "guest"
    assert scenario.sparsity == (500 - 30 + 5) / (scenario.memory_bytes // PAGE_BYTES)
    rows = run_scenario(scenario)
    assert exact(rows) == exact(trace_rows(scenario))
    assert rows[0]["leaves"] == 4
    assert rows[0]["outcome"] == "ok"
    if policy == "tracked":
        assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert estimate_memory_bytes(scenario) < 2 << 20


def test_the_cell_knows_what_the_guest_is_not_where_it_lies(tmp_path: Path) -> None:
    plain = dense()
    one = Scenario.make(guest=written(tmp_path / "a.json", plain))
    (tmp_path / "b").mkdir()
    # Other frames on another host, another policy, another later life.
    moved = json.loads(json.dumps(plain))
    host = moved["hosts"][0]
    host["domain"] = [[p, m + 100, c] for p, m, c in host["domain"]]
    moved["policy"], moved["name"] = "stale", "other"
    moved["events"][1]["runs"][0][1] += 7
    moved["events"].append(build.migrate(0))
    other = Scenario.make(guest=written(tmp_path / "b" / "c.json", moved))
    assert one.guest != other.guest
    assert one.cell_id == other.cell_id
    assert exact(run_scenario(one)) == exact(run_scenario(other))
    changed = json.loads(json.dumps(plain))
    changed["events"][1]["runs"][1][2] += 1
    third = Scenario.make(guest=written(tmp_path / "d.json", changed))
    assert third.cell_id != one.cell_id
    # The same sizes without the file are another cell.
    assert Scenario.make(memory_bytes=one.memory_bytes).cell_id != one.cell_id
    specs = [SweepSpec.from_options(guest=s.guest.rpartition("#")[0]) for s in (one, other, third)]
    assert specs[0].digest == specs[1].digest != specs[2].digest
    again = SweepSpec.from_dict(specs[0].to_dict())
    assert again.digest == specs[0].digest
    (tmp_path / "a.json").unlink()
    assert SweepSpec.from_dict(specs[0].to_dict()).num_cells == 1


def test_a_path_is_the_file_that_lies_there_now(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    before = guest_of(written(path, dense()))
    after = guest_of(written(path, dense(brk_pages=20)))
    assert (before.layout.brk_pages, after.layout.brk_pages) == (16, 20)
    # A cell of a running sweep keeps the guest that it was made for.
    assert guest_of(after.reference) == after
    path.unlink()
    assert guest_of(after.reference) == after
    with pytest.raises(InputError, match="can't be read"):
        guest_of(before.reference)


def test_merged_runs_are_the_same_entries() -> None:
    runs = [[5, OWN, 2], [7, OWN, 1], [8, -1, 1], [9, -1, 3], [12, 70, 1], [13, 71, 2], [15, 9, 1]]
    assert merged_runs(np.array(runs)).tolist() == [
        [5, OWN, 3], [8, -1, 4], [12, 70, 3], [15, 9, 1]
    ]  # fmt: skip


def test_files_are_found_beside_the_spec_and_twice_is_once(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    written(tmp_path / "specs" / "g.json", dense())
    spec = tmp_path / "specs" / "s.toml"
    spec.write_text(
        '[[grid]]\nguest = ["g.json", "./g.json"]\npolicy = ["tracked", "stale"]\nseeds = 2\n'
        '[[cells]]\nguest = "g.json"\nseed = 1\n[sample]\nn = 3\nguest = "g.json"\n'
    )
    read = SweepSpec.from_file(spec)
    cells = [dict(zip(Scenario.model_fields, v, strict=True)) for v in read.expand()]
    # The cell and the samples with seeds 0 and 1 are the grid's.
    assert len(cells) == 4 + 1
    assert {c["layout"] for c in cells} == {"guest"}
    read.check()


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('guest = "none.json"', "none.json: can't be read"),
        ('guest = "bad.json"', "bad.json: format: is"),
        ('guest = "gone.json"', "no page left"),
        ('guest = "far.json"', "populates PFN"),
        ('guest = "g.json"\nmemory = "1GiB"', "memory: the guest's file says it"),
        ('guest = "g.json"\nword_bytes = 8', "word_bytes: the guest's file says it"),
        ('guest = "g.json"\nlayout = "tail"', "layout: the guest's file says it"),
        ('guest = "g.json"\nsparsity = 0.1', "sparsity: the guest's file says it"),
        ('guest = "g.json#0123456789abcdef"', "not 0123456789abcdef"),
        ("guest = 3", "not the name of a guest's trace file"),
        ("guest = []", "names no value"),
        ('memory = "1GiB"\nlayout = "guest"', "name the file in guest"),
        ('guest = "brk.json"\npolicy = ["stale", "tracked"]', "tracked takes 8 pages of brk"),
        ('guest = "g.json"\nhost_memory = "12TiB"', "0x80000000"),
        ('guest = "g.json"\nhost_memory = "4MiB"', "can't hold a guest"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(toml: str, says: str, tmp_path: Path) -> None:
    written(tmp_path / "g.json", dense())
    written(tmp_path / "bad.json", {"format": "other"})
    written(tmp_path / "brk.json", dense(brk_pages=7))
    empty = dense()
    empty["events"][1:] = [build.assign((0, None, empty["guest"]["max_p2m_pfn"]))]
    written(tmp_path / "gone.json", empty)
    far = dense()
    far["events"][1] = build.assign((far["guest"]["max_p2m_pfn"] + 1, 5, 1))
    written(tmp_path / "far.json", far)
    spec = tmp_path / "s.toml"
    spec.write_text(f"[grid]\n{toml}\n")
    out = str(tmp_path / "o")
    for command in (["spec", "check", str(spec)], ["sweep", str(spec), "--out", out]):
        ran = CliRunner().invoke(cli, command)
        assert isinstance(ran.exception, InputError | SystemExit), ran.exception
        text = str(ran.exception) if isinstance(ran.exception, InputError) else ran.output
        assert says in text
        assert "\n" not in text.strip()
    assert not Path(out).exists()


def test_the_schema_of_specs_knows_guests() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid({"grid": {"guest": ["a.json", "b.json"], "policy": "stale"}})
    assert not validator.is_valid({"grid": {"guest": "a.json", "memory": "1GiB"}})
    assert not validator.is_valid({"grid": {"guest": "a.json", "sparsity": 0.5}})


@pytest.mark.parametrize("name", sorted(path.name for path in DUMPS.glob("*.gz")))
def test_every_recorded_dump_imports_and_sweeps(name: str, tmp_path: Path) -> None:
    trace = import_trace(read_dump(DUMPS / name), name, heal=name.startswith("stale"))
    write_trace(trace, tmp_path / "guest.trace.json.gz")
    write_trace(anonymise(trace, 3), tmp_path / "anonymous.trace.json.gz")
    spec = SweepSpec.from_options(
        guest=str(tmp_path / "guest.trace.json.gz"), policy="tracked,stale", migrations=3, seeds=3
    )
    result = sweep(spec, tmp_path / "run", progress="quiet")
    frame = result.frame
    assert frame["cell"].nunique() == 6
    assert len(result.failures) == 0
    tracked = frame[frame["policy"] == "tracked"]
    assert (tracked["outcome"] == "ok").all()
    assert (tracked["migration"].value_counts() == 3).all()
    ends = set(frame[frame["policy"] == "stale"].groupby("cell")["outcome"].last())
    # A 64-bit guest with a leaf or two beyond its first mid: the list's one page names that first.
    assert ends <= ({"misdirected"} if "extra-64" in name else {"save-failed", "fault"})
    assert SweepResult.open(tmp_path / "run").spec.num_cells == 6
    # What frames it had at home plays no part.
    anonymous = find_guest(str(tmp_path / "anonymous.trace.json.gz"))
    same = anonymous.lowest_kept is None
    assert (anonymous.digest == digest_of(frame["guest"].iloc[0])) or not same


def test_a_report_without_the_guests_file_says_so(tmp_path: Path) -> None:
    name = written(tmp_path / "g.json", dense())
    result = sweep(
        SweepSpec.from_options(guest=name, policy="stale", seeds=2),
        tmp_path / "run",
        progress="quiet",
    )
    assert "g.json#" in html(result)
    guestfile._known.cache_clear()
    (tmp_path / "g.json").unlink()
    page = unescape(html(SweepResult.open(result.path)))
    assert "g.json: can't be read" in re.sub(r"\s+", " ", page)
