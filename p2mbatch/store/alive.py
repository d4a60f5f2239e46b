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


MAX_DRAWN = 2000
"""Seeds up to which draws are made; of more the spread follows from the seeds' own."""


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
    chosen = (frame["policy"] == policy).to_numpy()
    own = frame[["cell", "seed", "migration", "migrations"]][chosen]
    own = own.assign(fate=fates(frame)[chosen])
    seeds, seed_of = np.unique(own["seed"].to_numpy(), return_inverse=True)
    at = own["migration"].to_numpy()
    planned = own["migrations"].to_numpy()
    steps = int(planned.max()) + 1

    def counted(where: Int64Array, chosen: BoolArray) -> Float64Array:
        number = np.bincount(seed_of[chosen] * steps + where[chosen], minlength=len(seeds) * steps)
        return number.reshape(len(seeds), steps).astype(np.float64)

    # Guests whose plan reaches migration m, and those of them that have come through it.
    due = np.cumsum(counted(planned, at == 0)[:, ::-1], axis=1)[:, ::-1]
    through = counted(at, own["fate"].isin([SURVIVED, CORRUPTED]).to_numpy())
    total = due.sum(axis=0)
    share = through.sum(axis=0) / total
    low, high = share, share
    if len(seeds) > MAX_DRAWN:
        # What so many draws would come to: the share is a ratio of two sums over seeds.
        spread = np.sqrt(((through - share * due) ** 2).sum(axis=0)) / np.maximum(total, 1)
        low, high = np.clip(share - 1.96 * spread, 0, 1), np.clip(share + 1.96 * spread, 0, 1)
    elif len(seeds) > 1:
        draws = np.random.default_rng(0).multinomial(
            len(seeds), np.full(len(seeds), 1 / len(seeds)), NUM_RESAMPLES
        )
        spread = (draws @ through) / np.maximum(draws @ due, 1)
        low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    # A guest that is refused again and again came to that once.
    code = own["fate"].astype("category").cat.codes.to_numpy()
    fresh = np.ones(len(own), np.bool_)
    fresh[1:] = (code[1:] != code[:-1]) | (at[1:] <= at[:-1])
    ends = {
        fate: np.bincount(at[fresh & (own["fate"] == fate).to_numpy()], minlength=steps) / total
        for fate in ENDS
    }
    return Alive(share, low, high, ends, int((at == 0).sum()), len(seeds))
