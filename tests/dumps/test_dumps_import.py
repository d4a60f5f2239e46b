"""Dumps to traces and back: import, replay, anonymise, guests of recorded traces written out."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dumps_readers import NEWER, mfndump_text, read_once

from dump_guests import build, core, legacy, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID, geometry
from p2mbatch.dumps.audit.findings import audit
from p2mbatch.dumps.audit.shape import measure
from p2mbatch.dumps.audit.walk import save_check
from p2mbatch.dumps.importing.boot_state import model_entries
from p2mbatch.dumps.importing.to_trace import check_import, import_trace
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json

DATA = Path(__file__).parents[2] / "data"
EXPECTED = json.loads((DATA / "dumps" / "expected.json").read_text())


def checked(trace):
    """Return `trace` as a file of it would be read."""
    return parse_trace(json.loads(json.dumps(trace_to_json(trace))))


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_dumps_import_and_replay_to_the_same_guest(name):
    guest = read_dump(DATA / "dumps" / name)
    trace = checked(import_trace(guest, name, heal=name.startswith("stale")))
    *_, last = replay(trace)
    assert last["outcome"] == "ok"
    assert last["p2m_sha256"] == EXPECTED[name]["p2m_sha256"]
    # The structures were found where they are, so even the list's own frame is the same.
    assert last["frame_list_list_mfn"] == EXPECTED[name]["frame_list_list_mfn"]
    assert trace.policy == ("stale" if name.startswith("stale") else "tracked")


@pytest.mark.parametrize("name", EXPECTED)
def test_an_imported_guest_written_out_reads_back_the_same(name):
    guest = read_dump(DATA / "dumps" / name)
    image = image_at(import_trace(guest, name, heal=name.startswith("stale")))
    for data in (stream(image), stream(image, version=2, wrapper="libxc", live=True), core(image)):
        again = read_bytes(data)
        assert again.p2m.sha256() == EXPECTED[name]["p2m_sha256"]
        assert save_check(again).result == "ok"
    for x, pfn in enumerate(image.leaf_pfns.tolist()):
        if guest.leaf_pfns is not None:
            assert pfn == guest.leaf_pfns[x]


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    word_bytes=st.sampled_from([4, 8]),
    span=st.integers(600, 4000),
    populated=st.sampled_from([0.7, 1.0]),
    kind=st.sampled_from(["core", "stream", "pipe", "text"]),
)
def test_other_guests_import_too(seed, word_bytes, span, populated, kind):
    image = build(seed, word_bytes, span, populated)
    # A stretch without holes, for a tree that has to be placed anew.
    read = {
        "core": lambda: read_bytes(core(image)),
        "stream": lambda: read_bytes(stream(image)),
        "pipe": lambda: read_once(stream(image)),
        "text": lambda: read_bytes(mfndump_text(image.p2m, word_bytes)),
    }[kind]
    guest = read()
    try:
        trace = checked(import_trace(guest, "x", "tracked"))
    except InputError as error:
        assert populated < 1 and "populated pages in a row" in str(error)
        return
    check_import(guest, trace)
    image = image_at(trace)
    assert np.array_equal(image.p2m, guest.p2m.to_array())


def test_holes_alone_import_with_made_up_frames():
    guest = read_bytes(NEWER)
    trace = checked(import_trace(guest, "holes", "tracked"))
    check_import(guest, trace)
    found = image_at(trace).p2m
    shape = guest.p2m.to_array()
    assert np.array_equal(found == INVALID, shape == INVALID)


def test_foreign_and_repeated_frames_survive_an_import():
    image = build(2, 8, 2000, populated=1.0)
    image.p2m[1900] = FOREIGN_FRAME_BIT | 77
    image.p2m[1901] = image.p2m[1902]
    image.words[int(image.leaf_pfns[3])][1900 % 512] = image.p2m[1900]
    image.words[int(image.leaf_pfns[3])][1901 % 512] = image.p2m[1901]
    guest = read_bytes(stream(image))
    assert guest.p2m.num_repeated() == 1
    trace = checked(import_trace(guest, "x", "tracked"))
    check_import(guest, trace)
    assert np.array_equal(image_at(trace).p2m, model_entries(guest, find("tracked")))


def test_an_import_that_does_not_replay_is_refused():
    guest = read_dump(DATA / "dumps" / "dense-64.core.gz")
    trace = import_trace(guest, "x")
    trace.hosts[0].domain[0, 1:] = trace.hosts[0].domain[0, 1] + 1, trace.hosts[0].domain[0, 2]
    with pytest.raises(InputError, match="can't rebuild"):
        check_import(guest, replace(trace, hosts=trace.hosts))


def shape_of(p2m, word_bytes):
    pfns = np.flatnonzero(p2m != INVALID)
    return measure(SparseP2M(pfns, p2m[pfns], p2m.size), geometry(word_bytes))


@pytest.mark.parametrize("name", [*EXPECTED, "foreign-bit-64-0"])
def test_anonymise_keeps_the_shape_and_nothing_else(name):
    if name in EXPECTED:
        trace = import_trace(read_dump(DATA / "dumps" / name), name, heal=name.startswith("stale"))
    else:
        trace = load_trace(DATA / "traces" / f"{name}.json.gz")
        trace = replace(trace, events=trace.events[:2])
    hidden = checked(anonymise(trace, key=5))
    before, after = image_at(trace), image_at(hidden)
    old, new = shape_of(before.p2m, before.word_bytes), shape_of(after.p2m, after.word_bytes)
    assert old.extents.to_json() == new.extents.to_json()
    assert old.holes.to_json() == new.holes.to_json()
    assert (old.superpages, old.foreign) == (new.superpages, new.foreign)
    own = (before.p2m >= 0) & (before.p2m < before.frames)
    assert np.array_equal(before.p2m[own] % 512, after.p2m[own] % 512)
    # By far most frames have moved; of a thousand stretches one may come back to its place.
    assert np.count_nonzero(before.p2m[own] == after.p2m[own]) < 0.1 * np.count_nonzero(own)
    assert hidden.name == "anonymous" and hidden.expected is None
    assert name not in json.dumps(trace_to_json(hidden))
    other = anonymise(trace, key=6)
    assert not np.array_equal(other.hosts[0].domain, hidden.hosts[0].domain)


def test_anonymise_follows_a_guest_through_migrations():
    trace = load_trace(DATA / "traces" / "balloon-64-0.json.gz")
    hidden = checked(anonymise(trace, key=1))
    old, new = replay(trace), replay(hidden)
    assert [e["outcome"] for e in old if "outcome" in e] == [
        e["outcome"] for e in new if "outcome" in e
    ]
    assert image_at(hidden).leaf_pfns.tolist() == image_at(trace).leaf_pfns.tolist()


# --- guests of recorded traces, in every format ------------------------------------------------

SHOWN = [
    "crafted-beyond-ram-64-1",
    "dense-32-0",
    "alloc-fail-64-0",
    "stale-scattered-64-0",
    "crafted-none-leaves-swapped-32-0",
]


@pytest.mark.parametrize("name", SHOWN)
def test_the_audits_check_is_the_next_migrations_outcome(name):
    """What the model's own save walk finds at the next migration, the dump's check finds before."""
    trace = load_trace(DATA / "traces" / f"{name}.json.gz")
    expected = trace.expected
    num_compared = 0
    for k in range(len(expected) - 1):
        if expected[k].get("outcome") != "ok" or expected[k + 1]["op"] != "migrate":
            continue
        outcome, detail = expected[k + 1]["outcome"], expected[k + 1]["detail"]
        wanted = {"save-failed": detail, "misdirected": "misdirected"}.get(outcome, "ok")
        image = image_at(trace, k)
        for guest in (
            read_bytes(core(image)),
            read_bytes(stream(image)),
            read_once(stream(image, version=2, wrapper="libxl", live=True)),
        ):
            assert guest.p2m.sha256() == expected[k]["p2m_sha256"]
            assert save_check(guest, image.frames).result == wanted
            assert guest.shared_info.frame_list_list_mfn == expected[k]["frame_list_list_mfn"]
        num_compared += 1
    assert num_compared


def test_hazards_of_section_9_are_found():
    # A mid page without its list: alloc_p2m got the first page and not the second.
    trace = load_trace(DATA / "traces" / "dense-64-0.json.gz")
    guest = replace(trace.guest, max_p2m_pfn=2 * 512**2)
    events = [
        trace.events[0],
        {"op": "fail_alloc", "at": 1},
        {"op": "set", "runs": np.array([[512**2 + 5, 3, 1]])},
    ]
    pool = np.array([[trace.guest.nr_pages - 300, 200]])
    shown = replace(trace, guest=replace(guest, page_pool=pool), events=events, expected=None)
    result = audit(read_bytes(core(image_at(checked(shown)))))
    kinds = {hazard.kind for hazard in result.hazards}
    assert "mid-without-list" in kinds
    # And the tail of the last leaf, before any restore has made it INVALID.
    kinds = {h.kind for h in audit(read_bytes(core(image_at(trace, 0)))).hazards}
    assert ("partial-last-leaf" in kinds) == (trace.guest.nr_pages % 512 != 0)
    assert "mid-without-list" not in kinds


def test_events_that_can_not_be_written_are_refused_by_number():
    trace = load_trace(DATA / "traces" / "stale-free-64-0.json.gz")
    with pytest.raises(InputError, match=r"event 99: .* has events 0 to"):
        image_at(trace, 99)
    last = len(trace.events) - 1
    lost = next(k for k, e in enumerate(trace.expected) if e.get("outcome", "ok") != "ok")
    if lost < last:
        with pytest.raises(InputError, match=f"ended at event {lost}"):
            image_at(trace, last)
    assert image_at(trace).p2m.size == trace.guest.max_p2m_pfn


@pytest.mark.parametrize("write", [stream, legacy])
def test_a_guest_that_died_before_it_reported_anything_has_no_stream(write):
    image = image_at(load_trace(DATA / "traces" / "brk-short-64-300.json.gz"))
    assert image.shared_max_pfn == 0
    with pytest.raises(InputError, match=r"reports no PFNs.*use make-core"):
        write(image)
    assert audit(read_bytes(core(image))).walk.result != "ok"


# --- commands ----------------------------------------------------------------------------------


def run(*arguments, stdin=b""):
    """Run the command line in this process; return (exit code, stdout, stderr)."""
    from click.testing import CliRunner

    from p2mbatch.base.errors import P2MBatchError
    from p2mbatch.cli import cli

    result = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    if isinstance(result.exception, P2MBatchError):
        return 2, result.stdout, str(result.exception)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.stdout, result.stderr


@pytest.mark.parametrize("name", EXPECTED)
def test_audit_json_and_exit_code(name):
    code, out, _ = run("audit", DATA / "dumps" / name, "--json")
    found = json.loads(out)
    assert {k: found[k] for k in EXPECTED[name]} == EXPECTED[name]
    assert code == (0 if EXPECTED[name]["save_check"] == "ok" else 1)
    code, text, _ = run("audit", DATA / "dumps" / name)
    assert EXPECTED[name]["p2m_sha256"] in text and EXPECTED[name]["save_check"] in text


def test_the_commands_from_dump_to_trace_to_dump(tmp_path):
    trace, hidden = tmp_path / "guest.trace.json.gz", tmp_path / "anonymous.json"
    source = DATA / "dumps" / "balloon-32-xl.stream.gz"
    assert run("import", source, "-o", trace)[0] == 0
    assert run("anonymise", trace, "-o", hidden)[0] == 0
    assert run("anonymise", source, "-o", hidden)[0] == 0
    assert load_trace(hidden).name == "anonymous"
    for name, command in (("a.stream", "make-stream"), ("a.core.gz", "make-core")):
        assert run(command, trace, "-o", tmp_path / name)[0] == 0
        found = json.loads(run("audit", tmp_path / name, "--json")[1])
        assert found["p2m_sha256"] == EXPECTED[source.name]["p2m_sha256"]
    assert gzip.decompress((tmp_path / "a.core.gz").read_bytes())[:4] == b"\x7fELF"


def test_nothing_is_written_where_input_is_bad(tmp_path):
    bad, out = tmp_path / "bad", tmp_path / "out"
    bad.write_bytes(b"nothing of the kind")
    for command in ("import", "anonymise", "make-stream", "make-core"):
        code, _, error = run(command, bad, "-o", out)
        assert code == 2 and error.startswith(str(bad)) and "\n" not in error
    good = tmp_path / "good.json.gz"
    run("import", DATA / "dumps" / "dense-64.core.gz", "-o", good, "--no-check")
    assert run("make-core", good, "-o", tmp_path / "none" / "x")[0] == 2
    assert run("make-core", good, "-o", out, "--event", "7")[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "good.json.gz"]


def test_audit_writes_a_page_of_pictures(tmp_path):
    page = tmp_path / "audit.html"
    assert run("audit", DATA / "dumps" / "stale-64.core.gz", "--html", page)[0] == 1
    text = page.read_text()
    assert text.count("<figure ") == 3
    assert "map-fl-failed 0" in text and "stale list tail" in text
    assert "is MFN 0xff06: no PFN of this guest has that frame" in text
    assert "The toolstack would say" in text and "max p2m pfn" not in text
    assert "http-equiv" in text and 'src="http' not in text


def test_the_benchmark_runs(tmp_path):
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "benchmarks" / "bench_commands.py"
    out = tmp_path / "figures.json"
    command = [sys.executable, script, "--quick", "--dir", tmp_path, "--json", out, "save-file"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "x cat" in done.stdout
    figures = {f["what"]: f["value"] for f in json.loads(out.read_text())["figures"]}
    assert figures["read_dump FILE: audit"] > 0 and figures["read_dump FILE"] > 0
    # A full guest of 64 MiB, with its records' headers.
    assert 0.0671 < figures["save file, in the page cache"] < 0.068
    assert list(tmp_path.iterdir()) == [out]
