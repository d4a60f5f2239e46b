"""What a sweep over kernels shows: what became of each release's guests, and what each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.guests.fields import IDENTITY
from p2mbatch.model.fates import FATES
from p2mbatch.model.hazards import FACTS, HAZARDS
from p2mbatch.model.kernels import release_key
from p2mbatch.model.policies import shown
from p2mbatch.plots.style import FATE_LOOKS
from p2mbatch.report.faults import Seen, faults_seen
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.fates import fates, last_rows

if TYPE_CHECKING:
    import pandas as pd

    from p2mbatch.store.results import SweepResult


_ENDS = ["cell", "migration", "fate"]
"""What `last_rows` takes to tell a cell's end."""

_COSTS = (
    ("structure_bytes", "structures", "size"),
    ("structure_overhead", "of the memory", "share"),
    ("entries_written", "entries that a resume writes", "number"),
    ("rebuild_ns", "a rebuild here, median", "time"),
    ("save_walk_ns", "a save's walk here, median", "time"),
)
"""(column, title, kind) of each cost that kernels are compared by."""


class Kernel(NamedTuple):
    """One release as guests of a run had it, and what became of them."""

    label: str
    """The release; with the width where that decides the policy."""
    policy: str
    num_guests: int
    ends: dict[str, int]
    """How many came to each fate that the run has."""
    seen: list[Seen]
    costs: list[float]
    """Means of `_COSTS` over guests that came through their first migration; or nothing.

    Of times, which one disturbance may lengthen a thousandfold, medians.
    """

    @property
    def faults(self) -> list[str]:
        """Return each fault that was seen, with what mended it, as a sentence."""
        return [_sentence(seen) for seen in self.seen]


def kernels_of(result: SweepResult) -> list[Kernel]:
    """Return the releases of a run by age; none where it does not compare any."""
    frame = result.compact
    if len(set(frame["linux"].unique()) - {""}) < 2:
        return []
    rows = frame[(frame["linux"] != "").to_numpy(bool)]
    rows = rows.assign(fate=fates(rows))
    last = last_rows(rows[_ENDS])["fate"].value_counts()
    order = [fate for fate in FATES if last.get(fate, 0)]
    labels, number = _numbered(rows)
    return [_kernel(label, rows[number == index], order) for index, label in enumerate(labels)]


def _numbered(rows: pd.DataFrame) -> tuple[list[str], Int64Array]:
    """Return the kernels' labels by age, and for each row which of them it is of."""
    grouped = rows.groupby(["linux", "word_bytes"], observed=True, sort=False)
    group = grouped.ngroup().to_numpy(np.int64)
    first = np.unique(group, return_index=True)[1]
    keys = rows[["linux", "word_bytes", "policy"]].iloc[first].values.tolist()
    policies: dict[str, set[str]] = {}
    for linux, _, policy in keys:
        policies.setdefault(linux, set()).add(policy)
    labels = [
        f"{linux} ({8 * word_bytes}-bit)" if len(policies[linux]) > 1 else linux
        for linux, word_bytes, _ in keys
    ]
    ages = {label: (release_key(key[0]), label) for label, key in zip(labels, keys, strict=True)}
    found = sorted(ages, key=lambda label: ages[label])
    places = np.array([found.index(label) for label in labels], np.int64)
    return found, places[group]


def _kernel(label: str, rows: pd.DataFrame, order: list[str]) -> Kernel:
    policy = str(rows["policy"].iloc[0])
    ends = last_rows(rows[_ENDS])["fate"].value_counts()
    counts = {fate: int(ends.get(fate, 0)) for fate in order}
    seen = faults_seen(rows, policy)
    return Kernel(label, policy, sum(counts.values()), counts, seen, _usual(rows))


def _usual(rows: pd.DataFrame) -> list[float]:
    usual = (rows["migration"] == 1) & (rows["outcome"] == "ok") & (rows["layout"] != IDENTITY)
    resumed = rows[usual.to_numpy(bool)]
    if not len(resumed):
        return []
    costs = [(resumed[name], kind) for name, _, kind in _COSTS]
    return [float(cost.median() if kind == "time" else cost.mean()) for cost, kind in costs]


def _sentence(seen: Seen) -> str:
    guests = f"{seen.num_guests:,} guest{'s'[: seen.num_guests != 1]}"
    amount = "".join(f", {text}" for text in amount_texts([seen]))
    mended = HAZARDS[seen.hazard].mended
    return f"{seen.hazard} in {guests}{amount}: " + (
        f"mended in {mended}" if mended else "not mended"
    )


# --- the matrix of a page ----------------------------------------------------------------------


class Tile(NamedTuple):
    """One field of the matrix: how many guests, and what is drawn behind the number."""

    num_guests: int
    percent: float
    color: str


