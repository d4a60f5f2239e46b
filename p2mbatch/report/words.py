"""The sentences of a sweep's report."""

from __future__ import annotations

from p2mbatch.model import policies
from p2mbatch.store.survival import Survival

_ORDINALS = ("boot", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

# --- the answer --------------------------------------------------------------------------------


def _count(number: int, total: int) -> str:
    if number == 0:
        return f"none of {total:,}"
    return f"all {total:,}" if number == total else f"{number:,} of {total:,}"


def _nth(migration: int) -> str:
    if migration < len(_ORDINALS):
        return f"the {_ORDINALS[migration]}" + (" migration" if migration else "")
    return f"migration {migration:,}"


def num_lost(entry: Survival) -> int:
    """Return how many guests of `entry` are lost."""
    return sum(entry.lost.values())


def _by_policy(entries: list[Survival]) -> dict[str, list[Survival]]:
    found: dict[str, list[Survival]] = {}
    for entry in entries:
        found.setdefault(entry.policy, []).append(entry)
    return found


def answer(entries: list[Survival]) -> str:
    """Return in one sentence what became of the guests, the worst policy first.

    The migration named is the first by which the worst policy had lost nearly all (95 %) of the
    guests that it was to lose.
    """
    if not entries:
        return "No cell has finished yet."
    own = _by_policy(entries)
    worst = max(own, key=lambda p: num_lost(own[p][-1]) / max(own[p][-1].num_guests, 1))
    last = max(entry.migration for entry in entries)
    point = last
    if num_lost(own[worst][-1]):
        enough = 0.95 * num_lost(own[worst][-1])
        point = next(e.migration for e in own[worst] if num_lost(e) >= enough)
    parts: list[str] = []
    for policy in sorted(own, key=lambda p: p != worst):
        entry = min(own[policy], key=lambda e: abs(e.migration - point))
        number = _count(num_lost(entry), entry.num_guests)
        guests, when = "", ""
        if not parts:
            guests = f" guest{'s'[: entry.num_guests != 1]}"
            when = f" by {_nth(point)}" if point else " in the boot"
        parts.append(f"{policies.shown(policy).in_words} lost {number}{guests}{when}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def corruption_answer(entries: list[Survival]) -> str:
    """Return in one sentence how many guests were corrupted while all was reported ok, or ""."""
    parts = []
    for policy, own in _by_policy(entries).items():
        worst = max(own, key=lambda entry: entry.num_corrupted)
        if worst.num_corrupted:
            seemed = _count(worst.num_corrupted, worst.num_survived)
            parts.append(
                f"After {_nth(worst.migration)}, {seemed} {policy} guests that seemed well had "
                "been silently corrupted."
            )
    return " ".join(parts)


def policy_key(entries: list[Survival]) -> str:
    """Return what the names of the policies mean, for those that there are."""
    return " · ".join(policies.shown(policy).sentence for policy in _by_policy(entries))
