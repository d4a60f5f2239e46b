"""The command: `python -m own_policies --lives N`."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kernels import two_level_files
from kernels.variants import VARIANTS, kernel_of
from oracle.eras import lives as era_lives
from oracle.lives import Wanted, lives
from oracle.recordings import recordings
from p2mbatch.base.shipped import find_spec
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.replay import replay
from p2mbatch.model.trace import MACHINES, Trace
from p2mbatch.model.trace_file import load_trace, parse_trace
from p2mbatch.spec.sweep_spec import SweepSpec

ROOT = Path(__file__).resolve().parents[2]
NONE = """\
from p2mbatch.linux import *
class Never(Tracked):
    def xen_post_suspend(self):
        pass
"""


def files(folder: Path) -> dict[str, str]:
    """The users' files: policy of ours -> the one of one's own that is to do the same."""
    text = (ROOT / "docs" / "own-policy.md").read_text("utf-8")
    (folder / "seed.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    (folder / "never.py").write_text(NONE)
    return {
        "tracked": named_policy(str(folder / "seed.py")),
        "stale": named_policy(f"{ROOT / 'p2mbatch' / 'linux' / 'trees.py'}:Stale"),
        "none": named_policy(str(folder / "never.py")),
    }


def kernels() -> dict[str, str]:
    """The two sides of the seed as kernels' files in C."""
    names = ("tracked", "stale")
    return {name: named_policy(f"kernel:{ROOT / 'tests/kernels' / name}.c") for name in names}


def era_kernels(folder: Path) -> dict[str, str]:
    """Kernels' files in C of the eras: policy of ours -> the file that is to do the same."""
    found = {
        "two-level": ROOT / "tests/kernels/two_level.c",
        "two-level-none": two_level_files.never_rebuilt(folder),
        **{name: kernel_of(name, folder) for name in VARIANTS},
    }
    return {name: named_policy(f"kernel:{file}") for name, file in found.items()}


def under(trace: Trace, policy: str) -> list[dict[str, Any]]:
    """What happens in a trace under a user's policy, without the user's lines."""
    events = replay(dataclasses.replace(trace, policy=policy))
    return [{key: event[key] for key in event if key != "where"} for event in events]


def differing_traces(own: dict[str, str]) -> Iterator[str]:
    """The recorded traces that come out otherwise."""
    for recording in tqdm(recordings(), unit="trace", disable=None):
        trace = load_trace(recording.path)
        if trace.policy in own and under(trace, own[trace.policy]) != trace.expected:
            yield f"{recording.name} differs"


def differing_eras(own: dict[str, str], number: int) -> Iterator[str]:
    """The recorded traces and the random lives of the eras that come out otherwise."""
    for path in tqdm(sorted(ROOT.glob("data/traces/eras*/*.json.gz")), unit="trace", disable=None):
        trace = load_trace(path)
        if trace.policy in own and under(trace, own[trace.policy]) != trace.expected:
            yield f"{path.parent.name}/{path.name} differs"
    for policy, second, seed in tqdm(
        list(itertools.product(own, (False, True), range(number))), unit="life", disable=None
    ):
        made = era_lives.life(policy, seed, second)
        if under(parse_trace(made, made["name"]), own[policy]) != made["expected"]:
            yield f"life {seed} of {policy} differs, {made['format']}"


def differing_lives(own: dict[str, str], number: int, seed: str) -> Iterator[str]:
    """The random lives that come out otherwise than under our policy."""
    for form in sorted(MACHINES):
        made = lives(seed, 0, number, Wanted(form))
        for index, life in enumerate(tqdm(made, unit="life", desc=form, disable=None)):
            trace = parse_trace(life)
            if trace.policy in own and under(trace, own[trace.policy]) != replay(trace):
                yield f"{form}: life {index} of seed {seed} differs ({trace.policy})"


def differing_cells(own: dict[str, str]) -> Iterator[str]:
    """The cells of the headline whose exact columns differ."""
    spec = SweepSpec.from_file(find_spec("headline"))
    for values in tqdm(spec.expand(), total=spec.num_cells, unit="cell", disable=None):
        fields = dict(zip(FIELDS, values, strict=True))
        ours = run_scenario(Scenario.make(**fields))
        theirs = run_scenario(Scenario.make(**fields | {"policy": own[fields["policy"]]}))
        rows = [
            [{k: row[k] for k in row if not k.endswith("_ns")} for row in side]
            for side in (ours, theirs)
        ]
        if rows[0] != rows[1]:
            yield f"headline: cell {fields} differs"


def main() -> int:
    """Hold them to ours; 0 where all is the same."""
    parser = argparse.ArgumentParser(prog="own_policies", description=__doc__)
    parser.add_argument("--lives", type=int, default=5000, help="of each format")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--kernels", action="store_true", help="C files, not those in Python")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = kernels() if args.kernels else files(Path(folder))
        found = [*differing_traces(own), *differing_cells(own)]
        found += differing_lives(own, args.lives, args.seed)
        if args.kernels:
            found += differing_eras(era_kernels(Path(folder)), args.lives // 2)
    print("\n".join(found) or f"no difference: traces, headline, {args.lives:,} lives each")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
