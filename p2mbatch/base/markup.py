"""What notebooks show of an object: a small table of names and values, safe whatever they hold."""

from __future__ import annotations

import html
from collections.abc import Iterable

from p2mbatch.base.say import one_line


def card(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """Return an HTML table: `title` above, a row for each (name, value)."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{_escaped(name)}</th>'
        f'<td style="text-align:left">{_escaped(value)}</td></tr>'
        for name, value in facts
    )
    return (
        f'<table><caption style="text-align:left;font-weight:bold">{_escaped(title)}</caption>'
        f"<tbody>{rows}</tbody></table>"
    )


def _escaped(value: object) -> str:
    return html.escape(one_line(value))
