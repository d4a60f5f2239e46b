"""Several CPUs set entries of one guest: the event of traces, its schedule, random lives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from campaign import live
from campaign.explained import check
from model.test_trace import life3, put
from oracle import build
from oracle.cpus import chosen
from oracle.eras.lives import life as life_of_era
from oracle.lives import Wanted, lives
from p2mbatch.base.errors import InputError
from p2mbatch.cli import cli
from p2mbatch.compiled.dice import below, throw
from p2mbatch.compiled.jit import kernel
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.cpus.events import raced
from p2mbatch.model.cpus.limits import MAX_CPUS, MAX_ENTRIES, MAX_TRACE_ENTRIES
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.policies import find, names
from p2mbatch.model.replay import new_life, observe, replay, run_event
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json, write_trace

Json = dict[str, Any]

NUM_LIVES = 6

SOME = [
    pytest.param(policy, marks=[pytest.mark.thorough] if k % 3 else [])
    for k, policy in enumerate(live.RACING)
]
"""The policies whose CPUs grow a guest; most of them for thorough runs."""


@kernel
def drawn_below(dice: Any, key: Any, counts: Any) -> None:
    """Draw below each of `counts`, in its place, as the sampler of races does."""
    throw(dice, key, 0)
    for k in range(len(counts)):
        counts[k] = below(dice, counts[k])


# --- the schedule -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [0, 1, 0x0123456789ABCDEF, (1 << 64) - 1])
def test_a_schedule_is_the_samplers_first_one(key: int) -> None:
    """And that of the naive models, which say it once more from its description."""
    counts = np.arange(1000) % 7 + 1
    schedule = Schedule(key)
    got = [schedule(int(count)) for count in counts]
    naive = [chosen(key, k, list(range(count))) for k, count in enumerate(counts.tolist(), 1)]
    drawn_below(np.zeros(1, np.uint64), np.uint64(key), counts)
    assert got == counts.tolist() == naive


def test_the_schedule_is_what_it_was() -> None:
    schedule = Schedule(7)
    assert [schedule(3) for _ in range(24)] == SCHEDULE_7


SCHEDULE_7 = [1, 0, 2, 2, 1, 1, 1, 1, 2, 0, 2, 0, 2, 1, 0, 2, 2, 2, 0, 0, 1, 2, 2, 2]


# --- random lives -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SOME)
def test_models_agree_on_random_lives(policy: str) -> None:
    ends, trace, said = live.run((live.CPUS, policy, 5_000_000, NUM_LIVES))
    assert trace is None, said
    assert ends.total()


@pytest.mark.lane
def test_models_agree_on_a_few_lives() -> None:
    for policy in ("tracked", "identity", "linear"):
        _, trace, said = live.run((live.CPUS, policy, 6_000_000, 2))
        assert trace is None, said


@pytest.mark.thorough
@pytest.mark.parametrize("policy", live.RACING)
def test_models_agree_on_many_lives(policy: str) -> None:
    _, trace, said = live.run((live.CPUS, policy, 0, 300))
    assert trace is None, said


def paused(policy: str, seed: int) -> Json:
    """A random life of sets and migrations."""
    if find(policy).is_era:
        return life_of_era(policy, seed, second_machine=True)
    [trace] = lives(f"paused {seed}", seed, 1, Wanted("p2mbatch-trace/3", policy))
    return trace | {"name": "paused"}


@pytest.mark.parametrize("policy", SOME)
def test_one_cpu_does_what_a_set_does(policy: str) -> None:
    """Whatever the schedule: every observation of the life is the same."""
    seen = 0
    for seed in range(8):
        trace = paused(policy, seed)
        for event in trace["events"]:
            # A step at a time: not a million of them.
            event.update({"runs": [r for r in event["runs"] if r[2] < 2000] or [[0, None, 1]]}
                         if "runs" in event else {})  # fmt: skip
        wanted = replay(parse_trace(trace))
        seen += sum(result["op"] == "set" for result in wanted)
        for event in trace["events"]:
            if event["op"] == "set":
                event |= {"op": "cpus", "sets": [event.pop("runs")], "schedule": seed}
        got = replay(parse_trace(trace))
        for result in got:
            result["op"] = "set" if result["op"] == "cpus" else result["op"]
        assert got == wanted, seed
    assert seen > 3


@pytest.mark.parametrize("policy", SOME)
def test_cpus_one_after_the_other_do_what_sets_do(policy: str) -> None:
    """A schedule in which nothing interleaves: the first CPU to its end, then the next."""
    seen = 0
    for seed in range(12):
        trace = parse_trace(live.drawn(policy, 7_000_000 + seed, live.CPUS))
        one, other = new_life(trace), new_life(trace)
        for event in trace.events:
            if event["op"] != "cpus":
                results = [run_event(life, trace, event) for life in (one, other)]
            else:
                got, _ = raced(one, event["sets"], lambda count: 0)
                total = 0
                for runs in event["sets"]:
                    done = other.set_runs(runs)
                    total += done.entries_set
                    if not (done.ok and done.set_returned):
                        break
                if not done.set_returned:
                    # The other CPUs go on, where a set would have ended.
                    break
                assert (got.outcome, got.detail, got.entries_set) == (
                    done.outcome, done.detail, total
                ), seed  # fmt: skip
                assert got.stray_writes == 0
                results = [got, done]
                seen += 1
            assert results[0].outcome == results[1].outcome
            assert observe(one, "set", results[0]) == observe(other, "set", results[0]), seed
            if not results[0].ok:
                break
    assert seen > 3


@pytest.mark.parametrize("policy", SOME)
def test_a_life_is_told_as_it_was_and_read_back_as_it_was_written(
    tmp_path: Path, policy: str
) -> None:
    for seed in range(3):
        trace = live.drawn(policy, 8_000_000 + seed, live.CPUS)
        assert not check(trace), seed
        path = tmp_path / "t.json.gz"
        write_trace(parse_trace(trace), path)
        assert trace_to_json(load_trace(path)) == trace_to_json(parse_trace(trace))


# --- what is refused ----------------------------------------------------------------------------

CPUS: Json = {"op": "cpus", "sets": [[[600, None, 2]], [[7, 3000, 1]]], "schedule": 5}

MALFORMED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("sets",), [], f"events[1].sets: has 0: it must have 1 to {MAX_CPUS} CPUs' runs"),
    (("sets",), [[[7, 3, 1]]] * (MAX_CPUS + 1), f"events[1].sets: has {MAX_CPUS + 1}"),
    (("sets",), {}, "events[1].sets: is an object"),
    (("sets",), [7], "events[1].sets[0]: is the number 7"),
    (("sets",), [[[7, 3, 1]], []], "events[1].sets[1]: is empty"),
    (("sets",), [[[7, 3, 1]], [[7, 3]]], "events[1].sets[1][0]: must be [pfn, mfn, count]"),
    (("sets",), [[[7, 3, 0]]], "events[1].sets[0][0][2]"),
    (("sets",), [[[-1, 3, 1]]], "events[1].sets[0][0][0]"),
    (("sets",), [[[0, None, MAX_ENTRIES]], [[0, None, 1]]], f"name {MAX_ENTRIES + 1} entries"),
    (("schedule",), -1, "events[1].schedule: is -1: it must be 0 to"),
    (("schedule",), 1 << 64, "events[1].schedule: is 18446744073709551616"),
    (("schedule",), "5", "events[1].schedule: is a string"),
    (("schedule",), True, "events[1].schedule: is a boolean"),
    (("runs",), [], "events[1].runs: unknown key: use op, schedule, sets"),
]


@pytest.mark.parametrize(("path", "new", "names"), MALFORMED)
def test_malformed_events_are_refused_at_their_place(
    path: tuple[Any, ...], new: Any, names: str
) -> None:
    parse_trace(life3(CPUS))
    with pytest.raises(InputError) as caught:
        parse_trace(put(life3(CPUS), ("events", 1, *path), new), "guest.json")
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_races_of_a_trace_have_a_bound() -> None:
    """Each is as long as one may be, and there are many."""
    whole = {"op": "cpus", "sets": [[[0, None, MAX_ENTRIES]]], "schedule": 0}
    most = MAX_TRACE_ENTRIES // MAX_ENTRIES
    parse_trace(life3(*[whole] * most))
    with pytest.raises(InputError) as caught:
        parse_trace(life3(*[whole] * most, CPUS), "guest.json")
    assert str(caught.value) == (
        f"guest.json: events: name {MAX_TRACE_ENTRIES + 3} entries in cpus events: at most "
        f"{MAX_TRACE_ENTRIES}"
    )


@pytest.mark.parametrize("key", ["sets", "schedule"])
def test_what_is_missing_is_named(key: str) -> None:
    event = {name: value for name, value in CPUS.items() if name != key}
    with pytest.raises(InputError, match=rf"events\[1\]\.{key}: is missing"):
        parse_trace(life3(event))


def test_policies_whose_steps_are_not_modelled_are_refused() -> None:
    refused = [name for name in names() if not find(name).races]
    assert {"stale", "none", "two-level", "two-level-none"} <= set(refused)
    for policy in ("stale", "none"):
        trace = life3(CPUS) | {"policy": policy}
        with pytest.raises(InputError) as caught:
            parse_trace(trace, "guest.json")
        assert str(caught.value) == (
            "guest.json: events[1].op: how several CPUs grow a guest of policy "
            f"{policy} at once is not modelled"
        )
    life = new_life(parse_trace(life3(build.migrate(1)) | {"policy": "stale"}))
    with pytest.raises(InputError, match="cpus: how several CPUs grow a guest of policy stale"):
        raced(life, [np.array([[7, 3, 1]])], Schedule(0))


@pytest.mark.parametrize("form", [1, 2])
def test_older_formats_know_no_cpus(form: int) -> None:
    trace = life3(CPUS, format_number=2) | {"format": f"p2mbatch-trace/{form}"}
    with pytest.raises(InputError, match=r"events\[1\]\.op: is 'cpus': use boot"):
        parse_trace(trace)


def test_a_life_that_needs_it_is_written_as_format_3() -> None:
    assert trace_to_json(parse_trace(life3(CPUS)))["format"] == "p2mbatch-trace/3"


def test_the_command_tells_of_it(tmp_path: Path) -> None:
    path = tmp_path / "raced.json"
    path.write_text(json.dumps(life3(CPUS)), encoding="utf-8")
    done = CliRunner().invoke(cli, ["replay", str(path)])
    assert done.exit_code == 0, done.output
    assert "set by 2 CPUs" in done.output and "3 of 3 entries set" in done.output
    told = CliRunner().invoke(cli, ["explain", str(path)])
    assert told.exit_code == 0, told.output
    assert "2 CPUs set 3 entries" in told.output


def test_frames_are_renumbered_in_each_cpus_runs() -> None:
    trace = parse_trace(life3(CPUS))
    hidden = anonymise(trace, key=1)
    before, after = trace.events[1]["sets"], hidden.events[1]["sets"]
    assert [runs[:, [0, 2]].tolist() for runs in before] == [
        runs[:, [0, 2]].tolist() for runs in after
    ]
    assert before[1][0, 1] != after[1][0, 1]
    told = ("outcome", "entries_set", "ok", "stray_writes", "pool_pages_used")
    [old, new] = ([[r[name] for name in told] for r in replay(t)[1:]] for t in (trace, hidden))
    assert old == new
