"""`p2mbatch sweep`: run a spec, a preset or a grid given by options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2mbatch.base.errors import InputError, P2MBatchError
from p2mbatch.base.say import counted, one_line, say
from p2mbatch.cli import completing
from p2mbatch.model.policies import names

AXES = (
    ("memory", "The guests' spans, such as 1GiB,16GiB or '1GiB..512GiB x2'."),
    ("sparsity", "Parts of the span not populated, such as 0,0.5 or '0..0.9 +0.1'."),
    ("layout", "Where the holes lie: tail, scattered, extents, identity."),
    ("migrations", "How many migrations."),
    ("policy", f"How the list is rebuilt: {', '.join(names())}, or files: mine.py."),
    ("neighbours", "Parts of the hosts' other frames that belong to other domains."),
    ("neighbour-memory", "How large each other domain is."),
    ("host-memory", "Each host's machine memory."),
    ("neighbour-map", "Listings of xen-mfndump dump-m2p: whose the hosts' other frames are."),
    ("hosts", "Each host's memory in turn, such as 8GiB,16GiB..32GiB; ';' separates lives."),
    ("xen", "The hypervisors' versions, such as 4.0."),
    ("stuck", "What becomes of a guest that is refused: end, stay."),
    ("max-domain-pages", "PFNs that a kernel of two levels holds; 0: as it was configured."),
    ("linux", "Releases of Linux in place of policies, such as 2.6.32,5.10."),
    ("toolstack", "The toolstacks that save: legacy, 4.6, 4.7."),
    ("hole", "How much is 1:1 with layout identity."),
    ("hole-at", "Where that begins."),
    ("grow", "What guests get more before each migration."),
    ("grow-where", "Where they get it: within the span's holes, beyond it, identity."),
    ("cpus", "How many CPUs do so at the same time."),
    ("live", "Whether guests go on living while they are sent: yes, no."),
    ("rounds", "How many rounds of copying there are before the pause."),
    ("churn", "What guests get more in each of these rounds, on average."),
    ("balloon", "What they give back in each, on average, and take again in the next."),
    ("hotplug-gib", "GiB that a linear p2m has room for, at least."),
    ("p2m-vaddr", "Where a linear p2m begins, such as 0xffffc90000200000."),
    ("told", "Whether guests are told that a linear list can be read: auto, yes, no."),
    ("build-order", "Extents that the domain builder gets, log2 pages."),
    ("restore-order", "Extents that a restore gets, log2 pages."),
    ("seeds", "How many seeds (5 is 0 to 4), or a list or range of them."),
    ("word-bytes", "The guests' words: 8, 4."),
    ("guest", "Trace files of guests (see import), in place of memory, sparsity, layout and word."),
)


def _axis_options(command: Any) -> Any:
    for name, text in reversed(AXES):
        offer = completing.policies if name == "policy" else None
        option = click.option(f"--{name}", metavar="LIST", help=text, shell_complete=offer)
        command = option(command)
    return command


def _out(out: str | None, spec_name: str | None, digest: str) -> Path:
    """Return the store's place: where --out says, or a place of its own for this spec."""
    if out is not None:
        return Path(out)
    return Path("runs") / (Path(spec_name).stem if spec_name else f"sweep-{digest[:8]}")


@click.command()
@click.argument("spec", required=False, shell_complete=completing.spec)
@_axis_options
@click.option("--jobs", "-j", type=int, metavar="N", help="Threads or worker processes [cores].")
@click.option("--out", "-o", metavar="DIR", help="The result store [runs/<spec's name>].")
@click.option(
    "--memory-budget", metavar="SIZE", help="What the cells in flight may need together [80 %]."
)
@click.option(
    "--resident",
    type=click.Choice(["auto", "all"]),
    default="auto",
    show_default=True,
    help="Leaves held as memory: those that are touched, or all (the same rows, slower).",
)
@click.option(
    "--engine",
    type=click.Choice(["threads", "dask"]),
    default="threads",
    show_default=True,
    help="Where the cells run.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask: tcp://host:port or a scheduler file.")
