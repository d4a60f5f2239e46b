"""The command: `python -m campaign --lives N`."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from campaign.compare import BadLife, Compared, Difference, compare
from campaign.ends import UNREACHABLE
from campaign.shrink import shrink
from campaign.tally import Tally
from oracle import clauses
from oracle.build import Json
from oracle.lives import POLICIES, Wanted, lives
from oracle.machines import FORMATS

CHUNK = 100
"""Lives that a process runs at a time."""


@dataclass(frozen=True)
class Work:
    """Some lives of one seed: which, and whether the compiled model takes part."""

    seed: str
    first: int
    count: int
    wanted: Wanted
    naive_only: bool


@dataclass
class Done:
    """What some lives came to; the first difference ends them."""

    tally: Tally
    index: int = 0
    difference: Difference | None = None
    refused: dict[int, str] = field(default_factory=dict)


def run(work: Work) -> Done:
    """Run some lives, up to the first on which the models differ."""
    done = Done(Tally(work.wanted.format))
    for i, trace in enumerate(lives(work.seed, work.first, work.count, work.wanted), work.first):
        try:
            compared = Compared(*clauses.watch(trace), None) if work.naive_only else compare(trace)
        except BadLife as error:
            done.refused[i] = str(error)
            continue
        done.tally.add(trace, compared.results, compared.clauses)
        if compared.difference:
            done.index, done.difference = i, compared.difference
            break
    return done


def differs(trace: Json) -> bool:
    """Whether the models differ on a life; one that a model can't run tells nothing."""
    try:
        return compare(trace).difference is not None
    except (BadLife, LookupError, ValueError):
        return False


def write_smallest(trace: Json, path: Path) -> Difference:
    """Shrink a life that differs and write it as a trace; return its difference."""
    small = shrink(trace, differs)
    compared = compare(small)
    assert compared.difference is not None
    small["name"] = path.stem
    small["expected"] = compared.results
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(small, indent=1), encoding="utf-8")
    return compared.difference


def campaign(args: argparse.Namespace, format_name: str) -> bool:
    """Run one format's lives and report; return whether all was as it should be."""
    wanted = Wanted(format_name, args.policy, args.word_bytes)
    work = [
        Work(args.seed, first, min(CHUNK, args.lives - first), wanted, args.naive_only)
        for first in range(0, args.lives, CHUNK)
    ]
    total, refused, found = Tally(format_name), {}, None
    with (
        ProcessPoolExecutor(args.processes) as pool,
        tqdm(total=args.lives, unit="life", desc=format_name, disable=None) as bar,
    ):
        waiting: list[Future[Done]] = [pool.submit(run, each) for each in work]
        # In the order of the lives, so that the first difference is the same for any processes.
        for each, future in zip(work, waiting, strict=True):
            done = future.result()
            total.merge(done.tally)
            refused |= done.refused
            bar.update(each.count)
            if done.difference:
                found = done
                pool.shutdown(wait=True, cancel_futures=True)
                break
    print("\n".join(total.lines()))
    for index, problem in list(refused.items())[:5]:
        print(f"life {index} was refused: {problem}", file=sys.stderr)
    if found:
        print(f"{format_name}: life {found.index} of seed {args.seed}: {found.difference}")
        path = Path(args.out) / f"{format_name.replace('/', '-')}-{args.seed}-{found.index}.json"
        [trace] = lives(args.seed, found.index, 1, wanted)
        print(f"smallest: {path}: {write_smallest(trace, path)}")
    elif not args.naive_only:
        print(f"{format_name}: no difference in {total.lives:,} lives")
    return not found and not refused


def main() -> int:
    """Run the campaign; 0 where the models agree, 1 where they differ or a life was refused."""
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--lives", type=int, default=1000, help="of each format")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--format", choices=sorted(FORMATS), help="only this format")
    parser.add_argument("--policy", choices=POLICIES)
    parser.add_argument("--word-bytes", type=int, choices=(4, 8))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", default="runs/lives", help="where differing lives are written")
    parser.add_argument("--naive-only", action="store_true", help="only count what the lives reach")
    args = parser.parse_args()
    formats = [args.format] if args.format else sorted(FORMATS)
    fine = True
    for format_name in formats:
        fine &= campaign(args, format_name)
    for name, reason in UNREACHABLE.items():
        print(f"BUG {name} can't be reached: {reason}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
