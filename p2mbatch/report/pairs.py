"""The same guests twice: how many lives differ under two policies or kernels, and how surely.

Guests are paired where everything but the policy is the same, hosts and seed included. What counts
is whether a guest is intact in the end. Guests that fare alike under both say nothing of which is
better, so the interval is McNemar's: of those that differ, the exact binomial one (Clopper and
Pearson) of the share that is better under the second, as a part of all pairs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.guests.fields import FIELDS
from p2mbatch.model.fates import SURVIVED
from p2mbatch.model.kernels import release_key
from p2mbatch.model.policies import sort_key
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.fates import fates, last_rows, varies
from p2mbatch.store.names import told_apart

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95

OF_A_KERNEL = ("policy", "linux", "max_domain_pages", "hotplug_gib")
"""Fields that a release of Linux decides, or the policy is."""

_MAX_POLICIES = 4
"""Of more, each is compared with the one before it alone."""


class Pairs(NamedTuple):
    """How the same guests fared under `a` and under `b`."""

    a: str
    b: str
    """What they are called: policies, releases, or two runs."""
    num_pairs: int
    num_differ: int
    """Of these, how many came to another fate."""
    only_a: int
    """How many are intact in the end under `a` alone."""
    only_b: int
    difference: float
    """Share of the pairs that is intact under `b` less that under `a`, -1 to 1."""
    low: float
    high: float
    """Ends of the interval of the difference, at `CONFIDENCE`."""
    p_value: float
    """How likely a split at least so uneven is where neither is better: the exact test."""


def paired(a: str, b: str, left: Any, right: Any) -> Pairs:
    """Return how guests fared whose fates are `left` under `a` and `right` under `b`.

    `left` and `right` are arrays of fates, a guest at the same place in both.
    """
    left, right = np.asarray(left, object), np.asarray(right, object)
    was, now = left == SURVIVED, right == SURVIVED
    only_a, only_b = int((was & ~now).sum()), int((now & ~was).sum())
    num, differ = len(left), int((left != right).sum())
    unlike = only_a + only_b
    difference, low, high, p_value = 0.0, 0.0, 0.0, 1.0
    if unlike:
        from scipy import stats

        test = stats.binomtest(only_b, unlike)
        interval = test.proportion_ci(CONFIDENCE, method="exact")
        difference = (only_b - only_a) / num
        low, high = ((2 * end - 1) * unlike / num for end in (interval.low, interval.high))
        p_value = float(test.pvalue)
    return Pairs(a, b, num, differ, only_a, only_b, difference, low, high, p_value)


def pairs_of(frame: pd.DataFrame) -> list[Pairs]:
    """Return the pairs of a run: by release where it compares releases, else by policy.

    `frame` has whole lives. With more than four policies each is compared with the one before it.
    Two that have no guest in common have `num_pairs` 0.
    """
    if frame.empty:
        return []
    by = "linux" if varies(frame["linux"]) else "policy"
    names = [str(name) for name in frame[by].unique() if name]
    if len(names) < 2:
        return []
    names = sorted(names, key=sort_key if by == "policy" else release_key)
    ends = last_rows(frame[["cell", "migration", *FIELDS]]).assign(fate=fates(frame))
    free = _not_keys(ends, by)
    keys = [name for name in FIELDS if varies(ends[name]) and name not in free]
    grouped = ends.groupby(keys, observed=True, sort=False).ngroup() if keys else ends["cell"] * 0
    guest, fate, side = grouped.to_numpy(), ends["fate"].to_numpy(object), ends[by].astype(str)
    found = {}
    for name in names:
        own = (side == name).to_numpy()
        number, first = np.unique(guest[own], return_index=True)
        found[name] = number, fate[own][first]
    said = told_apart(names) if by == "policy" else {name: name for name in names}
    few = len(names) <= _MAX_POLICIES
    both = itertools.combinations(names, 2) if few else itertools.pairwise(names)
    return [_of(found, a, b, said) for a, b in both]


def _not_keys(ends: pd.DataFrame, by: str) -> list[str]:
    """Return the fields in which two guests may differ that are paired."""
    if by == "policy":
        return ["policy"]
    # What is an axis of its own under one release is none of its consequences.
    release = ends.groupby(["linux", "word_bytes"], observed=True)
    return [name for name in OF_A_KERNEL if name == by or release[name].nunique().max() == 1]


def _of(found: dict[str, Any], a: str, b: str, said: dict[str, str]) -> Pairs:
    (mine, left), (other, right) = found[a], found[b]
    _, at, there = np.intersect1d(mine, other, assume_unique=True, return_indices=True)
    return paired(said[a], said[b], left[at], right[there])


# --- in words ----------------------------------------------------------------------------------


def pair_sentence(pairs: Pairs) -> str:
    """Return in one sentence how the guests fared under both."""
    a, b = pairs.a, pairs.b
    if not pairs.num_pairs:
        return f"{a} and {b} have nothing in common: no guest lived under both."
    many = pairs.num_pairs != 1
    who = f"The same {pairs.num_pairs:,} guests" if many else "The same guest"
    text = f"{who} under {a} and under {b}: "
    if not pairs.num_differ:
        return f"{text}no life ends differently."
    text += f"{pairs.num_differ:,} end{'s'[: pairs.num_differ == 1]} differently"
    if not pairs.only_a + pairs.only_b:
        return f"{text}, none of these intact under one alone."
    return (
        f"{text}; intact under {a} alone {pairs.only_a:,}, under {b} alone {pairs.only_b:,}, "
        f"{interval_text(pairs)}."
    )


def interval_text(pairs: Pairs) -> str:
    """Return the difference in percent with its interval."""
    low, high = f"{pairs.low * 100:+.3g}", f"{pairs.high * 100:+.3g}"
    return f"a difference of {pairs.difference * 100:+.3g} % [{low}, {high}]"


def pair_table(found: list[Pairs]) -> Table | None:
    """Return the pairs as a table; None where there are none."""
    if not found:
        return None
    return Table(
        "pairs",
        [
            TableColumn("a", "under", "text", [p.a for p in found], True),
            TableColumn("b", "and under", "text", [p.b for p in found], True),
            TableColumn("guests", "the same guests", "number", [p.num_pairs for p in found]),
            TableColumn("differ", "end differently", "number", [p.num_differ for p in found]),
            TableColumn("only_a", "intact under first alone", "number", [p.only_a for p in found]),
            TableColumn("only_b", "second alone", "number", [p.only_b for p in found]),
            *(
                TableColumn(
                    name, title, kind, [getattr(p, name) if p.num_pairs else None for p in found]
                )
                for name, title, kind in (
                    ("difference", "difference", "share"),
                    ("low", "95 % from", "share"),
                    ("high", "to", "share"),
                    ("p_value", "p", "number"),
                )
            ),
        ],
        "Guests alike in everything but policy and kernel, hosts and seed included. The difference "
        "is the share intact in the end under the second less that under the first, with McNemar's "
        "exact interval; p is how likely a split at least so uneven is where neither is better.",
    )
