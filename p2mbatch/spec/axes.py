"""Axes: the values that one field of a scenario takes in a spec, written as lists and ranges.

A range with a step is a list written short: "1GiB..512GiB x2" doubles, "0..0.9 +0.1" adds. Steps
are taken in decimal, so 0.3 is 0.3 and has the digest of a 0.3 written out. A range without a step
counts by one for whole numbers; for sizes and fractions it is a `Span`, which only a sample can
draw from.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import MIB, format_size, parse_size
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.wording import describe
from p2mbatch.model.policies import is_reference

SIZE_FIELDS = frozenset(
    {
        "memory_bytes",
        "host_memory_bytes",
        "neighbour_memory_bytes",
        "hole_bytes",
        "hole_at_bytes",
        "grow_bytes",
        "churn_bytes",
        "balloon_bytes",
    }
)

FRACTION_FIELDS = frozenset({"sparsity", "neighbours"})

CHOICE_FIELDS = frozenset(
    {
        *("layout", "policy", "xen", "stuck", "toolstack", "linux", "told", "grow_where"),
        *("p2m_vaddr", "live"),
    }
)

HOSTS = "hosts"
"""The field whose every value is a list: a range in it belongs to one host, and is no axis."""

MAX_AXIS_VALUES = 1_000_000
"""Of a list or a stepped range; seeds are counted, not listed, and may be more."""

_RANGE = re.compile(r"\s*([^\s.]\S*?)\s*\.\.\s*(\S+?)\s*(?:\s([x*+])\s*(\S+)\s*)?")


def _adapter(name: str) -> TypeAdapter[Any]:
    """Return the scenario's own check of its field `name`, to be used on one value."""
    field = Scenario.model_fields[name]
    checked: Any = Annotated[cast(Any, field.annotation), *field.metadata, name]
    return TypeAdapter(checked)


_ADAPTERS: dict[str, TypeAdapter[Any]] = {name: _adapter(name) for name in FIELDS}


class Span(NamedTuple):
    """All values from `low` to `high`, of which a sample draws some."""

    low: int | float
    high: int | float


Axis = Sequence[Any] | Span


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a number that a range can use")
    return number


def _size(text: str) -> Decimal:
    try:
        return Decimal(parse_size(text))
    except InputError as error:
        raise ValueError(str(error).removeprefix("size: ")) from None


def _whole(number: Decimal, name: str) -> int:
    if number != number.to_integral_value():
        raise ValueError(f"{number} is not a whole number, and {name} is counted")
    return int(number)


def _check(name: str, value: Any) -> Any:
    """Return `value` as the scenario's field `name` has it; raises ValueError saying why not."""
    if isinstance(value, bool) and name != "live":
        raise ValueError(f"{str(value).lower()} is not a value of {name}")
    if name in SIZE_FIELDS and not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a size: use a number and a unit, such as 128GiB")
    if name == "policy" and isinstance(value, str) and is_reference(value):
        # A store's spec can be read where the file is not; its cells can't be run there.
        return value
    try:
        checked = _ADAPTERS[name].validate_python(value)
    except ValidationError as error:
        raise ValueError(describe(error)) from None
    if name in SIZE_FIELDS and checked % PAGE_BYTES:
        raise ValueError(
            f"{value!r} is not whole pages of {PAGE_BYTES} bytes; "
            f"{format_size(checked - checked % PAGE_BYTES)} is"
        )
    return checked


def _steps(low: Decimal, high: Decimal, sign: str, step: Decimal) -> list[Decimal]:
    if sign == "+" and step <= 0:
        raise ValueError(f"the step +{step} does not go up")
    if sign != "+" and (step <= 1 or low <= 0):
        raise ValueError("a range with x needs a first value above 0 and a factor above 1")
    values = []
    value = low
    while value <= high:
        values.append(value)
        if len(values) > MAX_AXIS_VALUES:
            raise ValueError(f"more than {MAX_AXIS_VALUES} values in one range")
        value = value + step if sign == "+" else value * step
    return values


def _range(name: str, low_text: str, high_text: str, sign: str | None, step_text: str) -> Axis:
    read: Callable[[str], Decimal] = _size if name in SIZE_FIELDS else _number
    low, high = read(low_text), read(high_text)
    if low > high:
        raise ValueError(f"the range {low_text}..{high_text} runs backwards")
    if sign is not None:
        step = read(step_text) if sign == "+" else _number(step_text)
        values = _steps(low, high, sign, step)
        if name in SIZE_FIELDS:
            # A factor such as x1.5 leaves the pages; the nearest page below is what is meant.
            return [_check(name, int(v) - int(v) % PAGE_BYTES) for v in values]
        if name in FRACTION_FIELDS:
            return [_check(name, float(v)) for v in values]
        return [_check(name, _whole(v, name)) for v in values]
    if name in SIZE_FIELDS or name in FRACTION_FIELDS:
        ends = (int(low), int(high)) if name in SIZE_FIELDS else (float(low), float(high))
        return Span(_check(name, ends[0]), _check(name, ends[1]))
    first, last = _whole(low, name), _whole(high, name)
    _check(name, first)
    _check(name, last)
    if name == "word_bytes":
        raise ValueError("word_bytes is 8 or 4: write a list")
    return range(first, last + 1)


