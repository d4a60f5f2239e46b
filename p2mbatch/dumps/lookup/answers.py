"""Answers as plain values and as text: what is at a PFN, whose a frame is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from p2mbatch.base.entries import FOREIGN_FLAG, IDENTITY_FLAG
from p2mbatch.dumps.lookup.subject import (
    BEYOND,
    FOREIGN,
    IDENTITY,
    LOST,
    OWN,
    Subject,
)
from p2mbatch.dumps.lookup.ways import list_way, tree_way
from p2mbatch.dumps.p2m import CHUNK_PFNS

MAX_SHOWN = 8
"""PFNs that are named where there may be many; all of them are counted."""


def pfn_answer(subject: Subject, pfn: int) -> dict[str, Any]:
    """Return what is at `pfn`: its entry, its page, and both ways to the entry."""
    guest, n = subject.guest, subject.guest.geometry.entries
    answer: dict[str, Any] = {"pfn": pfn, "kind": BEYOND, "mfn": None}
    if pfn >= guest.max_p2m_pfn:
        return answer | {"max_p2m_pfn": guest.max_p2m_pfn}
    entry = subject.entry(pfn)
    kind = subject.kinds(pfn, np.array([entry]))[0]
    answer |= {"kind": kind, "mfn": _frame(entry, kind, guest.word_bytes)}
    has_tree = subject.walk.linear is None
    answer |= {
        "top": pfn // n**2 if has_tree else None,
        "mid": pfn // n % n if has_tree else None,
        "entry": pfn % n,
        "leaf": pfn // n,
    }
    answer["page"] = subject.page_names(pfn)
    answer["in_file"] = guest.pages.read(pfn) is not None if guest.pages.complete else None
    if kind in (OWN, LOST):
        others = subject.named_by(entry)
        others = others[others != pfn]
        answer["same_frame_pfns"] = others[:MAX_SHOWN].tolist()
        answer["num_same_frame_pfns"] = int(others.size)
    answer |= _host(subject, entry if kind in (OWN, LOST) else None)
    answer["tree"] = tree_way(subject, pfn).to_json() if has_tree else None
    answer["list"] = list_way(subject, pfn).to_json()
    return answer


def _frame(entry: int, kind: str, word_bytes: int) -> int | None:
    """Return the frame that an entry names, without its mark; None where it names none."""
    if kind in (OWN, LOST):
        return entry
    if kind == FOREIGN:
        return entry & ~FOREIGN_FLAG[4] if entry >= 0 else entry & (FOREIGN_FLAG[8] - 1)
    if kind == IDENTITY:
        return entry & ~IDENTITY_FLAG[word_bytes]
    return None


def _host(subject: Subject, mfn: int | None) -> dict[str, Any]:
    """Return what the host knows of frame `mfn`, where the host is known."""
    if subject.m2p is None or mfn is None:
        return {}
    assert subject.owned is not None
    if mfn >= subject.m2p.size:
        return {"owner": "no host has it", "m2p": None}
    at = int(np.searchsorted(subject.owned, mfn))
    own = at < subject.owned.size and subject.owned[at] == mfn
    value = int(subject.m2p[mfn])
    owner = "this guest" if own else "nobody" if value < 0 else "another domain"
    return {"owner": owner, "m2p": value if value >= 0 else None}


def range_answer(subject: Subject, first: int, last: int) -> dict[str, Any]:
    """Return the PFNs `first` to `last` as runs that are alike: kind, and frames in a row."""
    span = subject.guest.max_p2m_pfn
    runs: list[dict[str, Any]] = []
    for start in range(first, min(last + 1, span), CHUNK_PFNS):
        stop = min(start + CHUNK_PFNS, last + 1, span)
        entries = subject.guest.p2m.chunk(start, stop)
        kinds = np.array(subject.kinds(start, entries), object)
        steps = np.diff(entries)
        cut = (kinds[1:] != kinds[:-1]) | ((steps != 1) & (steps != 0))
        # Frames count up; holes and what has no frame stay as they are.
        cut |= (steps == 0) & np.isin(kinds[1:], [OWN, LOST, FOREIGN, IDENTITY])
        cut |= (steps == 1) & ~np.isin(kinds[1:], [OWN, LOST, FOREIGN, IDENTITY])
        edges = np.concatenate([[0], np.flatnonzero(cut) + 1, [entries.size]]).tolist()
        for low, high in pairwise(edges):
            kind = str(kinds[low])
            mfn = _frame(int(entries[low]), kind, subject.guest.word_bytes)
            _append(runs, {"pfn": start + low, "count": high - low, "kind": kind, "mfn": mfn})
    if last >= span:
        low = max(first, span)
        runs.append({"pfn": low, "count": last - low + 1, "kind": BEYOND, "mfn": None})
    return {"first_pfn": first, "last_pfn": last, "runs": runs}


def _append(runs: list[dict[str, Any]], run: dict[str, Any]) -> None:
    """Append `run`, or lengthen the last one where it goes on across two chunks."""
    if runs and runs[-1]["kind"] == run["kind"]:
        last = runs[-1]
        if last["mfn"] is None or last["mfn"] + last["count"] == run["mfn"]:
            last["count"] += run["count"]
            return
    runs.append(run)


def mfn_answer(subject: Subject, mfn: int) -> dict[str, Any]:
    """Return whose frame `mfn` is, at which PFNs, and which words of the list name it."""
    guest, walk = subject.guest, subject.walk
    pfns, foreign = subject.named_by(mfn), subject.foreign_by(mfn)
    listed = []
    if guest.shared_info is not None:
        if guest.shared_info.frame_list_list_mfn == mfn:
            listed.append("pfn_to_mfn_frame_list_list of the shared info page")
        if walk.linear is not None and walk.linear.cr3_mfn == mfn:
            listed.append("p2m_cr3 of the shared info page")
    n = guest.geometry.entries
    listed += [f"entry {x} of the frame list list" for x in _places(walk.fll, mfn)]
    name = "the level 1 entry of leaf {0}" if walk.linear else "entry {2} of the frame list of {1}"
    listed += [name.format(x, f"top {x // n}", x % n) for x in _places(walk.fl, mfn)]
    return {
        "mfn": mfn,
        "pfns": pfns[:MAX_SHOWN].tolist(),
        "num_pfns": int(pfns.size),
        "foreign_pfns": foreign[:MAX_SHOWN].tolist(),
        "num_foreign_pfns": int(foreign.size),
        "page": subject.page_names(int(pfns[0])) if pfns.size else [],
        "listed_by": listed[:MAX_SHOWN],
        "num_listed_by": len(listed),
        **_host(subject, mfn),
    }


def _places(words: np.ndarray[Any, np.dtype[np.int64]], mfn: int) -> list[int]:
    return [int(x) for x in np.flatnonzero(words == mfn)]


# --- as text --------------------------------------------------------------------------------------


def _line(name: str, text: str) -> str:
    return f"{name:<18}{text}"


def _number(value: int | None) -> str:
    return "a word that was not kept" if value is None else f"{value:#x} ({value})"


def pfn_text(answer: dict[str, Any]) -> str:
    """Return the answer about one PFN, one line a fact."""
    kind, mfn = answer["kind"], answer["mfn"]
    lines = [_line("PFN", _number(answer["pfn"]))]
    if kind == BEYOND:
        return "\n".join([*lines, _line("entry", f"{BEYOND}: {_number(answer['max_p2m_pfn'])}")])
    whose = {
        OWN: "the guest's own",
        FOREIGN: "another domain's, mapped by this guest",
        IDENTITY: "the machine's own frame of that number, no memory of the guest's",
        LOST: "the guest's own by its leaf; the page was lost in the dump",
    }
    lines.append(
        _line("entry", kind if mfn is None else f"MFN {_number(mfn)}: {whose.get(kind, kind)}")
    )
    if answer.get("num_same_frame_pfns"):
        also = ", ".join(f"{pfn:#x}" for pfn in answer["same_frame_pfns"])
        lines.append(_line("named too by", f"{answer['num_same_frame_pfns']} PFNs: {also}"))
    lines += _host_lines(answer)
    lines.append(_line("page", ", ".join(answer["page"]) or "no structure of the p2m's"))
    if answer["in_file"] is False:
        lines.append(_line("", "the file holds no such page"))
    indices = f"leaf {answer['leaf']}, entry {answer['entry']}"
    if answer["top"] is not None:
        indices = f"top {answer['top']}, mid {answer['mid']}, entry {answer['entry']} ({indices})"
    lines.append(_line("way", indices))
    if answer["tree"] is not None:
        lines += _way_lines("guest's tree", answer["tree"])
    return "\n".join([*lines, *_way_lines("toolstack's list", answer["list"])])


def _way_lines(name: str, way: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for step in way["steps"]:
        at = "" if step["page_pfn"] is None else f" at PFN {step['page_pfn']:#x}"
        index = "" if step["place"] is None else f"[{step['place']}]"
        word = "a word that was not kept" if step["word"] is None else f"{step['word']:#x}"
        to = "" if step["leads_to_pfn"] is None else f" → PFN {step['leads_to_pfn']:#x}"
        lines.append(_line(name if not lines else "", f"{step['page']}{at}{index} = {word}{to}"))
    if way["reason"]:
        lines.append(_line(name if not lines else "", way["reason"]))
    return lines


def _host_lines(answer: dict[str, Any]) -> list[str]:
    if "owner" not in answer:
        return []
    m2p = "INVALID" if answer["m2p"] is None else f"PFN {answer['m2p']:#x}"
    return [_line("on the host", f"owner: {answer['owner']}; m2p: {m2p}")]


def range_text(answer: dict[str, Any]) -> str:
    """Return a range's runs, one line each."""
    lines = []
    for run in answer["runs"]:
        last = run["pfn"] + run["count"] - 1
        mfn = run["mfn"]
        frames = "" if mfn is None else f"MFN {mfn:#x}-{mfn + run['count'] - 1:#x}"
        lines.append(
            f"PFN {run['pfn']:#x}-{last:#x}  {run['count']:>10}  {run['kind']:<17}{frames}"
        )
    return "\n".join(line.rstrip() for line in lines)


