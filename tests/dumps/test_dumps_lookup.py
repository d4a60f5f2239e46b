"""Lookups: what is at a PFN, whose a frame is, by which way; against every word there is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dump_guests import build, core, fll_pfn, pfn_of, stream
from linear_files import LinearGuest
from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.dumps.lookup.answers import (
    mfn_answer,
    mfn_text,
    pfn_answer,
    pfn_text,
    range_answer,
    range_text,
)
from p2mbatch.dumps.lookup.subject import subject_of, subject_of_image
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.trace_file import load_trace
from p2mbatch.store.results import SweepResult

DATA = Path(__file__).parents[2] / "data"
FOREIGN = 1 << 31


def p2mbatch(*args):
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", *map(str, args)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def words_on(way):
    return [step["word"] for step in way["steps"]]


@pytest.mark.parametrize("width", [8, 4])
@pytest.mark.parametrize("form", [core, stream])
def test_the_way_ends_in_the_entry_for_every_pfn(width, form):
    image = build(3, width, 2500, populated=0.6, hole_leaves=0.3)
    subject = subject_of(read_bytes(form(image)))
    n = geometry(width).entries
    mask = (1 << 8 * width) - 1
    for pfn in range(0, 2500, 7):
        told = pfn_answer(subject, pfn)
        entry = int(image.p2m[pfn])
        assert told["kind"] == ("hole" if entry == INVALID else "own")
        assert told["mfn"] == (None if entry == INVALID else entry)
        assert (told["top"], told["mid"], told["entry"]) == (pfn // n**2, pfn // n % n, pfn % n)
        fll = image.words[fll_pfn(image)]
        fl = image.words[pfn_of(image, fll[told["top"]])]
        expected = [image.frame_list_list_mfn, fll[told["top"]], fl[told["mid"]], entry]
        assert words_on(told["list"]) == [int(word) & mask for word in expected]
        assert told["list"]["reason"] is None
        assert f"{pfn:#x}" in pfn_text(told)


TREES = (
    "dumps/dense-64.core.gz",
    "dumps/balloon-32-xl.stream.gz",
    "field/case-70-3.7-leaves-directmap.core.gz",
    "field/case-72-2.6.37-grown-two-bases.core.gz",
)


@pytest.mark.parametrize("name", TREES)
def test_both_trees_come_to_the_same_word(name):
    subject = subject_of(read_dump(DATA / name))
    span = subject.guest.max_p2m_pfn
    for pfn in [*range(0, span, 97), span - 1]:
        told = pfn_answer(subject, pfn)
        assert told["tree"]["reason"] is None and len(told["tree"]["steps"]) == 3
        assert words_on(told["tree"])[-1] == words_on(told["list"])[-1]
        assert told["tree"]["steps"][1]["leads_to_pfn"] == told["tree"]["steps"][2]["page_pfn"]


def test_a_list_that_leads_nowhere_ends_with_the_frame_that_nobody_has():
    subject = subject_of(read_dump(DATA / "dumps" / "stale-64.core.gz"))
    told = pfn_answer(subject, 256)
    assert words_on(told["list"])[-1] == 0xFF06 and "0xff06" in told["list"]["reason"]
    assert words_on(told["tree"])[-1] == told["mfn"]
    frame = mfn_answer(subject, 0xFF06)
    assert frame["num_pfns"] == 0 and frame["listed_by"] == ["entry 0 of the frame list list"]
    assert "no PFN names it" in mfn_text(frame)


@pytest.mark.parametrize("width", [8, 4])
def test_a_linear_list_is_followed_through_its_tables(width):
    hand = LinearGuest(width, 3000)
    subject = subject_of(read_bytes(hand.stream()))
    for pfn in range(0, 3000, 61):
        told = pfn_answer(subject, pfn)
        steps = told["list"]["steps"]
        assert told["tree"] is None and told["top"] is None
        assert len(steps) == 2 + hand.levels and steps[-1]["word"] == hand.p2m[pfn]
        assert steps[-1]["page_pfn"] == hand.leaf_pfns[pfn // hand.n]
        assert steps[1]["page_pfn"] == 0
    assert mfn_answer(subject, hand.mfn(0))["listed_by"] == ["p2m_cr3 of the shared info page"]
    leaf = hand.leaf_pfns[2]
    assert mfn_answer(subject, hand.mfn(leaf))["listed_by"] == ["the level 1 entry of leaf 2"]
    assert mfn_answer(subject, hand.mfn(0))["page"]


def brute_runs(entries, lost=()):
    """Return (pfn, count, kind, mfn) of the longest alike runs, one PFN at a time."""
    runs = []
    for pfn, entry in enumerate(entries):
        kind, mfn = "own", int(entry)
        if entry == INVALID:
            kind, mfn = "hole", None
        elif int(entry) & FOREIGN and entry >> 32 == 0:
            kind, mfn = "foreign", int(entry) & ~FOREIGN
        if runs and runs[-1][2] == kind and (mfn is None or runs[-1][3] + runs[-1][1] == mfn):
            runs[-1][1] += 1
        else:
            runs.append([pfn, 1, kind, mfn])
    return runs


def test_ranges_are_told_in_the_fewest_runs(monkeypatch):
    import p2mbatch.dumps.lookup.answers as answers

    rng = np.random.default_rng(5)
    image = build(2, 8, 1500, populated=0.7)
    image.p2m[600:640] = np.arange(40) + 7000
    image.p2m[640:650] = (np.arange(10) + 50) | FOREIGN
    image.p2m[650:653] = 90 | FOREIGN
    image.p2m[700:900] = INVALID
    guest = subject_of(read_bytes(core(image))).guest
    guest.p2m.pfns, guest.p2m.mfns = np.arange(1500), image.p2m
    subject = subject_of(guest)
    for chunk in (1 << 20, 64):
        monkeypatch.setattr(answers, "CHUNK_PFNS", chunk)
        for first in [0, *rng.integers(0, 1400, 20).tolist()]:
            last = int(rng.integers(first, 1500))
            told = range_answer(subject, first, last)["runs"]
            expected = brute_runs(image.p2m[first : last + 1])
            got = [[r["pfn"] - first, r["count"], r["kind"], r["mfn"]] for r in told]
            assert got == expected
    runs = range_answer(subject, 1490, 1600)["runs"]
    assert runs[-1] == {"pfn": 1500, "count": 101, "kind": "beyond max_pfn", "mfn": None}
    assert len(range_text(range_answer(subject, 0, 1499)).split("\n")) == len(brute_runs(image.p2m))


def test_a_frame_is_found_at_every_pfn_that_names_it():
    image = build(2, 8, 900, populated=0.7)
    named = np.flatnonzero(image.p2m >= 0)
    spare = [pfn for pfn in named.tolist() if pfn not in image.words][:14]
    frame = int(image.p2m[spare[0]])
    image.p2m[spare[1:12]] = frame
    image.p2m[spare[12]] = frame | FOREIGN
    image.p2m[spare[13]] = frame - (1 << 63)
    subject = subject_of(read_bytes(stream(_rewritten(image))))
    told = mfn_answer(subject, frame)
    assert told["num_pfns"] == 12 and told["pfns"] == spare[:8]
    assert told["foreign_pfns"] == spare[12:14]
    assert "4 more" in mfn_text(told)
    assert pfn_answer(subject, spare[3])["num_same_frame_pfns"] == 11
    for pfn in spare[12:14]:
        answer = pfn_answer(subject, pfn)
        assert (answer["kind"], answer["mfn"]) == ("foreign", frame)


def _rewritten(image):
    """Return `image` with its leaves' words as its p2m has them now."""
    for leaf, pfn in enumerate(image.leaf_pfns.tolist()):
        part = image.p2m[leaf * 512 : (leaf + 1) * 512]
        if not np.all(part == INVALID):
            image.words[pfn][: part.size] = part
    return image


