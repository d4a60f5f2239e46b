"""Marks of a report's figures by keys and twice, rows of ranges, numbers as Python has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_explain_page import in_browser
from test_report_browser import CHROMIUM

from p2mbatch.model.fates import CORRUPTED
from p2mbatch.report import places
from p2mbatch.report.page import asset
from p2mbatch.report.sweep import html
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.results import SweepResult
from report_support import run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

SIZES = ["256MiB", "300MiB", "512MiB", "630MiB", "1GiB", "1536MiB", "2GiB", "3GiB"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    path = tmp_path_factory.mktemp("marks") / "run"
    return run(path, memory=SIZES, policy=["tracked", "stale"])


_KEYS = """<script>
addEventListener("load", async () => {
  const wait = () => new Promise((done) => setTimeout(done, 80));
  const cells = document.querySelector("#table-cells");
  const figure = document.querySelector("#figure-outcomes");
  const click = (what) => what.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  const label = () => document.activeElement.getAttribute("aria-label");
  const marks = [...figure.querySelectorAll("g[data-cells]")];
  const key = (name) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const seen = { stops: marks.filter((m) => m.tabIndex === 0).length, num: marks.length };
  seen.named = marks.every((m) => m.getAttribute("role") === "link");
  marks.find((m) => m.tabIndex === 0).focus();
  const visited = new Set();
  for (let i = 0; i < 40; i++) { visited.add(label()); key("ArrowRight"); }
  seen.visited = visited.size;
  seen.still = marks.filter((m) => m.tabIndex === 0).length;
  key("Enter"); await wait();
  seen.entered = [label(), cells.dataset.shown, location.hash];
  // Away and to the same again, by a click: the address is the one that there is.
  scrollTo(0, 0);
  click(document.activeElement.querySelector("path")); await wait();
  seen.again = [scrollY > 0, location.hash];
  // Points lead to theirs.
  const point = document.querySelector("#figure-survival g[data-cells]");
  click(point.querySelector("use, path")); await wait();
  seen.point = [point.getAttribute("aria-label"), cells.dataset.shown];
  // The tree says whose it is, and where that is told.
  const tree = document.querySelector("#figure-tree figcaption");
  const way = tree.querySelector("a");
  const copied = tree.querySelector("button").dataset.copy;
  seen.tree = [tree.textContent, way.getAttribute("href"), copied];
  way.click(); await wait();
  seen.story = document.querySelector(location.hash).open;
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""


def test_marks_are_reached_by_keys_and_more_than_once(result: SweepResult, tmp_path: Path) -> None:
    seen = in_browser(html(result), _KEYS, 1280, tmp_path)
    assert seen["stops"] == seen["still"] == 1 and seen["named"]
    assert seen["num"] >= len(SIZES) and seen["visited"] >= len(SIZES)
    label, shown, there = seen["entered"]
    counts, _, cell = label.rpartition(": ")[2].partition("; first cell ")
    assert int(shown) == sum(map(int, re.findall(r"(\d+) [a-z]", counts))) > 0
    assert result.scenario(cell)
    assert seen["again"] == [True, there]
    assert int(seen["point"][1]) > 0 and "first cell " in seen["point"][0]
    caption, way, command = seen["tree"]
    cell = command.split()[-1]
    assert f"It is cell {cell}: " in caption and way.startswith("#story-") and seen["story"]
    assert result.scenario(cell).policy == "stale"


_RANGES = """<script>
addEventListener("load", async () => {
  const wait = () => new Promise((done) => setTimeout(done, 20));
  const table = document.querySelector("#table-scenarios");
  const cells = document.querySelector("#table-cells");
  const values = (name) => {
    const at = [...cells.querySelectorAll("th")].findIndex((th) => th.textContent === name);
    return [...cells.querySelectorAll("tbody tr")].map((tr) => tr.cells[at].textContent);
  };
  const seen = { rows: [], counts: [] };
  for (const tr of table.querySelectorAll("tbody tr"))
    seen.rows.push([...tr.cells].map((td) => td.textContent));
  const links = [...table.querySelectorAll("tbody a")];
  for (const a of links) {
    const href = a.getAttribute("href"), number = Number(a.textContent);
    location.hash = href; await wait();
    const fates = new Set(values("what became of it")).size;
    seen.counts.push([number, Number(cells.dataset.shown), fates, location.hash === href]);
  }
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""


def test_a_row_of_ranges_leads_to_its_own_cells(
    result: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_SCENARIOS", 7)
    monkeypatch.setattr(places, "_MAX_VALUES", 3)
    seen = in_browser(html(result), _RANGES, 1280, tmp_path)
    assert len(seen["rows"]) <= 7 and all(" to " in row[1] for row in seen["rows"])
    assert len(seen["counts"]) > len(seen["rows"])
    for number, shown, num_fates, kept in seen["counts"]:
        assert number == shown > 0 and num_fates == 1 and kept
    # Each cell is in one of them: none is at an end that two rows share.
    assert sum(number for number, *_ in seen["counts"]) == result.progress.num_finished
    assert CORRUPTED in html(result)


VALUES = [0.0, 1.0, 12.5, 99.95, 999.4, 999.5, 1000.0, 1023.4, 1023.5, 1125.0, 2.5, 0.125, 0.0125,
          1.125, 10.05, 123456.0, 1234567.5, 9.995e6, 1.0005e9, 3.6e12, 7.2e15, 1e-4, 2.5e-7,
          1.5e-9, 12.345, 0.3333333, 1048576.0, 1047552.0, 1.0e15]  # fmt: skip


def test_the_script_writes_numbers_as_python_does(tmp_path: Path) -> None:
    kinds = ("share", "time", "size", "number")
    table = Table("numbers", [TableColumn(kind, kind, kind, VALUES) for kind in kinds])
    heads = "".join(f"<th>{kind}</th>" for kind in kinds)
    page = f"""<!DOCTYPE html><html><head><title>n</title></head><body>
<section class="table" id="table-numbers"><div class="scroll"><table><thead><tr>{heads}</tr></thead>
<tbody></tbody></table></div><script type="application/json">{table.to_json()}</script></section>
<script>{asset("report.js")}</script></body></html>"""
    drive = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify(
      [...document.querySelector("tbody").rows].map((tr) => [...tr.cells].map((c) => c.textContent))
    ), "*"));</script>"""
    written = in_browser(page, drive, 1280, tmp_path)
    assert written == table.rows()
    assert written[6][0] == "100000 %" and written[7][2] == "1023 B"
