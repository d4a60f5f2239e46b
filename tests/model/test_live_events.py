"""Live migrations: rounds in which the guest goes on, what is refused of them, random lives."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campaign import live
from model.test_trace import life3, put
from oracle import build
from p2mbatch.base.errors import InputError
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.fates import ABORTED, fate_of
from p2mbatch.model.life import Life
from p2mbatch.model.linear_life import LinearLife
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import (
    MAX_ROUNDS,
    load_trace,
    parse_trace,
    trace_to_json,
    write_trace,
)

ERAS_3 = Path(__file__).parents[2] / "data" / "traces" / "eras-3"

Json = dict[str, Any]

NUM_LIVES = 8


def recorded_live() -> list[Path]:
    """The recordings on the machine as it is that have a live migration."""
    return [
        path
        for path in sorted(ERAS_3.glob("*.json.gz"))
        if b'"live"' in gzip.decompress(path.read_bytes())
    ]


@pytest.mark.parametrize("policy", live.POLICIES)
def test_models_agree_on_random_live_lives(policy: str) -> None:
    ends, trace, said = live.run((live.LIVE, policy, 5_000_000, NUM_LIVES))
    assert trace is None, said
    assert ends.total()


@pytest.mark.lane
def test_models_agree_on_a_few_live_lives() -> None:
    for policy in ("tracked", "stale", "none", "tail", "linear"):
        _, trace, said = live.run((live.LIVE, policy, 6_000_000, 2))
        assert trace is None, said


def test_a_round_is_a_during() -> None:
    """What was recorded with one round ends as it did, told as a list of one."""
    paths = recorded_live()
    assert len(paths) >= 12
    for path in paths:
        trace = json.loads(gzip.decompress(path.read_bytes()))
        for event in trace["events"]:
            if event.get("live"):
                event["rounds"] = [event.pop("during", [])]
        assert replay(parse_trace(trace)) == trace["expected"], path.name


@pytest.mark.parametrize("policy", ["tracked", "stale", "none", "tail", "identity", "late-list"])
def test_rounds_of_a_tree_walk_may_be_cut_anywhere(policy: str) -> None:
    """Nothing is compared between them; without a want of memory, cut rounds are one round."""
    seen = 0
    for seed in range(40):
        trace = live.drawn(policy, seed)
        if any(result.get("ok") is False for result in trace["expected"]):
            continue
        for event in trace["events"]:
            if "rounds" in event:
                event["rounds"] = [[run] for runs in event["rounds"] for run in runs]
                seen += len(event["rounds"]) > 1
        assert replay(parse_trace(trace)) == trace["expected"], seed
    assert seen > 2


LIVE = build.migrate(1) | {"live": True, "rounds": [[[7, None, 1]], [], [[1500, None, 4]]]}

MALFORMED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("live",), 1, "events[1].live: is the number 1: it must be true or false"),
    (("live",), False, "events[1].rounds: is of a live migration only"),
    (("during",), [], "events[1].rounds: and during are both there"),
    (("rounds",), {}, "events[1].rounds: is an object"),
    (("rounds",), 3, "events[1].rounds: is the number 3"),
    (("rounds",), [7], "events[1].rounds[0]: is the number 7"),
    (("rounds",), [[], [[7, 3]]], "events[1].rounds[1][0]"),
    (("rounds",), [[], [], [[7, 3, 0]]], "events[1].rounds[2][0][2]"),
    (("rounds",), [[[-1, 3, 1]]], "events[1].rounds[0][0][0]"),
    (("rounds",), [[]] * (MAX_ROUNDS + 1), f"events[1].rounds: has {MAX_ROUNDS + 1}: at most"),
    (("round",), [], "events[1].round: unknown key"),
]


@pytest.mark.parametrize(("path", "new", "names"), MALFORMED)
def test_malformed_rounds_are_refused_at_their_place(
    path: tuple[Any, ...], new: Any, names: str
) -> None:
    parse_trace(life3(LIVE))
    with pytest.raises(InputError) as caught:
        parse_trace(put(life3(LIVE), ("events", 1, *path), new), "guest.json")
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [1, 2])
def test_older_formats_know_no_rounds(form: int) -> None:
    trace = life3(LIVE, format_number=2) | {"format": f"p2mbatch-trace/{form}"}
    with pytest.raises(InputError, match=r"events\[1\]\.\w+: unknown key"):
        parse_trace(trace)


@pytest.mark.parametrize("policy", live.POLICIES)
def test_a_live_life_is_read_back_as_it_was_written(tmp_path: Path, policy: str) -> None:
    for seed in range(6):
        trace = live.drawn(policy, seed)
        path = tmp_path / "t.json.gz"
        write_trace(parse_trace(trace), path)
        assert trace_to_json(load_trace(path)) == trace
        if not any(event["op"] == "tweak" for event in trace["events"]):
            moved = anonymise(load_trace(path), key=seed)
            kept = [len(e["rounds"]) for e in trace["events"] if "rounds" in e]
            assert [len(e["rounds"]) for e in moved.events if "rounds" in e] == kept
            parse_trace(trace_to_json(moved))


def test_frames_of_rounds_are_renumbered_where_the_guest_is() -> None:
    """What it set while it was sent is a frame of the old host's: the life comes to the same."""
    grown = build.migrate(1) | {"live": True, "rounds": [[[7, 3000, 1]], [[9, 3001, 2]]]}
    trace = parse_trace(life3(grown))
    told, moved = replay(trace), replay(anonymise(trace, key=5))
    names = ("outcome", "detail", "entries_set", "ok", "lost_pages", "ghost_pages")
    assert [[r.get(n) for n in names] for r in told] == [[r.get(n) for n in names] for r in moved]
    assert told[1]["entries_set"] == 3