def mfn_text(answer: dict[str, Any]) -> str:
    """Return the answer about one frame, one line a fact."""
    lines = [_line("MFN", _number(answer["mfn"]))]
    if answer["num_pfns"]:
        pfns = ", ".join(f"{pfn:#x}" for pfn in answer["pfns"])
        num_more = answer["num_pfns"] - MAX_SHOWN
        more = f" and {num_more} more" if num_more > 0 else ""
        lines.append(_line("this guest's", f"at PFN {pfns}{more}"))
        lines.append(_line("page", ", ".join(answer["page"]) or "no structure of the p2m's"))
    else:
        lines.append(_line("this guest's", "no: no PFN names it as its own"))
    if answer["num_foreign_pfns"]:
        pfns = ", ".join(f"{pfn:#x}" for pfn in answer["foreign_pfns"])
        lines.append(_line("mapped as foreign", f"at {answer['num_foreign_pfns']} PFNs: {pfns}"))
    lines += _host_lines(answer)
    for i, where in enumerate(answer["listed_by"]):
        lines.append(_line("named in the list" if not i else "", where))
    if answer["num_listed_by"] > MAX_SHOWN:
        lines.append(_line("", f"and {answer['num_listed_by'] - MAX_SHOWN} more entries"))
    return "\n".join(lines)
