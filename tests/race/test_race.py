"""The race explorer: the counted configurations, a naive explorer beside it, reductions, input."""

from __future__ import annotations

import json
import math
import random
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.cli import cli
from p2mbatch.cli import race as command
from p2mbatch.race import config as configs
from p2mbatch.race.config import parse_config
from p2mbatch.race.draw import draw_svg
from p2mbatch.race.explorer import differences, explore, follow
from p2mbatch.race.meaning import MEANINGS
from p2mbatch.race.names import LITMUSES, name_of, parse_name, read_file
from p2mbatch.race.one_lock import classes_under_one_lock
from p2mbatch.race.plan import make_plan
from p2mbatch.race.reduced import explore_reduced
from p2mbatch.race.telling import tell
from race import naive
from race.cases import GIVEN, RACES, random_config

SMALL = [name for name, (_, results) in RACES.items() if results["states"] < 700]


LARGE = ("old.any.sc.same-pfn",)
"""These take ten seconds and more."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.thorough) if n in LARGE else n for n in RACES]
)
def test_given_configurations_are_reproduced(name: str) -> None:
    config, results = RACES[name]
    assert results["schedules"] > 0
    assert differences(explore(config).to_json(), results) == []


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.thorough), 1, 2, 3])
def test_random_configurations_agree_with_the_naive_explorer(seed: int) -> None:
    dice = random.Random(seed)
    compared = 0
    while compared < 8:
        config = random_config(dice)
        try:
            found = explore(config, max_bytes=2_000_000)
        except ResourceError:
            continue
        if found.num_states > 8_000:
            continue
        compared += 1
        wanted = naive.explore(config.to_json())
        assert differences(found.to_json(), wanted) == [], config
        assert set(explore_reduced(config).classes) == set(wanted["classes"]), config


@pytest.mark.lane
@pytest.mark.parametrize("name", SMALL[:8] + [n for n in SMALL if "/" in n or "tso" in n][:6])
def test_small_configurations_in_every_lane(name: str) -> None:
    config, results = RACES[name]
    assert differences(explore(config).to_json(), results) == []
    assert set(explore_reduced(config).classes) == set(results["classes"])


def test_schedules_beyond_128_bits_are_exact() -> None:
    given = {"kernel": "old", "populated_first": [0], "cpus": [[["get", 0]] * 8] * 4}
    found = explore(parse_config("wide", given))
    # The interleavings of four CPUs with 24 steps each are a multinomial coefficient.
    expected = math.factorial(96) // math.factorial(24) ** 4
    assert expected > 1 << 128
    assert found.schedules == expected
    assert found.classes["ok"].probability == pytest.approx(1)


def test_every_litmus_has_the_name_that_the_given_ones_have() -> None:
    for name, (config, _) in RACES.items():
        assert parse_name(name) == config
        litmus = name.split(".")[3].split("/")[0].split("@")[0]
        assert parse_name(name_of(config, litmus)) == config
    assert tuple(command.KERNELS) == configs.KERNELS


@pytest.mark.parametrize("name", RACES)
def test_every_witness_is_told_and_drawn(name: str) -> None:
    config, results = RACES[name]
    if results["states"] > 50_000:
        pytest.skip("told for smaller graphs")
    found = explore(config)
    for one in found.classes.values():
        told = tell(config, one)
        assert len(told) == len(one.witness)
        assert all(line.text for line in told)
        closed = [name for line in told for name in line.closes]
        # At the end only the class itself is left, and each of the others was left behind once.
        assert sorted([*closed, one.name]) == sorted(found.classes)
        svg = draw_svg(name, config, one.name, told)
        document = xml.dom.minidom.parseString(svg)
        assert len(document.getElementsByTagName("title")) == 1
        assert svg.count("no more:") == sum(bool(line.closes) for line in told)


def test_the_witness_of_the_freed_mid_page_is_told_in_words() -> None:
    config = parse_name("old.never.sc.same-leaf")
    text = " / ".join(line.text for line in tell(config, explore(config).classes["leak+uaf"]))
    assert "frees its mid page, page 6, and goes on using it" in text


def test_every_label_has_a_meaning() -> None:
    from p2mbatch.compiled.race.layout import LABEL_NAMES

    assert set(MEANINGS) == {*LABEL_NAMES, "ok"}


@pytest.mark.parametrize(
    "name",
    [
        "old.never.sc.same-leaf",
        "orig.never.sc.leaf-missing",
        "new.never.sc.second-top/-@4",
        "old.never.sc.t-leaf-2/tree",
        "loser.own.sc.diff-top",
    ],
)
def test_one_lock_leaves_what_the_naive_model_finds_when_growing_excludes_growing(
    name: str,
) -> None:
    config = parse_name(name)
    machine = naive.Machine(config.to_json())

    def num_growing() -> int:
        return sum(cpu.step[0] in "AOKJ" and cpu.step != "A1" for cpu in machine.cpus)

    waiting, met, classes = [machine.packed()], {machine.packed()}, set()
    while waiting:
        machine.unpack(waiting.pop())
        moves = [after for _, after in machine.moves()]
        if not moves:
            classes.add(machine.judge())
        for after in moves:
            machine.unpack(after)
            if num_growing() <= 1 and after not in met:
                met.add(after)
                waiting.append(after)
    assert classes_under_one_lock(config) == classes
    assert classes <= set(explore(config).classes)


def test_one_lock_is_not_looked_at_where_stores_wait() -> None:
    with pytest.raises(InputError, match="race: memory: tso: one lock"):
        classes_under_one_lock(parse_name("old.never.tso.same-leaf"))


def test_a_schedule_that_can_not_be_followed_is_refused() -> None:
    config = parse_name("old.never.sc.same-leaf")
    other = explore(parse_name("new.never.sc.same-leaf")).classes["bug"].witness
    with pytest.raises(InputError, match="step 6 of the schedule, 0:K1"):
        follow(make_plan(config), other)


def test_memory_is_limited_with_one_line() -> None:
    config = parse_name("old.any.sc.reuse-tops")
    with pytest.raises(
        ResourceError, match=r"^race: [\d,]+ states found so far.*takes \d+MiB where 3MiB are"
    ):
        explore(config, max_bytes=3 << 20)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["race", *arguments])


def test_json_has_the_keys_of_the_given_file(tmp_path: Path) -> None:
    names = ["old.never.sc.reader", "new.never.sc.t-top/list@4"]
    asked = {name: {"config": RACES[name][0].to_json()} for name in names}
    file = tmp_path / "races.json"
    file.write_text(json.dumps(asked))
    given = json.loads(GIVEN.read_text())
    assert json.loads(run(str(file), "--json").output) == {name: given[name] for name in names}
    assert json.loads(run(*names, "--json").output) == {name: given[name] for name in names}


def test_check_finds_what_differs(tmp_path: Path) -> None:
    given = json.loads(GIVEN.read_text())["old.never.sc.reader"]
    file = tmp_path / "expected.json"
    file.write_text(json.dumps({"old.never.sc.reader": given}))
    same = run("--check", str(file))
    assert (same.exit_code, same.output) == (0, "1 of 1 as expected\n")
    given["schedules"] += 1
    given["classes"]["bug"] = given["classes"]["ok"]
    file.write_text(json.dumps({"old.never.sc.reader": given}))
    other = run("old.never.sc.reader", "--check", str(file))
    assert other.exit_code == 1
    assert "schedules: 2025 is expected, here it is 2024" in other.output
    assert "class bug" in other.output
    assert "0 of 1 as expected" in other.output


def test_options_make_the_same_race_as_a_name() -> None:
    by_name = json.loads(run("orig.own.sc.second-top", "--json").output)
    options = ["--kernel", "orig", "--allocator", "own", "--json"]
    calls = ["--populate", "0", "--cpu", "set 4 1", "--cpu", "set 6 2"]
    by_options = json.loads(run(*options, *calls).output)
    by_litmus = json.loads(run("second-top", *options).output)
    assert by_litmus == by_name
    assert list(by_options.values()) == list(by_name.values())


def test_one_race_is_told_and_several_are_listed() -> None:
    told = run("new.never.sc.same-leaf")
    assert told.exit_code == 0
    assert "BUG virt_to_mfn(mid_mfn) != *top_mfn_p" in told.output
    assert "<- from here on it can't end well" in told.output
    several = run("new.never.sc.same-leaf", "new.never.sc.reader").output
    assert "schedule," not in several
    assert several.count("no schedule comes to:") == 2
    assert set(run("--list").output.split()) >= set(LITMUSES)
    reduced = run("three-one-leaf", "--reduced", "--class", "uaf+list").output
    assert "list+uaf: a schedule, perhaps not a shortest" in reduced
    assert "not counted" in reduced


def test_draw_writes_a_picture_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "race.svg"
    assert run("old.never.sc.same-leaf", "--draw", str(target), "--class", "bug").exit_code == 0
    assert "p2m_top_mfn[0]" in target.read_text()
    target.unlink()
    refused = run("old.never.sc.same-leaf", "--draw", str(target), "--class", "wild")
    assert isinstance(refused.exception, InputError)
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "[]": "an object of name -> configuration is needed",
    "{": "line 1: not JSON",
    '{"a": {"kernel": "old"}}': "a: cpus is required",
    '{"a": {"cpus": [[["get", 0]]]}}': "a: kernel is required",
    '{"a": {"kernel": "now", "cpus": [[["get", 0]]]}}': "kernel: 'now' is not one of old",
    '{"a": {"kernel": "old", "cpus": []}}': "cpus: a list of 1 to 6",
    '{"a": {"kernel": "old", "cpus": [[["get", 8]]]}}': r"cpus\[0\]\[0\]: pfn: 8 is not",
    '{"a": {"kernel": "old", "cpus": [[["set", 1]]]}}': r"cpus\[0\]\[0\]: \['set', 1\] is not",
    '{"a": {"kernel": "old", "cpus": [[["set", 1, -2]]]}}': "-2 is not a whole number",
    '{"a": {"kernel": "old", "cpus": [[["set", true, 1]]]}}': "True is not a whole number",
    '{"a": {"kernel": "old", "cpus": [[["get", 0]]], "last": 9}}': "last: 9 is not",
    '{"a": {"kernel": "old", "cpus": [[["get", 0]]], "lost": 9}}': "'lost' is not one of",
    '{"a": {"kernel": "old", "cpus": [[["get", 0]]], "memory": []}}': r"memory: \[\] is not one of",
    '{"a": {"kernel": "old", "cpus": [[["get", 0]]], "populated_first": [1, 1]}}': "a PFN twice",
    '{"a": {}, "a": {}}': "'a' stands there twice",
    '{"a": {}}': "a: not a name of a race",
    '{"a\\u001b[31m": {}}': r"'a\\x1b\[31m': a race's name has to be readable",
    '{"": {"kernel": "old", "cpus": [[["get", 0]]]}}': "'': a race's name has to be readable",
    '{"a": 1}': "a: an object with a configuration is needed",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_files_are_told_what_is_wrong(text: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(InputError, match=WRONG[text]) as told:
        read_file(file)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(str(file))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nonsense"], "not a name of a race"),
        (["old.never.sc.same-leav"], "perhaps same-leaf"),
        (["lost.never.sc.same-leaf"], "kernel: 'lost' is not one of"),
        (["old.never.sc.same-leaf@0"], "last: 0 is not"),
        (["old.never.sc.same-leaf", "--kernel", "new"], "--kernel: .* says that already"),
        (["same-leaf", "--cpu", "get 0"], "--cpu: the litmus same-leaf says that already"),
        (["--cpu", "put 0"], "--cpu: 'put 0' is not"),
        (["--cpu", "get 0", "--populate", "x"], "--populate: 'x' is not a PFN"),
        ([], "name a race"),
        (["gone.json"], "gone.json: can't be read"),
        (["old.never.sc.reader", "--draw", "a.gif"], "end the name in .svg"),
        (["old.never.sc.reader", "--class", "bug"], "no schedule ends in 'bug'"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    with pytest.raises(InputError, match=text):
        raise result.exception


@pytest.mark.parametrize(
    "arguments",
    [
        ["old.never.sc.reader", "--class", "ok", "--json"],
        ["--check", str(GIVEN), "--class", "ok"],
        ["--list", "--json"],
        ["old.never.sc.reader", "--json", "--draw", "a.svg"],
        ["old.never.sc.reader", "new.never.sc.reader", "--class", "ok"],
    ],
)
def test_options_that_say_nothing_together_are_refused(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--" in result.output.splitlines()[-1]


def test_more_than_a_state_holds_is_refused() -> None:
    many = [[["set", 0, 1]] * 15, [["set", 1, 1]] * 15]
    with pytest.raises(InputError, match="are more than the"):
        parse_config("race", {"kernel": "old", "cpus": many})
