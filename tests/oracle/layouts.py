"""Random layouts of guests: small ones in any order, and ones that reach one mid or more."""

from __future__ import annotations

from dataclasses import dataclass

from oracle import build
from oracle.build import Json
from oracle.dice import Dice

MOST_DIRECTMAP = {8: 1 << 27, 4: 229_376}
IMAGE_MAP_PAGES = 523_776
"""Pages that can be reached through the kernel image map: brk and `mfn_list` lie below."""


@dataclass(frozen=True)
class Kind:
    """Which layouts are wanted: `wide` guests boot with about one mid's pages, or more."""

    word_bytes: int
    machine: int
    wide: bool = False


def layout(dice: Dice, kind: Kind) -> Json:
    """A guest's layout, as a trace has it."""
    n = build.entries(kind.word_bytes)
    nr_pages = _wide_pages(dice, kind) if kind.wide else _small_pages(dice, n)
    leaves = -(-nr_pages // n)
    brk_pages = dice.pick((14, 20), (8, 4), (7, 2), (dice.between(1, 6), 2))
    if kind.wide:
        brk_pages += 4 * dice.between(0, 1)
    pool_runs = dice.pick(([], 1), ([1], 2), ([2], 2), ([3, 1], 2), ([1, 2, 4], 3), ([9], 2))
    pieces = [("brk", brk_pages), ("mfn_list", leaves)]
    pieces += [("pool", count) for count in pool_runs]

    limit = min(nr_pages, IMAGE_MAP_PAGES, MOST_DIRECTMAP[kind.word_bytes])
    slack = limit - sum(count for _, count in pieces)
    at: dict[str, list[int]] = {"pool": []}
    counts: list[int] = []
    next_pfn = 0
    for name, count in dice.shuffled(pieces):
        gap = min(slack, dice.pick((0, 2), (1, 1), (7, 3), (n - 3, 2), (n, 1)))
        slack -= gap
        next_pfn += gap
        at.setdefault(name, []).append(next_pfn)
        if name == "pool":
            counts.append(count)
        next_pfn += count
    pool = dice.shuffled([list(run) for run in zip(at["pool"], counts, strict=True)])

    directmap = min(
        MOST_DIRECTMAP[kind.word_bytes],
        dice.pick(
            (nr_pages, 4),
            (next_pfn, 1),
            (max(next_pfn, nr_pages - 9), 1),
            (nr_pages + dice.between(1, n), 4),
        ),
    )
    return build.guest(
        kind.word_bytes,
        nr_pages,
        max_p2m_pfn=nr_pages + _extra(dice, kind, n),
        mfn_list_pfn=at["mfn_list"][0],
        brk_pfn=at["brk"][0],
        brk_pages=brk_pages,
        page_pool=pool,
        directmap_pages=directmap,
    )


def _small_pages(dice: Dice, n: int) -> int:
    """From a fraction of one leaf to four leaves, whole ones and not."""
    leaves = dice.pick((1, 6), (2, 3), (3, 2), (4, 1))
    short = dice.pick((0, 3), (1, 1), (n // 2, 3), (n - 80 - dice.between(0, 9), 6))
    return int(leaves * n - short)


def _wide_pages(dice: Dice, kind: Kind) -> int:
    """About one mid; on 64-bit also about 2 GiB, where INVALID as a pointer names a page."""
    n = build.entries(kind.word_bytes)
    edge = n * n
    far = 2 * n * n if kind.word_bytes == 8 else n * n
    return int(
        dice.pick(
            (edge - dice.between(0, 3) * n, 2),
            (edge + dice.between(1, 3) * n, 3),
            (edge + dice.between(1, 40), 1),
            (edge + dice.between(4, 40) * n, 2),
            (far + dice.between(0, 2) * n, 1),
        )
    )


def _extra(dice: Dice, kind: Kind, n: int) -> int:
    """Pages past `nr_pages` that may be populated later; other mids are dear in digests."""
    if dice.one_in(6 if kind.word_bytes == 8 else 40):
        return int(dice.pick((n * n, 1), (n * n + 3 * n, 2), (2 * n * n + 17, 1)))
    return int(dice.pick((0, 3), (5, 1), (n, 2), (2 * n + 17, 3), (5 * n, 1)))
