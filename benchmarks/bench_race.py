"""How fast races are explored: whole, reduced, and by the naive explorer, in one run.

    python benchmarks/bench_race.py [--quick] [--json FILE]

Ratios are against the naive explorer of the tests on a configuration that it can finish; --quick
leaves out the races of millions of states.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2mbatch.race.config import Config
from p2mbatch.race.explorer import explore
from p2mbatch.race.names import parse_name
from p2mbatch.race.reduced import explore_reduced

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

COMPARED = "old.never.sc.two-each"
LARGE = ("old.never.sc.three-one-leaf", "old.never.sc.three-two-leaves")
FOUR = ("old.never.sc.four", "orig.never.sc.four", "new.never.sc.four")


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def line(name: str, way: str, seconds: float, found: Any) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    entry = {
        "race": name,
        "way": way,
        "seconds": round(seconds, 4),
        "states": found["states"] if isinstance(found, dict) else found.num_states,
        "classes": len(found["classes"] if isinstance(found, dict) else found.classes),
        "peak_gib_so_far": round(peak, 2),
    }
    print("  ".join(f"{key} {value}" for key, value in entry.items()), flush=True)
    return entry


def main() -> None:
    from race import naive

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()

    def config(name: str) -> Config:
        return parse_name(name)

    for warm in (explore, explore_reduced):  # compiling is not measured
        warm(config("old.never.sc.same-leaf"))
    entries = []
    whole, found = timed(lambda: explore(config(COMPARED)))
    entries.append(line(COMPARED, "whole", whole, found))
    slow, by_naive = timed(lambda: naive.explore(config(COMPARED).to_json()))
    entries.append(line(COMPARED, "naive", slow, by_naive))
    assert by_naive["states"] == found.num_states
    print(f"whole is {slow / whole:.0f} times as fast as naive")
    for name in FOUR:
        seconds, found = timed(lambda name=name: explore_reduced(config(name)))
        entries.append(line(name, "reduced", seconds, found))
    for name in () if options.quick else LARGE:
        reduced, classes = timed(lambda name=name: explore_reduced(config(name)))
        entries.append(line(name, "reduced", reduced, classes))
        seconds, found = timed(lambda name=name: explore(config(name)))
        entries.append(line(name, "whole", seconds, found))
        assert set(found.classes) == set(classes.classes)
        print(f"reduced is {seconds / reduced:.0f} times as fast as whole")
    if options.json:
        options.json.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
