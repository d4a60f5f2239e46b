"""Policies of the user's own: equal to ours where they say the same, refused in one line else."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_support import assert_as_stepped, columns
from oracle.lives import Wanted, lives
from oracle.recordings import Recording, recordings
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.guests.batch.lives import live
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import policies
from p2mbatch.model.own.named import named_policy
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json
from registry_support import files_forgotten

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "own-policy.md"
TREES = ROOT / "p2mbatch" / "linux" / "trees.py"
SEED = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[0]
FORGOTTEN = SEED.replace(
    "        else:\n            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)\n", ""
)
UNCOMPILED = bool(os.environ.get("NUMBA_DISABLE_JIT"))


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.fixture(scope="module", autouse=True)
def _fresh() -> Iterator[None]:
    """Forget afterwards which files were read."""
    with files_forgotten():
        yield


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return named_policy(written(tmp_path_factory.mktemp("own"), SEED))


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> str:
    assert FORGOTTEN != SEED
    return named_policy(written(tmp_path_factory.mktemp("own"), FORGOTTEN, "forgotten.py"))


def check(recording: Recording, policy: str) -> None:
    trace = load_trace(recording.path)
    got = replay(dataclasses.replace(trace, policy=policy))
    for event in got:
        event.pop("where", None)
    assert got == trace.expected


def of(policy: str) -> list[Recording]:
    return [r for r in recordings() if load_trace(r.path).policy == policy]


def some(policy: str) -> list[Recording]:
    """The shortest recording of each family, width and format (`make own-policies` takes all)."""
    found: dict[tuple[str, ...], Recording] = {}
    for recording in sorted(of(policy), key=lambda r: -r.path.stat().st_size):
        found[recording.family, recording.bits, recording.format] = recording
    return list(found.values())[:: 1 if not UNCOMPILED else 8]


# --- the change, written down -----------------------------------------------------------------


def test_the_change_takes_less_than_forty_lines() -> None:
    assert len([line for line in SEED.splitlines() if line.strip()]) < 40


@pytest.mark.thorough
@pytest.mark.lane
def test_after_the_change_traces_are_as_recorded(seed: str) -> None:
    assert named_policy(seed) == seed
    for recording in some("tracked"):
        check(recording, seed)


@pytest.mark.thorough
@pytest.mark.lane
def test_before_the_change_traces_are_as_recorded() -> None:
    """`Stale` and `Kernel` word by word, as a file of one's own: no function of ours is left."""
    policy = named_policy(f"{TREES}:Stale")
    for recording in some("stale"):
        check(recording, policy)


FOUND_BEFORE = (173, 1161, 1811, 1854, 2144, 2172, 2562, 3025, 3060, 3580, 3841, 4401)
"""Lives of seed 1 in which an old MFN leads to a page that the kernel also has otherwise."""


@pytest.mark.thorough
def test_a_store_by_the_kernels_own_pointer_is_not_stray() -> None:
    """Where `mfn_to_virt` gave a mid, or the page that is taken next, counts are as ours."""
    stale = named_policy(f"{TREES}:Stale")
    for index in FOUND_BEFORE:
        (life,) = lives("1", index, 1, Wanted("p2mbatch-trace/1"))
        trace = parse_trace(life)
        assert trace.policy == "stale"
        events = replay(dataclasses.replace(trace, policy=stale))
        theirs = [{key: event[key] for key in event if key != "where"} for event in events]
        assert theirs == replay(trace), f"life {index}"


@pytest.mark.thorough
def test_entries_count_as_written_wherever_they_went() -> None:
    """A rebuild whose stores are all stray has written as many entries as ours."""
    ours, theirs = (
        run_scenario(Scenario.make(memory_bytes="256MiB", policy=policy, migrations=4))
        for policy in ("stale", f"{TREES}:Stale")
    )
    written = [[row["entries_written"] for row in rows] for rows in (ours, theirs)]
    assert written[0] == written[1]
    assert any(row["stray_writes"] == row["entries_written"] > 0 for row in ours)


