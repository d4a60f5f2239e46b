"""Mutated files of every format, plain, piped and gzipped: a guest or one line, and soon."""

from __future__ import annotations

import gzip
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

import mutate  # noqa: E402
import target  # noqa: E402

SLOW_S = 20.0


class Tally(NamedTuple):
    """What came of all inputs."""

    num: int
    num_guests: int
    slowest_s: float
    faults: list[str]


def run(seed: int, seconds: float) -> Tally:
    """Read mutated files of the corpus for `seconds`."""
    corpus = {f.stem: gzip.decompress(f.read_bytes()) for f in sorted((FUZZ / "corpus").glob("*"))}
    dice, end = random.Random(seed), time.monotonic() + seconds
    num = num_guests = 0
    slowest, faults = 0.0, list[str]()
    while time.monotonic() < end:
        name, one = dice.choice(list(corpus)), dice.randrange(1 << 32)
        for data in mutate.mutations(corpus[name], 5, one):
            start = time.monotonic()
            try:
                if dice.random() < 0.2:
                    target.check_packed(gzip.compress(data, 1))
                else:
                    num_guests += target.check(data) == "guest"
            except Exception as error:
                faults.append(f"{name}, seed {one}: {type(error).__name__}: {error}"[:300])
            took = time.monotonic() - start
            slowest, num = max(slowest, took), num + 1
            if took > SLOW_S:
                faults.append(f"{name}, seed {one}: took {took:.0f} s")
    return Tally(num, num_guests, slowest, faults)
