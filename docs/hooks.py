"""What MkDocs asks while it builds the site: pages from outside of docs, navigation, links.

Pages of the site are those of docs/, the Markdown files of the repository that they link to, what
`docs/build.py` made (`MADE`: the tutorial and the gallery), and one page of the API for each public
package.
"""

from __future__ import annotations

import importlib
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MADE = ROOT / "build" / "docs"

OUTSIDE = {
    "data.md": "data/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site -> where they are in the repository."""

PACKAGES = ("p2mbatch", "p2mbatch.plots", "p2mbatch.report", "p2mbatch.dumps", "p2mbatch.bench",
            "p2mbatch.linux")  # fmt: skip
"""The public packages, each a page of the API."""

REST = "*.md"
"""In the navigation: the pages that nothing else names."""

_SEARCH = 'data-md-component="search" role="dialog"'

_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def api_page(package: str) -> str:
    """Return the page of a package's public names, as mkdocstrings reads it."""
    face = importlib.import_module(package)
    inner = [name for name in PACKAGES if name.startswith(f"{package}.")]
    names = [n for n in face.__all__ if n != "__version__" and f"{package}.{n}" not in inner]
    about = (face.__doc__ or "").strip()
    parts = [f"::: {package}.{name}" for name in names]
    return f"# {package}\n\n{about}\n\n" + "\n\n".join(parts) + "\n"


def api_name(package: str) -> str:
    """Return the source of a package's page on the site."""
    return f"api/{package.rpartition('.')[2]}.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, source in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for package in PACKAGES:
        files.append(File.generated(config, api_name(package), content=api_page(package)))
    for path in sorted(MADE.rglob("*")):
        if path.is_file():
            name = path.relative_to(MADE).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    config.nav = whole_nav(config.nav or [], files)
    return files


def whole_nav(nav: list[Any], files: Files) -> list[Any]:
    """Return the navigation with folders and `REST` written out."""
    pages = [file.src_uri for file in files.documentation_pages()]
    named = set(_named(nav))
    rest = [
        page
        for page in sorted(pages)
        if page not in named and not any(page.startswith(n) for n in named if n.endswith("/"))
    ]
    return _written_out(nav, pages, rest)


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [name for value in values for name in _named(value)]


def _written_out(nav: list[Any], pages: list[str], rest: list[str]) -> list[Any]:
    found: list[Any] = []
    for entry in nav:
        if entry == REST:
            found += rest
        elif isinstance(entry, dict):
            ((title, inner),) = entry.items()
            if isinstance(inner, list):
                inner = _written_out(inner, pages, rest)
            elif inner.endswith("/"):
                # In the order in which they were added.
                inner = [page for page in pages if page.startswith(inner)]
            found.append({title: inner})
        else:
            found.append(entry)
    return found


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Name what the theme leaves without a name, and let keys scroll what is wider than a page."""
    output = output.replace(_SEARCH, f'{_SEARCH} aria-label="Search"')
    return output.replace("<pre><span></span><code>", '<pre tabindex="0"><span></span><code>')


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links that leave docs/ in the repository to their pages on the site."""
    source = page.file.src_uri
    place = OUTSIDE.get(source, f"docs/{source}")

    def lead(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), found[2]))
        return found[1] + site_link(target, source, found[2]) + found[3]

    return _LINK.sub(lead, markdown)


def site_link(target: str, source: str, link: str) -> str:
    """Return the link from the page `source` to what is at `target` in the repository."""
    inside = {there: here for here, there in OUTSIDE.items()} | {"README.md": "index.md"}
    inside["notebooks"] = inside["notebooks/README.md"] = "tutorial/01_the_tree.md"
    page = inside.get(target)
    if page is None:
        if source not in OUTSIDE:
            return link
        page = target.removeprefix("docs/")
    return posixpath.relpath(page, posixpath.dirname(source) or ".")