def test_a_sweeps_rows_are_those_of_tracked(seed: str) -> None:
    for fields in (
        {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
        {"memory_bytes": "5GiB", "layout": "scattered", "sparsity": 0.2, "word_bytes": 4},
    ):
        rows = [
            run_scenario(Scenario.make(policy=policy, migrations=3, seed=3, **fields))
            for policy in ("tracked", seed)
        ]
        for ours, theirs in zip(*rows, strict=True):
            exact = {k: v for k, v in ours.items() if not k.endswith("_ns")}
            assert {k: theirs[k] for k in exact} == exact


@(pytest.mark.lane if UNCOMPILED else pytest.mark.thorough)
def test_a_live_migration_that_ends_has_the_row_of_steps(seed: str) -> None:
    """What the rounds' sets wrote to the list is counted, though the guest was not resumed."""
    fields: dict[str, Any] = {"live": "yes", "rounds": 1, "migrations": 1, "sparsity": 0.7}
    scenarios = [
        Scenario.make(memory_bytes="3GiB", policy=seed, churn="2MiB", seed=number, **fields)
        for number in range(3)
    ]
    lived = live(columns(scenarios))
    assert_as_stepped(scenarios, lived)
    assert any(row["entries_written"] for row in lived.as_rows() if row["outcome"] == "misdirected")


@pytest.mark.thorough
def test_what_was_forgotten_shows(forgotten: str) -> None:
    """The list keeps the old host's numbers where a whole mid is missing."""
    fields = {"memory_bytes": "64GiB", "sparsity": 0.99, "layout": "extents", "migrations": 2}
    rows = [
        run_scenario(Scenario.make(policy=policy, seed=seed, **fields))[-1]["outcome"]
        for policy in ("tracked", forgotten)
        for seed in range(5)
    ]
    assert rows == ["ok"] * 5 + ["save-failed"] * 5


def test_a_bug_names_the_users_line(seed: str) -> None:
    recording = next(r for r in recordings() if r.name == "hotplug-64-0")
    trace = dataclasses.replace(load_trace(recording.path), policy=seed)
    last = replay(trace)[-1]
    line = next(n for n, text in enumerate(SEED.splitlines(), 1) if "*top_mfn_p" in text)
    assert last["outcome"] == "bug"
    assert last["where"].endswith(f"mine.py:{line}")


# --- what is wrong with a file ----------------------------------------------------------------

HEAD = "from p2mbatch.linux import *\nclass Mine(Tracked):\n"
EMPTY = HEAD + "    pass\n"

# The file, the line that is named, and what is said.
WRONG = {
    "syntax": (HEAD + "    def alloc_p2m(self, pfn)\n        return True\n", 3, "not Python"),
    "nothing in it": ("LIMIT = 3\n", 1, "there is no policy in it"),
    "no class": (
        EMPTY.replace("Tracked", "Trakced"), 2,
        "Trakced is unknown: did you mean Tracked"),
    "no base": ("class Mine:\n    pass\n", 1, "has no base: inherit from Kernel, Stale, Tracked"),
    "half a kernel": (EMPTY.replace("Tracked", "Kernel"), 2, "has no xen_build_mfn_list_list"),
    "a foreign import": ("from os import system\n", 1, "imports from p2mbatch.linux alone"),
    "a module": ("import os\n", 1, "import can't stand here"),
    "run at import": ("print('here')\n" + EMPTY, 1, "an expression can't stand here"),
    "an unknown import": ("from p2mbatch.linux import vmalloc\n", 1, "has no 'vmalloc'"),
    "an unknown name": (
        HEAD + "    def xen_post_suspend(self):\n        virt_to_mnf(self.p2m_top)\n",
        4, "virt_to_mnf is not known: did you mean virt_to_mfn?",
    ),
    "an unknown variable": (
        HEAD + "    def xen_post_suspend(self):\n        x = 1\n        self.p2m_tpo = x\n",
        5, "self.p2m_tpo is not known: did you mean p2m_top?",
    ),
    "no self": (
        HEAD + "    def xen_post_suspend(self):\n        xen_build_mfn_list_list()\n",
        4, "self.xen_build_mfn_list_list(…)",
    ),
    "an attribute": (
        HEAD + "    def xen_post_suspend(self):\n        x = (1).__class__\n",
        4, ".__class__: only self has members",
    ),
    "returns nothing": (
        HEAD + "    def alloc_p2m(self, pfn):\n        pfn += 1\n",
        3, "comes to an end without return: it answers whether there was memory",
    ),
    "returns nothing somewhere": (
        HEAD + "    def alloc_p2m(self, pfn):\n        if pfn:\n            return\n"
        "        return 1\n",
        5, "returns nothing here",
    ),
    "too many arguments": (
        HEAD + "    def xen_post_suspend(self):\n        self.alloc_p2m(1, 2)\n",
        4, "alloc_p2m takes 1 argument, not 2",
    ),
    "other parameters": (
        HEAD + "    def alloc_p2m(self, pfn, mfn):\n        return True\n",
        3, "alloc_p2m takes 1 beside self",
    ),
    "calls itself": (
        HEAD + "    def f(self):\n        self.g()\n    def g(self):\n        self.f()\n",
        6, "f comes to call itself",
    ),
    "half a number": (
        HEAD + "    def f(self, a):\n        return a / 2\n", 4, "numbers are whole",
    ),
    "a statement": (
        HEAD + "    def f(self):\n        with self:\n            pass\n", 4, "with is not among",
    ),
    "a list": (HEAD + "    def f(self):\n        x = [1]\n", 4, "list is not among"),
    "a wide number": (HEAD + f"    def f(self):\n        x = {1 << 64}\n", 4, "no number of 64"),
    "a read-only field": (
        HEAD + "    def f(self):\n        self.nr_pages = 1\n", 4, "it can't be set",
    ),
    "half a tree": (
        HEAD + "    def get_phys_to_machine(self, pfn):\n        return pfn\n",
        3, "looks PFNs up itself: write its set_phys_to_machine too",
    ),
    "a tree that nobody looks up": (
        HEAD + "    def xen_build_dynamic_phys_to_machine(self):\n        pass\n",
        3, "is for policies with a get_phys_to_machine of their own",
    ),
    "an array in the tree": (HEAD + "    x = array(4)\n", 2, "static arrays are for policies with"),
    "a static that is none": (HEAD + "    x = 7\n", 3, "begins as NULL or 0"),
    "too many statics": (
        HEAD + "".join(f"    x{i} = NULL\n" for i in range(60)), 2, "60 static variables",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_told_with_its_line(what: str, tmp_path: Path) -> None:
    text, line, said = WRONG[what]
    path = written(tmp_path, text)
    with pytest.raises(PolicyError) as caught:
        named_policy(path)
    told = str(caught.value)
    assert told.startswith(f"{path}, line {line}: ") and said in told and "\n" not in told


def test_a_type_that_the_compiler_refuses_is_told_with_its_line(tmp_path: Path) -> None:
    body = "    def xen_post_suspend(self):\n        top = self.p2m_top\n        top += 'x'\n"
    path = written(tmp_path, HEAD + body)
    if UNCOMPILED:
        pytest.skip("there is no compiler")
    with pytest.raises(PolicyError) as caught:
        Guest.boot("64MiB", policy=path)
    said = "can't be compiled: there is no iadd(int64, Literal[str](x))"
    assert str(caught.value) == f"{path}, line 5: {said}"


STOPS = (
    HEAD
    + """\
    rounds = 0

    def xen_post_suspend(self):
        if self.nr_pages > 20000:
            while self.rounds >= 0:
                self.rounds += 1
        elif self.nr_pages > 17000:
            pfn = self.p2m_top_mfn[0]
            pfn[0] = 1
        self.p2m_top_mfn[P2M_TOP_PER_PAGE] = 0
"""
)


@pytest.mark.skipif(UNCOMPILED, reason="sixteen million rounds")
def test_what_only_shows_in_a_life_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, STOPS)
    with pytest.raises(PolicyError, match=f"^{re.escape(path)}, line 12: goes past the end"):
        Guest.boot("64MiB", policy=path).migrate()
    with pytest.raises(PolicyError, match=f"^{re.escape(path)}, line 7: a loop without an end"):
        Guest.boot("128MiB", policy=path).migrate()
    fault = Guest.boot("68MiB", policy=path).migrate()
    assert (fault.outcome, fault.detail, fault.where) == ("fault", "mid_mfn store", f"{path}:11")


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.py: can't be read: No such file"):
        Scenario.make(memory_bytes="64MiB", policy=str(tmp_path / "gone.py"))
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    with pytest.raises(PolicyError, match=r"latin\.py, line 1: not UTF-8"):
        named_policy(str(tmp_path / "latin.py"))
    two = written(tmp_path, HEAD + "    pass\nclass Other(Stale):\n    pass\n")
    with pytest.raises(PolicyError, match=r"several policies \(Mine, Other\): say which"):
        named_policy(two)
    with pytest.raises(PolicyError, match=r"has no class 'Third': it has Mine, Other"):
        named_policy(f"{two}:Third")
    assert named_policy(f"{two}:Other").startswith(f"{two}:Other#")


# --- what it is named by ----------------------------------------------------------------------


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str) -> None:
    """Lay a package with an entry point `offered` out as an installer does, and find it."""
    (folder / "offers" / "deep").mkdir(parents=True)
    for package in ("offers", "offers/deep"):
        (folder / package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "offers" / "deep" / "kernels.py").write_text(text)
    about = folder / "offers-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[p2mbatch.policies]\noffered = {module}:Never\n")
    monkeypatch.syspath_prepend(str(folder))


