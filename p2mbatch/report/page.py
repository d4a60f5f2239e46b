"""Self-contained HTML pages: templates, figures as elements of the page, writing in one step."""

from __future__ import annotations

import base64
import html as html_escape
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2mbatch.base.files import write_whole
from p2mbatch.base.say import markdown, one_line, printable
from p2mbatch.model.fates import CORRUPTED, SURVIVED
from p2mbatch.plots.style import style
from p2mbatch.plots.tips import with_tips

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_TEMPLATES = Path(__file__).with_name("templates")

_MAX_SVG_BYTES = 500_000
"""A larger figure is put into the page as PNG."""


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, so that a reader never sees half of it.

    Control characters become visible: a page is looked at in terminals too.

    Raises `InputError` where that can't be done.
    """
    write_whole(path, lambda file: file.write(printable(text).encode()))


def inline(figure: Figure, name: str, title: str) -> str:
    """Return `figure` as an svg element with ids of its own, or as an image where it is large.

    `title` says what it shows.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    if len(text) > _MAX_SVG_BYTES:
        return _inline_png(figure, title)
    text = text[text.index("<svg") :]
    text = with_tips(text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # Several figures share a page: every id and every reference to one gets the figure's name.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="|href="|url\()#', rf"\g<1>#{name}-", text)
    text = text.replace(">", f"><title>{html_escape.escape(title)}</title>", 1)
    return re.sub(r"\s*\n\s*", "\n", text)


def _inline_png(figure: Figure, title: str) -> str:
    raw = io.BytesIO()
    with style():
        figure.savefig(raw, format="png", dpi=130)
    data = base64.b64encode(raw.getvalue()).decode()
    alt = html_escape.escape(title)
    return f'<img alt="{alt}" title="{alt}" src="data:image/png;base64,{data}">'


# --- templates ---------------------------------------------------------------------------------


def template(name: str) -> Any:
    """Return the jinja2 template `name` of p2mbatch; values are escaped in those of HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
    )
    environment.filters["markdown"] = markdown
    environment.filters["one_line"] = one_line
    environment.filters["fenced"] = fenced
    environment.filters["linked"] = linked
    return environment.get_template(name)


def linked(text: str, ways: dict[str, str]) -> Any:
    """Return `text` as HTML in which numbers of guests lead on: "12 stuck" to `ways["stuck"]`.

    A number that other fates follow in brackets is of more than one place and leads nowhere.
    """
    from markupsafe import Markup, escape

    if not ways:
        return Markup(escape(text))
    # Of survivors with their damage behind them only the damaged have a place of that name.
    fates = (
        rf"{SURVIVED}(?! \(| {CORRUPTED})" if fate == SURVIVED else re.escape(str(escape(fate)))
        for fate in sorted(ways, key=len, reverse=True)
    )
    # A word within a file's name is none.
    pattern = (
        rf"(?:(?<![\w.,])\d[\d,]* (?:of them )?)?(?:{SURVIVED} (?={CORRUPTED}))?"
        rf"(?<![\w./-])(?P<fate>{'|'.join(fates)})(?![\w-]|\.\w)"
    )
    own = {str(escape(fate)): escape(way) for fate, way in ways.items()}

    def link(found: re.Match[str]) -> str:
        return f'<a href="{own[found["fate"]]}">{found[0]}</a>'

    return Markup(re.sub(pattern, link, str(escape(text))))


def fenced(text: str) -> str:
    """Return `text` as a block of Markdown that nothing in it can end."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{text}\n{fence}"


def asset(name: str) -> str:
    """Return the text of a style sheet or script of p2mbatch."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")
