"""Random lives of the eras: `python -m campaign.eras --lives N`; of each policy on both machines.

A life is drawn while its guest runs on the naive reference, so what is expected of it comes along.
The first one that the compiled model lives otherwise is written as a trace.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from oracle import eras
from oracle.build import Json
from oracle.eras.lives import life
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace

CHUNK = 50
"""Lives that a process runs at a time."""

Chunk = tuple[str, bool, int, int]
"""Policy, whether it is the second machine, the first seed, how many."""


def first_difference(chunk: Chunk) -> tuple[Json, str] | None:
    """Run some lives; return the first that differs or is refused, with what it came to."""
    policy, second_machine, first, count = chunk
    for seed in range(first, first + count):
        trace = life(policy, seed, second_machine)
        try:
            got = replay(parse_trace(trace, trace["name"]))
        except Exception as error:  # Whatever it raises is a difference.
            return trace, f"{type(error).__name__}: {error}"
        if got != trace["expected"]:
            pairs = zip_longest(got, trace["expected"])
            return trace, f"event {next(i for i, (a, b) in enumerate(pairs) if a != b)} differs"
    return None


def campaign(policy: str, first: int, lives: int, pool: Executor, out: Path) -> bool:
    """Run one policy's lives on both machines and report; return whether all agreed."""
    start = time.monotonic()
    chunks = [
        (policy, second, seed, min(CHUNK, first + lives - seed))
        for second in (False, True)
        for seed in range(first, first + lives, CHUNK)
    ]
    with tqdm(total=2 * lives, unit="life", desc=policy, disable=None) as bar:
        for chunk, found in zip(chunks, pool.map(first_difference, chunks), strict=True):
            bar.update(chunk[-1])
            if found is not None:
                trace, said = found
                out.mkdir(parents=True, exist_ok=True)
                path = out / f"{trace['name']}-{trace['format'].rpartition('/')[2]}.json"
                path.write_text(json.dumps(trace, indent=1), encoding="utf-8")
                print(f"{policy}: {said}: {path}")
                return False
    rate = 2 * lives / (time.monotonic() - start)
    print(f"{policy}: no difference in {2 * lives:,} lives, {rate:.1f} a second", flush=True)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 0 where the models agree, 1 where they differ."""
    parser = argparse.ArgumentParser(prog="campaign.eras", description=__doc__)
    parser.add_argument("--lives", type=int, default=100, help="of each policy on each machine")
    parser.add_argument("--first", type=int, default=0, help="the first life's seed")
    parser.add_argument("--policy", action="append", choices=sorted(eras.POLICIES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", default="runs/lives", help="where differing lives are written")
    args = parser.parse_args(arguments)
    with ProcessPoolExecutor(args.processes) as pool:
        fine = [
            campaign(policy, args.first, args.lives, pool, Path(args.out))
            for policy in args.policy or eras.POLICIES
        ]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
