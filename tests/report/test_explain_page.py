"""A told life as a page: everything is in it, it works by keys alone."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from test_report_browser import CHROMIUM, chromium

from p2mbatch.model.explain.story import Explanation
from p2mbatch.model.explain.text import step_text
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.trace_file import load_trace
from p2mbatch.report.explain import write_page

TRACE = Path(__file__).resolve().parents[2] / "data/traces/crafted-hit-top-mfn-32-0.json.gz"

_DRIVE = """<script>
addEventListener("load", () => {
  const lit = () => document.querySelector("li[aria-current=step]").id;
  const key = (name) => dispatchEvent(new KeyboardEvent("keydown", { key: name }));
  const seen = { begin: lit(), width: [document.documentElement.scrollWidth, innerWidth] };
  key("Home"); seen.home = lit(); key("ArrowRight"); seen.right = [lit(), location.hash];
  seen.text = document.querySelector("#said").textContent;
  key("ArrowLeft"); seen.left = lit(); key("End"); seen.end = lit();
  document.querySelector("#back").click(); seen.back = lit();
  document.querySelector("ol.steps a[href='#e1s3']").click();
  setTimeout(() => {
    seen.clicked = lit();
    seen.drawn = document.querySelectorAll("#before .strip i").length;
    // What is left to say is found by Tab: a link or a button for each thing that can be done.
    const steps = document.querySelectorAll("ol.steps a[href]").length;
    seen.focus = [steps, document.querySelectorAll("ol.steps li").length];
    parent.postMessage(JSON.stringify(seen), "*");
  }, 50);
});
</script>"""

# Looks at the page at its first fault and at its end, as a person does who steps through it.
_AXE = """<script>
addEventListener("load", async () => {
  const told = [];
  for (const key of ["Home", "End"]) {
    const { violations } = await axe.run(document);
    told.push(...violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html).join(" ")));
    dispatchEvent(new KeyboardEvent("keydown", { key }));
  }
  const done = await axe.run(document);
  told.push(...done.violations.map((v) => v.id));
  parent.postMessage(JSON.stringify({ told, passes: done.passes.length }), "*");
});
</script>"""

_FRAME = """<!DOCTYPE html><title>frame</title>
<iframe src="inner.html" width="WIDTH" height="900" style="border:0"></iframe>
<script>
addEventListener("message", (event) => {
  const out = document.createElement("pre");
  out.id = "seen"; out.textContent = event.data;
  document.body.append(out);
});
</script>"""
AXE = Path(__file__).resolve().parents[2] / "build/axe/node_modules/axe-core/axe.min.js"


def in_browser(page: str, script: str, width: int, tmp_path: Path) -> dict[str, Any]:
    """Run a script in the page, shown `width` pixels wide; return what it says.

    In a frame: a browser's own window is not made narrower than 500 pixels.
    """
    text = page.replace("</head>", script + "</head>")
    (tmp_path / "inner.html").write_text(text, encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(_FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    html = chromium(
        tmp_path, "--virtual-time-budget=20000", "--dump-dom", "--window-size=1400,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND", frame.as_uri(),
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', html, re.DOTALL)
    assert found, html[-500:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


@pytest.fixture(scope="module")
def told() -> Explanation:
    return explain_trace(load_trace(str(TRACE)), pictures=True)


@pytest.fixture(scope="module")
def page(told: Explanation, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "explain.html"
    write_page(told, path)
    return path.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


def test_every_step_is_in_the_page_with_its_pictures(told: Explanation, page: str) -> None:
    data = data_of(page)
    steps = [(f"e{e}s{i}", s) for e, story in enumerate(told.events)
             for i, s in enumerate(story.steps)]  # fmt: skip
    assert list(data["steps"]) == [name for name, _ in steps]
    text = unescape(page)
    assert all(step_text(step) in text for _, step in steps)
    for before, after, _ in data["steps"].values():
        assert 0 <= before <= after < len(data["pictures"])


def test_a_stray_write_is_seen_in_the_pictures(told: Explanation, page: str) -> None:
    data = data_of(page)
    name = next(f"e1s{i}" for i, s in enumerate(told.events[1].steps) if s.stray_writes)
    before, after, changes = data["steps"][name]

    def hits(picture: int) -> list[int]:
        return [p["pfn"] for p in data["pictures"][picture]["map"] if p["name"] == "hit"]

    assert hits(before) == [] and hits(after) == [changes[0][1]]


def test_a_page_loads_nothing_and_shows_names_as_they_are(
    told: Explanation, page: str, tmp_path: Path
) -> None:
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    odd = dataclasses.replace(told, name="</script><b onclick=x>")
    write_page(odd, tmp_path / "odd.html")
    text = (tmp_path / "odd.html").read_text(encoding="utf-8")
    assert "<b onclick" not in text and "&lt;b onclick=x&gt;" in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
@pytest.mark.parametrize("width", [400, 1280])
def test_keys_and_buttons_lead_through_the_life(page: str, tmp_path: Path, width: int) -> None:
    seen = in_browser(page, _DRIVE, width, tmp_path)
    assert seen["home"] == "e0s0" and seen["right"] == ["e0s1", "#e0s1"]
    assert "xen_build_dynamic_phys_to_machine()" in seen["text"]
    assert seen["left"] == "e0s0" and seen["end"].startswith("e2s")
    assert int(seen["back"][3:]) == int(seen["end"][3:]) - 1
    assert seen["clicked"] == "e1s3" and seen["drawn"] > 0
    assert seen["begin"].startswith("e1s")
    assert seen["focus"][0] == seen["focus"][1] > 0
    assert seen["width"][0] <= seen["width"][1] == width


@pytest.mark.skipif(CHROMIUM is None or not AXE.exists(), reason="no axe-core: make axe gets it")
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_nothing(page: str, tmp_path: Path, width: int) -> None:
    script = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    seen = in_browser(page, f"<script>{script}</script>{_AXE}", width, tmp_path)
    assert seen["told"] == [] and seen["passes"] > 20
