"""Draw the README's and the site's pictures: `python docs/make_pictures.py`.

Both are simulated when they are drawn: a guest's tree, and the headline's report as a browser shows
it. The second needs chromium.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from p2mbatch import Guest, SweepSpec, plots, sweep
from p2mbatch.guests.snapshots import Snapshot
from p2mbatch.report import write_html

GUEST = {"memory": "1GiB", "seed": 7}
SIZE = 1280, 960
"""Pixels of the report that its picture shows."""

_COLORS = 256


def tree(policy: str) -> list[Snapshot]:
    """Return a guest of `policy` before and after its first migration."""
    guest = Guest.boot(**GUEST, policy=policy)
    before = guest.snapshot("before")
    event = guest.migrate()
    return [before, guest.snapshot(f"after one migration, {policy}", event)]


def report() -> bytes:
    """Return the top of the headline's report as a PNG file."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("there is no chromium here: the report's picture was left as it is")
    width, height = SIZE
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "report.html", Path(folder) / "shot.png"
        result = sweep(SweepSpec.load("headline"), Path(folder) / "run", progress="quiet")
        write_html(result, page)
        subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
                "--virtual-time-budget=4000", f"--screenshot={shot}", page.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        picture = Image.open(shot).convert("RGB")
        few = picture.quantize(_COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    few.save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    pictures = Path(__file__).resolve().parent / "img"
    plots.save(plots.draw("tree", tree("stale")), pictures / "tree.svg")
    (pictures / "report.png").write_bytes(report())
