"""Twenty mutants of `tracked`, one clause each, as users' files: `python -m hunt.mutants`.

The file that is changed is the one of docs/own-policy.md with `alloc_p2m` written out as
p2mbatch/linux/trees.py has it. A mutant is found where a hunt of it shows a kind that the unchanged
file does not: the four hazards of docs/model.md section 9 that need one CPU.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from p2mbatch.hunt.herd import Herd
from p2mbatch.hunt.hunting import hunt
from p2mbatch.hunt.state import Find, Folder, Progress
from p2mbatch.model.own.named import named_policy

ROOT = Path(__file__).resolve().parents[2]

KNOWN = {
    "resume-bug-brk-start-is-0-half-grown",
    "set-bug-virt-to-mfn-mid-mfn-not-top-mfn-p-past-the-end",
    "lost-pages-past-the-end",
    "unset-entry-in-the-tail",
}
"""What the unchanged file shows: docs/model.md section 9, items 2, 1, 5 and 3."""

MOST_EVENTS = 6

SECONDS = 60.0


class Mutant(NamedTuple):
    """One textual change: `old` stands once in the file."""

    what: str
    old: str
    new: str


def _without(line: str) -> tuple[str, str]:
    return f"{line}\n", ""


_INIT = "            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)\n"

MUTANTS = {
    "refill-forgotten": Mutant(
        "p2m_mid_missing_mfn keeps the old MFN of p2m_missing at a resume",
        f"        else:\n{_INIT}",
        "",
    ),
    "first-fill-forgotten": Mutant(
        "p2m_mid_missing_mfn is not filled at boot",
        f"{_INIT}            self.p2m_top_mfn_p = extend_brk",
        "            self.p2m_top_mfn_p = extend_brk",
    ),
    "loop-ends-early": Mutant(
        "the last leaf is left out",
        "while pfn < self.xen_max_p2m_pfn:",
        "while pfn < self.xen_max_p2m_pfn - P2M_PER_PAGE:",
    ),
    "loop-ends-at-boot-memory": Mutant(
        "the loop ends at nr_pages",
        "while pfn < self.xen_max_p2m_pfn:",
        "while pfn < self.nr_pages:",
    ),
    "loop-begins-late": Mutant(
        "the first leaf is left out", "        pfn = 0\n", "        pfn = P2M_PER_PAGE\n"
    ),
    "skip-one-leaf": Mutant(
        "behind a missing mid the loop goes on one leaf further, not one mid",
        "pfn += P2M_MID_PER_PAGE * P2M_PER_PAGE",
        "pfn += P2M_PER_PAGE",
    ),
    "holes-skipped": Mutant(
        "entries of missing leaves are not stored anew, as before the change",
        "            mid_mfn_p[mididx] = virt_to_mfn(mid[mididx])\n",
        "            if mid[mididx] != self.p2m_missing:\n"
        "                mid_mfn_p[mididx] = virt_to_mfn(mid[mididx])\n",
    ),
    "hole-top-not-stored": Mutant(
        "the top entry of a missing mid is not stored anew",
        *_without(
            "                self.p2m_top_mfn[topidx] = virt_to_mfn(self.p2m_mid_missing_mfn)"
        ),
    ),
    "top-not-stored": Mutant(
        "the top entry of a mid is not stored anew",
        *_without("            self.p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p)"),
    ),
    "top-of-the-mid": Mutant(
        "the top entry names the mid page, not the list's",
        "self.p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p)",
        "self.p2m_top_mfn[topidx] = virt_to_mfn(mid)",
    ),
    "leaf-not-stored": Mutant(
        "the leaf's entry is not stored",
        *_without("            mid_mfn_p[mididx] = virt_to_mfn(mid[mididx])"),
    ),
    "leaf-of-the-mid": Mutant(
        "the leaf's entry names the mid page",
        "mid_mfn_p[mididx] = virt_to_mfn(mid[mididx])",
        "mid_mfn_p[mididx] = virt_to_mfn(mid)",
    ),
    "page-not-tracked": Mutant(
        "a page of the list that boot takes is not tracked",
        *_without("                self.p2m_top_mfn_p[topidx] = mid_mfn_p"),
    ),
    "page-not-filled": Mutant(
        "a page of the list that boot takes is not filled",
        *_without("                self.p2m_mid_mfn_init(mid_mfn_p)"),
    ),
    "through-old-pages": Mutant(
        "the list's page is looked up by the MFN that the top entry has",
        "mid, mid_mfn_p = self.p2m_top[topidx], self.p2m_top_mfn_p[topidx]",
        "mid, mid_mfn_p = self.p2m_top[topidx], mfn_to_virt(self.p2m_top_mfn[topidx])",
    ),
    "not-hung-after-growth": Mutant(
        "a page of the list that growth takes is not tracked",
        "        self.p2m_top_mfn_p[topidx] = mid_mfn\n",
        "        pass\n",
    ),
    "growth-not-listed": Mutant(
        "a grown leaf is not put into the list",
        *_without("            mid_mfn[index] = virt_to_mfn(leaf)"),
    ),
    "grown-leaf-not-filled": Mutant(
        "a grown leaf is not filled with INVALID", *_without("            self.p2m_init(leaf)")
    ),
    "grown-mid-not-hung": Mutant(
        "a grown mid is not hung into p2m_top", *_without("            self.p2m_top[top] = mid")
    ),
    "grown-list-page-not-filled": Mutant(
        "a page of the list that growth takes is not filled",
        *_without("            self.p2m_mid_mfn_init(mid_mfn)"),
    ),
}


def unchanged() -> str:
    """The file that is changed."""
    docs = (ROOT / "docs" / "own-policy.md").read_text("utf-8")
    seed = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)[0]
    trees = (ROOT / "p2mbatch" / "linux" / "trees.py").read_text("utf-8")
    stale = trees[trees.index("class Stale") : trees.index("class Tracked")]
    alloc = stale[stale.index("    def alloc_p2m") :]
    alloc = alloc.replace("pfn: int) -> bool:", "pfn):")
    return f"{seed.rstrip()}\n\n{alloc.rstrip()}\n"


def changed(name: str) -> str:
    """The file of a mutant."""
    text, mutant = unchanged(), MUTANTS[name]
    assert text.count(mutant.old) == 1, (name, text.count(mutant.old))
    return text.replace(mutant.old, mutant.new)


@dataclass
class Found:
    """What a hunt of a file came to."""

    new: list[Find]
    progress: Progress
    seconds: float


class _Quiet:
    def begin(self, progress: Progress) -> None:
        pass

    looking = found = lived = lambda self, *_: None


def hunt_file(text: str, folder: Path, lives: Iterator[int], seed: int = 0) -> Found:
    """Hunt a file up to each of `lives` in turn, until it shows a kind that is not known."""
    folder.mkdir(parents=True)
    path = folder / "mutant.py"
    path.write_text(text)
    name = named_policy(str(path))
    herd = Herd(name, seed, None, None)
    start = time.monotonic()
    progress = Progress()
    for most in lives:
        where = Folder(folder / "hunt", {"policy": name, "seed": seed})
        with where.held():
            progress = hunt(lambda state: herd, where, most, None, _Quiet())
        new = [find for find in progress.finds if find.kind not in KNOWN]
        if new:
            return Found(new, progress, time.monotonic() - start)
    return Found([], progress, time.monotonic() - start)


def _growing(seconds: float) -> Iterator[int]:
    """More and more lives, for so long."""
    start, lives = time.monotonic(), 512
    while time.monotonic() - start < seconds:
        yield lives
        lives *= 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MUTANT")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or MUTANTS:
            found = hunt_file(changed(name), Path(folder) / name, _growing(SECONDS), given.seed)
            best = min(found.new, key=lambda find: find.events, default=None)
            missed += best is None or best.events > MOST_EVENTS
            told = f"{best.events} events, {best.kind}" if best else "MISSED"
            lives = f"{found.progress.all_lives:>8,} lives"
            print(f"{name:28s} {found.seconds:5.1f} s {lives}  {told}", flush=True)
    print(f"{len(given.names or MUTANTS) - missed} of {len(given.names or MUTANTS)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
