"""Trace files: what is refused, where the message points, and that writing loses nothing."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from oracle import build
from oracle.recordings import TRACES
from p2mbatch.base.errors import InputError
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json, write_trace
from sweep_support import p2mbatch


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


# --- format 3 ---------------------------------------------------------------------------------

PLAIN = build.host(4000, build.frames_from(100, 1536))


def life3(*events: Any, format_number: int = 3) -> dict[str, Any]:
    """A life of `events` after boot on two hosts alike."""
    boot = [build.boot() | {"xen": "4.17"}] if format_number == 3 else [build.boot()]
    return build.trace(
        "tracked", build.guest(), [PLAIN, PLAIN], [*boot, *events], format_number=format_number
    )


MALFORMED_3: list[tuple[tuple[Any, ...], Any, str]] = [
    (("events", 0, "xen"), 4.1, "events[0].xen: is 4.1"),
    (("events", 0, "xen"), "3.4", "events[0].xen: is '3.4': the m2p of Xen before 4.0"),
    (("events", 0, "xen"), "4", "events[0].xen: is '4'"),
    (("events", 0, "xen"), "4.1.2.3", "events[0].xen"),
    (("events", 0, "xen"), "4.2-rc1", "events[0].xen"),
    (("events", 0, "xen"), None, "events[0].xen"),
    (("events", 0, "on_refused"), "stay", "events[0].on_refused: unknown key"),
    (("events", 1, "on_refused"), "end", "events[1].on_refused: is 'end': it must be 'stay'"),
    (("events", 1, "on_refused"), None, "events[1].on_refused"),
    (("events", 1, "on_refused"), ["stay"], "events[1].on_refused"),
    (("events", 2, "xen"), "4.1", "events[2].xen: unknown key"),
    (("events", 2, "on_refused"), "stay", "events[2].on_refused: unknown key"),
    (("format",), "p2mbatch-trace/2", "events[0].xen: unknown key"),
    (("format",), "p2mbatch-trace/1", "events[0].xen: unknown key"),
]


@pytest.mark.parametrize(("path", "new", "names"), MALFORMED_3)
def test_malformed_trace_of_format_3_is_refused_at_its_place(
    path: tuple[Any, ...], new: Any, names: str
) -> None:
    good = life3(build.migrate(1) | {"on_refused": "stay"}, build.assign((7, None, 1)))
    parse_trace(good)
    with pytest.raises(InputError) as caught:
        parse_trace(put(good, path, new), "guest.json")
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_life_that_needs_nothing_of_format_3_is_written_as_format_2() -> None:
    plain = life3(build.migrate(1), format_number=2) | {"format": "p2mbatch-trace/3"}
    assert trace_to_json(parse_trace(plain)) == plain | {"format": "p2mbatch-trace/2"}
    told = plain | {"expected": replay(parse_trace(plain))}
    for needs in (
        told,
        put(plain, ("events", 0, "xen"), "4.0"),
        put(plain, ("events", 1, "xen"), "4.17"),
        put(plain, ("events", 1, "on_refused"), "stay"),
    ):
        assert trace_to_json(parse_trace(needs)) == needs


def test_format_3_is_read_back_and_replayed_as_it_was_written(tmp_path: Path) -> None:
    nowhere = build.host(4000, build.frames_from(100, 1535))
    refused = build.migrate(1) | {"on_refused": "stay", "xen": "4.1"}
    trace = life3(refused, build.migrate(1)) | {"hosts": [PLAIN, nowhere]}
    trace["expected"] = replay(parse_trace(trace))
    assert [result["outcome"] for result in trace["expected"]] == ["ok", *["restore-failed"] * 2]
    write_trace(parse_trace(trace), tmp_path / "t.json.gz")
    again = load_trace(tmp_path / "t.json.gz")
    assert trace_to_json(again) == trace
    assert replay(again) == again.expected


def test_frames_are_renumbered_on_the_host_that_a_refused_guest_stayed_on() -> None:
    nowhere = build.host(4000, build.frames_from(100, 1535))
    stay = build.migrate(1) | {"on_refused": "stay"}
    events = [stay, build.assign((1535, 3000, 1), (2000, 3001, 1)), build.migrate(2)]
    trace = parse_trace(
        build.trace(
            "tracked",
            build.guest(max_p2m_pfn=4096),
            [PLAIN, nowhere, build.host(9000, build.frames_from(4000, 2001))],
            [build.boot(), *events],
            format_number=3,
        )
    )
    kept = ("outcome", "detail", "lost_pages", "ghost_pages", "entries_set")
    for key in range(3):
        told = [
            [{name: result.get(name) for name in kept} for result in replay(life)]
            for life in (trace, anonymise(trace, key))
        ]
        assert told[0] == told[1]
        assert [result["outcome"] for result in told[0]] == ["ok", "restore-failed", "ok", "ok"]


def test_the_command_tells_losses_and_who_stays(tmp_path: Path) -> None:
    nowhere = build.host(4000, build.frames_from(100, 1535))
    stay = build.migrate(1) | {"on_refused": "stay"}
    away = build.host(9000, build.frames_from(4000, 3000))
    trace = build.trace(
        "tracked",
        build.guest(),
        [PLAIN, nowhere, away],
        [build.boot(), stay, build.assign((2000, 3000, 2)), build.migrate(2)],
        format_number=3,
    )
    write_trace(parse_trace(trace), tmp_path / "t.json")
    done = p2mbatch("replay", str(tmp_path / "t.json"))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "restore-failed  (populate-failed 1535)  'Failed to populate" in lines[2]
    assert "stays where it was" in lines[2]
    assert "2 lost pages" in lines[4]
    again = trace | {"expected": replay(parse_trace(trace))}
    (tmp_path / "e.json").write_text(json.dumps(again))
    assert "1 of 1 trace exact" in p2mbatch("replay", "--check", str(tmp_path / "e.json")).stdout
