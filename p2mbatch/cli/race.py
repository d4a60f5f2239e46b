"""`p2mbatch race`: explore every interleaving of CPUs that grow the p2m."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from p2mbatch.base.say import say

if TYPE_CHECKING:
    from p2mbatch.race.explorer import Exploration

KERNELS = ("old", "orig", "loser", "relax", "new")
"""Those of `p2mbatch.race.config`, named here so that --help need not load it; a test compares."""


@click.command()
@click.argument("races", nargs=-1, metavar="[RACE]...")
@click.option(
    "--kernel", type=click.Choice(KERNELS),
    help="old 2.6.37-38, orig 2.6.39-3.16, new 3.19 on; loser, relax: repairs [old].",
)  # fmt: skip
@click.option(
    "--cpu", "cpus", multiple=True, metavar="CALLS",
    help='What one CPU calls: "set 0 1, get 0"; "set 0 invalid". Once a CPU.',
)  # fmt: skip
@click.option("--populate", metavar="PFN,...", help="PFNs populated before the run.")
@click.option(
    "--allocator", type=click.Choice(("never", "own", "any")),
    help="Who can get a freed page again: nobody, its CPU, anybody [never].",
)  # fmt: skip
@click.option("--memory", type=click.Choice(("sc", "tso")), help="The memory model [sc].")
@click.option(
    "--toolstack", type=click.Choice(("tree", "list")), help="A live migration's walk, too."
)
@click.option("--last", type=int, metavar="PFN", help="max_pfn at the start, 1 to 8 [8].")
@click.option("--reduced", is_flag=True, help="Find the classes only: far fewer states.")
@click.option("--class", "class_name", metavar="CLASS", help="Tell or draw this end only.")
@click.option("--draw", metavar="FILE.svg", help="Draw a schedule (--class) as swim lanes.")
@click.option("--json", "as_json", is_flag=True, help="Print one object, race -> result.")
@click.option(
    "--check", metavar="FILE", help="Compare with the results in FILE; exit 1 where one differs."
)
@click.option(
    "--sample", type=click.IntRange(1, 10**9), metavar="N",
    help="Draw N schedules instead of visiting all: rates, with intervals.",
)  # fmt: skip
@click.option(
    "--entries", type=click.Choice(("2", "512", "1024")), default="2", show_default=True,
    help="--sample: words a page has, at every level.",
)  # fmt: skip
@click.option(
    "--key", type=click.IntRange(0, (1 << 63) - 1), default=0, help="--sample: other schedules."
)
@click.option("--list", "as_list", is_flag=True, help="List the litmuses.")
@click.option(
    "--max-memory", default="8GiB", show_default=True, metavar="SIZE",
    help="Stop with a message where the states need more.",
)  # fmt: skip
def race(
    races: tuple[str, ...],
    cpus: tuple[str, ...],
    populate: str | None,
    reduced: bool,
    class_name: str | None,
    draw: str | None,
    as_json: bool,
    check: str | None,
    sample: int | None,
    entries: str,
    key: int,
    as_list: bool,
    max_memory: str,
    **options: Any,
) -> None:
    """Explore every interleaving of a RACE: which ends can be reached, how likely, how soon.

    A RACE is a name such as old.never.sc.same-leaf, a litmus's bare name beside options, or a JSON
    file of races; or it is put together with --cpu. One race's ends are told step by step.
    """
    if sum((as_list, as_json, check is not None, draw is not None)) > 1:
        raise click.UsageError("--list, --json, --check and --draw exclude each other")
    if class_name is not None and (as_list or as_json or check is not None):
        raise click.UsageError("--class is for telling or drawing: --json and --check take all")
    others = (as_list, as_json, check is not None, draw is not None, class_name is not None)
    if sample is not None and (reduced or any(others)):
        raise click.UsageError("--sample draws schedules: it takes --entries and --key alone")
    if sample is None and (entries != "2" or key):
        raise click.UsageError("--entries and --key are of --sample")
    if as_list:
        _list()
        return
    from p2mbatch.base.sizes import parse_size
    from p2mbatch.race.asking import parse_pfns, parse_program, races_of
    from p2mbatch.race.names import read_file

    options["cpus"] = tuple(parse_program(text) for text in cpus)
    options["populated_first"] = parse_pfns(populate) if populate is not None else None
    max_bytes = parse_size(max_memory, "--max-memory")
    expected = read_file(check) if check is not None else {}
    given = bool(races) or any(value not in (None, ()) for value in options.values())
    asked = races_of(races, options) if given or check is None else expected
    if check is not None:
        click.get_current_context().exit(_check(asked, expected, check, reduced, max_bytes))
    if (draw is not None or class_name is not None) and len(asked) > 1:
        raise click.UsageError(f"--draw and --class take one race, not {len(asked)}")
    if draw is not None:
        _draw(draw, asked, class_name, reduced, max_bytes)
        return
    if sample is not None:
        _sample(asked, sample, int(entries), key)
        return
    results = {}
    for name, (config, _) in asked.items():
        found = _explore(name, config, reduced, max_bytes)
        if as_json:
            results[name] = found.to_json()
        else:
            _tell(name, found, class_name, len(asked) == 1)
    if as_json:
        say(json.dumps(results))


def _sample(asked: dict[str, Any], num_schedules: int, entries: int, key: int) -> None:
    """Draw schedules of each race and say how they ended."""
    from p2mbatch.race.sample import draw_schedules
    from p2mbatch.race.summary import describe, rate_table

    for name, (config, _) in asked.items():
        found = draw_schedules(config, num_schedules, entries=entries, key=key)
        for line in (*describe(name, config), *rate_table(found)):
            say(line)


def _explore(name: str, config: Any, reduced: bool, max_bytes: int) -> Exploration:
    """Explore one race, with a count of states on a terminal."""
    from tqdm import tqdm

    from p2mbatch.race.explorer import explore
    from p2mbatch.race.reduced import explore_reduced

    run = explore_reduced if reduced else explore
    with tqdm(unit="state", leave=False, disable=None, dynamic_ncols=True, desc=name) as bar:

        def progress(what: str, number: int) -> None:
            bar.unit = f" {what}"
            bar.n = number
            bar.update(0)

        return run(config, name=name, max_bytes=max_bytes, progress=progress)


def _tell(name: str, found: Exploration, class_name: str | None, alone: bool) -> None:
    from p2mbatch.race.summary import class_asked_for, describe, story, table

    only = [class_asked_for(found, class_name)] if class_name is not None else None
    for line in (*describe(name, found.config), *table(found)):
        say(line)
    for one in only or (found.classes.values() if alone else ()):
        say()
        for line in story(found, one):
            say(line)
    if not alone:
        say()


def _draw(
    path: str, asked: dict[str, Any], class_name: str | None, reduced: bool, max_bytes: int
) -> None:
    from p2mbatch.base.errors import InputError
    from p2mbatch.base.files import check_target, is_special, write_whole
    from p2mbatch.race.draw import draw_svg
    from p2mbatch.race.summary import class_asked_for
    from p2mbatch.race.telling import tell

    if not path.lower().endswith(".svg") and not is_special(path):
        raise InputError(f"--draw: {path!r}: end the name in .svg")
    check_target("-", path)
    ((name, (config, _)),) = asked.items()
    found = _explore(name, config, reduced, max_bytes)
    one = class_asked_for(found, class_name)
    svg = draw_svg(name, config, one.name, tell(config, one))
    write_whole(path, lambda file: file.write(svg.encode()))
    say(f"{path}: {name}, {one.name}, {len(one.witness)} steps", err=is_special(path))


def _check(
    asked: dict[str, Any], expected: dict[str, Any], path: str, reduced: bool, max_bytes: int
) -> int:
    """Compare every race with its expected results; return the exit code."""
    from p2mbatch.base.errors import InputError
    from p2mbatch.race.explorer import differences

    for name in asked:
        if name not in expected or not expected[name][1]:
            raise InputError(f"{path}: {name}: has no results to compare with")
        if asked[name][0] != expected[name][0]:
            raise InputError(f"{path}: {name}: its configuration is another one")
    num_same = 0
    for name, (config, _) in asked.items():
        found = _explore(name, config, reduced, max_bytes)
        lines = differences(found.to_json(), expected[name][1])
        num_same += not lines
        for line in lines:
            say(f"{name}: {line}")
    say(f"{num_same} of {len(asked)} as expected")
    return 0 if num_same == len(asked) else 1


def _list() -> None:
    from p2mbatch.race.config import parse_config
    from p2mbatch.race.names import LITMUSES

    for name, (populated, programs) in LITMUSES.items():
        config = parse_config(name, {"kernel": "old", "cpus": programs})
        before = f"(after PFN {', '.join(map(str, populated))}) " if populated else ""
        calls = " | ".join(", ".join(map(str, program)) for program in config.cpus)
        say(f"{name:18s} {before}{calls}")
