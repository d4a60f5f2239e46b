"""Compare two sweeps: cells matched by scenario, exact columns to the bit, measured ones by ratio.

Two runs of different p2mbatch versions, machines, engines or policies. What is exact must be equal
in every cell that both have; what was measured is said as the ratio B / A with an interval.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from p2mbatch.base.arrays import BoolArray, Float64Array, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.say import counted, one_line
from p2mbatch.guests.fields import FILES
from p2mbatch.report.pairs import CONFIDENCE, OF_A_KERNEL, Pairs, pair_sentence, paired
from p2mbatch.store.columns import EXACT_COLUMNS, MEASURED_COLUMNS, SCENARIO_COLUMNS
from p2mbatch.store.exported import Exported
from p2mbatch.store.fates import fates, last_rows, varies
from p2mbatch.store.results import SweepResult

NUM_RESAMPLES = 1000

MAX_LISTED = 10_000
"""Differences that are kept one by one; all are counted."""

_VERSIONS = ("p2mbatch", "model_version", "git_commit", "numba", "numpy", "python")

_MACHINE = ("cpu", "cores", "system")

_MISSING = "no such row"

_MODEL_CHANGES = {
    2: "model 2 runs guests on the machine as it is (docs/model.md): a 64-bit kernel knows brk and "
    "mfn_list by kernel-image addresses, a store to a page without a frame faults, m2p has an end, "
    "and a restore sends own frames only, each of which needs a frame. So, before the change, a "
    "64-bit guest that reaches beyond 1 GiB is stuck at its first migration, one below it has all "
    "its stray writes in one page, and 32-bit guests fare as under model 1",
}
"""What each model version changed and why, by the version that changed it."""

_COUNTED_SINCE = {
    "lost_pages": 2,
    "ghost_pages": 2,
    "lost_identity_pages": 2,
    "placeholder_writes": 2,
}
"""The model version since which a column is counted: before, a store has 0 in it."""


class Ratio(NamedTuple):
    """How one measured column of B relates to A's, over cells of one size."""

    column: str
    memory_bytes: int | None
    """The guests' memory, None for all sizes together."""
    num_cells: int
    ratio: float
    """Geometric mean over cells of (median of B's migrations / median of A's)."""
    low: float | None
    """Ends of the bootstrap interval; None where one cell can't give one."""
    high: float | None


class Difference(NamedTuple):
    """One exact value that is not the same in both runs."""

    cell: str
    """The cell's id in A."""
    scenario: dict[str, Any]
    """The scenario columns by which the cells were matched."""
    migration: int
    column: str
    a: Any
    b: Any
    """None is null; a row that only one run has is a difference in `outcome`."""


class Comparison(NamedTuple):
    """What `compare` found."""

    a: str
    b: str
    notes: list[str]
    """What a reader must know first: different machines, versions, settings."""
    num_matched: int
    """Cells in both."""
    num_only_a: int
    num_only_b: int
    num_rows: int
    """Rows of the matched cells that were compared, those of both runs counted once."""
    num_differences: int
    num_different_cells: int
    differences: list[Difference]
    """The first `MAX_LISTED`, in the order of A's table."""
    ratios: list[Ratio]
    lives: Pairs
    """How the guests that both have fared, intact or not."""

    @property
    def equal(self) -> bool:
        """Whether every exact column is the same in all cells that both runs have."""
        return self.num_differences == 0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON."""
        plain = self._asdict()
        plain["equal"] = self.equal
        plain["differences"] = [difference._asdict() for difference in self.differences]
        plain["lives"] = self.lives._asdict()
        plain["ratios"] = [ratio._asdict() for ratio in self.ratios]
        return plain


def _by_content(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the digests alone of what it names as files: they may lie elsewhere."""
    return frame.assign(**{name: frame[name].str.rpartition("#")[2] for name in FILES})


