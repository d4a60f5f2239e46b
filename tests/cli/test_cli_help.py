"""`--help` and `import p2mbatch` load nothing heavy, whatever a command imports when it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2mbatch.cli import COMMANDS

HEAVY = ("numba", "numpy", "pandas", "matplotlib", "pyarrow", "scipy", "pydantic", "jinja2")
_CODE = """
import sys
try:
    {what}
except SystemExit:
    pass
sys.stderr.write(",".join(name for name in {heavy!r} if name in sys.modules))
"""


def loaded_by(what: str) -> list[str]:
    """Return which heavy libraries a fresh interpreter has loaded after `what`."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(what=what, heavy=HEAVY)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in done.stderr.split(",") if name]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import p2mbatch") == []


def test_the_check_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("import p2mbatch; p2mbatch.Guest")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    assert loaded_by(f"from p2mbatch.cli import main; main({arguments!r})") == []


def test_a_shell_that_asks_for_runs_loads_nothing_heavy() -> None:
    what = "from p2mbatch.cli import completing; completing.run(None, None, '')"
    assert loaded_by(what) == []


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_says_what_it_does(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and f"Usage: p2mbatch {command}" in done.stdout
