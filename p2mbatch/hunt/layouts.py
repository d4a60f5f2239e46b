"""The simplest guest and hosts that a life may have: tables side by side, hosts of one piece.

Traces here are the JSON objects of trace files: what is made of one is checked by the parser.
"""

from __future__ import annotations

import copy
from typing import Any

from p2mbatch.base.geometry import INVALID

Json = dict[str, Any]

FIRST_PFN = 1
"""Where packed tables begin: Linux keeps PFN 0 out of use."""

STYLES = ("apart", "apart, neighbours", "shifted")
"""How the hosts' frames lie: on each host others; the same with other domains on those that the
guest has elsewhere; or each page's frame on one host is the next page's on the next."""


def packed(trace: Json) -> Json:
    """Return `trace` with the guest's tables side by side at its lowest PFNs, in as many pages.

    `mfn_list` comes last: the page right behind it may be taken along where a kernel moves leaves.
    """
    out = copy.deepcopy(trace)
    guest = out["guest"]
    n = 4096 // int(guest["word_bytes"])
    next_pfn = [FIRST_PFN]

    def place(count: int) -> int:
        next_pfn.append(next_pfn[-1] + count)
        return next_pfn[-2]

    if "pgd_pfn" in guest:
        guest["pgd_pfn"] = place(1)
        guest["boot_pool"] = _one_run(place, guest["boot_pool"])
    else:
        guest["brk_pfn"] = place(guest["brk_pages"])
    if "static" in guest:
        tops = guest["max_domain_pages"] // n**2
        counts = {"p2m_top": tops, "p2m_top_mfn": tops}
        for name in guest["static"]:
            guest["static"][name] = place(counts.get(name, 1))
    if "bootmem" in guest:
        guest["bootmem"] = [place(guest["bootmem"][1]), guest["bootmem"][1]]
    guest["page_pool"] = _one_run(place, guest["page_pool"])
    guest["mfn_list_pfn"] = place(-(-guest["nr_pages"] // n))
    guest["directmap_pages"] = guest["nr_pages"]
    return out


def _one_run(place: Any, runs: list[list[int]]) -> list[list[int]]:
    count = sum(run[1] for run in runs)
    return [[int(place(count)), count]] if count else []


def tables_end(guest: Json) -> int:
    """Return the PFN after the last of a packed guest's tables."""
    n = 4096 // int(guest["word_bytes"])
    return int(guest["mfn_list_pfn"]) + -(-int(guest["nr_pages"]) // n)


def end_of(trace: Json) -> int:
    """Return the highest PFN that is booted, extra or set, plus 1."""
    runs = [run for event in trace["events"] for run in event.get("runs", [])]
    ends = [run[0] + run[2] for run in runs]
    ends += [sum(run) for run in trace["guest"].get("extra", [])]
    return int(max([trace["guest"]["nr_pages"], *ends]))


def plain_hosts(trace: Json, style: str) -> Json:
    """Return `trace` on hosts of one piece, just large enough, sets of frames rewritten to suit.

    A frame that a set names is one that is nobody's on any of the hosts.
    """
    out = copy.deepcopy(trace)
    end, count = end_of(out), len(out["hosts"])
    step = 1 if style == "shifted" else end
    free = 1 + (count - 1) * step + end
    for event in out["events"]:
        for run in event.get("runs", []):
            if is_frame(run, out["guest"]["word_bytes"]):
                run[1] = free
                free += run[2]
    for i, host in enumerate(out["hosts"]):
        host.clear()
        host["frames"] = free
        host["domain"] = [[0, 1 + i * step, end]]
        others = [1 + j * step for j in range(count) if j != i]
        host["foreign"] = [[first, 0, end] for first in others] if "neighbours" in style else []
    return out


def is_frame(run: list[Any], word_bytes: int) -> bool:
    """Return whether a set's run writes plain frames: no hole, no flag."""
    word = run[1]
    limit = 1 << 31 if word_bytes == 8 else 1 << 30
    return isinstance(word, int) and word != INVALID and word < limit
