"""The performance report: it measures the same work, and what it says follows from its values."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2mbatch import bench
from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.bench import peers, session
from p2mbatch.bench.cases import BenchGuest, cases
from p2mbatch.bench.ceilings import Ceilings, _one_cycle
from p2mbatch.bench.growth import _exponents
from p2mbatch.bench.measure import OtherLoad, Scaled, Timing, measure_in_turn
from p2mbatch.bench.report_file import changes, load
from p2mbatch.compiled.lookup import lookup
from p2mbatch.report import bench as bench_report
from p2mbatch.report.bench import bends, changes_text, headline, short_of_numpy
from p2mbatch.report.table import show, time_text

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report():
    return bench.run([64 * MIB, 128 * MIB], effort=bench.SMOKE)


@pytest.fixture(scope="module")
def guest():
    return BenchGuest(64 * MIB)


def test_every_kernel_is_beside_its_floor_and_its_peers(report):
    kernels = {r["kernel"] for r in report["rows"]}
    assert len(kernels) == 9
    for row in report["rows"]:
        assert row["median_ns"] > 0 and row["floor_ns"] > 0 and row["items"] > 0
        assert len(row["samples_ns"]) == bench.SMOKE.max_samples
    for kernel in kernels:
        who = {r["who"] for r in report["rows"] if r["kernel"] == kernel}
        assert {"p2mbatch", "numpy", "floor"} <= who
        assert ("parallel" in who) == ("floor_parallel" in who)
        assert ("c" in who) == report["c_peer"]
    assert {c["name"] for c in report["ceilings"]} == {"fill", "copy", "read", "gather", "chase"}
    assert json.loads(json.dumps(report)) == report


def test_growth_has_exponents(report):
    for curve in report["growth"]:
        assert len(curve["local"]) == len(curve["points"]) - 1
        assert math.isfinite(curve["exponent"])


def test_numpy_peers_do_the_same_work(guest):
    t, h = guest.t, guest.life.host
    pfns = np.arange(guest.num_pages)
    mfns, compiled = peers.numpy_lookup(t, pfns), np.empty(guest.num_pages, np.int64)
    lookup(t, h, pfns, compiled)
    assert np.array_equal(mfns, compiled)
    assert np.array_equal(peers.numpy_m2p(t, h, mfns), pfns)
    others = np.setdiff1d(np.arange(512, 4 * guest.num_pages), mfns)[::97]
    assert (peers.numpy_m2p(t, h, others) == -1).all()
    assert peers.numpy_save_walk(t, h, guest.list_slots())
    by_kernel = {c.kernel: c for c in cases(guest, heavy=True)}
    for kernel in ("rebuild", "populate", "restore_order9", "restore_order0"):
        calls = by_kernel[kernel].calls
        calls["p2mbatch"]()
        words, own = t.words.copy(), t.own.copy()
        calls["numpy"]()
        assert np.array_equal(t.words, words), kernel
        assert np.array_equal(t.own, own), kernel


def test_naive_tree_is_the_same(guest):
    t = guest.t
    tree = peers.NaiveTree(t)
    pfns = np.arange(0, guest.num_pages, 13)
    assert tree.lookups(pfns.tolist()) == peers.numpy_lookup(t, pfns).tolist()
    by_kernel = {c.kernel: c for c in cases(guest, heavy=True)}
    by_kernel["rebuild"].calls["p2mbatch"]()
    tree.rebuild()
    num_leaves = guest.num_leaves
    listed = t.words[guest.list_slots()[0], :num_leaves].tolist()
    assert tree.lists[0][:num_leaves] == listed


def test_the_c_program_does_the_same_work(monkeypatch):
    with peers.built_peer() as program:
        if program is None:
            pytest.skip("no C compiler")
        guest = BenchGuest(64 * MIB, program)
        t, by_kernel = guest.t, {c.kernel: c for c in cases(guest, heavy=True)}
        assert all("c" in case.calls for case in by_kernel.values())
        for kernel in ("lookup_random", "lookup_sorted", "lookup_sequential", "lookup_m2p"):
            calls = by_kernel[kernel].calls
            found = []
            for who in ("p2mbatch", "c"):
                out = calls["p2mbatch"].args[-1]
                out[:] = -7
                calls[who]()
                found.append(out.copy())
            assert np.array_equal(*found) and -7 not in found[0], kernel
        # The guest's pages after each, from the same: a rebuild mends a list that was wrong.
        for kernel in ("save_walk", "populate", "restore_order9", "restore_order0", "rebuild"):
            calls, found = by_kernel[kernel].calls, []
            for who in ("p2mbatch", "c"):
                if kernel == "rebuild":
                    t.words[guest.list_slots()] = 12345
                elif kernel != "save_walk":
                    t.words[t.leaf_slot, 5] = 12345
                calls[who]()
                found.append(t.words.copy())
            assert np.array_equal(*found), kernel
        t.words[guest.list_slots()[0], 3] = 0
        with pytest.raises(RuntimeError, match="save_walk of the C program"):
            by_kernel["save_walk"].calls["c"]()
        t.leaf_slot[3] += 1
        with pytest.raises(ValueError, match="beside"):
            peers.Peer(program, t, guest.list_slots())


def test_without_a_compiler_there_is_no_peer(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with peers.built_peer() as program:
        assert program is None


def test_a_compiler_that_fails_is_no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "false")
    with peers.built_peer() as program:
        assert program is None


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0.5, "0.5 ns"), (999.7, "1 µs"), (999.2, "999 ns"), (999_600, "1 ms"), (1.5e9, "1.5 s")],
)
def test_times_have_three_digits(ns, text):
    assert time_text(ns) == text == show("time", ns)


def test_measuring_takes_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    measure_in_turn(calls, seconds=0.0, min_samples=3, max_samples=3)
    # Short calls are repeated within a turn.
    assert [name for name, _ in groupby(order)][-6:] == ["a", "b"] * 3


def test_a_call_that_does_less_counts_for_more():
    nap = Scaled(lambda: time.sleep(0.001), 1000.0)
    timings = measure_in_turn({"nap": nap}, seconds=0.0, min_samples=3, max_samples=3)
    assert min(timings["nap"].samples_ns) >= 1e9


def test_timing_spread_is_of_the_quartiles():
    timing = Timing(1.0, [90.0, 100.0, 100.0, 100.0, 110.0])
    assert timing.median_ns == 100 and timing.to_dict()["spread"] == 0
    timing = Timing(1.0, [80.0, 90.0, 100.0, 110.0, 120.0])
    assert timing.to_dict()["spread"] == pytest.approx(0.1)


def test_ceilings_are_measured_once():
    ceilings = Ceilings(1 << 16, seconds=0.0)
    assert ceilings.get("copy", 1 << 16) is ceilings.get("copy", (1 << 16) - 5)
    assert len(ceilings.found) == 1


def test_against_itself_nothing_moved(report):
    found = changes(report, report)
    assert len(found) == sum(r["who"] in ("p2mbatch", "parallel") for r in report["rows"])
    assert not any(c.beyond_noise for c in found)
    assert "none of" in changes_text(found)


def _slowed(report, which, *, only_median=False):
    """Return the report with the rows that `which` picks four times as slow, and no spread.

    Four, since a power of two leaves every quotient exact: a peer that moved just as much did so
    to the last bit.
    """
    slower = copy.deepcopy(report)
    for row in slower["rows"]:
        row["spread"] = 0.0
        if which(row):
            row["median_ns"] *= 4
            if not only_median:
                row["low_ns"] *= 4
                row["samples_ns"] = [4 * ns for ns in row["samples_ns"]]
    return slower


def test_against_finds_what_moved_and_not_the_machine(report):
    def mine(row):
        return row["who"] == "p2mbatch" and row["kernel"] == "rebuild"

    still = _slowed(report, lambda row: False)
    moved = [c for c in changes(_slowed(report, mine), still) if c.beyond_noise]
    assert {(c.kernel, c.who) for c in moved} == {("rebuild", "p2mbatch")}
    assert all(c.ratio == pytest.approx(4) for c in moved)
    back = [c for c in changes(still, _slowed(report, mine)) if c.beyond_noise]
    assert [c.ratio for c in back] == pytest.approx([1 / 4] * len(moved))
    # Where a peer on as many threads moved just as much, it was the machine.
    with_peer = _slowed(report, lambda row: mine(row) or row["who"] == "numpy")
    assert not any(c.beyond_noise for c in changes(with_peer, still))
    elsewhere = _slowed(report, lambda row: mine(row) or row["who"] == "floor_parallel")
    assert any(c.beyond_noise for c in changes(elsewhere, still))
    # Some samples that were in the way of something are no change.
    busy = _slowed(report, mine, only_median=True)
    assert not any(c.beyond_noise for c in changes(busy, still))


def test_bends_are_said_where_the_curve_bends_slowly_too():
    def curve(over, y):
        x = [1 << k for k in range(len(y))]
        points = [{"x": a, "y": b, "low": b, "high": b} for a, b in zip(x, y, strict=True)]
        return {"what": "time", "over": over, "unit": "ns", "points": points, **_exponents(points)}

    slow = [1000 + 2.0**k for k in range(18)]
    text = bends({"growth": [curve("leaves", slow)], "caches_bytes": {"L2": 1 << 20}})
    # Where the fixed part and the growing one are equal, the slope is a half.
    assert "time over leaves bends around 1,024 (slope 0.00 at the small end, 0.98" in text
    assert "what every call costs" in text
    straight = curve("pages", [2.0**k for k in range(8)])
    assert bends({"growth": [straight]}) == "time over pages does not bend."
    spilled = curve("leaves", [2.0**k for k in range(10)] + [2.0 ** (9 + 2 * k) for k in (1, 2, 3)])
    text = bends({"growth": [spilled], "caches_bytes": {"L1": 20 << 9}})
    assert "bends around 512 (slope 1.00" in text and "about what L1 holds" in text
    lives = curve("migrations", [10 + 1.0 * (1 << k) for k in range(8)])
    assert "fixed cost" in bends({"growth": [lives]})


def test_what_is_short_of_numpy_is_said_with_its_reason(report):
    base = {"memory_bytes": GIB, "floor_ns": 1e6}
    rows = [
        {**base, "kernel": kernel, "who": who, "median_ns": ns}
        for kernel, mine, numpy in (
            ("a", 1.2e6, 2.4e6), ("b", 5e6, 9e6), ("c", 1e4, 1.5e4), ("d", 1e6, 4e6)
        )
        for who, ns in (("p2mbatch", mine), ("numpy", numpy))
    ]  # fmt: skip
    text = short_of_numpy({"rows": rows})
    assert "a at 1GiB (2.0×: at 1.20 of its floor" in text
    assert "b at 1GiB (1.8×: 5.0 times its floor)" in text
    assert "c at 1GiB (1.5×: the call costs" in text and " d at" not in text
    assert "Every kernel" in short_of_numpy({"rows": rows[-2:]})


def test_a_report_from_a_busy_machine_says_so(report):
    busy = {**report, "others_share": 0.42}
    assert "42%" in bench_report.to_text(busy)
    assert "Other programs" not in bench_report.to_text({**report, "others_share": 0.03})
    assert 0 <= report["others_share"] <= 1


def test_other_load_is_not_our_own(monkeypatch):
    others = OtherLoad()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    there, busy, own = (b - a for a, b in zip(others._begin, others._now(), strict=True))
    # Ticks of a hundredth of a second are what it is counted in.
    assert own >= 0.25 and busy >= 0.2 and there >= busy
    for now, share in (((10.0, 6.0, 4.0), 0.2), ((10.0, 4.0, 4.1), 0.0), ((0.0, 0.0, 0.0), 0.0)):
        others._begin = (0.0, 0.0, 0.0)
        monkeypatch.setattr(others, "_now", lambda now=now: now)
        assert others.share() == pytest.approx(share)


def test_the_report_as_text_and_page(report, tmp_path):
    text = bench_report.to_text(report, changes(report, report))
    for word in ("Ceilings", "Kernels", "How cost grows", "lookup_random", "128MiB", "none of"):
        assert word in text
    page = tmp_path / "bench.html"
    bench_report.write_html(report, page)
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") >= 5 and "<script" not in html
    assert 'src="http' not in html and 'href="http' not in html
    assert escape(headline(report)) in html.replace("&#39;", "&#x27;")


@pytest.mark.parametrize("content", ["", "[1]", '{"format": "other"}', "{"])
def test_a_file_that_is_no_report_is_refused(tmp_path, content):
    path = tmp_path / "old.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"old\.json"):
        load(path)


def test_sizes_that_do_not_fit_are_named(monkeypatch):
    monkeypatch.setattr(session.psutil, "virtual_memory", lambda: type("M", (), {"available": GIB}))
    with pytest.raises(InputError, match="none fits"):
        bench.run([512 * GIB], effort=bench.SMOKE)


def test_the_command_refuses_before_it_measures(tmp_path):
    from p2mbatch.cli.bench import bench as command

    result = CliRunner().invoke(command, ["--sizes", "huge"])
    assert isinstance(result.exception, InputError)
    result = CliRunner().invoke(command, ["--against", str(tmp_path / "missing.json")])
    assert isinstance(result.exception, InputError)


def test_readme_table_comes_from_the_report(report, tmp_path):
    values, readme = tmp_path / "bench.json", tmp_path / "README.md"
    values.write_text(json.dumps(report), encoding="utf-8")
    readme.write_text("a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nz\n", encoding="utf-8")
    script = ROOT / "benchmarks" / "readme_table.py"
    subprocess.run([sys.executable, str(script), str(values), str(readme)], check=True)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("a\n<!-- bench:begin -->\n| 128MiB guest")
    assert text.endswith("<!-- bench:end -->\nz\n") and "old" not in text
    row = next(r for r in report["rows"] if (r["kernel"], r["who"]) == ("rebuild", "p2mbatch")
               and r["memory_bytes"] == 128 * MIB)  # fmt: skip
    assert time_text(row["median_ns"]) in text


@pytest.mark.parametrize("words", [1 << 5, 1 << 12])
def test_the_chase_goes_through_every_line_once(words):
    table = _one_cycle(words)
    at, seen = 0, set()
    for _ in range(words // 8):
        seen.add(at)
        at = int(table[at])
    assert at == 0 and len(seen) == words // 8
