"""A representative set under other versions: the lower bounds, and other Pythons.

    python tests/environments.py lowest     (make test-lowest)
    python tests/environments.py pythons    (make test-pythons)

Each environment is made anew below `build/`. Needs nothing but Python itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

PYTHONS = ("3.12", "3.13")

TOOLS = ("pytest", "pytest-timeout", "hypothesis", "jsonschema")

TESTS = (
    "tests/spec",
    "tests/store",
    "tests/compiled/test_bijection.py",
    "tests/compiled/test_cache.py",
    "tests/model/test_trace.py",
    "tests/model/test_reference.py",
    "tests/guests/test_cell.py",
    "tests/dumps/test_dumps_files.py",
    "tests/dumps/test_dumps_readers.py",
    "tests/sweeps/test_sweep.py",
    "tests/report/test_report.py",
    "tests/plots",
)
"""Of each floor of the house what touches the libraries below it."""

COMMANDS = (
    "replay --check data/traces/*[05].json.gz data/traces/eras/*4.json.gz",
    "sweep --memory 64MiB,1GiB --sparsity 0,0.5 --seeds 5 --out OUT/store",
    "export OUT/store -o OUT/rows.parquet",
    "export OUT/store -o OUT/rows.csv",
    "export OUT/store -o OUT/rows.json",
    "report OUT/store --markdown",
    "compare OUT/store OUT/store",
    "plot OUT/store survival -o OUT/survival.png",
    "make-stream data/traces/balloon-64-300.json.gz -o OUT/guest.stream",
    "audit OUT/guest.stream",
    "import OUT/guest.stream -o OUT/guest.json.gz",
    "replay OUT/guest.json.gz",
    "make-core data/traces/balloon-32-300.json.gz -o OUT/guest.core",
    "audit OUT/guest.core",
    'race --cpu "set 0 1, get 0" --cpu "set 1 1"',
)
"""Then every kind of work once from the command line; each must end with 0."""


class Came(NamedTuple):
    """What came of one environment."""

    name: str
    took_s: float
    failed: list[str]
    """The steps that did."""


def bounds() -> list[str]:
    """Return `name==version`, the lower bound, for each dependency of the package and of Dask's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dask"]]
    return [dependency.replace(">=", "==") for dependency in named]


def python_of(version: str) -> str | None:
    """Return a Python of `version` that runs: from the path, or from pyenv's own folder."""
    places = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places += [str(p / "bin/python") for p in sorted(pyenv.glob(f"{version}.*"))]
    for place in filter(None, places):
        said = _quiet([place, "-c", "import sys; print(*sys.version_info[:2], sep='.')"])
        if said.returncode == 0 and said.stdout.strip() == version:
            return place
    return None


def _quiet(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def steps(python: str, folder: Path, constraints: Path) -> Iterator[list[str]]:
    """Yield the commands that make an environment and try it."""
    own = str(folder / "bin/python")
    yield [python, "-m", "venv", "--clear", str(folder)]
    pip = [own, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    yield [*pip, "-c", str(constraints), "-e", f"{ROOT}[dask]", *TOOLS]
    # What old libraries say of each other is no error of ours.
    yield [own, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *TESTS]
    for command in COMMANDS:
        text = command.replace("OUT", str(folder / "out"))
        # By the shell, for the patterns.
        yield ["sh", "-c", f"{folder / 'bin/p2mbatch'} {text} >{folder / 'out.log'}"]


def try_out(name: str, python: str, constraints: Path) -> Came:
    """Make environment `name` below `build/` and run the set in it."""
    folder, start, failed = ROOT / "build" / name, time.monotonic(), list[str]()
    environment = os.environ | {"P2MBATCH_CACHE_DIR": str(folder / "cache")}
    for step in steps(python, folder, constraints):
        print("+", " ".join(step[-1:] if step[0] == "sh" else step), flush=True)
        if subprocess.run(step, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(" ".join(step))
            if "pytest" not in step and step[0] != "sh":
                break  # there is no environment
        (folder / "out").mkdir(exist_ok=True)
    return Came(name, time.monotonic() - start, failed)


def main() -> int:
    """Run the set in each environment; 1 where something failed in one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=("lowest", "pythons"))
    which, came, absent = parser.parse_args().which, list[Came](), list[str]()
    (ROOT / "build").mkdir(exist_ok=True)
    if which == "lowest":
        listed = ROOT / "build/lowest.txt"
        listed.write_text("\n".join(bounds()) + "\n", encoding="utf-8")
        came.append(try_out("lowest", sys.executable, listed))
    else:
        for version in PYTHONS:
            python = python_of(version)
            if python is None:
                absent.append(version)
                continue
            came.append(try_out(f"python{version}", python, ROOT / "constraints.txt"))
    for each in came:
        print(f"{each.name}: {'failed' if each.failed else 'passed'} in {each.took_s:.0f} s")
        for step in each.failed:
            print(f"  {step}")
    for version in absent:
        print(f"python{version}: not to be had here, not tried")
    return 1 if any(each.failed for each in came) else 0


if __name__ == "__main__":
    sys.exit(main())