def aborted(rounds: list[Any]) -> Json:
    """A recorded linear guest whose table is walked, once with these rounds, then paused."""
    path = ERAS_3 / "linear-sif-live-grow-1-m2.json.gz"
    trace: Json = json.loads(gzip.decompress(path.read_bytes()))
    at = next(i for i, event in enumerate(trace["events"]) if event.get("live"))
    event = trace["events"][at]
    event.pop("during", None)
    event |= {"rounds": rounds, "on_refused": "stay"}
    again = {"op": "migrate", "host": event["host"]}
    return trace | {"events": [*trace["events"][: at + 1], again]}


def test_an_aborted_guest_lost_nothing_and_is_tried_again() -> None:
    path = ERAS_3 / "linear-sif-live-grow-1-m2.json.gz"
    recorded = json.loads(gzip.decompress(path.read_bytes()))
    during = next(e["during"] for e in recorded["events"] if e.get("live"))
    grows = replay(parse_trace(aborted([[], during, [[1, None, 1]]])))
    given_up, moved = grows[-2:]
    assert given_up["detail"] == "p2m-generation-changed"
    assert fate_of(given_up["outcome"], given_up["detail"]) == ABORTED
    # The round behind the one that it was given up after was not run.
    assert given_up["entries_set"] == sum(count for _, _, count in during)
    assert moved["outcome"] == "ok"
    assert moved["lost_pages"] == moved["ghost_pages"] == 0
    quiet = replay(parse_trace(aborted([[], []])))
    assert quiet[-2]["detail"] != given_up["detail"]
    assert quiet[-2]["entries_set"] == 0


MUTANTS: list[tuple[str, type[Life], str, Callable[..., object]]] = [
    ("linear", LinearLife, "_look_between", lambda life: EventResult()),
    ("tail", Life, "_look_again", lambda life: EventResult()),
    ("tracked", Life, "_go_on", lambda life, rounds: go_on(life, rounds[:1])),
]
"""A toolstack that does not look between rounds, one that does not compare leaves, one round."""

go_on = Life._go_on


@pytest.mark.parametrize(("policy", "kind", "name", "instead"), MUTANTS)
def test_a_wrong_model_is_found(
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    kind: type[Life],
    name: str,
    instead: Callable[..., object],
) -> None:
    monkeypatch.setattr(kind, name, instead)
    _, trace, said = live.run((live.LIVE, policy, 0, 200))
    assert trace is not None and "differs" in said


@pytest.mark.parametrize("policy", live.POLICIES)
def test_every_toolstack_is_met(policy: str) -> None:
    """The lives of a campaign are by every toolstack that there is, with and without rounds."""
    tools = {"legacy", "4.6", "4.7"} | ({"tree"} if find(policy).is_linear else set())
    seen = set()
    for seed in range(120):
        if tools <= seen:
            break
        events = live.drawn(policy, seed)["events"]
        seen |= {e.get("toolstack") for e in events if len(e.get("rounds", ())) > 1}
    assert tools <= seen