@click.option("--extend", is_flag=True, help="Add another spec's cells to those of the store.")
@click.option("--retry-failed", is_flag=True, help="Try the cells that failed again.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first cell that fails.")
@click.option("--dry-run", is_flag=True, help="Say how many cells, how much memory and time; stop.")
@click.option(
    "--report/--no-report",
    default=None,
    help="Write report.html into the store [for more than one cell].",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table, errors only.")
def sweep(spec: str | None, **options: Any) -> int:
    """Run every cell of SPEC: a TOML or JSON file, or a preset's name; or of a grid by options.

    Lists are separated by commas and may hold ranges. The same command again continues a sweep
    that was stopped or killed.
    """
    from p2mbatch.base.shipped import find_spec
    from p2mbatch.spec.sweep_spec import SweepSpec

    axes = {name.replace("-", "_"): options.pop(name.replace("-", "_")) for name, _ in AXES}
    given = [name for name, value in axes.items() if value is not None]
    if spec is not None and given:
        option = "--" + given[0].replace("_", "-")
        raise InputError(f"{option}: SPEC {spec!r} has its own axes: give a spec or options")
    if spec is None and not given:
        raise InputError("give a spec file, a preset's name, or axes such as --memory 1GiB")
    parsed = SweepSpec.from_file(find_spec(spec)) if spec else SweepSpec.from_options(**axes)
    if options.pop("dry_run"):
        return _dry_run(parsed, options)
    return _run(parsed, _out(options.pop("out"), spec, parsed.digest), options)


def _dry_run(spec: Any, options: dict[str, Any]) -> int:
    from p2mbatch.sweeps.dry_run import estimate
    from p2mbatch.sweeps.progress import format_duration

    found = estimate(
        spec,
        jobs=options["jobs"],
        resident=options["resident"],
        memory_budget=options["memory_budget"],
    )
    say(f"cells         {found.num_cells:,}")
    say(f"peak memory   {found.peak_memory_bytes / 2**20:,.0f} MiB for the cells in flight")
    say(f"time          about {format_duration(found.seconds)}")
    if found.share_cut:
        say(
            f"cut           {found.share_cut:.0%} of the guests have more memory than their kernel "
            "takes (CONFIG_XEN_MAX_DOMAIN_MEMORY): they boot without the rest"
        )
    return 0


def _run(spec: Any, out: Path, options: dict[str, Any]) -> int:
    from p2mbatch.cli.ending import say_ending
    from p2mbatch.sweeps.driver import sweep as run_sweep

    quiet = options.pop("quiet")
    wants_report = options.pop("report")
    result = run_sweep(spec, out, progress="quiet" if quiet else "auto", **options)
    progress = result.progress
    if not quiet:
        say_ending(result, out)
    if wants_report if wants_report is not None else progress.num_finished > 1:
        _report(result, out, quiet)
    if progress.num_failed:
        say(
            f"p2mbatch: {counted(progress.num_failed, 'cell')} failed, the first with: "
            f"{one_line(_first(result))}; see `p2mbatch status {one_line(out)}`, "
            "try them again with --retry-failed",
            err=True,
        )
        return 1
    return 0


def _first(result: Any) -> str:
    return str(result.failures.sort_values("failed_at", kind="stable")["message"].iloc[0])


def _report(result: Any, out: Path, quiet: bool) -> None:
    from p2mbatch.report.sweep import NUM_STEPS, write_html
    from p2mbatch.sweeps.progress import StepReport

    path = out / "report.html"
    try:
        with StepReport("report", NUM_STEPS, "quiet" if quiet else "auto") as steps:
            write_html(result, path, on_step=steps.next)
    except (OSError, P2MBatchError) as error:
        # The results are safe; the page can be made again by `p2mbatch report`.
        say(f"p2mbatch: the report could not be written: {one_line(error)}", err=True)
        return
    if not quiet:
        say(f"report: {one_line(path)}")
