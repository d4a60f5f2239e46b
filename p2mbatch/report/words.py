"""The sentences of a sweep's report."""

from __future__ import annotations

from collections.abc import Iterable

from p2mbatch.model import policies
from p2mbatch.model.fates import CORRUPTED, ENDS, FATES, FOR_OPERATORS, SURVIVED
from p2mbatch.store.names import told_apart
from p2mbatch.store.survival import Survival

_ORDINALS = ("boot", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

MAX_SPOKEN = 4
"""Policies that the answer tells one by one; of more it tells the worst, and who lost guests."""

# --- the answer --------------------------------------------------------------------------------


def _count(number: int, total: int) -> str:
    if number == 0:
        return f"none of {total:,}"
    return f"all {total:,}" if number == total else f"{number:,} of {total:,}"


def _nth(migration: int) -> str:
    if migration < len(_ORDINALS):
        return f"the {_ORDINALS[migration]}" + (" migration" if migration else "")
    return f"migration {migration:,}"


def _by_policy(entries: list[Survival]) -> dict[str, list[Survival]]:
    found: dict[str, list[Survival]] = {}
    for entry in entries:
        found.setdefault(entry.policy, []).append(entry)
    return found


def _in_words(found: Iterable[str]) -> dict[str, str]:
    """Return what a sentence calls each policy."""
    return {
        policy: policies.shown(policy).spoken or name for policy, name in told_apart(found).items()
    }


def answer(entries: list[Survival]) -> str:
    """Return in one sentence what became of the guests, the worst policy first.

    The migration named is the first by which nearly all (95 %) of the worst policy's guests had
    ended that were to end.
    """
    if not entries:
        return "No cell has finished yet."
    own = _by_policy(entries)
    # Where lives differ in length, the last migration is of few of the guests.
    most = {policy: max(found, key=lambda e: e.num_ended) for policy, found in own.items()}
    worst = max(own, key=lambda p: most[p].num_ended / max(most[p].num_guests, 1))
    last = max(entry.migration for entry in entries)
    point = last
    if most[worst].num_ended:
        enough = 0.95 * most[worst].num_ended
        point = next(e.migration for e in own[worst] if e.num_ended >= enough)
    parts: list[str] = []
    names = _in_words(own)
    spoken = sorted(own, key=lambda p: p != worst)
    for policy in spoken if len(own) <= MAX_SPOKEN else spoken[:1]:
        entry = min(own[policy], key=lambda e: abs(e.migration - point))
        when = ""
        if not parts:
            when = f" by {_nth(point)}" if point else " in the boot"
        parts.append(f"{names[policy]}{when}: {_ended(entry, spoken=not parts)}")
    if len(own) > MAX_SPOKEN:
        parts.append(_others({names[policy]: most[policy] for policy in spoken[1:]}))
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _others(most: dict[str, Survival]) -> str:
    """Return which of many policies, by what they are called, lost guests, and which none."""
    lost = [name for name, entry in most.items() if entry.num_ended]
    none = [name for name, entry in most.items() if not entry.num_ended]
    parts = [
        f"{listed(found)} {end}" for found, end in ((lost, "lost some"), (none, "none")) if found
    ]
    return f"of the {len(most)} others " + ", ".join(parts)


def listed(names: list[str]) -> str:
    """Return what is named in a row of words: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _ended(entry: Survival, *, spoken: bool) -> str:
    """Return how many came to which fate; `spoken` says what they are."""
    guests = f" guest{'s'[: entry.num_guests != 1]}" if spoken else ""
    total = f"{entry.num_guests:,}{guests}"
    if not entry.num_ended:
        all_of = "all of " if entry.num_guests != 1 else ""
        return f"{all_of}{total} survived{_of_these_damaged(entry)}"
    fates = [f"{number:,} {fate}" for fate, number in entry.ends.items() if number]
    if entry.num_survived:
        fates.append(f"{entry.num_survived:,} survived{_of_these_damaged(entry)}")
    return f"of {total} " + ", ".join(fates)


def _of_these_damaged(entry: Survival) -> str:
    """Return how many of the survivors are silently corrupted, in brackets, or ""."""
    if not entry.num_corrupted:
        return ""
    some = f"{entry.num_corrupted:,} of them "
    if entry.num_corrupted == entry.num_survived:
        some = "all " if entry.num_survived > 1 else ""
    return f" ({some}silently corrupted)"


def together(ends: dict[str, int]) -> str:
    """Return in one sentence how the guests of a sample fared, whatever their policy; or ""."""
    total = sum(ends.values())
    if not total:
        return ""
    said = "a million" if total == 1_000_000 else f"{total:,}"
    names = {SURVIVED: "survived intact", CORRUPTED: "survived silently corrupted"}
    parts = [f"{ends[fate]:,} {names.get(fate, fate)}" for fate in FATES if ends.get(fate)]
    return f"Of {said} guest{'s'[: total != 1]}, {', '.join(parts)}."


def operator_answer(entries: list[Survival]) -> str:
    """Return what follows for whoever runs the hosts, for the fates that there are, or ""."""
    found = [fate for fate in ENDS if any(entry.ends[fate] for entry in entries)]
    if any(entry.num_corrupted for entry in entries):
        found.insert(0, CORRUPTED)
    return " ".join(f"{fate[0].upper()}{fate[1:]}: {FOR_OPERATORS[fate]}." for fate in found)


def corruption_answer(entries: list[Survival]) -> str:
    """Return in one sentence how many guests were damaged while all was reported ok, or ""."""
    worst = {
        policy: max(own, key=lambda entry: entry.num_corrupted)
        for policy, own in _by_policy(entries).items()
    }
    found = {policy: entry for policy, entry in worst.items() if entry.num_corrupted}
    names = told_apart(worst)
    if len(found) > MAX_SPOKEN:
        some = [f"{e.num_corrupted:,} of {e.num_survived:,} {names[p]}" for p, e in found.items()]
        return f"Of guests that seemed well {listed(some)} guests had been silently corrupted."
    parts = []
    for policy, entry in found.items():
        seemed = _count(entry.num_corrupted, entry.num_survived)
        parts.append(
            f"After {_nth(entry.migration)}, {seemed} {names[policy]} guests that seemed well had "
            "been silently corrupted."
        )
    return " ".join(parts)


def policy_key(entries: list[Survival]) -> str:
    """Return what the names of the policies mean, for those that there are."""
    return " · ".join(policies.shown(policy).sentence for policy in _by_policy(entries))
