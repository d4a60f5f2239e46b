"""`Table`: what a report shows as rows, in HTML, Markdown and text alike."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from p2mbatch.base.say import one_line
from p2mbatch.plots.style import digits, time_text, value_text

MAX_FILTER_VALUES = 60

MAX_STATIC_ROWS = 12
"""Rows that are written into the page itself, for readers without JavaScript."""


class TableColumn(NamedTuple):
    """One column of a page's table."""

    name: str
    title: str
    kind: str
    """How the page writes a value: "text", "number", "size", "time", "share" or "id"; "figure" is
    text of a number, with its unit, that stands to the right."""
    values: list[Any]
    is_axis: bool = False
    """Whether the page offers a filter by it."""
    counts: str = ""
    """The fate whose guests it counts: the page leads from its numbers to them."""
    edges: tuple[float, ...] = ()
    """Where each value begins a range: the ends of all ranges, ascending."""
    labels: Mapping[str, str] = MappingProxyType({})
    """What values that are names are shown as, where that is not the value itself."""

    def text_of(self, value: Any) -> str:
        """Return one of its values as a reader sees it."""
        if isinstance(value, str) and value in self.labels:
            return self.labels[value]
        if self.edges:
            upper = self.edges[self.edges.index(value) + 1]
            return f"{show(self.kind, value)} to {show(self.kind, upper)}"
        return show(self.kind, value)

    @property
    def is_number(self) -> bool:
        """Whether its values stand to the right."""
        return self.kind not in ("text", "id")


class Table(NamedTuple):
    """One table of a page."""

    name: str
    columns: list[TableColumn]
    note: str = ""
    title: str = ""

    @classmethod
    def of_texts(
        cls, name: str, title: str, note: str, columns: str, rows: Sequence[Sequence[str]]
    ) -> Table:
        """Return a table of texts; `columns` are titles, "|" between: two names, then figures."""
        found = []
        for i, heading in enumerate(columns.split("|")):
            kind = "text" if i < 2 else "figure"
            found.append(TableColumn(heading, heading, kind, [row[i] for row in rows]))
        return cls(name, found, note, title)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.columns[0].values) if self.columns else 0

    def to_json(self) -> str:
        """Return the table as compact JSON that is safe inside a script element.

        Repeated values of a column are stored once: "dict" holds them, "values" their indices.
        """
        columns = []
        for column in self.columns:
            entry: dict[str, Any] = {
                "name": column.name,
                "title": column.title,
                "kind": column.kind,
                "axis": column.is_axis,
            }
            if column.counts:
                entry["counts"] = column.counts
            if column.edges:
                entry["edges"] = column.edges
            if others := [(name, text) for name, text in column.labels.items() if name != text]:
                entry["labels"] = others
            distinct = list(dict.fromkeys(column.values))
            if len(distinct) <= max(MAX_FILTER_VALUES, self.num_rows // 8):
                at = {value: index for index, value in enumerate(distinct)}
                entry["dict"] = distinct
                entry["values"] = [at[value] for value in column.values]
            else:
                entry["values"] = column.values
            columns.append(entry)
        return script_json({"columns": columns, "rows": self.num_rows})

    def rows(self, most: int | None = None) -> list[list[str]]:
        """Return the rows, or the first of them, as text."""
        values = (column.values[:most] for column in self.columns)
        shown = zip(self.columns, values, strict=True)
        return [
            list(row)
            for row in zip(*([c.text_of(value) for value in v] for c, v in shown), strict=True)
        ]

    def static_rows(self) -> list[list[str]]:
        """Return the rows that are written into the page itself."""
        return self.rows(MAX_STATIC_ROWS)

    def to_text(self, width: int | None = None) -> str:
        """Return the table for a terminal, its title above it and its note below, if it has any.

        Where it is wider than `width` columns, each row is a paragraph: a line for each value.
        """
        rows = [[column.title for column in self.columns], *self.rows()]
        rows = [[one_line(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
            lines = self._narrow(rows, width)
        else:
            lines = [
                "  ".join(
                    cell.rjust(width) if column.is_number else cell.ljust(width)
                    for cell, width, column in zip(row, widths, self.columns, strict=True)
                ).rstrip()
                for row in rows
            ]
            lines.insert(1, "  ".join("-" * width for width in widths))
        note = textwrap.wrap(self.note, min(width or 100, 100))
        return "\n".join([*filter(None, [self.title]), *lines, *note])

    def _narrow(self, rows: list[list[str]], width: int) -> list[str]:
        """Return the rows as paragraphs, the first value of each above the others' titles."""
        titles = rows[0]
        lead = max(map(len, titles[1:]), default=0)
        lines: list[str] = []
        for row in rows[1:]:
            lines += textwrap.wrap(f"{titles[0]} {row[0]}", width, subsequent_indent="  ")
            for title, cell in zip(titles[1:], row[1:], strict=True):
                lines += textwrap.wrap(
                    f"{title:{lead}}  {cell}", width, initial_indent="  ",
                    subsequent_indent=" " * min(lead + 4, width // 2),
                )  # fmt: skip
        return lines


_MOST_EXACT = 2**53
"""The largest whole number up to which a script's numbers are exact."""


def script_json(data: Any) -> str:
    """Return compact JSON that may stand inside a script element.

    Control characters in its texts are shown as everywhere, whole numbers that a script would round
    are texts.
    """
    text = json.dumps(_for_script(data), separators=(",", ":"))
    # "</script>" or "<!--" inside a message would end or hide the element.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _for_script(data: Any) -> Any:
    if isinstance(data, str):
        return one_line(data)
    if isinstance(data, int):
        return data if -_MOST_EXACT <= data <= _MOST_EXACT else str(data)
    if isinstance(data, Mapping):
        return {one_line(key): _for_script(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_for_script(value) for value in data]
    return data


def show(kind: str, value: Any) -> str:
    """Return one value as a reader sees it; the page's script writes the same."""
    if value is None:
        return "–"
    if kind == "size":
        return value_text("memory_bytes", value)
    if kind == "share":
        return f"{digits(value * 100)} %"
    if kind == "time":
        return time_text(value)
    if kind == "number":
        # The script can't tell a whole number from a float that is whole.
        return f"{int(value):,}" if float(value).is_integer() else digits(value, 4)
    return str(value)
