"""`p2mbatch replay`: run traces, print or compare what happened."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from p2mbatch.base.errors import InputError
from p2mbatch.base.say import counted, one_line, say, say_above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from p2mbatch.model.trace import Trace


_MAX_NAMED = 100
"""Traces that are named at the end as not exact; each is named above, with what differs."""


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line per trace.")
@click.option(
    "--check",
    is_flag=True,
    help="Compare with each trace's own expected results; exit 1 where a field differs.",
)
@click.option(
    "--policy",
    metavar="LIST",
    help="Live each trace under these policies, not its own: tracked, mine.py, mine.py:Class.",
)
@click.option(
    "--kernel",
    metavar="FILE.c",
    help="The same as --policy kernel:FILE.c: a mmu.c or p2m.c with your patch.",
)
@click.pass_context
def replay(
    ctx: click.Context,
    traces: tuple[str, ...],
    as_json: bool,
    check: bool,
    policy: str | None,
    kernel: str | None,
) -> None:
    """Replay TRACEs (p2mbatch-trace/1, /2 or /3, .json or .json.gz) on the exact model.

    Prints a line for each event. Fewer than a thousand traces are all read and checked before the
    first is run. Of a directory all traces in it and below it are taken.
    """
    from p2mbatch.cli.traces import trace_files
    from p2mbatch.kernels.named import named_policy
    from p2mbatch.model.places import check_places
    from p2mbatch.model.policies import find
    from p2mbatch.model.trace_file import load_trace as load

    policies = _policies(policy)
    if kernel is not None:
        # A name of its own, commas and all.
        policies = [*filter(None, policies), find(named_policy(f"kernel:{kernel}")).name]

    def load_trace(path: str) -> list[Trace]:
        trace = load(path)
        for name in filter(None, policies):
            check_places(trace.policy, name, path)
        return [dataclasses.replace(trace, policy=name or trace.policy) for name in policies]

    paths = trace_files(traces)
    if as_json and check:
        raise click.UsageError("--json and --check exclude each other")
    lazy = ((path, trace) for path in paths for trace in load_trace(path))
    # Thousands of traces are read one at a time: held all at once they could fill the memory.
    work = list(lazy) if len(paths) < 1000 else lazy
    if check:
        ctx.exit(_check(work, len(paths) * len(policies)))
    from p2mbatch.model.replay import replay as run
    from p2mbatch.model.replay import replay_events

    for path, trace in work:
        if as_json:
            say(json.dumps({"trace": trace.name, "events": run(trace)}))
            continue
        say(f"{one_line(path)}: {one_line(trace.name)}, {_describe(trace)}")
        for i, event in enumerate(replay_events(trace)):
            say(f"  {i:3d}  {_line(event, trace.events[i])}")


def _policies(given: str | None) -> list[str]:
    """Return the policies that a list names, files of one's own read; [""] where none is given."""
    from p2mbatch.kernels.named import named_policy, policies_in
    from p2mbatch.model.policies import find

    if given is None:
        return [""]
    found = [named_policy(part) for part in policies_in(given)]
    if not found:
        raise InputError("--policy: names none: use tracked, stale, none, or a file as mine.py")
    return [find(name).name for name in found]


def _check(work: Any, num_traces: int) -> int:
    """Compare each trace with its expected results; return the exit code."""
    from tqdm import tqdm

    others: list[str] = []
    for path, trace in tqdm(
        work, total=num_traces, unit="trace", leave=False, disable=None, dynamic_ncols=True
    ):
        differences = list(_differences(trace))
        if differences:
            others.append(path)
        for line in differences:
            say_above(tqdm, f"{one_line(path)}: {one_line(line)}")
    say(f"{num_traces - len(others):,} of {counted(num_traces, 'trace')} exact")
    named = list(dict.fromkeys(others))
    for path in named[:_MAX_NAMED]:
        say(f"  not exact: {one_line(path)}")
    if len(named) > _MAX_NAMED:
        say(f"  and {len(named) - _MAX_NAMED:,} more")
    return 1 if others else 0


