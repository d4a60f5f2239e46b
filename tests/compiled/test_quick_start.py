"""What a command loads for a small sweep, and what it leaves to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("pandas", "scipy.linalg", "matplotlib", "jinja2", "distributed", "asyncio")

_COMMAND = """
import sys
from p2mbatch.__main__ import main
try:
    main()
finally:
    print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def _run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stderr.strip()


def test_a_small_sweep_loads_nothing_for_tables_or_figures(tmp_path: Path) -> None:
    options = ("sweep", "--memory", "4MiB", "--out", str(tmp_path / "s"), "--no-report", "-q")
    assert _run(_COMMAND.format(heavy=HEAVY), *options) == ""


def test_who_imports_the_package_keeps_numbas_linear_algebra() -> None:
    code = (
        "import sys, p2mbatch.compiled.jit, numpy, numba\n"
        "product = numba.njit(lambda a: numpy.dot(a, a))(numpy.eye(2))\n"
        "assert (product == numpy.eye(2)).all() and 'scipy.linalg' in sys.modules\n"
    )
    assert _run(code) == ""
