"""Small lives at clauses that no recording pins: by name, for every model that replays them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oracle.eras.machine import Json

N = 512
TOP = N * N
BLOCK = N * N
VMALLOC = 0xFFFF_C900_0000_0000
FRAMES = 1 << 20

BOOT: Json = {"op": "boot", "host": 0}
MIGRATE: Json = {"op": "migrate", "host": 1}


def put(*runs: list[Any]) -> Json:
    return {"op": "set", "runs": list(runs)}


def hosts(*runs: list[int]) -> list[Json]:
    """Two hosts with room; `runs` are named on the second beside what boots."""
    domain = [[0, 1000, 2048]]
    return [
        {"frames": FRAMES, "domain": domain, "foreign": []},
        {"frames": FRAMES, "domain": [[0, 5000, 2048], *runs], "foreign": []},
    ]


def tree(
    policy: str,
    events: list[Json],
    named: tuple[list[int], ...] = (),
    second_machine: bool = True,
    **changes: Any,
) -> Json:
    """A 64-bit guest of four leaves, its tables apart from one another."""
    guest: Json = {
        "word_bytes": 8,
        "nr_pages": 2048,
        "max_p2m_pfn": 2048,
        "mfn_list_pfn": 100,
        "brk_pfn": 10,
        "brk_pages": 60,
        "page_pool": [[200, 12]],
        "directmap_pages": 2048,
    }
    if policy in ("moved", "mid-identity", "late-list"):
        guest["bootmem"] = [150, 30]
    return trace(policy, guest | changes, events, named, second_machine)


def linear(
    policy: str,
    events: list[Json],
    named: tuple[list[int], ...] = (),
    second_machine: bool = True,
    **changes: Any,
) -> Json:
    """A guest of four leaves, its table at a multiple of 1 GiB, with the list."""
    guest: Json = {
        "word_bytes": 8,
        "nr_pages": 2048,
        "mfn_list_pfn": 100,
        "pgd_pfn": 90,
        "boot_pool": [[110, 40]],
        "page_pool": [[200, 30]],
        "area_pfns": BLOCK,
        "p2m_vaddr": VMALLOC,
        "virt_p2m_4tools": False,
        "identity": [],
        "extra": [],
        "directmap_pages": 2048,
    }
    return trace(policy, guest | changes, events, named, second_machine)


def trace(
    policy: str, guest: Json, events: list[Json], named: tuple[list[int], ...], second: bool
) -> Json:
    return {
        "format": "p2mbatch-trace/3" if second else "p2mbatch-trace/1",
        "name": f"{policy}-unpinned",
        "policy": policy,
        "guest": guest,
        "hosts": hosts(*named),
        "events": events,
    }


def marked(*ranges: list[int]) -> Json:
    return BOOT | {"identity": list(ranges)}


def tweak(**shared: int) -> Json:
    return {"op": "tweak", "shared": shared}


FAR = [BLOCK + 5, 30_000, 1]
AT_FAR = ([BLOCK + 5, 60_000, 1],)

TRACES: dict[str, Callable[[], Json]] = {
    "mark-next-is-aligned": lambda: tree(
        "mid-identity", [marked([4 * N, 5 * N], [5 * N - 1, 6 * N])], max_p2m_pfn=8 * N
    ),
    "whole-mid": lambda: tree(
        "mid-identity", [marked([TOP, 2 * TOP]), MIGRATE], max_p2m_pfn=2 * TOP
    ),
    "split-under-whole-mid": lambda: tree(
        "mid-identity",
        [marked([TOP, 2 * TOP], [TOP + N, 3 * TOP]), MIGRATE],
        max_p2m_pfn=2 * TOP,
    ),
    "range-ends-at-top": lambda: tree(
        "identity", [marked([TOP - N, TOP]), MIGRATE], max_p2m_pfn=TOP + N
    ),
    "range-ends-past-top": lambda: tree(
        "identity", [marked([TOP - N, TOP + N]), MIGRATE], max_p2m_pfn=TOP + N
    ),
    "refused-page-stays": lambda: tree(
        "tail",
        [BOOT, {"op": "fail_alloc", "at": 0}]
        + [put([2048 + i * N, 20_000 + i, 1]) for i in (0, 0, 1)],
        page_pool=[[200, 1]],
        max_p2m_pfn=8 * N,
    ),
    "placeholder-ownership": lambda: tree(
        "identity",
        [marked([4 * N, 6 * N]), put([4 * N + 7, 20_000, 1]), put([5 * N + 7, 20_001, 1])],
        max_p2m_pfn=8 * N,
    ),
    "trim-lowers-max": lambda: tree("tail", [BOOT], max_p2m_pfn=5 * TOP),
    "mid-identity-mfn-refilled": lambda: tree("mid-identity", [BOOT, MIGRATE]),
    "old-leaves-keep-bytes": lambda: tree("moved", [BOOT, put([600, None, 3]), MIGRATE]),
    "move-overflows": lambda: tree("moved", [BOOT], bootmem=[150, 3]),
    "linear-max-too-large": lambda: linear(
        "linear", [BOOT, tweak(max_pfn=N**3 + 1), MIGRATE | {"toolstack": "tree"}]
    ),
    "linear-zeros-as-list": lambda: linear(
        "linear-3.19", [BOOT, tweak(frame_list_list_mfn=1005), MIGRATE]
    ),
    # The mid_mfn page stands in for the list list: its leaves are then read as the list.
    "linear-leaf-as-list": lambda: linear(
        "linear-4.4",
        [
            BOOT,
            put([3, None, 1]),
            tweak(frame_list_list_mfn=1124),
            MIGRATE | {"toolstack": "tree"},
        ],
    ),
    "linear-range-in-hole": lambda: linear(
        "linear", [BOOT, tweak(p2m_vaddr=0xFFFF_8000_0000_0000), MIGRATE]
    ),
    "linear-range-past-hole": lambda: linear(
        "linear", [BOOT, tweak(p2m_vaddr=0xFFFF_8800_0000_0000), MIGRATE]
    ),
    "linear-block-dropped": lambda: linear(
        "linear",
        [BOOT, put(FAR), MIGRATE],
        AT_FAR,
        area_pfns=2 * BLOCK,
        p2m_vaddr=VMALLOC + (1 << 21),
    ),
    "linear-block-kept": lambda: linear(
        "linear", [BOOT, put(FAR), MIGRATE], AT_FAR, area_pfns=2 * BLOCK
    ),
    "linear-tree-trim": lambda: linear("linear-3.19", [BOOT], area_pfns=3 * BLOCK),
    "linear-gives-back": lambda: linear(
        "linear", [BOOT, MIGRATE], identity=[[1500, 20], [2040, 30]]
    ),
}
HINTS: dict[str, int] = {"linear-3.19": BLOCK, "linear-4.4": 5005, "linear": 5120}


def hint_trace(policy: str) -> Json:
    """Growth below the hint, then past it: only the second writes max_pfn."""
    return linear(policy, [BOOT, put([5005, 20_000, 1]), put([5006, 20_001, 1])])


def many_blocks() -> Json:
    """An area past what the list covers: the table goes on, the list doesn't."""
    return linear("linear", [BOOT, put([N**3 + 5, 20_000, 1])], area_pfns=513 * BLOCK)