def test_structures_are_named():
    image = build(1, 8, 2000)
    subject = subject_of(read_bytes(stream(image)))
    assert pfn_answer(subject, fll_pfn(image))["page"] == ["the frame list list"]
    assert pfn_answer(subject, int(image.leaf_pfns[2]))["page"] == ["leaf 2"]
    dense = subject_of(read_dump(DATA / "dumps" / "dense-64.core.gz"))
    assert pfn_answer(dense, dense.structures.top)["page"] == ["p2m_top"]
    assert "mid page of top 0" in pfn_answer(dense, dense.structures.mids[0])["page"][0]


def test_lost_and_unlisted_pages_are_told_as_such():
    subject = subject_of(read_dump(DATA / "field" / "case-44-live-lost-tail.core.gz"))
    runs = range_answer(subject, 0, 4335)["runs"]
    assert sum(r["count"] for r in runs if r["kind"] == "lost in the dump") == 200
    assert not any(r["kind"] == "hole" for r in runs)
    told = pfn_answer(subject, 4330)
    assert told["kind"] == "lost in the dump" and told["in_file"] is False
    part = read_bytes(b"  pfn=0x5 ==> mfn=0x9 (type 0x0)\n  pfn=0x8 ==> mfn=0x4 (type 0x0)\n")
    kinds = [r["kind"] for r in range_answer(subject_of(part), 0, 8)["runs"]]
    assert kinds == ["not listed", "own", "not listed", "own"]