def compare(a: SweepResult | Exported, b: SweepResult | Exported) -> Comparison:
    """Return how run `b` differs from run `a`.

    Cells are the same where all scenario columns are; where each run has one policy and these are
    two different ones, the policy is left out of that. Raises `InputError` where no cell is in
    both.
    """
    left, right = _by_content(a.frame), _by_content(b.frame)
    keys = [column.name for column in SCENARIO_COLUMNS if column.name != "cell"]
    notes = _provenance_notes(a.provenance, b.provenance)
    policies = set(left["policy"].unique()), set(right["policy"].unique())
    if len(policies[0]) == len(policies[1]) == 1 and policies[0] != policies[1]:
        # A release decides more than the policy; what is an axis of its own is kept.
        alone = [name for name in OF_A_KERNEL if not (varies(left[name]) or varies(right[name]))]
        keys = [name for name in keys if name not in alone]
        notes.insert(0, f"policies: A is {policies[0].pop()}, B is {policies[1].pop()}")
    exact = [column.name for column in EXACT_COLUMNS if column.name != "migration"]
    models = sorted(_model_of(run.provenance) for run in (a, b))
    uncounted = [name for name, since in _COUNTED_SINCE.items() if models[0] < since <= models[1]]
    if uncounted:
        exact = [name for name in exact if name not in uncounted]
        notes.append(f"model {models[0]} did not count {', '.join(uncounted)}: not compared")
    resident = a.provenance.get("resident"), b.provenance.get("resident")
    if resident[0] != resident[1]:
        exact.remove("resident_leaves")
        notes.append(
            f"--resident: A {resident[0]}, B {resident[1]}; resident_leaves is not compared"
        )
    merged = left.merge(
        right, on=[*keys, "migration"], how="outer", suffixes=("", ":b"), indicator="side"
    )
    number = merged.groupby(keys, sort=False).ngroup()
    sides = pd.crosstab(number, merged["side"]).reindex(
        columns=["left_only", "right_only", "both"], fill_value=0
    )
    shared = sides.index[sides["both"] > 0]
    if not len(shared):
        raise InputError(
            f"{b.path}: has nothing in common with {a.path}, no cell is in both"
            f"{_apart(left, right, keys)}: compare runs that share scenarios"
        )
    num_only_a = int(((sides["both"] == 0) & (sides["left_only"] > 0)).sum())
    num_only_b = int(((sides["both"] == 0) & (sides["right_only"] > 0)).sum())
    rows = merged[number.isin(shared)].assign(number=number)
    wrong = _different(rows, exact)
    hit_rows, hit_columns = np.nonzero(wrong)
    return Comparison(
        str(a.path),
        str(b.path),
        notes,
        len(shared),
        num_only_a,
        num_only_b,
        len(rows),
        len(hit_rows),
        int(rows["number"].to_numpy()[hit_rows].size and len(set(rows["number"].iloc[hit_rows]))),
        _listed(rows, keys, exact, hit_rows[:MAX_LISTED], hit_columns[:MAX_LISTED]),
        _ratios(rows[rows["side"] == "both"]),
        _lives(left, right, keys),
    )