class MatrixRow(NamedTuple):
    """One kernel of the matrix."""

    label: str
    policy: str
    """As the page shows it; `known_as` as rows have it."""
    known_as: str
    num_guests: int
    tiles: list[Tile]
    faults: list[str]


class Matrix(NamedTuple):
    """Kernels by fate, as a page draws them."""

    fates: list[str]
    rows: list[MatrixRow]


def kernel_matrix(kernels: list[Kernel]) -> Matrix | None:
    """Return the matrix of kernel by fate; None where there are no kernels."""
    if not kernels:
        return None
    found = [
        MatrixRow(
            kernel.label,
            shown(kernel.policy).short,
            kernel.policy,
            kernel.num_guests,
            [
                Tile(count, round(100 * count / kernel.num_guests, 1), FATE_LOOKS[fate].color)
                for fate, count in kernel.ends.items()
            ],
            kernel.faults,
        )
        for kernel in kernels
    ]
    return Matrix(list(kernels[0].ends), found)


# --- tables ------------------------------------------------------------------------------------


def kernel_tables(kernels: list[Kernel]) -> list[Table]:
    """Return the faults and the costs as tables; none where there are no kernels."""
    return [fault_table(kernels), _costs(kernels)] if kernels else []


def fate_table(kernels: list[Kernel]) -> Table:
    """Return the matrix of kernel by fate as a table of text."""
    columns = [
        TableColumn("linux", "Linux", "text", [kernel.label for kernel in kernels]),
        TableColumn("policy", "policy", "text", [shown(k.policy).short for k in kernels]),
        *(
            TableColumn(fate, fate, "number", [kernel.ends[fate] for kernel in kernels])
            for fate in kernels[0].ends
        ),
    ]
    note = "Guests by what became of them, kernel by kernel."
    return Table("kernels", columns, note)


def fault_table(kernels: list[Kernel]) -> Table:
    """Return each fault that one of the kernels has: which, where it was seen, what mended it."""
    has = {name: [k for k in kernels if name in _hazards(k.policy)] for name in HAZARDS}
    names = [name for name in HAZARDS if has[name]]
    seen = {name: [s for k in has[name] for s in k.seen if s.hazard == name] for name in names}
    columns = [
        TableColumn("fault", "fault", "text", names),
        TableColumn("what", "what goes wrong", "text", [HAZARDS[name].what for name in names]),
        TableColumn(
            "kernels", "kernels here", "text", [", ".join(k.label for k in has[n]) for n in names]
        ),
        TableColumn(
            "guests", "seen in guests", "number",
            [sum(s.num_guests for s in seen[name]) for name in names],
        ),
        TableColumn(
            "count", "what it came to", "text", [", ".join(amount_texts(seen[n])) for n in names]
        ),
        TableColumn(
            "mended", "mended in", "text", [HAZARDS[n].mended or "not mended" for n in names]
        ),
    ]  # fmt: skip
    note = (
        "What is seen in no guest takes a failed allocation; several CPUs, where one grows each "
        "guest; growth during the copying, where none is live; or the guests of this run have "
        "no occasion for it. A tail that reads as MFN 0 is counted at the boot and costs no page "
        "here: frame 0 is Xen's, never the guest's. A real "
        "guest of 4.3 to 5.13 with pages past the reported end more likely fails to be saved than "
        "loses them, as the page tables of its direct map name them."
    )
    return Table("kernel_faults", columns, note)


def _hazards(policy: str) -> tuple[str, ...]:
    return FACTS[policy].hazards if policy in FACTS else ()


def amount_texts(seen: list[Seen]) -> list[str]:
    """Return what one hazard came to in several kernels together, each count with its unit."""
    units = dict.fromkeys(unit for one in seen for unit in one.amounts)
    totals = {unit: sum(one.amounts.get(unit, 0) for one in seen) for unit in units}
    return [f"{total:,} {unit}" for unit, total in totals.items() if total]


def _costs(kernels: list[Kernel]) -> Table:
    """Return a row for each release: what the same guests' structures and resumes come to."""
    known = [kernel for kernel in kernels if kernel.costs]
    columns = [TableColumn("linux", "Linux", "text", [kernel.label for kernel in known])]
    for at, (name, title, kind) in enumerate(_COSTS):
        cast = int if kind in ("size", "number") else float
        values = [cast(round(kernel.costs[at], 9)) for kernel in known]
        columns.append(TableColumn(name, title, kind, values))
    note = (
        "Means over guests that came through their first migration. What the toolstack must walk "
        "is told by its time: with 3.19 to 4.2 the whole area, unless the walk is trimmed."
    )
    return Table("kernel_costs", columns, note)
