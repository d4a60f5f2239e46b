"""Pages without a script under axe-core: audits and benchmarks, narrow and wide, light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_explain_page import AXE
from test_report_browser import CHROMIUM
from test_report_ways import under_axe

from p2mbatch import bench
from p2mbatch.base.sizes import MIB
from p2mbatch.dumps import audit_guest, read_dump
from p2mbatch.report.audit import write_page
from p2mbatch.report.bench import write_html

DATA = Path(__file__).resolve().parents[2] / "data"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')

FILES = ("dumps/dense-64.core.gz", "dumps/stale-64.core.gz", "field/case-41-linear.xl.gz",
         "field/case-29-debugfs-prompt.txt.gz", "field/case-44-live-lost-tail.core.gz")  # fmt: skip


WITH_AXE = pytest.mark.skipif(
    CHROMIUM is None or not AXE.exists(), reason="no axe-core: make axe gets it"
)

SIGHTS = [(400, False), (1280, True)]
"""Widths, and whether the screen is dark."""


def nothing_wrong(path: Path, width: int, tmp_path: Path, dark: bool) -> None:
    # The page forbids scripts: axe's own is let in.
    page = POLICY.sub("", path.read_text(encoding="utf-8"))
    # No label is a formula that was left as it is, no number is none.
    assert "mathdefault" not in page and ">nan" not in page and "exponent nan" not in page
    seen = under_axe(page, width, tmp_path, dark=dark)
    assert seen["told"] == [] and seen["passes"] > 10


@WITH_AXE
@pytest.mark.parametrize(("width", "dark"), SIGHTS)
@pytest.mark.parametrize("file", FILES)
def test_axe_finds_nothing_on_an_audits_page(
    file: str, width: int, dark: bool, tmp_path: Path
) -> None:
    guest = read_dump(str(DATA / file), word_bytes=8 if "debugfs" in file else None)
    write_page(audit_guest(guest), tmp_path / "a.html")
    nothing_wrong(tmp_path / "a.html", width, tmp_path, dark)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return bench.run([64 * MIB], effort=bench.SMOKE, compile_times=False)


@WITH_AXE
@pytest.mark.parametrize(("width", "dark"), SIGHTS)
def test_axe_finds_nothing_on_a_benchs_page(
    measured: dict[str, Any], width: int, dark: bool, tmp_path: Path
) -> None:
    write_html(measured, tmp_path / "b.html")
    nothing_wrong(tmp_path / "b.html", width, tmp_path, dark)


@WITH_AXE
@pytest.mark.parametrize("what", ["<img src='a.png'>", "<p style='color:#eee'>hard to read</p>"])
def test_what_is_wrong_is_found(what: str, tmp_path: Path) -> None:
    write_page(audit_guest(read_dump(str(DATA / FILES[0]))), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8").replace("<main>", f"<main>{what}")
    assert under_axe(POLICY.sub("", text), 1280, tmp_path)["told"] != []
