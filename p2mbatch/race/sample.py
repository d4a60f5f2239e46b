"""Sampled schedules of a race: how often each end comes about, with intervals.

The explorer visits every schedule of a small race; of a larger one some are drawn. Each step is any
of those that can be taken next, all alike, which is what the explorer's probabilities mean. The
steps are the explorer's own: `p2mbatch.compiled.race`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.rates import CONFIDENCE, Rate, rate
from p2mbatch.compiled.race.sample import sample
from p2mbatch.race.config import Config
from p2mbatch.race.explorer import class_name
from p2mbatch.race.plan import make_plan

_A_CALL = 2_000
"""Schedules drawn in one call: how long a signal waits, about 20 ms."""


@dataclass(frozen=True)
class Sampled:
    """What schedules of a race that were drawn ended in.

    Attributes:
        config: the race.
        entries: words a page has, at every level.
        num_schedules: how many were drawn.
        rates: of each class that was met, by its name.
    """

    config: Config
    entries: int
    num_schedules: int
    rates: dict[str, Rate]


def draw_schedules(
    config: Config, num_schedules: int, *, entries: int = 2, key: int = 0
) -> Sampled:
    """Draw schedules of a race on pages of `entries` words; return how often each end came about.

    Raises `InputError` where such pages can't have that race (`wide`).
    """
    if entries == 2:
        labels = sample_labels(config, num_schedules, key)
    else:
        from p2mbatch.race.wide import WideRace

        labels = WideRace(config, entries).sample_labels(num_schedules, key)
    return rates_of(config, labels, entries)


def sample_labels(config: Config, num_schedules: int, key: int = 0, first: int = 0) -> Int64Array:
    """Draw schedules number `first` on under `key`; return their ends' labels as bits, int64[k].

    On a tree of two words a page, with any allocator and memory model of the explorer's.
    """
    plan = make_plan(config)
    words = plan.row_words
    row, out = np.zeros(words, np.uint64), np.zeros(words * plan.max_moves, np.uint64)
    out_bytes = out.view(np.uint8).reshape(plan.max_moves, words * 8)
    moves, dice = np.zeros(plan.max_moves, np.int64), np.zeros(1, np.uint64)
    labels = np.zeros(num_schedules, np.int64)
    row_bytes = row.view(np.uint8).reshape(1, -1)
    for begin in range(0, num_schedules, _A_CALL):
        some = labels[begin : begin + _A_CALL]
        status = sample(
            plan.fields, plan.first, dice, np.uint64(key), first + begin, row, row_bytes, out,
            out_bytes, moves, some,
        )  # fmt: skip
        assert status == 0, status
    return labels


def rates_of(
    config: Config, labels: Int64Array, entries: int = 2, num_together: int | None = None
) -> Sampled:
    """Return the rates of ends with these labels (int64[k]).

    All their intervals hold together with `CONFIDENCE`, by Bonferroni; `num_together` says how many
    more are looked at beside them, in all.
    """
    counts = Counter(class_name(int(bits)) for bits in labels)
    alpha = (1 - CONFIDENCE) / max(num_together or 0, len(counts))
    rates = {name: rate(counts[name], len(labels), alpha) for name in sorted(counts)}
    return Sampled(config, entries, len(labels), rates)
