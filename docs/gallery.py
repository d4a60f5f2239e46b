"""The gallery: every figure that p2mbatch draws, each made by the line that stands above it.

The pictures are made when the site is built, from the presets that show most of them, and are not
committed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from p2mbatch.plots.gallery import PLOTS

ROOT = Path(__file__).resolve().parents[1]

RUNS = {
    "headline": "p2mbatch sweep headline --quiet --out headline",
    "holes": "p2mbatch sweep --memory '1GiB..16GiB x4' --sparsity '0..0.9 +0.3' "
    "--layout tail,scattered,extents --policy tracked --migrations 20 --seeds 2 --quiet "
    "--out holes",
    "live": "p2mbatch sweep live --quiet --out live",
}
"""The sweeps that the figures are drawn of."""

OF = {"overhead": "holes", "cost": "holes", "drift": "holes", "live": "live"}
"""Figure -> its run, where that is not the headline."""

OTHERS = {
    "A real guest's dump": (
        "What lies where in a guest's file: its memory, the p2m's pages and the list's, in runs.",
        "p2mbatch audit data/dumps/stale-64.core.gz --html audit.html",
        "audit.html",
    ),
    "One life, told": (
        "A page to step through, with the tree, the list and the memory before and after a step.",
        "p2mbatch explain --memory 1GiB --policy stale --html life.html",
        "life.html",
    ),
    "A race": (
        "Every interleaving of two CPUs that set two PFNs of one missing leaf, drawn as a graph.",
        "p2mbatch race old.never.sc.same-leaf --draw race.svg",
        "race.svg",
    ),
}
"""What is no figure of a sweep: title -> what it shows, the line, the file that it makes."""


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def p2mbatch(line: str) -> None:
    """Run a line `p2mbatch …`.

    Raises `RuntimeError` where it could not be done; that it found a guest that can't be saved (1)
    is what it was asked.
    """
    from p2mbatch.cli import main

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(shlex.split(line)[1:])
    except SystemExit as end:
        if end.code not in (0, 1):
            raise RuntimeError(f"{line}: ended with {end.code}") from end


def write_gallery(out: Path) -> None:
    """Write gallery.md and its files into `out`, all of them made by the lines in it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "data").unlink(missing_ok=True)
    (out / "data").symlink_to(ROOT / "data")
    parts = [_HEAD]
    with _in(out):
        for line in RUNS.values():
            p2mbatch(line)
        for name, plot in PLOTS.items():
            line = f"p2mbatch plot {OF.get(name, 'headline')} {name} -o gallery-{name}.svg"
            p2mbatch(line)
            parts.append(_figure(name.capitalize(), plot.caption, line, f"gallery-{name}.svg"))
        for title, (caption, line, file) in OTHERS.items():
            p2mbatch(line)
            parts.append(_figure(title, caption, line, file))
    (out / "data").unlink()
    (out / "gallery.md").write_text("\n".join(parts), encoding="utf-8")


_HEAD = """\
# Gallery

Every figure with the line that makes it. Figures of sweeps are drawn of two: the preset of the
start page, and one over holes.

```
{}
```

`p2mbatch plot RUN --all DIR` draws all that a run has; in Python each is a function of
[p2mbatch.plots](api/plots.md) that draws into an `Axes` of yours. A pointer over a mark is told
its value where a figure is opened by itself.
""".format("\n".join(RUNS.values()))


def _figure(title: str, caption: str, line: str, file: str) -> str:
    drawn = file.endswith(".svg")
    shown = f"[![{title}: {caption}]({file})]({file})" if drawn else f"[Open the page]({file})"
    return f"## {title}\n\n{caption}\n\n```\n{line}\n```\n\n{shown}\n"
