"""Pydantic's complaints in words of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

_WORDINGS: Final = {
    "greater_than": "should be above {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be below {lt}",
    "less_than_equal": "should be at most {le}",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "string_type": "should be text",
}
"""Pydantic's kinds of complaint, as they are said of a number or a name here."""


def wording(error: Mapping[str, Any]) -> str:
    """Return what one of pydantic's complaints says: what would be right, and what was there."""
    text: str = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "value_error":
        return text
    # Pydantic's own texts say what is right but not what was there.
    known = _WORDINGS.get(error["type"])
    text = known.format(**error.get("ctx", {})) if known else f"{text[0].lower()}{text[1:]}"
    return f"{text}, not {error['input']!r}"


def describe(error: ValidationError) -> str:
    """Return the first complaint of a pydantic error as one line: field, what is wrong, value."""
    found = [dict(one) for one in error.errors(include_url=False)]
    # A name that is wrong tells more than what is missing for it.
    first: dict[str, Any] = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place}: is required"
    if first["type"] == "extra_forbidden":
        return f"{place}: is not a field of a scenario"
    return f"{place}: {wording(first)}" if place else wording(first)
