"""The report leads on: from counts to cells and stories, from rows to commands, and to a file."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_explain_page import AXE, in_browser
from test_report_browser import CHROMIUM

from p2mbatch.model.explain.meaning import detail_meaning
from p2mbatch.model.fates import ENDS, SURVIVED
from p2mbatch.model.toolstacks import find, names
from p2mbatch.plots import draw
from p2mbatch.report import stories
from p2mbatch.report.costs import LONG_LIFE, costs_of
from p2mbatch.report.glossary import detail_entries
from p2mbatch.report.page import linked
from p2mbatch.report.stories import stories_of
from p2mbatch.report.summary import summary_table
from p2mbatch.report.sweep import html
from p2mbatch.store.fate_counts import FateCounts
from p2mbatch.store.fates import fates, last_rows
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survivors import Survival, summary_frame
from report_support import made_up, run
from sweep_support import p2mbatch


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    path = tmp_path_factory.mktemp("ways") / "it's a run"
    return run(path, policy=["tracked", "stale"], sparsity=[0, 0.5])


@pytest.fixture(scope="module")
def page(result: SweepResult) -> str:
    return html(result)


def test_the_first_cell_of_each_fate_and_policy_is_told(result: SweepResult, page: str) -> None:
    frame = result.frame
    ends = last_rows(frame.assign(fate=fates(frame)))
    found = {(story.fate, story.policy): story for story in stories_of(result, result.compact)}
    expected = ends.drop_duplicates(["fate", "policy"])
    assert len(expected) >= 3
    for row in expected.itertuples():
        story = found[str(row.fate), str(row.policy)]
        assert story.cell == row.cell and story.told is not None
        assert story.told.fate == story.fate and story.told.cell == row.cell
        assert f'id="{story.anchor}"' in page
        assert story.told.conclusion in unescape(page)
        if story.fate != SURVIVED:
            same = (ends["fate"] == story.fate) & (ends["policy"] == story.policy)
            assert story.num_guests == same.sum()
        # The run's name has a quote and a blank: the command must be one to paste.
        assert shlex.split(story.command)[-2:] == [str(result.path), row.cell[:10]]


def test_a_story_is_told_by_options_too(result: SweepResult) -> None:
    story = next(s for s in stories_of(result, result.compact) if s.fate != SURVIVED)
    done = p2mbatch(*shlex.split(story.elsewhere)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cell {story.cell}: {story.policy}")


def test_what_would_take_too_long_has_its_command(
    result: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stories_of(result, result.compact)
    monkeypatch.setattr(stories, "MAX_WORK", 0)
    none = stories_of(result, result.compact)
    assert [s.cell for s in none] == [s.cell for s in told]
    assert all(s.told is None and s.why_not and s.events == [] for s in none)
    monkeypatch.setattr(stories, "MAX_WORK", 1 << 40)
    monkeypatch.setattr(stories, "MAX_STORIES", 2)
    some = [s for s in stories_of(result, result.compact) if s.told]
    # Of each fate the first comes before any second one.
    assert len(some) == 2 == len({s.fate for s in some})
    page = html(result)
    assert "Not told here: it takes long to tell." in page


def test_the_first_that_is_small_enough_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = made_up(200, 3)
    ends = last_rows(frame.assign(fate=fates(frame)))
    work = ends["leaves"].clip(lower=1) * (ends["migration"] + 1)
    most = int(work.quantile(0.5))
    monkeypatch.setattr(stories, "MAX_WORK", most)
    monkeypatch.setattr(stories, "_SMALL", 1 << 40)
    told = stories._first_ends(frame)
    passed_over = 0
    for row in told[told["fate"] != SURVIVED].itertuples():
        same = ends[(ends["fate"] == row.fate) & (ends["policy"] == row.policy)]
        small = same[work[same.index] <= most]
        expected = same["cell"].min() if small.empty else small["cell"].min()
        assert (row.cell, row.num_guests) == (expected, len(same))
        passed_over += expected != same["cell"].min()
    assert passed_over


def test_each_detail_of_the_run_is_in_the_glossary(result: SweepResult, page: str) -> None:
    ends = last_rows(result.frame)
    ended = ends[ends["outcome"] != "ok"]
    entries = detail_entries(result.compact, stories_of(result, result.compact))
    assert sum(entry.num_guests for entry in entries) == len(ended) > 0
    assert {str(d).partition(" ")[0] for d in ended["detail"]} == {
        entry.detail.partition(" ")[0] for entry in entries
    }
    for entry in entries:
        assert entry.sentence.endswith(".") and entry.sentence in unescape(page)


def test_every_check_of_every_toolstack_has_a_meaning() -> None:
    for toolstack in names():
        for check in find(toolstack).texts:
            outcome = "restore-failed" if check == "populate-failed" else "save-failed"
            text = detail_meaning(outcome, f"{check} 3")
            assert text.endswith(".") and ": " not in text


def test_links_in_a_sentence_escape_what_they_link() -> None:
    text = str(linked("<b>: of 1,260 guests 9 stuck, 3 unstuck", {"stuck": "#fate-stuck"}))
    assert text == ('&lt;b&gt;: of 1,260 guests <a href="#fate-stuck">9 stuck</a>, 3 unstuck')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 survived silently corrupted.", "[5 survived silently corrupted|c]."),
        (
            "7 survived (5 of them silently corrupted)",
            "7 survived ([5 of them silently corrupted|c])",
        ),
        ("1 survived (silently corrupted)", "1 survived ([silently corrupted|c])"),
        ("5 survived intact, 2 stuck.", "[5 survived|s] intact, [2 stuck|t]."),
        ("stuck.py: all of 2 guests survived", "stuck.py: all of 2 guests [survived|s]"),
        ("a/stuck, stuck-2, my.stuck, 3 stuck", "a/stuck, stuck-2, my.stuck, [3 stuck|t]"),
    ],
)
def test_a_number_leads_to_those_that_it_counts(text: str, expected: str) -> None:
    ways = {"survived": "s", "silently corrupted": "c", "stuck": "t"}
    shown = re.sub(r'<a href="(.)">(.*?)</a>', r"[\2|\1]", str(linked(text, ways)))
    assert shown == expected
    assert linked(text, {}) == text


def test_policies_of_alike_names_have_stories_of_their_own() -> None:
    names = ["mine.py#aaa", "mine.py#bbb", "a b.py#1", "a-b.py#1", "a-b.py", "tracked"]
    anchors = [stories.anchor_of("stuck", name) for name in names]
    assert len(set(anchors)) == len(names)
    assert anchors[-1] == "story-stuck-tracked"
    assert all(re.fullmatch(r"[\w.-]+", anchor) for anchor in anchors)


def test_policies_of_alike_names_are_told_apart_wherever_they_are_named() -> None:
    names = [f"mine.py#{digit * 16}" for digit in "ab"]
    apart = {"mine.py#aaaaaa", "mine.py#bbbbbb"}
    entries = [Survival(name, 1, 5, 5, 0, dict.fromkeys(ENDS, 0)) for name in names]
    assert set(summary_table(entries).columns[0].values) == apart
    counts = FateCounts({(name, 0, 0, SURVIVED, True): 1 for name in names})
    assert set(summary_frame(counts)["policy"]) == apart
    frame = made_up(60, LONG_LIFE)
    frame["policy"] = np.where(frame["policy"] == "tracked", names[0], names[1])
    told = costs_of(frame)
    assert "mine.py#aaaaaa guests" in told.of_time
    assert any(name in text for name in apart for text in (told.of_holes, told.of_size))
    figure = draw("outcomes", frame, policy=names[1])
    assert "mine.py#bbbbbb" in figure.axes[0].get_title(loc="left")


_DRIVE = """<script>
window.problems = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, (e) => problems.push(String(e.message || e.reason || e.blockedURI)));
addEventListener("load", async () => {
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const cells = document.querySelector("#table-cells");
  const wait = () => new Promise((done) => setTimeout(done, 60));
  const column = (name) => all("th", cells).findIndex((th) => th.textContent === name);
  const values = (name) => all("tbody tr", cells).map((tr) => tr.cells[column(name)].textContent);
  const seen = { problems, width: [document.documentElement.scrollWidth, innerWidth] };

  // From the headline to why: a click to the fate, a click to its story.
  document.querySelector("#answer a").click(); await wait();
  const fate = document.querySelector(location.hash);
  seen.fate = fate.id;
  fate.querySelector("summary").click(); await wait();
  seen.story = fate.querySelector("details.story[open] ol.steps li.failed") !== null;

  // From a count of a scenario to its cells, from a row to the story.
  const count = all("#table-scenarios tbody a").find((a) => a.closest("td").cellIndex > 2);
  const [number, query] = [Number(count.textContent), count.getAttribute("href")];
  count.click(); await wait();
  seen.counted = [number, Number(cells.dataset.shown), new Set(values("what became of it")).size];
  seen.asked = [location.hash, query];
  const way = cells.querySelector("tbody td.kept a");
  way.click(); await wait();
  const opened = document.querySelector(location.hash);
  seen.row = [opened.open, opened.id];
  seen.kept = cells.dataset.shown;

  // Text, and the address that it makes.
  all(".filters > button", cells).pop().click();
  const find = cells.querySelector("input[type=search]");
  find.value = "STALE 2 gib"; find.dispatchEvent(new Event("input"));
  seen.found = [Number(cells.dataset.shown), new Set(values("policy")).size, location.hash];
  const saved = new Promise((done) => {
    URL.createObjectURL = (blob) => { done(blob.text()); return "#"; };
  });
  all(".pager button", cells).pop().click();
  seen.csv = await saved;
  location.hash = "table-cells?cells.memory_bytes=2147483648&cells.sort=-seed"; await wait();
  const sizes = new Set(values("memory")).size;
  seen.taken = [Number(cells.dataset.shown), values("seed"), find.value, sizes];

  // From a tile of a figure to its cells.
  const tile = all("#figure-outcomes g[data-cells]")[0], title = tile.querySelector("title");
  tile.querySelector("path").dispatchEvent(new MouseEvent("click", { bubbles: true }));
  await wait();
  seen.tile = [title.textContent, Number(cells.dataset.shown), values("policy")];

  // A command of a row.
  const writeText = async (text) => { seen.copied = text; };
  Object.defineProperty(navigator, "clipboard", { value: { writeText } });
  cells.querySelector("button.copy").click(); await wait();
  seen.said = document.querySelector("#copied.shown").textContent;

  // However far the table is moved, the fate is to be seen.
  const scroll = cells.querySelector(".scroll"), box = scroll.getBoundingClientRect();
  seen.sticky = [0, 99999].map((x) => {
    scroll.scrollLeft = x;
    const at = cells.querySelector("tbody td.kept").getBoundingClientRect();
    return at.left >= box.left - 1 && at.right <= box.right + 1;
  });
  const role = (a) => (a.querySelector("g[data-cells]") ? "group" : "img");
  seen.named = all("figure .art").every((a) => a.getAttribute("role") === role(a) &&
    a.getAttribute("aria-label") && a.querySelector("svg > title, img[title]"));
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
@pytest.mark.parametrize("width", [400, 1280])
def test_every_way_leads_where_it_says(
    result: SweepResult, page: str, tmp_path: Path, width: int
) -> None:
    seen = in_browser(page, _DRIVE, width, tmp_path)
    assert seen["problems"] == []
    assert seen["width"][0] <= seen["width"][1] == width
    assert seen["fate"].startswith("fate-") and seen["story"]
    number, shown, num_fates = seen["counted"]
    assert number == shown > 0 and num_fates == 1
    assert seen["asked"][0] == seen["asked"][1]
    assert seen["row"][0] and seen["row"][1].startswith("story-")
    assert seen["kept"] == str(shown), "following a story must not lose the filters"
    frame = last_rows(result.frame)
    large = frame[frame["memory_bytes"] == 2 << 30]
    assert seen["found"][:2] == [(large["policy"] == "stale").sum(), 1]
    assert seen["found"][2] == "#table-cells?cells.q=STALE+2+gib"
    lines = seen["csv"].strip().split("\r\n")
    assert len(lines) == 1 + seen["found"][0]
    assert lines[0].startswith("cell,policy,memory_bytes,sparsity,seed,fate,detail")
    assert all(",stale,2147483648," in line for line in lines[1:])
    assert seen["taken"][0] == len(large) and seen["taken"][2:] == ["", 1]
    assert seen["taken"][1] == sorted(seen["taken"][1], reverse=True)
    text, number, policies = seen["tile"]
    assert number == sum(map(int, re.findall(r"(\d+) [a-z]", text.rpartition(": ")[2]))) == 3
    assert set(policies) == {"stale"}
    assert re.fullmatch(r"p2mbatch explain '.*' [0-9a-f]{10}", seen["copied"])
    assert shlex.split(seen["copied"])[-2] == str(result.path)
    assert seen["copied"] in seen["said"]
    assert seen["sticky"] == [True, True]
    assert seen["named"]


_AXE = """<script>
addEventListener("load", async () => {
  const told = [];
  for (const open of [false, true]) {
    document.querySelectorAll("details").forEach((d) => { d.open = open; });
    const { violations, passes } = await axe.run(document);
    const shown = (v) => v.nodes.slice(0, 3).map((n) => n.html.slice(0, 300)).join(" ");
    told.push(...violations.map((v) => v.id + ": " + shown(v)));
    window.passes = passes.length;
  }
  parent.postMessage(JSON.stringify({ told, passes: window.passes }), "*");
});
</script>"""


def under_axe(page: str, width: int, tmp_path: Path, *, dark: bool = False) -> dict[str, Any]:
    script = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    if dark:
        # What the page says for dark screens, said for all.
        page = page.replace("screen and (prefers-color-scheme:dark)", "screen")
        assert "@media screen {" in page
    seen: dict[str, Any] = json.loads(
        json.dumps(in_browser(page, f"<script>{script}</script>{_AXE}", width, tmp_path))
    )
    return seen


@pytest.mark.skipif(CHROMIUM is None or not AXE.exists(), reason="no axe-core: make axe gets it")
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1280, False), (1280, True)])
def test_axe_finds_nothing(page: str, tmp_path: Path, width: int, dark: bool) -> None:
    seen = under_axe(page, width, tmp_path, dark=dark)
    assert seen["told"] == [] and seen["passes"] > 20
