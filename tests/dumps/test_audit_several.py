"""`audit` of several files, what exits 1, and the page's map without its empty stretches."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from test_dumps_readers import read_once

from p2mbatch.cli import cli
from p2mbatch.dumps.audit.era import era_of
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.plots.dump import CutAxis
from p2mbatch.report.audit_facts import facts_of

DUMPS = Path(__file__).parents[2] / "data" / "dumps"
STALE, DENSE = str(DUMPS / "stale-64.core.gz"), str(DUMPS / "dense-64.core.gz")
BALLOON = str(DUMPS / "balloon-32-xl.stream.gz")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Ran(NamedTuple):
    exit_code: int
    output: str


def run(*args):
    """Run the command as a terminal does: its return value is the exit code."""
    result = CliRunner().invoke(cli, ["audit", *args], standalone_mode=False)
    assert result.exception is None, result.exception
    return Ran(result.return_value, result.stdout)


def test_several_files_end_in_a_table(tmp_path):
    bad = tmp_path / "none"
    bad.write_bytes(b"nothing of the kind")
    result = run(DENSE, str(bad), STALE)
    assert result.exit_code == 2
    *_, titles, _, dense, none, stale = result.output.rstrip().splitlines()
    assert titles.split() == ["file", "guest", "verdict"]
    assert "  nothing against it" in dense and none.endswith("not read")
    assert stale.endswith("can't be saved: map-fl-failed 0") and "64-bit, 30068KiB" in stale
    assert run(DENSE, STALE).exit_code == 1
    told = [json.loads(line) for line in run(DENSE, STALE, "--json").output.splitlines()]
    assert [one["save_check"] for one in told] == ["ok", "map-fl-failed 0"]


@pytest.mark.parametrize(
    ("file", "codes"),
    [
        (BALLOON, {"check": 0, "loss": 0, "risk": 0, "note": 1}),
        (DENSE, {"check": 0, "loss": 0, "risk": 0, "note": 1}),
        (STALE, {"check": 1, "loss": 1, "risk": 1, "note": 1}),
    ],
)
def test_what_exits_1_can_be_chosen(file, codes):
    for severity, code in codes.items():
        assert run(file, "--fail-on", severity).exit_code == code
        assert run(file, BALLOON, "--fail-on", severity).exit_code == max(code, severity == "note")


def test_a_healthy_guest_opens_with_no_warning():
    text = run(BALLOON).output
    warnings = [line for line in text.splitlines() if line.startswith(("loss ", "risk "))]
    assert warnings == []


def test_the_kernels_are_named_where_the_tree_shows_them():
    for file, policies in ((STALE, ("stale",)), (DENSE, ("tracked",)), (BALLOON, ("tracked",))):
        result = audit(read_dump(file))
        assert result.era.policies == policies
        assert era_of(result.guest, result.walk, result.structures) == result.era
    assert "kernels           Linux 2.6.37's release candidates (stale)" in run(STALE).output


def test_kernels_that_are_not_told_are_said_not_to_be():
    """Of a pipe of more than 64 MiB the pages that would tell are not kept."""
    result = audit(read_once(gzip.decompress(Path(BALLOON).read_bytes())))
    assert "kernels           not told: the pages that would show it" in audit_text(result)
    assert "unpack it into a file" in audit_text(result)
    rows = dict(facts_of(result.to_json()))
    assert rows["Kernels that have such a p2m"].startswith("not told: ")


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_axis_keeps_the_order_and_leaves_out_long_gaps(seed):
    random = np.random.default_rng(seed)
    starts = np.sort(random.integers(0, 1 << 24, random.integers(1, 12)))
    runs = [start + np.arange(random.integers(1, 80)) for start in starts]
    blocks = np.unique(np.concatenate(runs))
    axis = CutAxis(blocks)
    pages = np.sort(np.concatenate([blocks * 64, blocks * 64 + 63]))
    places = axis.place(pages)
    assert np.all(np.diff(places) > 0) and places[0] >= 0 and places[-1] <= 1
    # Inside a stretch a page is as wide as any other; at most six cuts stand between stretches.
    assert np.allclose(places[1::2] - places[::2], 63 / axis.length)
    assert len(axis.cuts) == axis.firsts.size - 1 <= 6
    gaps = np.diff(blocks) - 1
    if np.count_nonzero(gaps > max(blocks.size // 10, 4)) <= 6:
        shown = blocks.size + gaps[gaps <= max(blocks.size // 10, 4)].sum()
        assert axis.length <= 64 * shown * (1 + 0.015 * len(axis.cuts)) + 1


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_the_page_fits_a_screen_of_400_pixels(tmp_path):
    page = tmp_path / "a.html"
    run(STALE, "--html", str(page))
    probe = (
        "<script>addEventListener('load', () => document.title = JSON.stringify({"
        "wide: document.documentElement.scrollWidth, screen: innerWidth,"
        "shown: [...document.querySelectorAll('.narrow')].filter(e => e.offsetWidth).length,"
        "hidden: [...document.querySelectorAll('.wide')].filter(e => e.offsetWidth).length}))"
        "</script>"
    )
    text = page.read_text().replace("default-src 'none'", "script-src 'unsafe-inline'")
    frame = tmp_path / "frame.html"
    (tmp_path / "b.html").write_text(text.replace("</body>", probe + "</body>"))
    # A window is never narrower than 500 pixels; a frame in it is.
    frame.write_text(
        "<iframe src='b.html' width='400' height='900' style='border:0'></iframe><p id='p'></p>"
        "<script>onload = () => setTimeout(() => { p.textContent ="
        " frames[0].document.title }, 300)</script>"
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")
    command = [CHROMIUM, *flags, "--virtual-time-budget=4000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    told = json.loads(done.stdout.split('id="p">')[1].split("</p>")[0])
    assert told["screen"] == 400 and told["wide"] <= 400
    assert told["shown"] == 3 and told["hidden"] == 0