def _differences(trace: Trace) -> Iterator[str]:
    """Yield a line for each field that is not what the trace expects."""
    from p2mbatch.model.replay import replay as run

    if trace.expected is None:
        yield "has no expected results to compare with"
        return
    events = run(trace)
    if len(events) != len(trace.expected):
        yield f"expected: {len(trace.expected)} events ran, here {len(events)}"
    for i, (got, wanted) in enumerate(zip(events, trace.expected, strict=False)):
        for key in [*wanted, *(key for key in got if key not in wanted)]:
            # No recording knows a user's file.
            if key == "where":
                continue
            if key not in got or key not in wanted or got[key] != wanted[key]:
                yield (
                    f"expected[{i}].{key}: {_show(wanted, key)} is expected, "
                    f"here it is {_show(got, key)}"
                )


def _show(event: dict[str, Any], key: str) -> str:
    return json.dumps(event[key]) if key in event else "absent"


def _describe(trace: Trace) -> str:
    """Return the guest in a few words."""
    from p2mbatch.base.geometry import PAGE_BYTES
    from p2mbatch.base.sizes import format_size
    from p2mbatch.model.policies import shown

    guest = trace.guest
    return (
        f"{shown(trace.policy).short}, {8 * guest.word_bytes}-bit, "
        f"boots with {guest.nr_pages} pages ({guest.nr_pages * PAGE_BYTES / (1 << 20):.0f} MiB) of "
        f"{format_size(guest.max_p2m_pfn * PAGE_BYTES)}"
    )


def _state(event: dict[str, Any]) -> str:
    """Return where the list is and what it takes; of a linear p2m, where its table is."""
    pool = event["pool_pages_used"]
    if "p2m_cr3_mfn" not in event:
        used = f"{event['brk_pages_used']} brk and {pool} pool pages"
        return f"list at MFN {event['frame_list_list_mfn']}, {used}"
    listed = event["frame_list_list_sha256"] is not None
    parts = [f"list at MFN {event['frame_list_list_mfn']}" if listed else "no list"]
    if event["p2m_cr3_mfn"]:
        parts.append(f"tables from MFN {event['p2m_cr3_mfn']}")
    used = f"{event['boot_pages_used']} boot and {pool} pool pages"
    return ", ".join([*parts, f"max_pfn {event['max_pfn']}", used])


def _line(event: dict[str, Any], asked: dict[str, Any]) -> str:
    """Return one event as a person reads it."""
    from p2mbatch.model.toolstacks import USUAL, said
    from p2mbatch.model.trace import REFUSED, SETS, goes_on, runs_of

    op = event["op"]
    if op == "fail_alloc":
        return f"fail_alloc   allocation {asked['at']} from here on will fail"
    if op == "poke":
        pages = len(set(asked["words"][:, 0].tolist()))
        words = counted(len(asked["words"]), "word")
        return f"poke         {words} in {counted(pages, 'page')} read otherwise from here on"
    if op == "tweak":
        return "tweak        the next save reads other values than there are"
    what = f"{op} to host {asked['host']}" if op == "migrate" else op
    if op == "cpus":
        what = f"set by {counted(len(asked['sets']), 'CPU')}"
    if op == "boot":
        what = f"boot on host {asked['host']}"
    parts = [f"{what:18s} {event['outcome']}"]
    if event["detail"] is not None:
        parts.append(f"({event['detail']})")
        # What the real tool prints there; details have names of their own.
        text = said(asked.get("toolstack", USUAL), event["detail"])
        parts += [f"'{text}'"] if text else []
    if op in SETS:
        wanted = sum(int(runs[:, 2].sum()) for runs in runs_of(asked))
        parts.append(f"{event['entries_set']} of {wanted} entries set")
        if not event["ok"]:
            parts.append("then out of pages" if op == "set" else "some returned false")
    if event.get("stray_writes"):
        parts.append(
            f"{counted(event['stray_writes'], 'stray write')} on "
            f"{counted(event['stray_pages'], 'page')}"
        )
    for name in ("lost_pages", "ghost_pages", "lost_identity_pages", "placeholder_writes"):
        if event.get(name):
            parts.append(f"{event[name]} {name.replace('_', ' ')}")
    if event["outcome"] in REFUSED and goes_on(asked, event["outcome"]):
        parts.append("stays where it was")
    parts.append(_state(event))
    if event.get("where"):
        parts.append(f"at {event['where']}")
    return "  ".join(parts)