def _apart(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> str:
    """Return which columns have no value in both runs, or ""."""
    names = [name for name in keys if not set(left[name].unique()) & set(right[name].unique())]
    if not names:
        return ""
    return (
        f" (another {', '.join(name.removesuffix('_bytes').replace('_', ' ') for name in names)})"
    )


def _lives(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> Pairs:
    """Return how the guests of both runs fared that are the same by `keys`."""
    ends = [last_rows(frame.assign(fate=fates(frame))) for frame in (left, right)]
    first, second = (end[[*keys, "fate"]] for end in ends)
    both = first.merge(second, on=keys, suffixes=("", ":b"))
    return paired("A", "B", both["fate"], both["fate:b"])


def _provenance_notes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return a line for each fact in which machines and versions differ."""
    notes = []
    for what, names in (("machines", _MACHINE), ("versions", _VERSIONS)):
        differing = [name for name in names if a.get(name) != b.get(name)]
        if differing:
            pairs = ", ".join(f"{n} {a.get(n)} in A and {b.get(n)} in B" for n in differing)
            notes.append(f"different {what}: {pairs}")
    models = sorted((_model_of(a), _model_of(b)))
    notes += [text for since, text in _MODEL_CHANGES.items() if models[0] < since <= models[1]]
    if a.get("jobs") != b.get("jobs") or a.get("engine") != b.get("engine"):
        notes.append(
            f"A ran on {a.get('engine')} with {a.get('jobs')} jobs, "
            f"B on {b.get('engine')} with {b.get('jobs')}"
        )
    return notes


def _model_of(provenance: dict[str, Any]) -> int:
    """Return the version of the model that a run's rows are of; 0 where it has none."""
    return int(provenance.get("model_version") or 0)


def _different(rows: pd.DataFrame, exact: list[str]) -> BoolArray:
    """Return bool[rows, exact]: where the two sides differ; a missing row differs in outcome."""
    both = (rows["side"] == "both").to_numpy()
    wrong = np.zeros((len(rows), len(exact)), np.bool_)
    for index, name in enumerate(exact):
        mine, other = rows[name], rows[f"{name}:b"]
        same = (mine == other).fillna(False) | (mine.isna() & other.isna())
        wrong[:, index] = ~same.to_numpy(np.bool_) & both
    wrong[~both, exact.index("outcome")] = True
    return wrong


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    # A missing row elsewhere made the merged column's integers floats.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(
    rows: pd.DataFrame,
    keys: list[str],
    exact: list[str],
    hit_rows: Int64Array,
    hit_columns: Int64Array,
) -> list[Difference]:
    found = []
    for row_index, column_index in zip(hit_rows, hit_columns, strict=True):
        row, name = rows.iloc[row_index], exact[column_index]
        absent = {"left_only": "b", "right_only": "a"}.get(str(row["side"]))
        cell = row["cell"] if isinstance(row["cell"], str) else row["cell:b"]
        found.append(
            Difference(
                str(cell),
                {key: _plain(row[key]) for key in keys},
                int(row["migration"]),
                name,
                _MISSING if absent == "a" else _plain(row[name]),
                _MISSING if absent == "b" else _plain(row[f"{name}:b"]),
            )
        )
    return found


def _ratios(rows: pd.DataFrame) -> list[Ratio]:
    """Return the measured columns' ratios B / A, all sizes together first, then by size."""
    found = []
    for column in MEASURED_COLUMNS:
        name = column.name
        ran = rows[(rows[name] > 0) & (rows[f"{name}:b"] > 0) & (rows["migration"] > 0)]
        if ran.empty:
            continue
        cells = ran.groupby("number").agg(
            {"memory_bytes": "first", name: "median", f"{name}:b": "median"}
        )
        logs = np.log(cells[f"{name}:b"].to_numpy() / cells[name].to_numpy())
        sizes = cells["memory_bytes"].to_numpy()
        found.append(_ratio(name, None, logs))
        if len(np.unique(sizes)) > 1:
            found += [_ratio(name, int(size), logs[sizes == size]) for size in np.unique(sizes)]
    return found


def _ratio(column: str, memory_bytes: int | None, logs: Float64Array) -> Ratio:
    """Return the geometric mean of exp(`logs`) with its bootstrap interval."""
    return Ratio(column, memory_bytes, len(logs), *geometric_mean(logs))


def geometric_mean(logs: Float64Array) -> tuple[float, float | None, float | None]:
    """Return the mean of exp(`logs`) and the ends of its bootstrap interval, at `CONFIDENCE`.

    One value has no interval.
    """
    low = high = None
    if len(logs) > 1:
        from scipy import stats

        low, high = float(np.exp(logs.min())), float(np.exp(logs.max()))
        if np.ptp(logs) > 0:
            interval = stats.bootstrap(
                (logs,), np.mean, n_resamples=NUM_RESAMPLES, method="percentile",
                confidence_level=CONFIDENCE, batch=64, rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
            low, high = float(np.exp(interval.low)), float(np.exp(interval.high))
    return float(np.exp(logs.mean())), low, high


def verdict(found: Comparison) -> str:
    """Return in one sentence whether the runs agree."""
    cells = counted(found.num_matched, "cell")
    if found.equal:
        return (
            f"The runs are the same: all exact columns agree in {cells}, {found.num_rows:,} rows."
        )
    values = counted(found.num_differences, "exact value")
    which = "" if found.num_differences == 1 else f" in {found.num_different_cells:,} of them"
    return (
        f"The runs differ: of {cells} that both have, {values} disagree{'s'[: which == '']}{which}."
    )


def to_text(found: Comparison, max_listed: int = 20) -> str:
    """Return the comparison as a person reads it in a terminal."""
    from p2mbatch.base.sizes import format_size

    lines = [f"A  {one_line(found.a)}", f"B  {one_line(found.b)}", *found.notes, verdict(found)]
    if found.lives.num_differ:
        lines.append(pair_sentence(found.lives))
    if found.num_only_a or found.num_only_b:
        lines.append(f"Only in A: {found.num_only_a:,} cells; only in B: {found.num_only_b:,}.")
    for difference in found.differences[:max_listed]:
        scenario = difference.scenario
        said = ", ".join(
            f"{key} {scenario[key]}" for key in ("policy", "layout", "seed") if key in scenario
        )
        lines.append(
            f"  cell {difference.cell} ({format_size(scenario['memory_bytes'])}, {said}), "
            f"migration {difference.migration}: {difference.column} is {difference.a} in A, "
            f"{difference.b} in B"
        )
    if found.num_differences > max_listed:
        more = found.num_differences - min(max_listed, len(found.differences))
        lines.append(f"  … and {more:,} more (--json lists up to {MAX_LISTED:,})")
    if found.ratios:
        lines.append("Measured, B / A (geometric mean over cells, 95 % bootstrap interval):")
    for ratio in found.ratios:
        size = "all sizes" if ratio.memory_bytes is None else format_size(ratio.memory_bytes)
        interval = "" if ratio.low is None else f"  [{ratio.low:.3f}, {ratio.high:.3f}]"
        lines.append(
            f"  {ratio.column:<13} {size:>10}  {ratio.ratio:.3f}{interval}  "
            f"{counted(ratio.num_cells, 'cell')}"
        )
    return "\n".join(lines)
