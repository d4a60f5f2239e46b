"""Hand-written lives that break one rule each, in noise that shrinking is to take away."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

N = {8: 512, 4: 1024}
VMALLOC = 0xFFFF_C900_0000_0000
BLOCK = 1 << 18


def tree_guest(policy: str, nr_pages: int = 1536, width: int = 8, **changes: Any) -> Json:
    """A guest of a tree policy whose tables lie in its first 256 pages."""
    guest: Json = {
        "word_bytes": width, "nr_pages": nr_pages, "max_p2m_pfn": nr_pages, "mfn_list_pfn": 150,
        "brk_pfn": 8, "brk_pages": 24, "page_pool": [[64, 16]], "directmap_pages": nr_pages,
    }  # fmt: skip
    if policy in ("moved", "mid-identity", "late-list"):
        guest["bootmem"] = [100, 40]
    if policy.startswith("two-level"):
        guest["brk_pages"] = 0
        guest["max_domain_pages"] = N[width] ** 2
        guest["static"] = {
            "p2m_missing": 8, "p2m_top": 9, "p2m_top_mfn": 10, "p2m_top_mfn_list": 11,
        }  # fmt: skip
    return guest | changes


def linear_guest(nr_pages: int = 1536, **changes: Any) -> Json:
    """A guest with a linear p2m whose tables lie in its first 256 pages."""
    return {
        "word_bytes": 8, "nr_pages": nr_pages, "mfn_list_pfn": 150, "pgd_pfn": 5,
        "boot_pool": [[8, 40]], "page_pool": [[64, 24]], "area_pfns": 2 * BLOCK,
        "p2m_vaddr": VMALLOC, "virt_p2m_4tools": False, "identity": [], "extra": [],
        "directmap_pages": nr_pages,
    } | changes  # fmt: skip


def hosts(end: int, count: int = 3, room: int = 4000, neighbours: bool = False) -> list[Json]:
    """Hosts that give the guest other frames each, in two pieces, and `room` frames to none."""
    made = []
    cut = end // 3
    for i in range(count):
        first = 7 + i * end
        domain = [[0, first + end - cut, cut], [cut, first, end - cut]]
        others = [7 + j * end for j in range(count) if j != i]
        made.append(
            {
                "frames": free_frame(end, count) + room,
                "domain": domain,
                "foreign": [run for other in others for run in _theirs(other, end, cut)]
                if neighbours
                else [],
            }
        )
    return made


def _theirs(first: int, end: int, cut: int) -> list[list[int]]:
    """What m2p holds where on another host the guest's frames are: PFNs that the guest has too."""
    return [[first, 0, end - cut], [first + end - cut, 400, cut]]


def free_frame(end: int, count: int = 3) -> int:
    """The first frame that none of `hosts` gives away."""
    return 7 + count * end


def trace(policy: str, guest: Json, made: list[Json], *events: Json) -> Json:
    """A life that boots on host 0."""
    boot = {"op": "boot", "host": 0}
    first = [] if events and events[0]["op"] == "boot" else [boot]
    return {
        "format": "p2mbatch-trace/3", "name": "built", "policy": policy, "guest": guest,
        "hosts": made, "events": [*first, *events],
    }  # fmt: skip


def move(host: int) -> Json:
    return {"op": "migrate", "host": host}


def assign(*runs: list[Any]) -> Json:
    return {"op": "set", "runs": [list(run) for run in runs]}


def fail(at: int) -> Json:
    return {"op": "fail_alloc", "at": at}


def lives() -> dict[str, tuple[Json, int]]:
    """Known hazards, by name: the life, and the rule that it breaks."""
    far = N[8] ** 2
    free = free_frame(2 * far)
    near = free_frame(3072)
    noise = assign([700, None, 40], [800, None, 3], [1000, near + 900, 20])
    extra = {"max_p2m_pfn": 3072}
    vaddr = VMALLOC + (3 << 21)
    return {
        # model.md section 9.
        "tracked-beyond-max": (
            trace("tracked", tree_guest("tracked"), hosts(2 * far),
                  assign([700, None, 40]), move(1), assign([900, None, 9]), move(2),
                  assign([800, None, 3], [far + 700, free, 50])), 1),
        "tracked-half-grown": (
            trace("tracked", tree_guest("tracked", max_p2m_pfn=2 * far), hosts(2 * far),
                  assign([700, None, 40]), fail(1), assign([far + 40, free + 9, 5]),
                  assign([800, None, 5]), move(1), move(2)), 1),
        "tracked-tail": (
            trace("tracked", tree_guest("tracked", 1400), hosts(3072), noise, move(1)), 7),
        "tracked-past-the-end": (
            trace("tracked", tree_guest("tracked"), hosts(3072), noise, move(1),
                  assign([2000, near + 20, 30]), move(2), move(0)), 4),
        # The change of 2.6.37.
        "stale-strays": (
            trace("stale", tree_guest("stale"), hosts(3072, neighbours=True), noise, move(1),
                  assign([700, None, 3])), 3),
        "stale-second-save": (
            trace("stale", tree_guest("stale"), hosts(3072, neighbours=True), noise, move(1),
                  move(2)), 5),
        # Public bugs of the eras.
        "two-level-none-second-save": (
            trace("two-level-none", tree_guest("two-level-none"), hosts(3072), noise, move(1),
                  assign([760, None, 3]), move(2)), 5),
        "mid-identity-brk": (
            trace("mid-identity", tree_guest("mid-identity", max_p2m_pfn=3 * far), hosts(3072),
                  {"op": "boot", "host": 0, "identity": [[far, 2 * far], [1536, 1600]]},
                  noise, move(1), move(2)), 1),
        "identity-shared-write": (
            trace("identity", tree_guest("identity", **extra), hosts(3072),
                  {"op": "boot", "host": 0, "identity": [[2048, 2560]]},
                  move(1), assign([2100, near + 70, 30])), 3),
        "identity-mid-missing-write": (
            trace("identity", tree_guest("identity", max_p2m_pfn=2 * far), hosts(2 * far),
                  move(1), assign([far + 1024, (1 << 62) + far + 1024, 512]), move(2)), 3),
        "linear-4.4-last-leaf": (
            trace("linear-4.4", linear_guest(), hosts(3072), noise,
                  assign([2050, near + 70, 30]), move(1), move(2)), 4),
        "linear-null-list-page": (
            trace("linear", linear_guest(virt_p2m_4tools=True, page_pool=[[64, 2]]), hosts(3072),
                  noise, move(1), move(2)), 1),
        "linear-trimmed": (
            trace("linear", linear_guest(p2m_vaddr=vaddr, extra=[[BLOCK + 100, 30]]),
                  hosts(2 * far), assign([700, None, 40]),
                  assign([BLOCK + 100, free, 30]), move(1), move(2)), 4),
    }  # fmt: skip
