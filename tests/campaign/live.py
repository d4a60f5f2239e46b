"""Random live lives: `python -m campaign.live --lives N`; every policy, any toolstack.

In each migration the guest goes on growing and ballooning in rounds while it is copied. With
`--cpus` it is paused, and several CPUs change its memory at once in between. The lives are drawn as
those of the other campaigns are; what is expected of them the naive references say.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from oracle import eras, lives, reference
from oracle.build import Json
from oracle.eras.lives import life
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace

CHUNK = 50
"""Lives that a process runs at a time."""

POLICIES = (*lives.POLICIES, *eras.POLICIES)

RACING = tuple(name for name in POLICIES if find(name).races)
"""The policies that several CPUs may grow a guest of."""

LIVE, CPUS = "live", "cpus"

Chunk = tuple[str, str, int, int]
"""What kind of lives; policy, the first seed, how many."""

Found = tuple[Counter[str], Json | None, str]
"""What came of live migrations; the first life that differs or is refused, with what it came to."""


def drawn(policy: str, seed: int, kind: str = LIVE) -> Json:
    """The life of a policy's seed: a trace with its "expected"."""
    is_live, cpus = kind == LIVE, kind == CPUS
    if policy in eras.POLICIES:
        return life(policy, seed, second_machine=True, is_live=is_live, has_cpus=cpus)
    wanted = lives.Wanted("p2mbatch-trace/3", policy, one_in_wide=200, live=is_live, cpus=cpus)
    trace = lives.life(random.Random(f"{kind} {policy} {seed}"), wanted)
    return trace | {"name": f"{policy}-{kind}-{seed}", "expected": reference.replay(trace)}


def run(chunk: Chunk) -> Found:
    """Run some lives, up to the first that differs."""
    kind, policy, first, count = chunk
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        trace = drawn(policy, seed, kind)
        try:
            got = replay(parse_trace(trace, trace["name"]))
        except Exception as error:  # Whatever it raises is a difference.
            return ends, trace, f"{type(error).__name__}: {error}"
        if got != trace["expected"]:
            pairs = zip_longest(got, trace["expected"])
            at = next(i for i, (a, b) in enumerate(pairs) if a != b)
            return ends, trace, f"event {at} differs"
        ends.update(_ends(trace))
    return ends, None, ""


def _ends(trace: Json) -> Counter[str]:
    """What live migrations and several CPUs' sets came to, by outcome, an abort by its detail."""
    ends: Counter[str] = Counter()
    for event, result in zip(trace["events"], trace["expected"], strict=False):
        if event["op"] == "cpus":
            ends[result["outcome"] if result["ok"] else "false"] += 1
            ends["stray"] += result.get("stray_writes", 0) > 0
        if event.get("live"):
            aborted = result["detail"] == "p2m-generation-changed"
            ends["aborted" if aborted else result["outcome"]] += 1
            ends["lost pages"] += result["lost_pages"] > 0
    return ends


def campaign(kind: str, policy: str, first: int, num_lives: int, pool: Executor, out: Path) -> bool:
    """Run one policy's lives and report; return whether all agreed."""
    start = time.monotonic()
    chunks = [
        (kind, policy, seed, min(CHUNK, first + num_lives - seed))
        for seed in range(first, first + num_lives, CHUNK)
    ]
    total: Counter[str] = Counter()
    with tqdm(total=num_lives, unit="life", desc=policy, disable=None) as bar:
        for chunk, (ends, trace, said) in zip(chunks, pool.map(run, chunks), strict=True):
            bar.update(chunk[-1])
            total.update(ends)
            if trace is not None:
                out.mkdir(parents=True, exist_ok=True)
                path = out / f"{trace['name']}.json"
                path.write_text(json.dumps(trace, indent=1), encoding="utf-8")
                print(f"{policy}: {said}: {path}")
                return False
    rate = num_lives / (time.monotonic() - start)
    told = ", ".join(f"{count:,} {end}" for end, count in sorted(total.items()))
    print(
        f"{policy}: no difference in {num_lives:,} lives, {rate:.1f} a second: {told}", flush=True
    )
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 0 where the models agree, 1 where they differ."""
    parser = argparse.ArgumentParser(prog="campaign.live", description=__doc__)
    parser.add_argument("--lives", type=int, default=100, help="of each policy")
    parser.add_argument("--first", type=int, default=0, help="the first life's seed")
    parser.add_argument("--policy", action="append", choices=POLICIES)
    parser.add_argument("--cpus", action="store_true", help="several CPUs, in place of live lives")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", default="runs/lives", help="where differing lives are written")
    args = parser.parse_args(arguments)
    kind, policies = (CPUS, RACING) if args.cpus else (LIVE, POLICIES)
    with ProcessPoolExecutor(args.processes) as pool:
        fine = [
            campaign(kind, policy, args.first, args.lives, pool, Path(args.out))
            for policy in args.policy or policies
        ]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
