"""The eras' fields of traces: what is refused, and where the message points."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from model.test_trace import DELETE, put
from p2mbatch.base.errors import InputError
from p2mbatch.guests.guest import Guest
from p2mbatch.model.trace_file import load_trace, parse_trace

ERAS = Path(__file__).parents[2] / "data" / "traces" / "eras"

# A recording, the place that is changed, what it becomes, and what the message must name.
MALFORMED: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("moved", ("guest", "bootmem"), DELETE, "guest.bootmem: is missing"),
    ("moved", ("guest", "bootmem"), 7, "guest.bootmem: is the number 7"),
    ("moved", ("guest", "bootmem"), [7], "guest.bootmem: must be [pfn, count]"),
    ("moved", ("guest", "bootmem"), [7, -1], "guest.bootmem[1]"),
    ("moved", ("guest", "bootmem"), [1 << 40, 3], "guest.bootmem: 1099511627776 + 3 pages"),
    ("moved", ("guest", "brk_pfn"), 1 << 40, "guest.brk_pfn"),
    ("tail", ("guest", "bootmem"), [7, 3], "guest.bootmem: unknown key"),
    ("tail", ("guest", "static"), {}, "guest.static: unknown key"),
    ("two-level", ("guest", "static"), DELETE, "guest.static: is missing"),
    ("two-level", ("guest", "static"), [], "guest.static: is an array"),
    ("two-level", ("guest", "static", "p2m_top"), DELETE, "guest.static.p2m_top: is missing"),
    ("two-level", ("guest", "static", "p2m_mid"), 3, "guest.static.p2m_mid: unknown key"),
    ("two-level", ("guest", "static", "p2m_top"), 1 << 40, "guest.static.p2m_top: 1099511627776 +"),
    ("two-level", ("guest", "max_domain_pages"), 512, "guest.max_domain_pages"),
    ("two-level", ("guest", "max_domain_pages"), 262145, "guest.max_domain_pages"),
    ("two-level", ("events", 0, "identity"), [], "events[0].identity: unknown key"),
    ("linear-sif", ("guest", "brk_pfn"), 7, "guest.brk_pfn: unknown key"),
    ("linear-sif", ("guest", "boot_pool"), DELETE, "guest.boot_pool: is missing"),
    ("linear-sif", ("guest", "boot_pool"), [[1 << 40, 2]], "guest.boot_pool[0]"),
    ("linear-sif", ("guest", "word_bytes"), 4, "guest.word_bytes"),
    ("linear-sif", ("guest", "area_pfns"), 1 << 18 | 512, "guest.area_pfns"),
    ("linear-sif", ("guest", "p2m_vaddr"), 4096, "guest.p2m_vaddr"),
    ("linear-sif", ("guest", "virt_p2m_4tools"), 1, "guest.virt_p2m_4tools"),
    ("linear-sif", ("guest", "extra"), [[5, 1]], "guest.extra[0]"),
    ("linear-sif", ("guest", "identity"), [[5, 0]], "guest.identity[0][1]"),
    ("linear-sif", ("events", 1), {"op": "tweak", "all": 1}, "events[1].all: unknown key"),
    ("linear-sif", ("events", 1), {"op": "tweak", "shared": {"x": 1}}, "events[1].shared.x"),
    ("linear-sif", ("events", 1), {"op": "tweak", "ptes": [[1, 512, 3]]}, "events[1].ptes[0][1]"),
    ("linear-sif", ("events", 1), {"op": "migrate", "host": 0, "live": 1}, "events[1].live"),
    ("linear-sif", ("events", 1), {"op": "migrate", "host": 0, "during": []}, "events[1].during"),
    ("linear-sif", ("events", 1), {"op": "migrate", "host": 0, "toolstack": "x"}, "toolstack"),
    ("tail", ("events", 1), {"op": "tweak"}, "events[1].op"),
    ("tail", ("events", 1), {"op": "migrate", "host": 0, "live": True}, "events[1].live: unknown"),
    ("tail", ("events", 0, "identity"), [], "events[0].identity: unknown key"),
    ("tail", ("format",), "p2mbatch-trace/2", "format"),
    ("tail", ("guest", "max_p2m_pfn"), 1 << 40, "guest.max_p2m_pfn"),
    ("tail", ("guest", "nr_pages"), 0, "guest.nr_pages"),
    ("tail", ("guest", "word_bytes"), 2, "guest.word_bytes"),
    ("moved", ("events", 0, "identity"), [[1, 2, 3]], "events[0].identity[0]"),
    ("moved", ("events", 0, "identity"), [[1, 2], [3, -4]], "events[0].identity[1][1]"),
    ("moved", ("events", 0, "identity"), {}, "events[0].identity: is an object"),
    ("moved", ("events", 1), {"op": "migrate", "host": 0, "identity": []}, "events[1].identity"),
    ("moved", ("events", 1), {"op": "set", "runs": [[0, "identity", 1]]}, "events[1].runs[0][1]"),
    ("moved", ("events", 1), {"op": "set", "runs": [[0, -1, 1]]}, "events[1].runs[0][1]"),
    ("moved", ("events", 1), {"op": "set", "runs": [[0, 1, 0]]}, "events[1].runs[0][2]"),
    ("moved", ("events", 1), {"op": "set", "runs": [[1 << 52, 1, 1]]}, "events[1].runs[0]"),
    ("moved", ("events", 1), {"op": "set", "runs": [[0, 1]]}, "events[1].runs[0]"),
    ("moved", ("events", 1), {"op": "set", "runs": [[0, 1 << 64, 1]]}, "events[1].runs[0][1]"),
    ("moved", ("hosts", 0, "domain"), [], "hosts[0].domain: names no frame for PFN 0"),
]


def recording(policy: str) -> dict[str, Any]:
    kind = "plain" if policy.startswith("linear") else "multi-mid-64"
    path = sorted(ERAS.glob(f"{policy}-{kind}-*.json.gz"))[0]
    value: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return value


@pytest.mark.parametrize(("policy", "path", "new", "names"), MALFORMED)
def test_malformed_trace_is_refused_at_its_place(
    policy: str, path: tuple[Any, ...], new: Any, names: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_trace(put(recording(policy), path, new), "guest.json")
    message = str(caught.value)
    assert message.startswith("guest.json: ")
    assert names in message
    assert "\n" not in message


def test_pages_in_two_structures_are_refused() -> None:
    value = recording("moved")
    value["guest"]["bootmem"] = [value["guest"]["brk_pfn"], 2]
    with pytest.raises(InputError, match=r"guest\.(bootmem|brk_pfn): page \d+ is in guest\."):
        parse_trace(value, "guest.json")


@pytest.mark.parametrize("word_bytes", [4, 8])
def test_a_word_may_have_any_value_but_invalid(word_bytes: int) -> None:
    value = recording("tail")
    del value["expected"]
    value["guest"]["word_bytes"] = word_bytes
    value["guest"]["max_p2m_pfn"] = value["guest"]["nr_pages"]
    value["guest"]["directmap_pages"] = 200_000
    invalid = (1 << (8 * word_bytes)) - 1
    for word in (0, 1 << 31, invalid >> 1, invalid - 1):
        value["events"] = [value["events"][0], {"op": "set", "runs": [[0, word, 1]]}]
        parse_trace(value, "guest.json")
    value["events"][1]["runs"] = [[0, invalid, 1]]
    with pytest.raises(InputError, match=r"events\[1\]\.runs\[0\]\[1\]"):
        parse_trace(value, "guest.json")


def test_an_eras_guest_has_no_other_kernel() -> None:
    path = sorted(ERAS.glob("identity-multi-mid-64-*.json.gz"))[0]
    assert load_trace(path).policy == "identity"
    for policy in ("tracked", "moved", "linear"):
        with pytest.raises(InputError, match=f"{policy} places its pages otherwise.*use identity$"):
            Guest.from_file(str(path), policy=policy)
