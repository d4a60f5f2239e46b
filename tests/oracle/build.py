"""Builders of small traces: guests, hosts and lives, as the JSON objects of model section 11."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def entries(word_bytes: int) -> int:
    """Entries per page (n)."""
    return 4096 // word_bytes


def guest(
    word_bytes: int = 8,
    nr_pages: int = 1536,
    *,
    max_p2m_pfn: int | None = None,
    mfn_list_pfn: int = 32,
    brk_pfn: int = 8,
    brk_pages: int = 16,
    page_pool: list[list[int]] | None = None,
    directmap_pages: int | None = None,
) -> Json:
    """A guest's layout. The default has brk at 8, mfn_list at 32, the pool at 64: all in leaf 0."""
    return {
        "word_bytes": word_bytes,
        "nr_pages": nr_pages,
        "max_p2m_pfn": nr_pages if max_p2m_pfn is None else max_p2m_pfn,
        "mfn_list_pfn": mfn_list_pfn,
        "brk_pfn": brk_pfn,
        "brk_pages": brk_pages,
        "page_pool": [[64, 16]] if page_pool is None else page_pool,
        "directmap_pages": nr_pages if directmap_pages is None else directmap_pages,
    }


def runs(pairs: dict[int, int]) -> list[list[int]]:
    """The pairs as the fewest runs [key, value, count] in which both columns count up."""
    if not pairs:
        return []
    keys = sorted(pairs)
    values = [pairs[key] for key in keys]
    ends = [
        i
        for i in range(1, len(keys))
        if keys[i] - keys[i - 1] != 1 or values[i] - values[i - 1] != 1
    ]
    return [
        [keys[a], values[a], b - a] for a, b in zip([0, *ends], [*ends, len(keys)], strict=True)
    ]


def frames_from(first: int, num_pages: int) -> dict[int, int]:
    """PFNs 0, 1, … in the frames `first`, `first` + 1, …"""
    return {pfn: first + pfn for pfn in range(num_pages)}


def swapped(domain: dict[int, int], *pairs: tuple[int, int]) -> dict[int, int]:
    """The domain with the frames of each pair of PFNs exchanged."""
    result = dict(domain)
    for a, b in pairs:
        result[a], result[b] = result[b], result[a]
    return result


def host(
    frames: int, domain: dict[int, int], foreign: dict[int, int] | None = None, **table: int
) -> Json:
    """A host; `domain` is PFN -> MFN, `foreign` MFN -> PFN, `table` what format 2 adds."""
    return {"frames": frames, "domain": runs(domain), "foreign": runs(foreign or {}), **table}


def boot(on: int = 0) -> Json:
    return {"op": "boot", "host": on}


def migrate(to: int) -> Json:
    return {"op": "migrate", "host": to}


def assign(*rows: tuple[int, int | None, int]) -> Json:
    """A `set` event of runs (pfn, mfn or None, count)."""
    return {"op": "set", "runs": [list(row) for row in rows]}


def fail_alloc(at: int) -> Json:
    return {"op": "fail_alloc", "at": at}


def trace(
    policy: str, guest: Json, hosts: list[Json], events: list[Json], format_number: int = 1
) -> Json:
    return {
        "format": f"p2mbatch-trace/{format_number}",
        "name": "built",
        "policy": policy,
        "guest": guest,
        "hosts": hosts,
        "events": events,
    }


def structures(policy: str, guest: Json, *, own_mid_mfns: bool = True) -> dict[str, int]:
    """PFN of each structure after boot, by name.

    missing, mid_missing, top, mid0 …, mid_missing_mfn, top_mfn_p (not stale), top_mfn, mid_mfn0 …,
    leaf0 …, pool0 … Those past the end of brk are left out, and the mid_mfn pages where no mid has
    one of its own at boot.
    """
    n = entries(guest["word_bytes"])
    leaves = -(-guest["nr_pages"] // n)
    mids = -(-leaves // n)
    names = ["missing", "mid_missing", "top", *(f"mid{i}" for i in range(mids)), "mid_missing_mfn"]
    names += ["top_mfn"] if policy == "stale" else ["top_mfn_p", "top_mfn"]
    names += [f"mid_mfn{i}" for i in range(mids)] if own_mid_mfns else []
    result = {name: guest["brk_pfn"] + i for i, name in enumerate(names[: guest["brk_pages"]])}
    result |= {f"leaf{i}": guest["mfn_list_pfn"] + i for i in range(leaves)}
    pool = [pfn + i for pfn, count in guest["page_pool"] for i in range(count)]
    return result | {f"pool{i}": pfn for i, pfn in enumerate(pool)}
