"""Kinds: stable, readable, safe as names of files; and the list of those that are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hunt.test_judge import LIVES
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.compiled.status import BUGS, FAULTS
from p2mbatch.hunt import finds
from p2mbatch.hunt.judge import Broken, judge
from p2mbatch.hunt.kinds import kind_of, read_known, sentence
from p2mbatch.hunt.known_hazards import TRIMMED, hazard_of
from p2mbatch.model.trace_file import parse_trace


def test_each_bug_and_fault_has_a_kind_of_its_own() -> None:
    wheres = [*BUGS.values(), *FAULTS.values(), "_brk_start == 0 half grown"]
    kinds = [kind_of(Broken(1, 0, "resume-bug", where)) for where in wheres]
    assert len(set(kinds)) == len(wheres)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind) for kind in kinds)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pfn < end", "pfn > end"),
        ("pfn + 1 == end", "pfn - 1 == end"),
        ("a & b", "a % b"),
        ("x" * 90, "x" * 91),
        ("größer", "großer"),
    ],
)
def test_bugs_that_differ_are_of_kinds_that_differ(one: str, other: str) -> None:
    kinds = {kind_of(Broken(1, 0, "set-bug", text)) for text in (one, other)}
    assert len(kinds) == 2 and all(re.fullmatch(r"[a-z0-9-]{1,80}", kind) for kind in kinds)


def test_a_users_text_can_be_no_path_and_no_escape() -> None:
    found = Broken(1, 2, "set-bug", "../../etc\x1b[2J/passwd || " + "x" * 300)
    assert re.fullmatch(r"[a-z0-9-]{1,80}", kind_of(found))


@pytest.mark.parametrize("name", LIVES)
def test_each_known_hazard_is_told_as_what_it_is(name: str) -> None:
    life, rule = LIVES[name]
    found = [one for one in judge(parse_trace(life)).broken if one.rule == rule]
    assert found and any(hazard_of(life["policy"], one) is not None for one in found)
    # Of a policy that nothing is known of.
    assert {hazard_of("mine.py#0", one) for one in found} <= {None, TRIMMED}


def test_a_sentence_says_the_numbers() -> None:
    assert sentence(Broken(4, 3, "lost-pages", "past the end", "PFN 9")) == (
        "a migration loses pages past the end (PFN 9)"
    )


def test_known_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "known.txt"
    path.write_text("\n# ours\nlost-pages-past-the-end  # by design\nstray-writes-resume\n")
    assert read_known(path) == {"lost-pages-past-the-end", "stray-writes-resume"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"fine\nLost pages\n", "line 2: 'Lost pages' is no kind"),
        (b"../x\n", "line 1: '../x' is no kind"),
        (b"x" * 81, "is no kind"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_what_is_no_list_of_kinds_is_said(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "known.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(why)):
        read_known(path)


def test_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_known(tmp_path / "none.txt")


def test_a_users_file_that_errs_ends_the_hunt_and_a_life_outside_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    life = next(iter(LIVES.values()))[0]
    for error, is_raised in ((PolicyError("mine.py, line 3"), True), (InputError("x"), False)):

        def fail(trace: object, error: InputError = error) -> None:
            raise error

        monkeypatch.setattr(finds, "judge", fail)
        if is_raised:
            with pytest.raises(PolicyError, match=r"mine\.py, line 3"):
                finds._judged(life)
        else:
            assert finds._judged(life) == ()