def parse_axis(name: str, raw: Any) -> Axis:
    """Return the values that `raw` (one value, a range, or a list of both) names for field `name`.

    Equal values are kept once, in the order in which they came first. Raises ValueError with one
    line that says what is wrong.
    """
    if name == HOSTS:
        return _parse_hosts(raw)
    if isinstance(raw, str) and ".." in raw:
        if name in CHOICE_FIELDS:
            raise ValueError(f"{raw!r} is no value: {name} has no ranges, so write a list")
        match = _RANGE.fullmatch(raw)
        if match is None:
            raise ValueError(
                f'{raw!r} is not a range: write "first..last", "first..last +step" '
                'or "first..last xfactor"'
            )
        return _range(name, *match.groups())
    if not isinstance(raw, list | tuple | range):
        value: Any = raw
        if isinstance(raw, str) and name not in SIZE_FIELDS and name not in CHOICE_FIELDS:
            number = _number(raw.strip())
            value = float(number) if name in FRACTION_FIELDS else _whole(number, name)
        elif isinstance(raw, str):
            value = raw.strip()
        return [_check(name, value)]
    if not raw:
        raise ValueError("an empty list names no value")
    if len(raw) > MAX_AXIS_VALUES:
        raise ValueError(f"more than {MAX_AXIS_VALUES} values in one list")
    values: dict[Any, None] = {}
    for item in raw:
        if isinstance(item, list | dict):
            raise ValueError(f"{item!r} is not one value or a range")
        part = parse_axis(name, item)
        if isinstance(part, Span):
            raise ValueError(f"{item!r} has no step, so it cannot be part of a list")
        values.update(dict.fromkeys(part))
    return list(values)


def _parse_hosts(raw: Any) -> Axis:
    """Return the values of `hosts`: one list of sizes, or several, which as text ";" separates."""
    several = raw.split(";") if isinstance(raw, str) else [raw]
    if isinstance(raw, list | tuple) and any(isinstance(item, list | tuple) for item in raw):
        several = list(raw)
    return list(dict.fromkeys(_check(HOSTS, value) for value in several))


def parse_seeds(raw: Any) -> Axis:
    """Return the seeds that `raw` names: a count n for seeds 0 to n - 1, or a list, or a range."""
    if isinstance(raw, str) and ".." not in raw:
        raw = _whole(_number(raw.strip()), "seeds")
    if isinstance(raw, int) and not isinstance(raw, bool):
        if raw < 1:
            raise ValueError(f"{raw} seeds are none: use a number from 1")
        _check("seed", raw)
        return range(raw)
    return parse_axis("seed", raw)


def canonical(axis: Axis) -> Any:
    """Return `axis` as plain values for a digest: sorted, and whole runs of integers as a range."""
    if isinstance(axis, Span):
        return {"from": axis.low, "to": axis.high}
    if isinstance(axis, range) and len(axis) > 1:
        return {"first": axis[0], "count": len(axis)}
    values = sorted(axis)
    first = values[0]
    if (
        len(values) > 1
        and isinstance(first, int)
        and values == list(range(first, first + len(values)))
    ):
        return {"first": first, "count": len(values)}
    return values


def spelled(axis: Axis, name: str) -> list[Any] | str:
    """Return `axis` as `parse_axis` reads it: text for a range or a span, otherwise a list."""
    if name == HOSTS:
        return [text.split(",") if text else [] for text in cast(Sequence[str], axis)]
    if isinstance(axis, Span):
        return f"{axis.low}..{axis.high}"
    if isinstance(axis, range):
        return f"{axis[0]}..{axis[-1]}"
    return list(axis)


def draw(axis: Axis, name: str, key: int, index: int) -> Any:
    """Return the value of field `name` in draw `index` of the sample `key`: a keyed counter.

    From a list or a counted range every value is as likely as any other. From a `Span`, fractions
    are drawn uniformly (in steps of 0.0001) and sizes uniformly in their logarithm, in whole MiB
    where the span has any.
    """
    text = f"p2mbatch-sample:{key}:{name}:{index}".encode()
    word = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    if not isinstance(axis, Span):
        return axis[(word * len(axis)) >> 64]
    unit = word / 2**64
    if name in FRACTION_FIELDS:
        value = round(axis.low + unit * (axis.high - axis.low), 4)
        return min(max(value, axis.low), axis.high)
    low, high = int(axis.low), int(axis.high)
    size = int(math.exp(math.log(low) + unit * (math.log(high) - math.log(low))))
    grain = MIB if high - low >= 16 * MIB else PAGE_BYTES
    return min(max(size - size % grain, low), high)
