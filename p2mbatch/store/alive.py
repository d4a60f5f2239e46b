"""How many guests are left: the share of them that came through each migration, with a band."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from p2mbatch.base.arrays import BoolArray, Float64Array, Int64Array
from p2mbatch.model.fates import CORRUPTED, ENDS, SURVIVED
from p2mbatch.store.fates import fates

NUM_RESAMPLES = 2000
"""Draws of whole seeds that a band is taken from."""


class Alive(NamedTuple):
    """One policy's survival, index m of each array being migration m (0 is the boot)."""

    share: Float64Array
    low: Float64Array
    high: Float64Array
    ends: dict[str, Float64Array]
    """Share of the guests that came to each fate in that very migration."""
    num_guests: int
    num_seeds: int


def alive_of(frame: pd.DataFrame, policy: str) -> Alive:
    """Return the survival of `policy`'s guests with a 95 % band from resampling whole seeds."""
    own = frame[frame["policy"] == policy]
    own = own.assign(fate=fates(own))
    seeds, seed_of = np.unique(own["seed"].to_numpy(), return_inverse=True)
    at = own["migration"].to_numpy()
    planned = own["migrations"].to_numpy()
    steps = int(planned.max()) + 1

    def counted(where: Int64Array, chosen: BoolArray) -> Float64Array:
        table = np.zeros((len(seeds), steps))
        np.add.at(table, (seed_of[chosen], where[chosen]), 1)
        return table

    # Guests whose plan reaches migration m, and those of them that have come through it.
    due = np.cumsum(counted(planned, at == 0)[:, ::-1], axis=1)[:, ::-1]
    through = counted(at, own["fate"].isin([SURVIVED, CORRUPTED]).to_numpy())
    total = due.sum(axis=0)
    share = through.sum(axis=0) / total
    low, high = share, share
    if len(seeds) > 1:
        draws = np.random.default_rng(0).multinomial(
            len(seeds), np.full(len(seeds), 1 / len(seeds)), NUM_RESAMPLES
        )
        spread = (draws @ through) / np.maximum(draws @ due, 1)
        low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    # A guest that is refused again and again came to that once.
    before = own.groupby("cell", sort=False)["fate"].shift()
    fresh = (own["fate"] != before).to_numpy()
    ends = {
        fate: counted(at, fresh & (own["fate"] == fate).to_numpy()).sum(axis=0) / total
        for fate in ENDS
    }
    return Alive(share, low, high, ends, int((at == 0).sum()), len(seeds))
