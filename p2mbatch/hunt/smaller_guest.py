"""Simpler lives: a guest of fewer pages, with less extra memory, fewer tables, fewer 1:1 marks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from p2mbatch.hunt.layouts import Json, end_of, tables_end
from p2mbatch.hunt.least import Least
from p2mbatch.model.linear_shape import USUAL_VADDR

"""Where a linear p2m's table lies by default: at a multiple of 1 GiB."""

VADDR_OFF = USUAL_VADDR + (1 << 21)
"""The nearest that is none."""


def shrink_guest(least: Least) -> None:
    """Take fewer pages to boot with, less extra memory, fewer pages for tables."""
    least.repeat(lambda: _fewer_pages(least))
    least.lowest(
        tables_end(least.guest),
        least.guest["nr_pages"],
        lambda pages: _with_guest(least, nr_pages=pages, directmap_pages=pages),
    )
    for name in ("max_p2m_pfn", "max_domain_pages", "area_pfns"):
        if name in least.guest:
            least.repeat(lambda name=name: _smaller(least, name))  # type: ignore[misc]
    if "max_p2m_pfn" in least.guest:
        least.lowest(
            least.guest["nr_pages"],
            least.guest["max_p2m_pfn"],
            lambda pages: _with_guest(least, max_p2m_pfn=pages),
        )
    for name in ("brk_pages", "page_pool", "boot_pool", "bootmem"):
        if name in least.guest:
            least.lowest(
                0,
                _count_of(least.guest[name]),
                lambda count, name=name: _with_pages(least, name, count),  # type: ignore[misc]
            )


def _with_guest(least: Least, **fields: Any) -> Json:
    return least.put(("guest",), least.guest | fields)


def _fewer_pages(least: Least) -> Iterator[Json]:
    """Fewer pages to boot with, what lies behind them moved down or left where it is."""
    nr_pages, n, end = least.guest["nr_pages"], least.entries, tables_end(least.guest)
    rest, half = nr_pages % n, nr_pages // 2 // n * n
    wanted = {n, -(-end // n) * n, (end // n + 1) * n + rest, nr_pages - rest, nr_pages - n}
    for fewer in sorted(wanted | {half, half + rest}):
        if end <= fewer < nr_pages:
            yield _moved_down(least.life, nr_pages, nr_pages - fewer)
            yield _with_guest(least, nr_pages=fewer, directmap_pages=fewer)


def _moved_down(life: Json, end: int, by: int) -> Json:
    """Return `life` with `by` pages less to boot with; what lies from `end` on comes so much lower.

    1:1 entries go with their PFNs.
    """
    out = copy.deepcopy(life)
    guest = out["guest"]
    bit = 1 << (8 * guest["word_bytes"] - 2)
    guest["nr_pages"] -= by
    guest["directmap_pages"] = guest["nr_pages"]
    if "max_p2m_pfn" in guest:
        guest["max_p2m_pfn"] = max(guest["max_p2m_pfn"] - by, guest["nr_pages"])
    for run in [*guest.get("extra", []), *guest.get("identity", [])]:
        run[0] -= by if run[0] >= end else 0
    for span in out["events"][0].get("identity", []):
        span[:] = [pfn - by if pfn >= end else pfn for pfn in span]
    for run in [run for event in out["events"] for run in event.get("runs", []) if run[0] >= end]:
        if run[1] == run[0] | bit:
            run[1] -= by
        run[0] -= by
    return out


def _smaller(least: Least, name: str) -> Iterator[Json]:
    """A smaller number of those that say how far the p2m goes."""
    value, n = least.guest[name], least.entries
    block = n**2
    wanted = {-(-value // 2 // block) * block, value - block, block}
    if name == "max_p2m_pfn":
        end = end_of(least.life)
        wanted |= {least.guest["nr_pages"], end, -(-end // n) * n, value // block * block}
    for smaller in sorted(wanted):
        if 0 < smaller < value:
            yield _with_guest(least, **{name: smaller})


def _count_of(pages: Any) -> int:
    """Return how many pages a field of a guest names: a count, [first, count], or runs of these."""
    if isinstance(pages, int):
        return pages
    runs = pages if not pages or isinstance(pages[0], list) else [pages]
    return int(sum(run[1] for run in runs))


def _with_pages(least: Least, name: str, count: int) -> Json:
    """Return the life with so many pages of a kind for its tables."""
    value = least.guest[name]
    if isinstance(value, int):
        return _with_guest(least, **{name: count})
    if name == "bootmem":
        return _with_guest(least, bootmem=[value[0], count])
    return _with_guest(least, **{name: [[value[0][0], count]] if count else []})


# --- 1:1 marks, and what only a linear p2m has --------------------------------------------------


def shrink_marks(least: Least) -> None:
    """Mark fewer and shorter 1:1 ranges at boot; take a linear p2m's table to where it belongs."""
    if "identity" in least.life["events"][0]:
        _shrink_ranges(least)
    if "p2m_vaddr" not in least.guest:
        return
    vaddr = least.guest["p2m_vaddr"]
    nearer = [where for where in (USUAL_VADDR, VADDR_OFF) if where < vaddr]
    least.any_of([_with_guest(least, p2m_vaddr=where) for where in nearer])
    if least.guest["virt_p2m_4tools"]:
        least.attempt(_with_guest(least, virt_p2m_4tools=False))
    for name in ("identity", "extra"):
        least.fewer(("guest", name))
        for k in range(len(least.guest[name])):
            least.repeat(lambda name=name, k=k: _shorter_run(least, name, k))  # type: ignore[misc]


def _shorter_run(least: Least, name: str, k: int) -> Iterator[Json]:
    first, count = least.guest[name][k]
    wanted = [[first, 1], [first, count // 2], [first + count - 1, 1]]
    wanted += [[least.guest["nr_pages"], count], [first // least.entries * least.entries, count]]
    for run in wanted:
        if run[1] > 0 and (run[1], run[0]) < (count, first):
            yield least.put(("guest", name, k), run)


def _shrink_ranges(least: Least) -> None:
    least.fewer(("events", 0, "identity"))
    for k in range(len(least.life["events"][0]["identity"])):
        least.repeat(lambda k=k: _shorter_range(least, k))  # type: ignore[misc]
    if not least.life["events"][0]["identity"]:
        least.attempt(least.put(("events", 0, "identity"), None))


def _shorter_range(least: Least, k: int) -> Iterator[Json]:
    n, nr_pages = least.entries, least.guest["nr_pages"]
    start, end = least.life["events"][0]["identity"][k]
    length = end - start
    for left in sorted({1, n, n**2, length // 2}):
        if 0 < left < length:
            yield least.put(("events", 0, "identity", k), [start, start + left])
    for lower in sorted({nr_pages, -(-nr_pages // n) * n, n**2, start // n * n}):
        if lower < start:
            yield least.put(("events", 0, "identity", k), [lower, lower + length])
