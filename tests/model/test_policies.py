"""The registry of policies: a made-up one is served everywhere by its own functions, or refused."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import MIB
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import BUG_MIDIDX
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.snapshots import live_through
from p2mbatch.model import kernels, policies
from p2mbatch.model.placement import place
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json
from p2mbatch.plots.style import policy_look
from p2mbatch.report.words import policy_key
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.survival import survival
from p2mbatch.sweeps.driver import sweep

PACKAGE = Path(policies.__file__).resolve().parents[1]
TRACES = PACKAGE.parent / "data" / "traces"

pytestmark = pytest.mark.lane


class Recorded:
    """The functions of `tracked`, each of which notes that it was called."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        own = policies.find("tracked").operations
        self.operations = Operations(
            *(self._noting(name, function) for name, function in own._asdict().items())
        )

    def _noting(self, name: str, function: Any) -> Any:
        def noting(*arguments: Any) -> Any:
            self.called.add(name)
            return function(*arguments)

        return noting


THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"


def made_up(operations: Operations, **fields: Any) -> policies.Policy:
    looks = {"color": "#123456", "hatch": "oo", "marker": "P"}
    return policies.Policy(
        "made-up", "a kernel that is not", "made up", lambda: operations, **looks | {
            "list_brk_pages": 3, **fields,
        },
    )  # fmt: skip


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(policies, "_REGISTRY", dict(policies._REGISTRY))
    yield


def made_up_trace(name: str = "dense-64-0") -> dict[str, Any]:
    return trace_to_json(load_trace(TRACES / f"{name}.json.gz")) | {"policy": "made-up"}


