"""The README where it is read without its source: links are absolute, or no links.

The build asks (`docs/build_hook.py`). `P2MBATCH_DOCS_URL` says where the documentation
site will lie (`make release DOCS_URL=https://…`): links and pictures then lead there. Without it
nobody knows, so links become their text, and pictures their descriptions.
"""

from __future__ import annotations

import posixpath
import re

PAGES = {
    "README.md": "index.html",
    "data/README.md": "data.html",
    "CHANGELOG.md": "changelog.html",
    "CONTRIBUTING.md": "contributing.html",
    "notebooks": "tutorial/01_the_tree.html",
}
"""What the README links to outside of docs/ -> its page on the site."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def absolute(text: str, site: str) -> str:
    """Return `text` with no relative link left: they lead below `site`, or are gone if it is "".

    Links to what the site does not have (the licence, CITATION.cff) are gone either way.
    """

    def lead(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if "://" in target:
            return found[0]
        path, sharp, part = target.partition("#")
        page = PAGES.get(path, "")
        if path.startswith("docs/"):
            page = re.sub(r"\.md$", ".html", path.removeprefix("docs/"))
        if site and page:
            return f"{picture}[{words}]({posixpath.join(site, page)}{sharp}{part})"
        return f"*{words}*" if picture else words

    return _LINK.sub(lead, text)
