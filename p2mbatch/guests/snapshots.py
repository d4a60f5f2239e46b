"""A guest's life as a few pictures: its tree before and after what tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from p2mbatch.guests.guest import Guest
from p2mbatch.guests.tree_view import TreeView


@dataclass(frozen=True)
class Snapshot:
    """One guest at one moment, with what its last event came to, for `plot_tree`."""

    view: TreeView
    title: str
    span_pages: int
    stray_writes: int = 0
    outcome: str = "ok"
    detail: str | None = None


def snapshot(guest: Guest, title: str = "", event: Any = None) -> Snapshot:
    """Return what `plot_tree` needs of `guest` now; `event` is the `EventResult` that led here."""
    when = f"after migration {guest.num_migrations}" if guest.num_migrations else "after its boot"
    return Snapshot(
        guest.tree(),
        title or when,
        guest.max_p2m_pfn,
        0 if event is None else event.stray_writes,
        "ok" if event is None else event.outcome,
        None if event is None else event.detail,
    )


def live_through(row: Any, migration: int, policy: str | None = None) -> list[Snapshot]:
    """Return the snapshots before and after `migration` of the guest that a table's row names.

    `policy` replaces the row's own. The guest is simulated again; unlike the sweep's cell its
    hosts have frames for the holes too, so that figures may populate them.
    """
    hosts: dict[str, Any] = {
        "host_memory": int(row["host_memory_bytes"]),
        "neighbours": float(row["neighbours"]),
        "neighbour_memory": int(row["neighbour_memory_bytes"]),
        "build_order": int(row["build_order"]),
        "restore_order": int(row["restore_order"]),
    }
    name, seed = policy or str(row["policy"]), int(row["seed"])
    if row["guest"]:
        guest = Guest.from_file(str(row["guest"]), name, seed, **hosts)
    else:
        guest = Guest.boot(
            int(row["memory_bytes"]),
            name,
            seed,
            sparsity=float(row["sparsity"]),
            layout=str(row["layout"]),
            word_bytes=int(row["word_bytes"]),
            **hosts,
        )
    shots = [snapshot(guest)]
    for _ in range(migration):
        if guest.lost is not None:
            break
        event = guest.migrate()
        shots.append(snapshot(guest, event=event))
    return shots[-2:]
