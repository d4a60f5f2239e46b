"""Kill, flip, feed and signal for some minutes, and write down what came of it.

    make torture MINUTES=10          (python -m torture --minutes 10, with tests/ importable)

The figures of `docs/reliability.md` are this program's. Exit code 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from signal_support import heed_signals
from torture import flips, inputs, kills, signals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    seconds, seed = options.minutes * 60, options.seed
    heed_signals()
    lines, faults = [], list[str]()
    with tempfile.TemporaryDirectory(prefix="p2mbatch-torture-") as name:
        folder = Path(name)
        for part in ("signals", "kills", "flips"):
            (folder / part).mkdir()
        tries = signals.run(folder / "signals", seed, 0.4 * seconds, most=1 << 30)
        hit = [t for t in tries if t.fault != "done"]
        lines.append(f"| signals at random moments of the first 3 s | {len(hit)} |")
        slowest = max((t.took_s for t in hit), default=0.0)
        lines.append(f"| … the longest from a signal to the end | {slowest:.2f} s |")
        faults += [f"signals: {t}" for t in hit if t.fault]
        killed = kills.run(folder / "kills", seed, 0.3 * seconds)
        lines.append(f"| kills of a sweep, each sweep then finished and compared | {len(killed)} |")
        faults += [f"kills: {t}" for t in killed if t.fault]
        flipped = flips.run(folder / "flips", seed, 0.1 * seconds, most=1 << 30)
        lines.append(f"| single bits flipped in stores, logs and exports | {len(flipped)} |")
        told = sum(t.was_told for t in flipped)
        lines.append(f"| … of them told in one line; the others changed nothing | {told} |")
        faults += [f"flips: {t}" for t in flipped if t.fault]
        tally = inputs.run(seed, 0.2 * seconds)
        lines.append(f"| mutated files, read in three ways | {tally.num} |")
        lines.append(f"| … of them still a guest | {tally.num_guests} |")
        lines.append(f"| … the longest that one took | {tally.slowest_s:.2f} s |")
        faults += [f"inputs: {fault}" for fault in tally.faults]
    load = os.getloadavg()[0]
    print(f"{options.minutes:g} minutes, seed {seed}, Python {platform.python_version()},")
    print(f"{os.cpu_count()} processors, load {load:.1f} at the end.\n")
    print("| what | figure |\n|---|---|")
    print("\n".join([*lines, f"| promises broken | {len(faults)} |"]))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
