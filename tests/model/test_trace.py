"""Trace files: what is refused, where the message points, and that writing loses nothing."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from oracle.recordings import TRACES
from p2mbatch.base.errors import InputError
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json, write_trace


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(
        gzip.decompress((TRACES / "stale-extra-memory-64-0.json.gz").read_bytes())
    )
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of `value` with the place at `path` set to `new` (DELETE: taken out)."""
    out = copy.deepcopy(value)
    at = out
    for step in path[:-1]:
        at = at[step]
    if new is DELETE:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return out


DELETE = object()

# The place that is changed, what it becomes, and what the message must name.
MALFORMED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("format",), "p2mbatch-trace/9", "format"),
    (("format",), DELETE, "format"),
    (("surprise",), 1, "surprise: unknown key"),
    (("guest",), DELETE, "guest: is missing"),
    (("guest",), [], "guest: is an array"),
    (("name",), 7, "name"),
    (("policy",), "fresh", "policy"),
    (("policy",), [], "policy"),
    (("guest", "word_bytes"), 16, "guest.word_bytes"),
    (("guest", "word_bytes"), True, "guest.word_bytes"),
    (("guest", "word_bytes"), [8], "guest.word_bytes"),
    (("guest", "nr_pages"), 0, "guest.nr_pages"),
    (("guest", "nr_pages"), "many", "guest.nr_pages"),
    (("guest", "nr_pages"), 1.5, "guest.nr_pages"),
    (("guest", "nr_pages"), True, "guest.nr_pages"),
    (("guest", "max_p2m_pfn"), 5, "guest.max_p2m_pfn"),
    (("guest", "max_p2m_pfn"), 1 << 70, "guest.max_p2m_pfn"),
    (("guest", "brk_pfn"), -1, "guest.brk_pfn"),
    (("guest", "brk_pages"), 1 << 20, "guest.brk_pages"),
    (("guest", "mfn_list_pfn"), 1025, "guest.mfn_list_pfn"),
    (("guest", "directmap_pages"), 1030, "guest.brk_pfn"),
    (("guest", "page_pool"), [[1024, 4]], "guest.page_pool[0]"),
    (("guest", "page_pool"), [[4000, 10], [4005, 3]], "guest.page_pool[1]"),
    (("guest", "page_pool"), [[26700, 100]], "guest.page_pool[0]"),
    (("guest", "page_pool"), [[4000]], "guest.page_pool[0]"),
    (("guest", "page_pool"), 7, "guest.page_pool"),
    (("guest", "extra"), 7, "guest.extra: unknown key"),
    (("hosts",), {}, "hosts: is an object"),
    (("hosts", 1, "frames"), 0, "hosts[1].frames"),
    (("hosts", 1, "frames"), 1000, "hosts[1].domain["),
    (("hosts", 1, "domain", 2), [0, 5, -1], "hosts[1].domain[2][2]"),
    (("hosts", 1, "domain", 2), [0, 5, 0], "hosts[1].domain[2][2]"),
    (("hosts", 1, "domain", 2), [0, 5], "hosts[1].domain[2]"),
    (("hosts", 1, "domain", 2, 1), None, "hosts[1].domain[2][1]"),
    (("hosts", 1, "domain", 2, 1), 1 << 63, "hosts[1].domain[2][1]"),
    (("hosts", 1, "domain", 2, 0), 1 << 40, "hosts[1].domain[2]"),
    (("hosts", 1, "domain", 2, 0), 0, "hosts[1].domain[2]"),
    (("hosts", 1, "foreign", 0, 0), 1 << 30, "hosts[1].foreign[0]"),
    (("hosts", 1, "foreign", 3), "run", "hosts[1].foreign[3]"),
    (("hosts", 0, "domain"), [], "hosts[0].domain: names no frame for PFN 0"),
    (("events",), [], "events: is empty"),
    (("events", 0), {"op": "migrate", "host": 1}, "events[0].op"),
    (("events", 1), {"op": "boot", "host": 1}, "events[1].op"),
    (("events", 1), {"op": "reboot"}, "events[1].op"),
    (("events", 1), {"op": []}, "events[1].op"),
    (("events", 1), 3, "events[1].op"),
    (("events", 0, "host"), 9, "events[0].host"),
    (("events", 1), {"op": "fail_alloc"}, "events[1].at"),
    (("events", 1), {"op": "fail_alloc", "at": -1}, "events[1].at"),
    (("events", 1), {"op": "set", "runs": [[1, None, 1], [2, "x", 1]]}, "events[1].runs[1][1]"),
    (("events", 1), {"op": "set", "runs": [[1, -1, 1]]}, "events[1].runs[0][1]"),
    (("events", 1), {"op": "set", "runs": [[1, (1 << 63) - 1, 2]]}, "events[1].runs[0]"),
    (("events", 1), {"op": "set", "runs": [[1 << 52, None, 1]]}, "events[1].runs[0]"),
    (("events", 1), {"op": "set", "runs": [], "pages": 1}, "events[1].pages: unknown key"),
    (("expected",), 3, "expected"),
    (("expected", 0), 3, "expected[0]"),
]


@pytest.mark.parametrize(("path", "new", "names"), MALFORMED)
def test_malformed_trace_is_refused_at_its_place(
    good: dict[str, Any], path: tuple[Any, ...], new: Any, names: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_trace(put(good, path, new), "guest.json")
    message = str(caught.value)
    assert message.startswith("guest.json: ")
    assert names in message
    assert "\n" not in message


def test_host_frames_overlap_with_foreign_is_refused(good: dict[str, Any]) -> None:
    mfn = good["hosts"][1]["domain"][0][1]
    bad = put(good, ("hosts", 1, "foreign", 0), [mfn, 1, 1])
    with pytest.raises(InputError, match=r"hosts\[1\]\.foreign\[0\].*hosts\[1\]\.domain\[0\]"):
        parse_trace(bad, "guest.json")


@pytest.mark.parametrize("keep", [0, 1, 2, 10, 1000, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file_is_refused(tmp_path: Path, keep: int, zipped: bool) -> None:
    data = (TRACES / "dense-64-0.json.gz").read_bytes()
    whole = data if zipped else gzip.decompress(data)
    path = tmp_path / "cut.json"
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"cut\.json"):
        load_trace(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: can't be read"):
        load_trace(tmp_path / "nowhere.json")


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_written_trace_reads_back_the_same(tmp_path: Path, good: dict[str, Any], name: str) -> None:
    trace = parse_trace(good)
    write_trace(trace, tmp_path / name)
    again = trace_to_json(load_trace(tmp_path / name))
    wanted = copy.deepcopy(good)
    for host in wanted["hosts"]:
        host["domain"].sort()
    assert again == wanted
