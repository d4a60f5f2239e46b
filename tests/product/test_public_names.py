"""The public names: what a user imports, what their type checker sees, and that it stays so."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import p2mbatch

PACKAGES = ("p2mbatch", "p2mbatch.plots", "p2mbatch.report", "p2mbatch.bench", "p2mbatch.dumps")

WORDS = "p2mbatch.linux"
"""The words of policies of one's own: imported whole, since nothing but their names is there."""


def every_module() -> list[str]:
    found = pkgutil.walk_packages(p2mbatch.__path__, "p2mbatch.")
    return sorted(m.name for m in found if not m.name.endswith("__main__"))


def submodules(package: str) -> set[str]:
    return {m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)}


def where(package: str, entry: tuple[str, str]) -> tuple[str, str]:
    """Return the module and the name in it that a table's entry stands for."""
    name, target = entry
    if target == ".":
        return package, name
    module, _, inner = target.partition(":")
    return f"{package}.{module}", inner or name


def imports_for_checkers(package: str) -> dict[str, tuple[str, str]]:
    """Return name -> (module, name there), from the block under TYPE_CHECKING."""
    tree = ast.parse(Path(str(importlib.import_module(package).__file__)).read_text("utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: (str(statement.module), alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_checkers_and_the_interpreter_are_told_the_same(package: str) -> None:
    face = importlib.import_module(package)
    table = {entry[0]: where(package, entry) for entry in face._EXPORTS.items()}
    assert imports_for_checkers(package) == table
    assert set(face.__all__) == set(table) | ({"__version__"} if package == "p2mbatch" else set())
    assert dir(face) == sorted(face.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = face.no_such_name


def test_every_package_that_exports_is_tested() -> None:
    fronts = [
        name
        for name in ["p2mbatch", *every_module()]
        if hasattr(importlib.import_module(name), "__all__")
        and hasattr(importlib.import_module(name), "__path__")
    ]
    assert sorted(fronts) == sorted((*PACKAGES, WORDS))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_submodule_has_an_exports_name(package: str) -> None:
    face = importlib.import_module(package)
    own = {name for name, target in face._EXPORTS.items() if target != "."}
    assert not own & submodules(package)
    assert {name for name, target in face._EXPORTS.items() if target == "."} <= submodules(package)


ORDER = """
import importlib, sys
steps = sys.argv[1].split(",")
for step in steps:
    module, _, name = step.partition(":")
    found = importlib.import_module(module)
    if name:
        getattr(found, name)
for package in {packages!r}:
    face = importlib.import_module(package)
    for name, target in face._EXPORTS.items():
        module, _, inner = target.partition(":")
        if target == ".":
            wanted = importlib.import_module(f"{{package}}.{{name}}")
        else:
            wanted = getattr(importlib.import_module(f"{{package}}.{{module}}"), inner or name)
        assert getattr(face, name) is wanted, (package, name, getattr(face, name))
        scope = {{}}
        exec(f"from {{package}} import {{name}}", scope)
        assert scope[name] is wanted, (package, name)
"""


def orders() -> list[list[str]]:
    """Return orders to import in: modules alone, from both ends, and mixed with exports."""
    modules = every_module()
    exports = [f"{package}:{name}" for package in PACKAGES for name in
               importlib.import_module(package)._EXPORTS]  # fmt: skip
    found = [modules, modules[::-1], exports + modules]
    for seed in range(3):
        steps = modules + exports
        random.Random(seed).shuffle(steps)
        found.append(steps)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_an_export_is_itself_whatever_was_imported_before(number: int) -> None:
    steps = ",".join(orders()[number])
    run = subprocess.run(
        [sys.executable, "-c", ORDER.format(packages=PACKAGES), steps],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]


USER = '''
"""A user's file; a line that ends in "wrong:" and a code is a mistake that a checker must find."""

import p2mbatch as p2m
from p2mbatch import Guest, InputError, P2MBatchError, Scenario, SweepResult, SweepSpec, Trace
from p2mbatch.bench import QUICK
from p2mbatch.dumps import DumpGuest, audit_guest, import_trace, read_dump
from p2mbatch.plots import FORMATS, plot_survival
from p2mbatch.report import to_markdown, write_html

guest: Guest = p2m.Guest.boot(memory="64MiB", policy="tracked", seed=7)
outcome: str = guest.migrate().outcome
result: SweepResult = p2m.sweep("headline", out="runs/headline")
rows = p2m.run_scenario(Scenario(memory_bytes=64 << 20))
trace: Trace = p2m.load_trace("a.json")
told: list[dict[str, object]] = list(p2m.replay(trace))
page: str = to_markdown(result)
write_html(result, "a.html")
p2m.plots.plot_survival(result).set_title("a")
found: DumpGuest = read_dump("a.save")
failed: bool = audit_guest(found).failed
words: int = p2m.geometry(8).entries
first: str = FORMATS[0]
seconds: float = QUICK.case_seconds
spec: SweepSpec
error: P2MBatchError = InputError("a line")
version: str = p2m.__version__

p2m.geometry("8")  # wrong: arg-type
p2m.Guest.boot(memroy="64MiB")  # wrong: call-arg
p2m.sweeep("headline")  # wrong: attr-defined
p2m.plots.plot_nothing(result)  # wrong: attr-defined
p2m.bench.rnu()  # wrong: attr-defined
number: int = guest.migrate().outcome  # wrong: assignment
name: str = p2m.load_trace("a.json")  # wrong: assignment
plot_survival()  # wrong: call-arg
import_trace(found)  # wrong: call-arg
text: int = to_markdown(result)  # wrong: assignment
from p2mbatch.report import to_pdf  # wrong: attr-defined
'''


@pytest.mark.thorough
def test_a_users_mistakes_are_found_and_only_those(tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(USER, encoding="utf-8")
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
            "--config-file=", f"--cache-dir={tmp_path}", "--no-error-summary", "--no-pretty",
            "--hide-error-context", str(file),
        ],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    told = re.findall(r"user\.py:(\d+): error: .*\[([a-z-]+)\]$", run.stdout, re.MULTILINE)
    wanted = [
        (str(number), line.partition("# wrong: ")[2])
        for number, line in enumerate(USER.splitlines(), 1)
        if "# wrong: " in line
    ]
    assert sorted(told) == sorted(wanted), run.stdout + run.stderr
