"""The report in a real browser: no console errors, every figure shown, sorting and filtering."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.report.sweep import html
from p2mbatch.store.results import SweepResult
from report_support import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BUILD = Path(__file__).resolve().parents[2] / "build"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here; apt-get install chromium"
)

# Runs before the page's own script, so that its errors are seen too.
_WATCH = """<script>
window.problems = [];
addEventListener("error", (e) => problems.push(String(e.message)));
addEventListener("unhandledrejection", (e) => problems.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => problems.push("CSP " + e.blockedURI));
for (const name of ["error", "warn"]) console[name] = (...args) => problems.push(args.join(" "));
</script>"""

# Uses the page as a person would and writes what it saw into the page.
_DRIVE = """<script>
const section = document.querySelector("#table-cells");
const all = (what, from = section) => [...from.querySelectorAll(what)];
const head = (name) => all("th button").find((b) => b.textContent === name);
const column = (name) => all("th").findIndex((th) => th.textContent === name);
const cells = (name) => all("tbody tr").map((tr) => tr.cells[column(name)].textContent);
const seen = {
  problems,
  ready: all("section.table[data-ready=yes]", document).length,
  tables: all("section.table", document).length,
  all: section.dataset.shown,
};
head("stray writes").click(); seen.up = cells("stray writes");
head("stray writes").click(); seen.down = cells("stray writes");
seen.sorted = section.querySelector("th[aria-sort]").getAttribute("aria-sort");
head("memory").click(); seen.memory = cells("memory");
const choice = section.querySelector("select[data-axis=policy]");
seen.options = [...choice.options].map((o) => o.text);
choice.value = [...choice.options].find((o) => o.text === "stale").value;
choice.dispatchEvent(new Event("change"));
seen.filtered = section.dataset.shown; seen.policies = [...new Set(cells("policy"))];
all(".filters button").pop().click(); seen.cleared = section.dataset.shown;
seen.figures = all("figure", document).map((f) => {
  const art = all(".art > svg, .art > img", f).filter((a) => a.getClientRects().length);
  const box = art.length ? art[0].getBoundingClientRect() : { width: 0, height: 0 };
  return [f.id, Math.round(box.width), Math.round(box.height)];
});
seen.width = [document.documentElement.scrollWidth, innerWidth];
const out = document.createElement("pre"); out.id = "seen"; out.textContent = JSON.stringify(seen);
document.body.append(out);
</script>"""


def chromium(tmp_path: Path, *arguments: str) -> str:
    """Run headless Chromium with a profile of its own and return its stdout."""
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    path = tmp_path_factory.mktemp("browser") / "s"
    return run(path, policy=["tracked", "stale"], sparsity=[0, 0.5])


def drive(result: SweepResult, tmp_path: Path, size: str) -> dict[str, Any]:
    page = html(result)
    page = page.replace("<head>", "<head>" + _WATCH, 1).replace("</body>", _DRIVE + "</body>", 1)
    (tmp_path / "driven.html").write_text(page, encoding="utf-8")
    dom = chromium(
        tmp_path, f"--window-size={size}", "--virtual-time-budget=4000", "--dump-dom",
        (tmp_path / "driven.html").as_uri(),
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, "the page's scripts did not come to their end"
    seen: dict[str, Any] = json.loads(unescape(found.group(1)))
    return seen


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_the_page_works_in_a_browser(result: SweepResult, tmp_path: Path, size: str) -> None:
    seen = drive(result, tmp_path, size)
    assert seen["problems"] == []
    assert seen["ready"] == seen["tables"] >= 3
    total = result.frame["cell"].nunique()
    assert seen["all"] == seen["cleared"] == str(total)
    up = [number(text) for text in seen["up"]]
    assert up == sorted(up) and up[0] < up[-1]
    assert [number(text) for text in seen["down"]] == sorted(up, reverse=True)
    assert seen["sorted"] == "descending"
    # Sizes sort as numbers, not as text: 630 MiB before 2 GiB.
    assert list(dict.fromkeys(seen["memory"])) == ["630 MiB", "2 GiB"]
    assert seen["options"] == ["all", "stale", "tracked"]
    assert seen["policies"] == ["stale"]
    frame = result.frame
    assert seen["filtered"] == str(frame[frame["policy"] == "stale"]["cell"].nunique())
    assert len(seen["figures"]) == 7
    for name, width, height in seen["figures"]:
        assert width > 200 and height > 100, name
    assert seen["width"][0] <= seen["width"][1], "the page is wider than the window"


def test_screenshots_are_kept(result: SweepResult, tmp_path: Path) -> None:
    BUILD.mkdir(exist_ok=True)
    (tmp_path / "report.html").write_text(html(result), encoding="utf-8")
    for name, size in (("report-desktop.png", "1280,2400"), ("report-phone.png", "500,2400")):
        target = BUILD / name
        target.unlink(missing_ok=True)
        chromium(
            tmp_path, f"--window-size={size}", f"--screenshot={target}",
            (tmp_path / "report.html").as_uri(),
        )  # fmt: skip
        assert target.stat().st_size > 50_000
    pdf = BUILD / "report.pdf"
    pdf.unlink(missing_ok=True)
    chromium(tmp_path, f"--print-to-pdf={pdf}", (tmp_path / "report.html").as_uri())
    assert pdf.read_bytes().startswith(b"%PDF")
