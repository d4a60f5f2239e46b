"""What the races' tests leave out for time and memory: `python -m race.thorough` in tests/.

SPIN counts every given race; reduced exploration is compared with whole exploration on the litmuses
of three CPUs in every kernel (about 3 GB) and on random races of three to five CPUs, and with SPIN,
which merges little, on four CPUs that populate PFNs 0, 1, 2, 3 (35 million states, about 6 GB).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from p2mbatch.race.config import KERNELS
from p2mbatch.race.explorer import explore
from p2mbatch.race.names import parse_name
from p2mbatch.race.reduced import explore_reduced
from race import promela
from race.cases import GIVEN, explored

THREE = ("three-one-leaf", "three-two-leaves", "three-two-tops")
FOUR = "old.never.sc.four"
Outcome = tuple[str, bool]


def given() -> Iterator[Outcome]:
    """Yield whether SPIN counts what each given race is expected to have."""
    for name, expected in json.loads(GIVEN.read_text()).items():
        with tempfile.TemporaryDirectory() as folder:
            said = promela.ask_spin(expected["config"], Path(folder))
        same = said.classes == {end: one["states"] for end, one in expected["classes"].items()}
        same &= said.num_states == expected["states"]
        yield f"SPIN {name}", same and said.num_transitions == expected["transitions"]


def three() -> Iterator[Outcome]:
    """Yield whether reductions keep the classes of the litmuses of three CPUs."""
    for kernel in KERNELS:
        for litmus in THREE:
            config = parse_name(f"{kernel}.never.sc.{litmus}")
            reduced = explore_reduced(config)
            found = explore(config)
            words = f"{found.num_states:,} states whole, {reduced.num_states:,} reduced"
            yield f"{kernel} {litmus}: {words}", set(reduced.classes) == set(found.classes)


def four() -> Iterator[Outcome]:
    """Yield whether SPIN finds the classes of four CPUs."""
    config = parse_name(FOUR)
    with tempfile.TemporaryDirectory() as folder:
        said = promela.ask_spin(config.to_json(), Path(folder), merged=True)
    found = explore_reduced(config)
    words = f"{said.num_states:,} states in SPIN, {found.num_states:,} reduced"
    yield f"{FOUR}: {words}", set(said.classes) == set(found.classes)


def drawn(num: int, seed: int) -> Iterator[Outcome]:
    """Yield whether reductions keep the classes of `num` random races."""
    for found in islice(explored(random.Random(seed), (3, 4, 4, 5), 500_000_000), num):
        same = set(explore_reduced(found.config).classes) == set(found.classes)
        yield f"{found.num_states:,} states of {json.dumps(found.config.to_json())}", same


def main() -> int:
    """Run all of it; return 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=300, help="how many random races")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    parts = [three(), drawn(options.races, options.seed)]
    if promela.MISSING:
        print(f"SPIN is left out: not installed: {', '.join(promela.MISSING)}")
    else:
        parts += [given(), four()]
    num_other = 0
    for part in parts:
        for text, same in part:
            num_other += not same
            print(f"{'same' if same else 'OTHER'}  {text}", flush=True)
    print(f"{num_other} differ")
    return 1 if num_other else 0


if __name__ == "__main__":
    sys.exit(main())
