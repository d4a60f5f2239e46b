"""The site's links, looked at after it was built: `python docs/links.py DIR`.

Every link of a page leads to a file of the site, and to a part of it that is there; and no page
fetches anything from elsewhere, so that it can be read without a network.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_NOT_FETCHED = {"canonical", "prev", "next", "edit"}
_URL = r"((?:https?:)?//[^)'\"]+)"
_IN_CSS = re.compile(rf"url\(\s*['\"]?{_URL}|@import\s+['\"]{_URL}")


class _Page(HTMLParser):
    """What a page links to, what it fetches, and what of it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = [next(filter(None, found)) for found in _IN_CSS.findall(text)]
        self.parts: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what one tag says."""
        values = {name: value or "" for name, value in attrs}
        self.parts |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        fetched = values.get(_FETCHED.get(tag, ""))
        if fetched and values.get("rel") not in _NOT_FETCHED:
            self.fetched.append(fetched)


def problems(site: Path) -> list[str]:
    """Return what is wrong with the links of the pages below `site`, a line each."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    found: list[str] = []
    for path, page in sorted(pages.items()):
        name = path.relative_to(site.resolve())
        found += [f"{name}: fetches {url}" for url in page.fetched if _elsewhere(url)]
        inside = [url for url in page.fetched if not _elsewhere(url)]
        for link in [*page.links, *inside]:
            if said := _wrong(link, path, pages):
                found.append(f"{name}: {link}: {said}")
    for path in sorted(site.rglob("*.css")):
        for url in _IN_CSS.findall(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)}: fetches {''.join(url)}")
    return found


def _elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def _wrong(link: str, path: Path, pages: dict[Path, _Page]) -> str:
    """Return what is wrong with a link of the page at `path`; empty where nothing is."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https", "mailto", "data") or parts.netloc:
        return ""
    if parts.path.startswith("/"):
        # Of the page that a server shows where there is none: its links are the site's own.
        return "" if path.name == "404.html" else "begins at the server's root"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "leads to no file"
    # What a report's script reads from the address is no part of its page.
    fragment = unquote(parts.fragment).partition("?")[0]
    if fragment and target in pages and fragment not in pages[target].parts:
        return "leads to no part of that page"
    return ""


def main(folder: str) -> None:
    """Say what is wrong with the site in `folder`; exit 1 where something is."""
    found = problems(Path(folder))
    for line in found:
        print(line, file=sys.stderr)
    num = len(list(Path(folder).rglob("*.html")))
    print(f"{num} pages, {len(found)} links that are wrong")
    if found or not num:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
