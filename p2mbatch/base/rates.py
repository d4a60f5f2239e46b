"""How often something came about in a sample, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

CONFIDENCE = 0.99
"""Of all intervals of a sample together."""


@dataclass(frozen=True)
class Rate:
    """How often something came about.

    Attributes:
        count: of what was drawn.
        share: their part.
        low, high: the exact interval of Clopper and Pearson.
    """

    count: int
    share: float
    low: float
    high: float


def rate(count: int, of: int, alpha: float) -> Rate:
    """Return the rate of `count` in `of`, with its interval of confidence 1 - `alpha`."""
    from scipy.stats import beta

    low = float(beta.ppf(alpha / 2, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - alpha / 2, count + 1, of - count)) if count < of else 1.0
    return Rate(count, count / of, low, high)


def rates_together(counts: list[tuple[int, int]]) -> list[Rate]:
    """Return the rates of (count, of) pairs; all intervals hold together with `CONFIDENCE`.

    By Bonferroni.
    """
    alpha = (1 - CONFIDENCE) / max(len(counts), 1)
    return [rate(count, of, alpha) for count, of in counts]
