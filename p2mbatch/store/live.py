"""What live migrations of a run came to, by kernel and by how much the guests got in each round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Float64Array, Int64Array
from p2mbatch.model.fates import ABORTED, MOVED_WRONG
from p2mbatch.model.kernels import release_key
from p2mbatch.model.policies import shown, sort_key
from p2mbatch.store.fates import fates

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [
    *("cell", "migration", "outcome", "detail", "lost_pages", "stray_writes", "ghost_pages"),
    *("placeholder_writes", "linux", "policy", "grow_where", "churn_bytes", "live"),
]


class LiveLine(NamedTuple):
    """Live guests of one kernel that get more in one place, over how much they get in a round.

    All arrays are of one length; what no migration tells is NaN.
    """

    kernel: str
    """The release, or the policy where none is named."""
    policy: str
    where: str
    """`grow_where`."""
    churn_bytes: Int64Array
    """Ascending."""
    num_guests: Int64Array
    wrong: Float64Array
    """The part of the guests that was moved wrong."""
    lost_pages: Float64Array
    """Pages lost, a mean over migrations that were reported ok."""
    tries: Float64Array
    """Tries for each migration that came through, aborted ones among them; inf where none did."""
    most_tries: int
    """How often a guest was tried at most."""
    cells: list[Any]
    """One of the cells at each churn, as the table has it."""
    filters: dict[str, str]
    """What tells the line's cells from others, by columns of theirs."""

    @property
    def is_well(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return at which churn nobody was moved wrong, nothing was lost and one try sufficed."""
        good: np.ndarray[tuple[int], np.dtype[np.bool_]] = (
            (self.wrong == 0) & ~(self.lost_pages > 0) & (self.tries == 1)
        )
        return good


def live_lines(frame: pd.DataFrame) -> list[LiveLine]:
    """Return the lines of a run's table, by where guests get more and by the kernel's age.

    Nothing where no guest of the run lives on while it is sent and gets more there. Those that
    several CPUs grow before are left out: what a race lost is no move's doing.
    """
    if frame.empty:
        return []
    is_alone = frame["cpus"] == 1
    is_told = (is_alone & (frame["live"] == "yes") & (frame["churn_bytes"] > 0)).to_numpy(bool)
    rows = frame[_COLUMNS][is_told & (frame["migration"] > 0).to_numpy(bool)]
    if rows.empty:
        return []
    rows = rows.assign(fate=fates(rows))
    lines = []
    places = rows["grow_where"].nunique()
    for where in sorted(rows["grow_where"].unique(), reverse=True):
        here = rows[(rows["grow_where"] == where).to_numpy(bool)]
        keys = here[["linux", "policy"]].drop_duplicates().values.tolist()
        for linux, policy in sorted(keys, key=lambda key: kernel_age(*key)):
            own = (here["linux"] == linux) & (here["policy"] == policy)
            filters = {"linux": linux} if linux else {"policy": policy}
            filters |= {"grow_where": str(where)} if places > 1 else {}
            lines.append(_line(here[own.to_numpy(bool)], filters, policy, where))
    return lines


def kernel_age(linux: str, policy: str) -> tuple[object, ...]:
    """Return what puts kernels, each a release or else a policy, in the order of their age."""
    return (1, release_key(linux), sort_key(policy)) if linux else (0, sort_key(policy))


def _line(rows: pd.DataFrame, filters: dict[str, str], policy: str, where: str) -> LiveLine:
    churns = np.unique(rows["churn_bytes"].to_numpy(np.int64))
    number = np.zeros(len(churns), np.int64)
    wrong, lost, tries = np.full((3, len(churns)), np.nan)
    most, cells = 0, []
    for k, churn in enumerate(churns.tolist()):
        own = rows[(rows["churn_bytes"] == churn).to_numpy(bool)]
        fate, ok = own["fate"].to_numpy(), (own["outcome"] == "ok").to_numpy(bool)
        aborted = int((fate == ABORTED).sum())
        number[k] = own["cell"].nunique()
        wrong[k] = own["cell"][fate == MOVED_WRONG].nunique() / number[k]
        if ok.any():
            lost[k] = own["lost_pages"].to_numpy()[ok].mean()
        if ok.any() or aborted:
            tries[k] = (ok.sum() + aborted) / ok.sum() if ok.any() else np.inf
        most = max(most, int(own["migration"].max()))
        cells.append(own["cell"].iloc[0])
    kernel = filters.get("linux") or shown(policy).short
    return LiveLine(
        kernel, policy, str(where), churns, number, wrong, lost, tries, most, cells, filters
    )
