"""How the guests of a sample were drawn, in words."""

from __future__ import annotations

from p2mbatch.guests.fields import FIELDS
from p2mbatch.plots.style import axis_title, value_text
from p2mbatch.spec.axes import SIZE_FIELDS, Span
from p2mbatch.spec.sections import Sample
from p2mbatch.spec.sweep_spec import SweepSpec

_MAX_LISTED = 8


def drawn(spec: SweepSpec) -> list[str]:
    """Return a sentence for each of the spec's samples: how many, and from what."""
    return [_one(sample) for sample in spec.sample]


def _one(sample: Sample) -> str:
    parts = []
    for name, axis in zip(FIELDS, sample.axes, strict=True):
        if isinstance(axis, Span):
            how = "log-uniform" if name in SIZE_FIELDS else "uniform"
            low, high = value_text(name, axis.low), value_text(name, axis.high)
            parts.append(f"{_title(name)} {how} from {low} to {high}")
        elif len(axis) > 1 and name != "seed":
            parts.append(f"{_title(name)} one of {_listed(name, list(axis))}")
    is_one = sample.n == 1
    said = f": {'; '.join(parts)}" if parts else ""
    return f"{sample.n:,} guest{'' if is_one else 's'} drawn{said}."


def _title(name: str) -> str:
    return axis_title(name).partition(" (")[0]


def _listed(name: str, values: list[object]) -> str:
    texts = [value_text(name, value) or "none" for value in values[:_MAX_LISTED]]
    if name == "hosts":
        texts = [f"({text})" if "," in text else text for text in texts]
    if len(values) > _MAX_LISTED:
        texts[_MAX_LISTED - 1] = f"… {value_text(name, values[-1])}"
    return ", ".join(texts)
