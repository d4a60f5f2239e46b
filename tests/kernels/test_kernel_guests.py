"""Guests whose kernel is a file in C, as objects; and files whose names have commas."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy, policies_in
from p2mbatch.spec.sweep_spec import SweepSpec

TRACKED = (Path(__file__).parent / "tracked.c").read_text("utf-8")

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("of, commas") / "a,b.c"
    path.write_text(TRACKED, "utf-8")
    return path


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_guest_with_a_process_of_its_own_is_not_copied(
    copied: Callable[[Any], object], file: Path
) -> None:
    guest = Guest.boot("64MiB", policy=named_policy(f"kernel:{file}"))
    with pytest.raises(PolicyError, match=r"a,b\.c: runs in a process of its own: its guests are"):
        copied(guest)
    assert guest.migrate().ok


def test_a_deep_copy_of_any_other_guest_lives_on_its_own() -> None:
    guest = Guest.boot("64MiB")
    other = copy.deepcopy(guest)
    assert other.migrate().ok
    assert (guest.num_migrations, other.num_migrations) == (0, 1)


def test_a_comma_in_a_files_name_is_part_of_it(file: Path) -> None:
    own = file.with_name("mine,too.py")
    own.write_text("", "utf-8")
    for named in ([f"kernel:{file}"], ["tracked", f"kernel:{file}", "stale"],
                  [f"{own}", f"{own}:Mine", f"kernel:{file}"]):  # fmt: skip
        assert policies_in(", ".join(named)) == named


def test_what_no_file_is_called_is_a_list(tmp_path: Path) -> None:
    assert policies_in("tracked,stale, ,none") == ["tracked", "stale", "none"]
    missing = tmp_path / "other.c"
    assert policies_in(f"kernel:{missing},stale") == [f"kernel:{missing}", "stale"]
    assert policies_in("\0,stale") == ["\0", "stale"]


def test_a_sweep_takes_a_file_with_a_comma(file: Path) -> None:
    spec = SweepSpec.from_options(memory_bytes="64MiB", policy=f"kernel:{file},tracked")
    assert spec.num_cells == 2


def test_several_cpus_are_not_the_files(file: Path) -> None:
    """Their steps are those of our own policies."""
    with pytest.raises(InputError, match="how several CPUs grow a guest of policy kernel:"):
        Scenario.make(
            memory_bytes="64MiB", policy=named_policy(f"kernel:{file}"), cpus=2, grow_bytes="8MiB"
        )
