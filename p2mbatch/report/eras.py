"""What a sweep over kernels shows: what became of each release's guests, and what each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2mbatch.model.fates import FATES
from p2mbatch.model.hazards import FACTS, HAZARDS
from p2mbatch.model.kernels import release_key
from p2mbatch.model.policies import shown
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.fates import fates, last_rows

if TYPE_CHECKING:
    import pandas as pd

    from p2mbatch.store.results import SweepResult

_LOST = ("lost_pages", "ghost_pages", "lost_identity_pages", "placeholder_writes")


def kernel_tables(result: SweepResult) -> list[Table]:
    """Return the matrix of kernel by fate, and the costs; none where no releases are compared."""
    if len(set(result.compact["linux"].unique()) - {""}) < 2:
        return []
    frame = result.frame
    rows = frame[frame["linux"] != ""]
    releases = sorted(rows["linux"].unique(), key=release_key)
    return [_matrix(rows, releases), _costs(rows, releases)]


def _matrix(rows: pd.DataFrame, releases: list[str]) -> Table:
    """Return a row for each release: its guests' fates, what they lost, what mended it."""
    last = last_rows(rows.assign(fate=fates(rows)))
    counts = last.groupby(["linux", "fate"], observed=True).size()
    lost = {name: rows.groupby("linux", observed=True)[name].sum().to_dict() for name in _LOST}
    of = dict(zip(rows["linux"], rows["policy"], strict=True))
    columns = [
        TableColumn("linux", "Linux", "text", releases),
        TableColumn("policy", "policy", "text", [shown(of[name]).short for name in releases]),
    ]
    for fate in FATES:
        values = [int(counts.get((name, fate), 0)) for name in releases]
        if any(values):
            columns.append(TableColumn(fate, fate, "number", values))
    for name in _LOST:
        values = [int(lost[name][release]) for release in releases]
        if any(values):
            columns.append(TableColumn(name, name.replace("_", " "), "number", values))
    ends = [_mended(of[name]) for name in releases]
    columns.append(TableColumn("mended", "what mended its faults", "text", ends))
    note = "Guests by what became of them, kernel by kernel, and what they lost in all."
    return Table("kernels", columns, note)


def _mended(policy: str) -> str:
    """Return what ended each hazard that a policy has, as far as anything has."""
    if policy not in FACTS:
        return ""
    found = [HAZARDS[name] for name in FACTS[policy].hazards]
    return "; ".join(f"{h.name}: {h.mended or 'not mended'}" for h in found)


def _costs(rows: pd.DataFrame, releases: list[str]) -> Table:
    """Return a row for each release: what the same guests' structures and resumes come to."""
    usual = rows[(rows["outcome"] == "ok") & (rows["layout"] != "identity")]
    resumed = usual[usual["migration"] == 1].groupby("linux", observed=True)
    kinds = (
        ("structure_bytes", "structures", "size"),
        ("structure_overhead", "of the memory", "share"),
        ("entries_written", "entries that a resume writes", "number"),
        ("rebuild_ns", "a rebuild here", "time"),
        ("save_walk_ns", "a save's walk here", "time"),
    )
    means: dict[str, Any] = {name: resumed[name].mean() for name, _, _ in kinds}
    known = [name for name in releases if name in means["structure_bytes"].index]
    columns = [TableColumn("linux", "Linux", "text", known)]
    for name, title, kind in kinds:
        cast = int if kind in ("size", "number") else float
        columns.append(
            TableColumn(name, title, kind, [cast(round(means[name][k], 9)) for k in known])
        )
    note = (
        "Means over guests that came through their first migration. What the toolstack must walk "
        "is told by its time: with 3.19 to 4.2 the whole area, unless the walk is trimmed."
    )
    return Table("kernel_costs", columns, note)
