"""Build the documentation site: `python docs/build.py [--quick] [DIR]` (make docs).

Executes the notebooks, draws the gallery and has MkDocs make the pages; warnings are errors, and
every link is looked at. `--quick` leaves the notebooks as they are. Needs the extra `docs`, and no
network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from gallery import write_gallery  # noqa: E402
from hooks import MADE  # noqa: E402
from links import problems  # noqa: E402
from tutorial import write_tutorial  # noqa: E402

SITE = DOCS.parent / "build" / "site"


def build(site: Path, *, quick: bool) -> list[str]:
    """Build the site into `site`; return what is wrong with it, a line each."""
    shutil.rmtree(MADE, ignore_errors=True)
    write_tutorial(MADE / "tutorial", execute=not quick)
    write_gallery(MADE)
    for run in ("headline", "holes"):
        shutil.rmtree(MADE / run)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=DOCS.parent,
        env=os.environ | {"PYTHONPATH": str(DOCS.parent), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    return said if done.returncode else problems(site)


def main() -> None:
    """Build, say how it went, and end with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("site", nargs="?", type=Path, default=SITE)
    given = parser.parse_args()
    start = time.monotonic()
    wrong = build(given.site, quick=given.quick)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"{given.site}/index.html: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