NEVER = """\
from p2mbatch.linux import *
class Never(Tracked):
    def xen_post_suspend(self):
        pass
class Other(Never):
    pass
"""


def test_an_installed_policy_is_found_by_its_name_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its entry point; of two classes the one that it names, also two packages deep."""
    installed(tmp_path, monkeypatch, "offers.deep.kernels", NEVER)
    name = named_policy("offered")
    assert re.fullmatch(r"offered#[0-9a-f]{16}", name)
    ours, theirs = (
        run_scenario(Scenario.make(memory_bytes="16MiB", policy=policy, migrations=2))
        for policy in ("none", "offered")
    )
    assert [row["outcome"] for row in theirs] == [row["outcome"] for row in ours]
    assert not [module for module in sys.modules if module.startswith("offers")]


@pytest.mark.parametrize("module", ["offers.deep.gone", "offers.gone.kernels", "gone.kernels"])
def test_an_installed_policy_without_a_file_is_told(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry point may name what is not there."""
    installed(tmp_path, monkeypatch, module, NEVER)
    with pytest.raises(InputError, match=f"^policy: offered: there is no file of {module}$"):
        named_policy("offered")


def test_its_text_is_in_a_cells_id_and_where_it_lies_is_not(tmp_path: Path) -> None:
    first = Scenario.make(memory_bytes="64MiB", policy=written(tmp_path, SEED, "a.py"))
    again = Scenario.make(memory_bytes="64MiB", policy=written(tmp_path, SEED, "b.py"))
    other = Scenario.make(memory_bytes="64MiB", policy=written(tmp_path, SEED + "\n", "a.py"))
    assert first.cell_id == again.cell_id != other.cell_id
    assert policies.find(first.policy).short == str(tmp_path / "a.py")


def test_what_only_a_store_or_a_trace_names_is_never_read(tmp_path: Path) -> None:
    path = written(tmp_path, SEED, "theirs.py")
    name = f"{path}#0123456789abcdef"
    with pytest.raises(InputError, match=r"was not read here: name its file, as --policy"):
        Scenario.make(memory_bytes="64MiB", policy=name)
    trace = trace_to_json(load_trace(next(r for r in recordings() if r.name == "dense-64-0").path))
    for named in (name, path):
        with pytest.raises(InputError, match="policy: is"):
            parse_trace(trace | {"policy": named})