WAYS: dict[str, Any] = {
    "scenario": lambda: Scenario.make(memory_bytes="1GiB", policy="made-up"),
    "guest": lambda: Guest.boot("64MiB", policy="made-up"),
    "file": lambda: Guest.from_file(str(TRACES / "dense-64-0.json.gz"), policy="made-up"),
    "placement": lambda: place(
        memory_bytes=64 * MIB, sparsity=0, layout="tail", policy="made-up", word_bytes=8, seed=0
    ),
    "trace": lambda: parse_trace(made_up_trace(), "guest.json"),
    "spec": lambda: list(
        SweepSpec.from_dict({"grid": {"memory": ["64MiB"], "policy": ["made-up"]}}).scenarios()
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_that_there_is_not_is_refused(way: str) -> None:
    with pytest.raises(InputError, match=r"policy.*made-up") as caught:
        WAYS[way]()
    assert all(name in str(caught.value) for name in policies.names())


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_that_there_is_is_taken(way: str, fresh: None) -> None:
    policies.register(made_up(Recorded().operations))
    WAYS[way]()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_guest_lives_by_its_policys_functions_alone(threads: int, fresh: None) -> None:
    recorded = Recorded()
    policies.register(made_up(recorded.operations))
    guest = Guest.boot("64MiB", policy="made-up", layout="extents", sparsity=0.5)
    assert recorded.called == {"boot", "grow_leaves"}
    guest.balloon_out([3])
    guest.lookup([1], threads=threads)
    assert guest.migrate(threads=threads).ok
    get, rebuild = ("get", "rebuild") if threads == 1 else ("get_parallel", "rebuild_mids")
    assert recorded.called == {"boot", "grow_leaves", "set_runs", get, rebuild, "report"}
    recorded.called.clear()
    replay(parse_trace(made_up_trace(), "guest.json"))
    assert recorded.called >= {"boot", "rebuild", "report", "get_row"}


@kernel
def ends_in_bug(t: Any, h: Any, first: int) -> int:
    return BUG_MIDIDX


def test_what_its_functions_do_is_what_every_part_shows(tmp_path: Path, fresh: None) -> None:
    """Its rebuild ends in a BUG, where that of `tracked` would go on."""
    own = policies.find("tracked").operations._replace(rebuild=ends_in_bug, rebuild_mids=None)
    policies.register(made_up(own))
    scenario = Scenario.make(memory_bytes="64MiB", policy="made-up")
    rows = run_scenario(scenario)
    assert [row["outcome"] for row in rows] == ["ok", "bug"]
    assert Guest.from_scenario(scenario).migrate(threads=2).detail == "mididx"
    assert replay(parse_trace(made_up_trace(), "guest.json"))[-1]["outcome"] == "bug"
    grid = {"memory": ["64MiB"], "policy": ["made-up", "stale", "tracked"]}
    spec = SweepSpec.from_dict({"question": "q", "grid": grid})
    result = sweep(spec, tmp_path / "out", progress="quiet")
    entries = survival(result)
    assert list(dict.fromkeys(entry.policy for entry in entries)) == ["tracked", "stale", "made-up"]
    assert [e.ends["crashed"] for e in entries if e.policy == "made-up"] == [0, 1]
    assert policy_key(entries).endswith(" · made-up: a kernel that is not")
    row = result.frame[result.frame["policy"] == "made-up"].iloc[0]
    assert [shot.outcome for shot in live_through(row, 1)] == ["ok", "bug"]
    assert policy_look("made-up").label == "made-up (made up)"
    # The store stays readable where the policy is not known any more.
    policies._REGISTRY.pop("made-up")
    assert policy_key(entries).endswith(" · made-up: a policy that is not known here")
    with pytest.raises(InputError, match="policy: should be 'tracked', 'stale', 'none'"):
        live_through(row, 1)


def test_brk_has_the_pages_that_the_policy_takes(fresh: None) -> None:
    policies.register(made_up(Recorded().operations, list_brk_pages=900))
    common: dict[str, Any] = {
        "memory_bytes": 64 * MIB, "sparsity": 0, "layout": "tail", "word_bytes": 8, "seed": 0,
    }  # fmt: skip
    assert place(policy="tracked", **common).brk_pages == 8
    assert place(policy="made-up", **common).brk_pages == 905
    with pytest.raises(InputError, match="policy: made-up takes 905 pages of brk"):
        Guest.from_file(str(TRACES / "dense-64-0.json.gz"), policy="made-up")


@pytest.mark.parametrize(
    ("name", "word_bytes"),
    [
        (name, word_bytes)
        for name in policies.names()
        for word_bytes in (8, 4)[: 1 if policies.find(name).is_linear else 2]
        if THOROUGH or not policies.find(name).is_era or name == "mid-identity"
    ],
)
def test_a_boot_takes_the_pages_that_its_policy_says(name: str, word_bytes: int) -> None:
    guest = Guest.boot("5GiB", policy=name, word_bytes=word_bytes)
    num_mids = -(-guest.placement.nr_pages // (4096 // word_bytes) ** 2)
    used = guest.life.scalar("brk_used")
    assert used == policies.find(name).brk_pages(num_mids, word_bytes)


def test_a_name_is_given_once(fresh: None) -> None:
    policies.register(made_up(Recorded().operations))
    with pytest.raises(InputError, match="there is a 'made-up' already"):
        policies.register(made_up(Recorded().operations))


def test_unknown_policies_look_like_no_other() -> None:
    strangers = [policies.shown(f"stranger-{k}") for k in range(40)]
    assert strangers[0] == dataclasses.replace(policies.shown("stranger-0"), load=strangers[0].load)
    known = {(p.color, p.hatch, p.marker) for p in map(policies.find, policies.names())}
    assert len(known) == len(policies.names())
    assert not known & {(p.color, p.hatch, p.marker) for p in strangers}
    assert sorted(["zz", "none", "aa", "tracked"], key=policies.sort_key) == [
        "tracked", "none", "aa", "zz",
    ]  # fmt: skip


def test_only_the_registry_names_policies() -> None:
    """A policy named elsewhere is a decision that a new one would not take part in.

    Tables by policy are none, nor is the list of releases, nor which kernels in C have whose pages.
    """
    # Words that mean something else too: a layout, a 1:1 range; of a list's words, which are old;
    # how many levels the p2m of a user's C file has.
    named = set(policies.names()) - {"none", "tail", "identity", "linear"}
    registries = {Path(policies.__file__).resolve(), Path(kernels.__file__).resolve()}
    registries.add(PACKAGE / "kernels" / "eras.py")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path in registries or path.parent.name == "policies":
            continue
        others = named - {"picture.py": {"stale"}, "roots.py": {"two-level"}}.get(path.name, set())
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        keys = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
        for node in nodes:
            is_name = isinstance(node, ast.Constant) and node.value in others
            assert not is_name or id(node) in keys, f"{path}:{getattr(node, 'lineno', 0)}"


_EVERY_OPERATION = """
import numpy as np
from p2mbatch.compiled.jit import make_ready
from p2mbatch.guests.guest import Guest
from p2mbatch.model import policies
runs, leaves, some = np.zeros((1, 3), np.int64), np.zeros(1, np.int64), np.zeros(4, np.int64)
for name in (*(n for n in policies.names() if not policies.find(n).is_era), "late-list"):
    life = Guest.boot("64MiB", policy=name, resident="all").life
    t, h, does = life.tables, life.host, life.policy.operations
    for function, *arguments in (
        (does.boot, t, h, life.marked), (does.set_runs, t, h, runs, 0), (does.rebuild, t, h, 0),
        (does.grow_leaves, t, h, leaves, False, 0), (does.report, t, h),
        (does.get, t, h, some, some), (does.get_row, t, h, 0, some),
    ):
        make_ready(function, *arguments)
        print(name, function.__name__, len(function.stats.cache_hits))
"""


@pytest.mark.skipif(
    bool(os.environ.get("NUMBA_DISABLE_JIT") or os.environ.get("P2MBATCH_BOUNDSCHECK")),
    reason="there is no cache",
)
def test_every_function_of_every_policy_comes_from_the_cache() -> None:
    """What holds an address of the process that compiled it can't be kept (numba says so)."""

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", _EVERY_OPERATION],
            capture_output=True, text=True, timeout=600, check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        return done.stdout.splitlines()

    run()
    again = run()
    # Those of the eras are all made in the same way.
    num_policies = 1 + sum(not policies.find(name).is_era for name in policies.names())
    assert len(again) == 7 * num_policies
    assert [line for line in again if line.endswith(" 0")] == []
