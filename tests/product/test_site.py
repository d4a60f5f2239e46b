"""The documentation site: built with warnings as errors, whole, readable without a network."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
pytest.importorskip("nbconvert", reason="the extra docs is not installed")

import nbformat

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def docs() -> None:
    sys.path.insert(0, str(ROOT / "docs"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without the notebooks' outputs: test_notebooks.py runs those."""
    out = tmp_path_factory.mktemp("site") / "built"
    assert importlib.import_module("build").build(out, quick=True) == []
    return out


def test_every_page_of_docs_is_on_it_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"]
    pages += [f"tutorial/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert len(pages) > 20
    for page in [*pages, "gallery"]:
        assert (site / f"{page}.html").is_file()
        assert f'href="{page}.html"' in front


def test_every_public_name_is_in_the_api(site: Path) -> None:
    hooks = importlib.import_module("hooks")
    for package in hooks.PACKAGES:
        page = (site / hooks.api_name(package)).with_suffix(".html").read_text(encoding="utf-8")
        inner = set(hooks.PACKAGES)
        for name in importlib.import_module(package).__all__:
            if name != "__version__" and f"{package}.{name}" not in inner:
                assert f'id="{package}.{name}"' in page


def test_every_figure_is_in_the_gallery(site: Path) -> None:
    gallery = importlib.import_module("gallery")
    page = (site / "gallery.html").read_text(encoding="utf-8")
    for name in gallery.PLOTS:
        assert (site / f"gallery-{name}.svg").stat().st_size > 2000
        assert f'src="gallery-{name}.svg"' in page


HEAD = '<html><head></head><body id="top"><p id="part">a</p>'
LINKS = {
    '<a href="other.html#part">': "",
    '<a href="#part">': "",
    '<a href="https://example.org/">': "",
    '<a href="other.html#nowhere">': "leads to no part of that page",
    '<a href="#nowhere">': "leads to no part of that page",
    '<a href="missing.html">': "leads to no file",
    '<img src="missing.png">': "leads to no file",
    '<a href="/other.html">': "begins at the server's root",
    '<script src="https://example.org/a.js"></script>': "fetches https://example.org/a.js",
    '<link rel="stylesheet" href="//example.org/a.css">': "fetches //example.org/a.css",
    "<style>@import '//example.org/b.css';</style>": "fetches //example.org/b.css",
    "<style>p { background: url(https://example.org/c.png) }</style>": "fetches https://",
}


@pytest.mark.parametrize("link", LINKS)
def test_links_that_are_wrong_are_found(link: str, tmp_path: Path) -> None:
    links = importlib.import_module("links")
    (tmp_path / "page.html").write_text(f"{HEAD}{link}</body></html>", encoding="utf-8")
    (tmp_path / "other.html").write_text(f"{HEAD}</body></html>", encoding="utf-8")
    found = links.problems(tmp_path)
    assert len(found) == bool(LINKS[link])
    assert all(line.startswith("page.html: ") and LINKS[link] in line for line in found)


def test_a_style_sheet_that_fetches_is_found(tmp_path: Path) -> None:
    links = importlib.import_module("links")
    (tmp_path / "a.css").write_text("p { background: url('https://example.org/d.png') }")
    assert links.problems(tmp_path) == ["a.css: fetches https://example.org/d.png"]


def test_a_chapters_figures_are_files_beside_its_page() -> None:
    tutorial = importlib.import_module("tutorial")
    shown = base64.b64encode(b"a picture").decode()
    cell = nbformat.v4.new_code_cell(
        "plot();", outputs=[nbformat.v4.new_output("display_data", {"image/png": shown})]
    )
    head = nbformat.v4.new_markdown_cell("# 3. A chapter\n\nIts text.")
    text, pictures = tutorial.page(nbformat.v4.new_notebook(cells=[head, cell]), "03_a_chapter")
    ((name, content),) = pictures.items()
    assert content == b"a picture"
    assert text.startswith("# 3. A chapter\n") and "Its text." in text and "plot();" in text
    assert f"![A figure of chapter 3]({name})" in text


AXE = ROOT / "build/axe/node_modules/axe-core/axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_RUN = """<script>addEventListener("load", async () => {
  await new Promise((done) => setTimeout(done, 1000));
  const { violations, passes } = await axe.run(document);
  const out = document.createElement("pre");
  out.id = "seen";
  const told = violations.map((v) => v.id + ": " + v.nodes[0].html.slice(0, 200));
  out.textContent = JSON.stringify([told, passes.length]);
  document.body.append(out);
});</script>"""


@pytest.mark.skipif(CHROMIUM is None or not AXE.exists(), reason="no axe-core: make axe gets it")
@pytest.mark.parametrize("name", ["index", "cookbook", "glossary", "gallery", "api/plots", "cli"])
def test_axe_finds_nothing_on_the_site(site: Path, name: str, tmp_path: Path) -> None:
    page = site / f"{name}.html"
    script = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    text = page.read_text(encoding="utf-8")
    tried = page.with_name("tried.html")
    tried.write_text(text.replace("</head>", f"<script>{script}</script>{_RUN}</head>"), "utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={tmp_path}", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=20000", "--window-size=1280,1000", "--dump-dom", tried.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    tried.unlink()
    found = re.search(r'<pre id="seen"[^>]*>(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    told, passes = json.loads(unescape(found[1]))
    assert told == [] and passes > 15
