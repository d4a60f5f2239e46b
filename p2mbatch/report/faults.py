"""Which hazards of its kernels a run shows, and in how many guests.

A hazard is seen by what it leaves in a guest's rows. One that takes a failed allocation leaves
nothing in a sweep's rows, and a race nothing in those of guests that one CPU grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled.tables import LAYOUTS, TAIL
from p2mbatch.model.fates import ABORTED, MOVED_WRONG
from p2mbatch.model.hazards import FACTS
from p2mbatch.model.placing import booted_pages
from p2mbatch.model.policies import find

if TYPE_CHECKING:
    import pandas as pd


class Seen(NamedTuple):
    """One hazard as a run shows it in guests of one kernel."""

    hazard: str
    num_guests: int
    amounts: dict[str, int]
    """What it came to, by what is counted."""


class _Sign(NamedTuple):
    """What a hazard leaves in rows."""

    rows: Callable[[pd.DataFrame], Any]
    """Which rows show it."""
    counts: tuple[tuple[str, str], ...] = ()
    """Columns that say what it came to, and what they count."""


def _bug(rows: pd.DataFrame, text: str) -> Any:
    return (rows["outcome"] == "bug") & (rows["detail"] == text)


def _lost(rows: pd.DataFrame) -> Any:
    # What stray writes took is the list's fault, and within a guest's memory a race may.
    return (rows["lost_pages"] > 0) & (rows["stray_writes"] == 0) & ~(_races(rows) & _within(rows))


def _within(rows: pd.DataFrame) -> Any:
    """Return which rows are of guests that grow within their memory, if they grow."""
    return rows.get("grow_where", "within") == "within"


def _races(rows: pd.DataFrame) -> Any:
    """Return which rows are of guests that several CPUs grow at once."""
    return np.asarray(rows.get("cpus", np.ones(len(rows), np.int64))) > 1


def _raced(rows: pd.DataFrame) -> Any:
    lost = (rows["lost_pages"] > 0) & _within(rows)
    wrong = (rows["fate"] == MOVED_WRONG) & (rows.get("live", "no") != "yes")
    hurt = _bug(rows, _TOP_MFN) | (rows["stray_writes"] > 0) | lost | wrong
    return hurt & _races(rows)


def _refused_again(rows: pd.DataFrame) -> Any:
    return (rows["migration"] > 1) & (rows["outcome"] == "save-failed")


def _refused_first(rows: pd.DataFrame) -> Any:
    named = rows["detail"].astype(str).str.startswith("bad-mfn-in-fll")
    return (rows["migration"] == 1) & (rows["outcome"] == "save-failed") & named


_OF_RACES: Final = (("stray_writes", "stray writes"), ("lost_pages", "pages lost"))

_NO_BRK: Final = "_brk_start == 0"

_TOP_MFN: Final = "virt_to_mfn(mid_mfn) != *top_mfn_p"

_SIGNS: Final = {
    "stale-list": _Sign(
        lambda r: (r["migration"] > 0) & ((r["outcome"] != "ok") | (r["stray_writes"] > 0)),
        (("stray_writes", "stray writes"),),
    ),
    "built-once": _Sign(_refused_again),
    "boot-only": _Sign(_refused_again),
    "past-arrays": _Sign(_refused_first),
    "beyond-max": _Sign(lambda r: _bug(r, _TOP_MFN) & ~_races(r)),
    "race": _Sign(_raced, _OF_RACES),
    "list-race": _Sign(_raced, _OF_RACES),
    "half-grown": _Sign(lambda r: _bug(r, _NO_BRK) & (r["layout"] != "identity")),
    "identity-mid": _Sign(lambda r: _bug(r, _NO_BRK) & (r["layout"] == "identity")),
    "last-pages": _Sign(_lost, (("lost_pages", "pages lost"),)),
    "not-saved": _Sign(_lost, (("lost_pages", "pages lost"),)),
    # The toolstack then reads the word for every 1:1 leaf, and frames come for pages that are none.
    "shared-write": _Sign(
        lambda r: r["placeholder_writes"] > 0,
        (("placeholder_writes", "writes into the shared leaf"), ("ghost_pages", "ghost pages")),
    ),
    "marks-lost": _Sign(
        lambda r: r["lost_identity_pages"] > 0, (("lost_identity_pages", "marks lost"),)
    ),
    "null-page": _Sign(lambda r: (r["outcome"] == "fault") & (r["detail"] == "null list page")),
    "behind-walk": _Sign(lambda r: (r["fate"] == MOVED_WRONG) & (r.get("live", "no") == "yes")),
    "live-growth": _Sign(lambda r: r["fate"] == ABORTED),
}


def faults_seen(rows: pd.DataFrame, policy: str) -> list[Seen]:
    """Return the hazards of `policy` that `rows` show, in the order of its facts.

    `rows` are whole lives under that policy with their `fate`.
    """
    if policy not in FACTS:
        return []
    found = []
    for name in FACTS[policy].hazards:
        if name == "tail-zero":
            found.append(_tails(rows, policy))
        elif name in _SIGNS:
            sign = _SIGNS[name]
            shown = rows[sign.rows(rows).to_numpy(bool)]
            amounts = {unit: int(shown[column].sum()) for column, unit in sign.counts}
            found.append(Seen(name, shown["cell"].nunique(), amounts))
    return [seen for seen in found if seen.num_guests]


def _tails(rows: pd.DataFrame, policy: str) -> Seen:
    """Return how many guests boot with a last leaf that `mfn_list` does not fill, and its words.

    Frame 0 is Xen's on every host, so nothing is sent for such a word: no other column shows it.
    """
    boots = rows[((rows["migration"] == 0) & (rows["outcome"] == "ok")).to_numpy(bool)]
    words = _tail_words(boots, policy)
    amounts = {"words that read as MFN 0 after boot": int(words.sum())}
    return Seen("tail-zero", int(np.count_nonzero(words)), amounts)


def _tail_words(boots: pd.DataFrame, policy: str) -> Int64Array:
    """Return how many words of its last leaf each boot leaves; 0 for guests from files."""
    layouts = boots["layout"].astype(str)
    entries = PAGE_BYTES // boots["word_bytes"].to_numpy(np.int64)
    booted = booted_pages(
        boots["memory_bytes"].to_numpy(np.int64) // PAGE_BYTES,
        boots["sparsity"].to_numpy(np.float64),
        layouts.map(lambda name: LAYOUTS.get(name, TAIL)).to_numpy(np.int64),
        entries,
    )
    most = boots["max_domain_pages"].to_numpy(np.int64)
    if not find(policy).is_two_level:
        booted = np.where(most > 0, np.minimum(booted, most), booted)
    known: BoolArray = (layouts != "guest").to_numpy(bool)
    words: Int64Array = np.where(known, -booted % entries, 0)
    return words
