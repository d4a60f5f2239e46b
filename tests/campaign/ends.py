"""The ways in which events end, and which of them lives under a policy can come to."""

from __future__ import annotations

from oracle.build import Json

ALL = ("tracked", "stale", "none")
STALE = ("stale",)
LISTED = ("tracked", "none")

# (op, outcome, detail without its numbers): the policies under which lives come to it, and the
# first format in which they do.
ENDS: dict[tuple[str, str, str], tuple[tuple[str, ...], int]] = {
    ("boot", "ok", ""): (ALL, 1),
    ("boot", "bug", "brk overflow"): (ALL, 1),
    ("boot", "fault", "mid_mfn store"): (ALL, 2),
    ("set", "ok", ""): (ALL, 1),
    ("set", "ok", "no page"): (ALL, 1),
    ("set", "bug", "mfn != INVALID_P2M_ENTRY"): (ALL, 1),
    ("set", "bug", "virt_to_mfn(mid_mfn) != *top_mfn_p"): (LISTED, 1),
    ("set", "fault", "mid_mfn store"): (STALE, 1),
    ("set", "fault", "p2m_mid entry"): (STALE, 1),
    ("set", "fault", "p2m_top entry"): (STALE, 1),
    ("migrate", "ok", ""): (ALL, 1),
    ("migrate", "ok", "stray writes"): (STALE, 1),
    ("migrate", "bug", "_brk_start == 0"): (("stale", "tracked"), 1),
    ("migrate", "fault", "mid_mfn store"): (STALE, 1),
    ("migrate", "fault", "p2m_mid entry"): (STALE, 1),
    ("migrate", "fault", "p2m_top entry"): (STALE, 1),
    ("migrate", "misdirected", "-"): (ALL, 1),
    ("migrate", "save-failed", "max_pfn-too-large"): (("stale",), 2),
    ("migrate", "save-failed", "bad-fll-mfn"): (ALL, 1),
    ("migrate", "save-failed", "map-fll-failed"): (ALL, 1),
    ("migrate", "save-failed", "bad-mfn-in-fll"): (ALL, 1),
    ("migrate", "save-failed", "map-fl-failed"): (ALL, 1),
    ("migrate", "save-failed", "bad-mfn-in-fl"): (ALL, 1),
    ("migrate", "save-failed", "map-leaves-failed"): (ALL, 1),
    ("migrate", "save-failed", "bad-mfn-in-p2m-frame-list"): (ALL, 1),
    ("migrate", "restore-failed", "populate-failed"): (ALL, 2),
}

UNREACHABLE = {
    "mididx": "a mid is `p2m_mid_missing` at its first leaf or not at all, on one CPU",
    "mid_mfn_p != p2m_mid_missing_mfn": "a mid is hung in before its mid_mfn page, on one CPU",
}


def end_of(result: Json) -> tuple[str, str, str]:
    """How an event ended, from its "expected" object."""
    op, outcome, detail = result["op"], result.get("outcome", "ok"), result.get("detail")
    if outcome in ("save-failed", "restore-failed"):
        detail = str(detail).split(" ")[0]
    elif op == "set" and not result["ok"]:
        detail = "no page"
    elif op == "migrate" and outcome == "ok" and result["stray_writes"]:
        detail = "stray writes"
    return op, outcome, detail or ""


def never(seen: set[tuple[str, tuple[str, str, str]]], format_name: str) -> list[str]:
    """Ends that lives of a format can come to, but none of those did; `seen` has (policy, end)."""
    since = int(format_name[-1])
    return [
        f"{policy}: {' '.join(part for part in end if part)}"
        for end, (policies, first) in ENDS.items()
        for policy in policies
        if since >= first and (policy, end) not in seen
    ]
