"""What is released, made and tried: `python tests/release.py` (make release).

An sdist and, out of that, a wheel; both checked; the wheel installed alone in a fresh environment
outside of the source tree, where it sweeps the headline, reports, tells a cell and replays. Needs
nothing but Python itself and an index of packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IN_WHEEL = (
    "p2mbatch/py.typed",
    "p2mbatch/_data/sweeps/headline.toml",
    "p2mbatch/_data/notebooks/01_the_tree.ipynb",
)

IN_SDIST = (
    "data/traces/dense-64-0.json.gz",
    "tests/conftest.py",
    "docs/model.md",
    "docs/build_hook.py",
    "mkdocs.yml",
    "Makefile",
)

COMMANDS = (
    "--version",
    "policies",
    "sweep headline --quiet --out run",
    "show run",
    "report run -o page.html",
    "plot run --all figures",
    "explain --memory 1GiB --policy stale",
    "notebooks chapters",
    "replay --check TRACES/dense-64-0.json.gz TRACES/dense-32-0.json.gz",
)
"""Each must end with 0, in an empty directory; TRACES are those of the sdist."""


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command in `folder` and end all of it where that fails."""
    print("+", " ".join(command), flush=True)
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(f"release: that ended with {done.returncode}")


def make_environment(folder: Path, *packages: str) -> Path:
    """Make an environment with `packages`, pinned, and return where its programs are."""
    run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    run([*pip, "-c", str(ROOT / "constraints.txt"), *packages], ROOT)
    return folder / "bin"


def build(tools: Path, out: Path) -> tuple[Path, Path]:
    """Build and check both files; return the sdist and the wheel."""
    for old in out.glob("p2mbatch-*"):
        old.unlink()
    run([str(tools / "python"), "-m", "build", "--outdir", str(out), str(ROOT)], ROOT)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    run([str(tools / "twine"), "check", "--strict", str(sdist), str(wheel)], ROOT)
    with zipfile.ZipFile(wheel) as files:
        missing = [name for name in IN_WHEEL if name not in files.namelist()]
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    missing += [name for name in IN_SDIST if name not in names]
    if missing:
        sys.exit(f"release: not in what was built: {', '.join(missing)}")
    return sdist, wheel


def try_out(sdist: Path, wheel: Path, folder: Path) -> None:
    """Install the wheel alone in `folder`, and do with it what people do."""
    programs = make_environment(folder / "environment", str(wheel))
    with tarfile.open(sdist) as packed:
        packed.extractall(folder / "source", filter="data")
    (traces,) = (folder / "source").glob("*/data/traces")
    environment = os.environ | {"P2MBATCH_CACHE_DIR": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)
    work = folder / "work"
    work.mkdir()
    for command in COMMANDS:
        arguments = command.replace("TRACES", str(traces)).split()
        run([str(programs / "p2mbatch"), *arguments], work, environment)
    assert (work / "page.html").stat().st_size > 10_000
    assert len(list((work / "chapters").glob("*.ipynb"))) > 5


def main() -> None:
    """Make and try what is released; end with 1 at the first thing that fails."""
    start, out = time.monotonic(), ROOT / "build/release"
    out.mkdir(parents=True, exist_ok=True)
    tools = make_environment(out / "tools", "build", "twine")
    sdist, wheel = build(tools, out)
    with tempfile.TemporaryDirectory(prefix="p2mbatch-release-") as folder:
        try_out(sdist, wheel, Path(folder))
    for path in (sdist, wheel):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"released files work, seen in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
