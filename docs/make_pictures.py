"""Draw the README's picture: `python docs/make_pictures.py`. It is simulated when it is drawn."""

from __future__ import annotations

from pathlib import Path

from p2mbatch import Guest, plots
from p2mbatch.guests.snapshots import Snapshot

GUEST = {"memory": "1GiB", "seed": 7}


def tree(policy: str) -> list[Snapshot]:
    """Return a guest of `policy` before and after its first migration."""
    guest = Guest.boot(**GUEST, policy=policy)
    before = guest.snapshot("before")
    event = guest.migrate()
    return [before, guest.snapshot(f"after one migration, {policy}", event)]


if __name__ == "__main__":
    pictures = Path(__file__).resolve().parent / "img"
    plots.save(plots.draw("tree", tree("stale")), pictures / "tree.svg")
