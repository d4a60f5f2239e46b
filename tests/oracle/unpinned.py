"""Lives for the clauses of machine 2 that no recording decides, expected from the text alone.

Each was left open when altered readings of the machine were tried on the recordings. A case's
`expected` holds, for some of its events, the fields that tell the right reading from the other.

Most cases look at one read of the m2p, or at one store. A `stale` guest whose page 65 has a chosen
number for its entry grows a leaf there, through a list page that is really `p2m_top_mfn` (its frame
is written into two entries): so the number lands in `p2m_top_mfn[2]`, and growing under the top
index 2 reads the m2p for it and stores where that leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from oracle import build
from oracle.build import Json

FOREIGN_BIT = 1 << 31
IMAGE_ALIAS = 0x77FF8_0000
IMAGE_END_ALIAS = 0x77FFF_FE00

# build.guest's places, for a `stale` guest of either width.
MISSING, MID_MISSING, MID0, MID_MISSING_MFN, TOP_MFN = 8, 9, 11, 12, 13
POOL = 64
NR_PAGES = 1536
FIRST = 10
"""The frame of PFN 0: the guest's frames follow each other."""

OK: Json = {"outcome": "ok", "detail": None}
NO_STORE: Json = {"outcome": "fault", "detail": "mid_mfn store"}
STRAY: Json = OK | {"stray_writes": 1, "stray_pages": 1, "ok": True}


@dataclass(frozen=True)
class Case:
    """One life, and what the text says of some of its events."""

    name: str
    clause: str
    trace: Json
    expected: dict[int, Json]


def frame(pfn: int) -> int:
    """A page's frame on the host to boot on."""
    return FIRST + pfn


def boot_host(frames: int, foreign: dict[int, int] | None = None, *, without: int = -1) -> Json:
    domain = build.frames_from(FIRST, NR_PAGES)
    domain.pop(without, None)
    return build.host(frames, domain, foreign)


def number_into_list(number: int, n: int) -> list[build.Json]:
    """Events that put `number` into `p2m_top_mfn[2]`."""
    rows: list[tuple[int, int | None, int]] = [
        (TOP_MFN, frame(MID_MISSING_MFN), 1),
        (POOL + 1, number, 1),
        (n * n + 2 * n, 5, 1),
    ]
    return [build.assign(*rows)]


def read_case(
    name: str,
    clause: str,
    word_bytes: int,
    number: int,
    host: Json,
    expected: Json,
    **layout: int,
) -> Case:
    """A life in which the kernel reads the m2p for `number`, and stores where that leads."""
    n = build.entries(word_bytes)
    guest = build.guest(word_bytes, NR_PAGES, **layout)
    events = [build.boot(), *number_into_list(number, n), build.assign((2 * n * n, 6, 1))]
    trace = build.trace("stale", guest, [host], events, format_number=2)
    return Case(name, clause, trace, {0: OK, 1: STRAY, 2: expected})