@pytest.mark.parametrize(
    "name", ["balloon-64-0", "crafted-hit-leaf-64-0", "aimed-absent-foreign-64-300"]
)
def test_a_trace_at_an_event_knows_its_host(name):
    trace = load_trace(DATA / "traces" / f"{name}.json.gz")
    life = new_life(trace)
    for event, step in enumerate(trace.events):
        if run_event(life, trace, step).outcome != "ok":
            break
        subject = subject_of_image(image_at(trace, event), name)
        host = life.host
        frames = np.unique(np.linspace(1, host.m2p.size - 1, 40).astype(np.int64)).tolist()
        own = np.flatnonzero(host.owned)
        for mfn in [*frames, *own[:: max(own.size // 20, 1)].tolist()]:
            told = mfn_answer(subject, mfn)
            value = int(host.m2p[mfn])
            assert told["m2p"] == (value if value >= 0 else None)
            expected = "this guest" if host.owned[mfn] else "nobody" if value < 0 else None
            assert told["owner"] == (expected or "another domain")
        for pfn in range(0, subject.guest.max_p2m_pfn, 997):
            told = pfn_answer(subject, pfn)
            if told["kind"] == "own" and told["mfn"] < host.owned.size:
                assert (told["owner"] == "this guest") == bool(host.owned[told["mfn"]])


def test_the_command(tmp_path):
    file = DATA / "dumps" / "dense-64.core.gz"
    code, out, _ = p2mbatch("lookup", file, "--pfn", "0x46", "--pfn", "0-99", "--mfn", "119110")
    assert code == 0
    assert "the frame list list" in out and "PFN 0x0-0x63" in out
    code, out, _ = p2mbatch("lookup", file, "--pfn", "70", "--mfn", "0x1d146", "--json")
    first, second = map(json.loads, out.splitlines())
    assert first["mfn"] == second["mfn"] and second["pfns"] == [70]
    trace = DATA / "traces" / "balloon-64-0.json.gz"
    assert "on the host" in p2mbatch("lookup", trace, "--pfn", "8", "--event", "0")[1]
    for args, words in (
        ((file,), "ask something"),
        ((file, "--pfn", "x"), "no number"),
        ((file, "--pfn", "9-3"), "no range"),
        ((file, "--mfn", "-1"), "no frame number"),
        ((file, "--pfn", "1", "--event", "2"), "--event belongs to a trace"),
        ((file, "--pfn", "1", "--cell", "2"), "belong to a sweep"),
        ((trace, "--pfn", "1", "--event", "99"), "has events 0 to"),
        ((tmp_path, "--pfn", "1"), "--cell ID"),
    ):
        code, out, error = p2mbatch("lookup", *args)
        assert code == 2 and not out and words in error and "Traceback" not in error


def test_a_sweeps_cell_at_a_migration(tmp_path):
    run = tmp_path / "run"
    options = ["--memory", "64MiB", "--migrations", "2", "--host-memory", "128MiB"]
    assert p2mbatch("sweep", *options, "--out", run)[0] == 0
    (cell,) = SweepResult.open(run).frame["cell"].unique()
    mfns = set()
    for migration in range(3):
        args = ["--cell", cell[:12], "--migration", migration, "--pfn", "77", "--json"]
        code, out, error = p2mbatch("lookup", run, *args)
        assert code == 0, error
        told = json.loads(out)
        assert told["owner"] == "this guest" and told["m2p"] == 77
        mfns.add(told["mfn"])
    assert len(mfns) == 3
    code, _, error = p2mbatch("lookup", run, "--cell", "zz", "--pfn", "1")
    assert code == 2 and "begin with 'zz'" in error
    code, _, error = p2mbatch("lookup", run, "--cell", "", "--migration", "3", "--pfn", "1")
    assert code == 2 and "has 2 migrations" in error
