"""`p2mbatch bench`: the performance report on this machine."""

from __future__ import annotations

import click

from p2mbatch.base.say import one_line, say


@click.command()
@click.option("--out", metavar="DIR", help="Write bench.json, bench.html and the figures here.")
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON, not as tables.")
@click.option(
    "--sizes", default="1GiB,16GiB,128GiB,512GiB", show_default=True, metavar="SIZE,...",
    help="Guests to measure; one that memory can't hold is left out.",
)  # fmt: skip
@click.option("--full", is_flag=True, help="Measure longer, and slow peers on large guests too.")
@click.option("--smoke", is_flag=True, help="Two samples each: shows that all runs, no more.")
@click.option("--against", metavar="OLD.json", help="Say what moved since that report.")
def bench(
    out: str | None, as_json: bool, sizes: str, full: bool, smoke: bool, against: str | None
) -> None:
    """Measure the kernels beside the machine's limits and their peers."""
    import json

    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import make_folder
    from p2mbatch.base.geometry import PAGE_BYTES, geometry
    from p2mbatch.base.sizes import parse_size
    from p2mbatch.bench.ready import fresh_cache
    from p2mbatch.bench.report_file import changes, load

    def tell(line: str) -> None:
        say(f"bench: {line}", err=True)

    wanted = [parse_size(text, "--sizes") for text in sizes.split(",")]
    for size, text in zip(wanted, sizes.split(","), strict=True):
        if not PAGE_BYTES <= size <= geometry(8).max_p2m_pfn * PAGE_BYTES or size % PAGE_BYTES:
            raise InputError(f"--sizes: {text.strip()} is no guest's memory: use 4KiB to 512GiB")
    old = load(against) if against else None
    folder = make_folder(out, "--out") if out else None
    tell("compiling every kernel into an empty cache, then loading them")
    with fresh_cache() as times:
        from p2mbatch.bench import session as measuring

        effort = measuring.SMOKE if smoke else measuring.FULL if full else measuring.QUICK
        report = measuring.run(wanted, effort=effort, compile_times=times, say=tell)
    from p2mbatch.report import bench as bench_report
    from p2mbatch.report.page import write_text

    moved = changes(report, old) if old is not None else None
    text = json.dumps(report, indent=1)
    if folder is not None:
        write_text(folder / "bench.json", text + "\n")
        bench_report.write_html(report, folder / "bench.html", moved)
        bench_report.write_figures(report, folder)
    say(text if as_json else bench_report.to_text(report, moved), end="\n" if as_json else "")
    if folder is not None:
        tell(f"written: {one_line(folder / 'bench.html')} and bench.json beside it")