def order_cases() -> Iterator[Case]:
    clause = "m2p_order's default is 32 on 64-bit and 26 on 32-bit"
    for bits, number, expected in (
        (64, 1 << 32, NO_STORE),
        (64, (1 << 31) - 1, STRAY),
        (32, 1 << 26, NO_STORE),
        (32, (1 << 26) - 1, STRAY),
    ):
        name = f"order-{bits}-{number}"
        yield read_case(name, clause, bits // 8, number, boot_host(3000), expected)


def entries_cases() -> Iterator[Case]:
    clause = "m2p_entries is rounded up to 1 GiB chunks: reads past it give 0, before it INVALID"
    for bits, frames, mapped in (
        (64, 3000, 262_144),
        (64, 262_144, 262_144),
        (64, 262_145, 524_288),
        (32, 3000, 524_288),
        (32, 262_145, 524_288),
        (32, 524_289, 1_048_576),
    ):
        for number in (mapped - 1, mapped):
            # A number just below may be a frame of the host, but it is nobody's.
            expected = STRAY if number >= mapped else NO_STORE
            name = f"entries-{bits}-{frames}-{number}"
            host = boot_host(frames)
            entry = number if number >= frames else FOREIGN_BIT + number
            yield read_case(name, clause, bits // 8, entry, host, expected)
    host = boot_host(43_600_000)
    entry = FOREIGN_BIT + 43_515_904
    yield read_case("entries-32-most", clause, 4, entry, host, STRAY)
    yield read_case("entries-32-most-less-one", clause, 4, entry - 1, host, NO_STORE)


def presence_cases() -> Iterator[Case]:
    number = 2000
    clause = "at boot the pages below nr_pages whose frames `domain` names are present, no others"
    for bits in (64, 32):
        w, entry = bits // 8, FOREIGN_BIT + number
        host = boot_host(3000, {number: 100})
        yield read_case(f"present-named-{bits}", clause, w, entry, host, STRAY)
        host = boot_host(3000, {number: 100}, without=100)
        yield read_case(f"absent-unnamed-{bits}", clause, w, entry, host, NO_STORE)
        host = boot_host(3000, {number: NR_PAGES + 5})
        host["domain"].append([NR_PAGES + 5, 2500, 1])
        yield read_case(
            f"absent-past-nr-pages-{bits}", clause, w, entry, host, NO_STORE, directmap_pages=1600
        )
    clause = "presence is not asked through the kernel image map"
    host = boot_host(3000, {number: IMAGE_ALIAS + 100}, without=100)
    yield read_case("image-map-absent", clause, 8, FOREIGN_BIT + number, host, STRAY)


def image_end_cases() -> Iterator[Case]:
    clause = "the last 2 MiB of the kernel image map hold nothing"
    for name, alias, expected in (
        ("image-map-last-page", IMAGE_END_ALIAS - 1, STRAY),
        ("image-map-past-the-end", IMAGE_END_ALIAS, NO_STORE),
        ("image-map-last-address", IMAGE_END_ALIAS + 511, NO_STORE),
    ):
        host = boot_host(3000, {2000: alias})
        entry = FOREIGN_BIT + 2000
        yield read_case(name, clause, 8, entry, host, expected, directmap_pages=600_000)


def order_of_store_cases() -> Iterator[Case]:
    """Both the leaf's MFN and the store are past reach: the one that comes first says so."""
    for bits in (64, 32):
        n = build.entries(bits // 8)
        rows: list[tuple[int, int | None, int]] = [
            # The list's page is the first mid now, and its first leaf becomes a wild pointer.
            (MID0, frame(MID_MISSING_MFN), 1),
            (3 * n * n, 7, 1),
        ]
        events = [build.boot(), *number_into_list(1 << 26 if bits == 32 else 1 << 32, n)]
        events += [build.assign(*rows), build.assign((2 * n * n, 6, 1))]
        trace = build.trace(
            "stale", build.guest(bits // 8, NR_PAGES), [boot_host(3000)], events, format_number=2
        )
        fault = {"outcome": "fault", "detail": "p2m_mid entry", "stray_writes": 0}
        yield Case(
            f"leaf-mfn-first-{bits}",
            "the leaf's MFN is computed before the store's address is checked",
            trace,
            {1: STRAY, 2: STRAY, 3: fault},
        )


def max_mfn_cases() -> Iterator[Case]:
    clause = "the toolstack refuses an MFN > max_mfn, and maps max_mfn itself in vain"
    frames = 3000
    for bits in (64, 32):
        n = build.entries(bits // 8)
        for number, leaf, list_page in (
            (frames, "map-leaves-failed 4", "map-fl-failed 1"),
            (frames + 1, "bad-mfn-in-fl 4", "bad-mfn-in-fll 1"),
        ):
            for what, pool_page, pfn, detail in (
                ("fl", POOL, 4 * n, leaf),
                ("fll", POOL + 1, n * n, list_page),
            ):
                guest = build.guest(bits // 8, NR_PAGES, max_p2m_pfn=pfn + 9)
                events = [
                    build.boot(),
                    build.assign((pool_page, number, 1), (pfn, 5, 1)),
                    build.migrate(0),
                ]
                trace = build.trace("tracked", guest, [boot_host(frames)], events, format_number=2)
                refused = {"outcome": "save-failed", "detail": detail}
                yield Case(f"max-mfn-{what}-{bits}-{number}", clause, trace, {1: OK, 2: refused})


def released_cases() -> Iterator[Case]:
    clause = "a frame in both runs is the guest's; given back, its m2p entry is INVALID"
    for bits in (64, 32):
        n = build.entries(bits // 8)
        host = boot_host(3000, {frame(MID_MISSING_MFN): 100})
        events = [
            build.boot(),
            build.assign((MID_MISSING_MFN, 2500, 1)),
            build.assign((n * n, 5, 1)),
        ]
        trace = build.trace(
            "stale", build.guest(bits // 8, NR_PAGES), [host], events, format_number=2
        )
        yield Case(f"released-{bits}", clause, trace, {0: OK, 1: OK, 2: NO_STORE})


def invalid_pointer_case() -> Case:
    """Two turns through an empty mid leave INVALID as the leaf pointer of the third.

    Stores for the first top index go into `p2m_mid_missing`, so the second has wild leaves, whose
    MFN is INVALID, and stores that over them. For the third, INVALID as a pointer is the page
    524,287: the last leaf of the second top index, which is INVALID too and can't be reached.
    """
    n = 512
    guest = build.guest(8, NR_PAGES, max_p2m_pfn=2 * n * n + 5)
    there = build.frames_from(2000, NR_PAGES) | {511 * n: 1900}
    hosts = [
        boot_host(4000),
        build.host(4000, there, {frame(MID_MISSING_MFN): MID_MISSING}),
    ]
    events = [build.boot(), build.assign((511 * n, 5, 1)), build.migrate(1)]
    trace = build.trace("stale", guest, hosts, events, format_number=2)
    fault = {"outcome": "fault", "detail": "p2m_mid entry", "stray_writes": 8, "stray_pages": 1}
    clause = "INVALID as a pointer is page 524,287 on 64-bit"
    return Case("invalid-as-pointer", clause, trace, {0: OK, 1: OK, 2: fault})


def tracked_absent_cases() -> Iterator[Case]:
    clause = "a store of `tracked` into its own mid_mfn page needs that page present"
    for bits in (64, 32):
        n = build.entries(bits // 8)
        events = [build.boot(), build.assign((POOL + 1, None, 1), (n * n, 5, 1))]
        trace = build.trace(
            "tracked", build.guest(bits // 8, NR_PAGES), [boot_host(3000)], events, format_number=2
        )
        fault = NO_STORE | {"stray_writes": 0, "entries_set": 1, "pool_pages_used": 3}
        yield Case(f"tracked-absent-{bits}", clause, trace, {0: OK, 1: fault})


def hole_case(bits: int) -> Case:
    """A page in a hole that has a frame: `p2m_missing` was hit, and the restore took it at that."""
    n = build.entries(bits // 8)
    hole, nr_pages = 3 * n + 5, 3 * n
    guest = build.guest(bits // 8, nr_pages, max_p2m_pfn=4 * n, directmap_pages=4 * n)
    here = build.frames_from(FIRST, nr_pages)
    # There the frame that was p2m_missing's is that of the page in the hole.
    there = here | {MISSING: nr_pages + 100, hole: frame(MISSING)}
    frames = nr_pages + 200
    hosts = [build.host(frames, here), build.host(frames, there)]
    spoil: list[tuple[int, int | None, int]] = [
        # p2m_top_mfn[1] becomes the MFN of p2m_missing, then all is as it was,
        (TOP_MFN, frame(MID_MISSING_MFN), 1),
        (POOL + 1, FOREIGN_BIT + frame(MISSING), 1),
        (2 * n * n + n, 5, 1),
        (MID_MISSING_MFN, frame(MID_MISSING_MFN), 1),
        (TOP_MFN, frame(TOP_MFN), 1),
        # and p2m_missing[5] becomes an own frame's number.
        (n * n + 5 * n, 6, 1),
    ]
    events = [
        build.boot(),
        build.assign(*spoil),
        build.migrate(1),
        build.assign((hole, None, 1)),
        build.assign((n * n + 7 * n, 7, 1)),
    ]
    trace = build.trace("stale", guest, hosts, events, format_number=2)
    clause = "INVALID set into a hole changes nothing, presence neither"
    two = OK | {"stray_writes": 2, "stray_pages": 2}
    return Case(
        f"hole-{bits}", clause, trace, {0: OK, 1: two, 2: OK, 3: OK | {"ok": True}, 4: STRAY}
    )


def cases() -> list[Case]:
    """All cases, in the order of the text's list."""
    return [
        *order_cases(),
        *entries_cases(),
        *presence_cases(),
        *order_of_store_cases(),
        *max_mfn_cases(),
        *released_cases(),
        *image_end_cases(),
        invalid_pointer_case(),
        *tracked_absent_cases(),
        hole_case(64),
        hole_case(32),
    ]
