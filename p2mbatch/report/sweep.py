"""The report of a sweep: one self-contained HTML page, or Markdown for a mailing list.

Everything in it is computed from the result; nothing is loaded from anywhere when it is read.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from p2mbatch._version import __version__
from p2mbatch.base.errors import InputError
from p2mbatch.base.provenance import now
from p2mbatch.base.say import counted, one_line
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.snapshots import live_through
from p2mbatch.model.policies import MENDED
from p2mbatch.plots import gallery as plots
from p2mbatch.plots.style import new_figure, style
from p2mbatch.plots.tree import tree_title
from p2mbatch.report.asked import Answers, answers
from p2mbatch.report.cells import (
    cell_tables,
    failure_table,
    fixed_axes,
    survival_table,
    survival_text,
)
from p2mbatch.report.compare import Comparison, compare, to_text, verdict
from p2mbatch.report.compare_tables import difference_table, ratio_table
from p2mbatch.report.costs import costs_of
from p2mbatch.report.draws import drawn
from p2mbatch.report.eras import fate_table, kernel_matrix, kernel_tables, kernels_of
from p2mbatch.report.glossary import FateEntry, detail_entries, fate_entries
from p2mbatch.report.live import live_table
from p2mbatch.report.page import asset, inline, template, write_text
from p2mbatch.report.pairs import pair_sentence, pair_table, pairs_of
from p2mbatch.report.raced import raced_table
from p2mbatch.report.stories import Story, explain_command, stories_of
from p2mbatch.report.table import script_json, show
from p2mbatch.report.words import (
    corruption_answer,
    operator_answer,
    policy_key,
    together,
)
from p2mbatch.store.fates import fates, last_rows, telling_cell
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survival import ends, survival

_TITLES = {
    "survival": "By policy and migration",
    "kernels": "Kernel by kernel",
    "kernel_faults": "What goes wrong, and what mended it",
    "kernel_costs": "What each kernel's p2m costs",
    "scenarios": "By scenario",
    "pairs": "The same guests twice",
    "live": "Growing while it moves",
    "cpus": "Growing on several CPUs at once",
    "cells": "Every cell",
    "failures": "Failed cells",
}


OnStep = Callable[[str], object]

NUM_STEPS = 3 + len(plots.PLOTS)


def _say_nothing(step: str) -> None:
    pass


class _Art(NamedTuple):
    name: str
    art: str
    caption: str
    number: str = ""
    narrow: str = ""
    """The same for phones, where there is another form."""
    cell: str = ""
    """The cell that it shows, the beginning of its id."""
    story: str = ""
    """What tells that cell, or one that ended as it did: an address; empty where nothing does."""
    is_told: bool = False
    """Whether that story is the cell's own."""
    command: str = ""
    """What tells the cell."""

    @property
    def role(self) -> str:
        """Return what the figure is to a reader who is told of it: a picture, or marks to go to."""
        return "group" if "data-cells=" in self.art else "img"


def write_html(
    result: SweepResult,
    path: str | Path,
    against: SweepResult | None = None,
    on_step: OnStep = _say_nothing,
) -> None:
    """Write the report of `result` to `path`; with `against`, a section compares the two runs.

    The file is replaced in one step. Raises `InputError` where it can't be written, and what
    `compare` raises.
    """
    write_text(Path(path), html(result, against, on_step))


def html(
    result: SweepResult, against: SweepResult | None = None, on_step: OnStep = _say_nothing
) -> str:
    """Return the report of `result` as one HTML page that needs nothing else.

    `on_step` is told what is being made, at most `NUM_STEPS` times.
    """
    on_step("rows")
    context = _context(result, against)
    frame = context["frame"]
    on_step("tables")
    comparison: Comparison | None = context["comparison"]
    failed = failure_table(result.failures)
    tables = [survival_table(context["entries"])] if context["entries"] else []
    kernels = kernels_of(result)
    twice = pair_table(context["pairs"])
    others = (live_table(frame), raced_table(frame), twice)
    tables += [table for table in others if table is not None]
    tables += kernel_tables(kernels) + cell_tables(frame, result.cell_names)
    if failed is not None:
        tables.insert(0, failed)
    on_step("stories")
    stories = stories_of(result, frame)
    entries = fate_entries(stories, ends(result))
    ways = _ways(entries, explain_command(result))
    to_story, to_fate = ways["stories"], ways["fates"]
    page: str = template("report.html.j2").render(
        **context,
        fates=entries,
        fate_ways=to_fate,
        details=detail_entries(frame, stories),
        ways=script_json(ways),
        way=lambda policy, fate: to_story.get(policy, {}).get(fate) or to_fate.get(fate, ""),
        matrix=kernel_matrix(kernels),
        figures=_figures(result, context["answers"], stories, on_step),
        tables=[(table, _TITLES[table.name]) for table in tables],
        fixed=fixed_axes(last_rows(frame[["cell", "migration", *FIELDS]])),
        lives="" if comparison is None else pair_sentence(comparison.lives),
        verdict=None if comparison is None else verdict(comparison),
        ratio_table=None if comparison is None else ratio_table(comparison),
        difference_table=None if comparison is None else difference_table(comparison),
        css=asset("report.css"),
        js=asset("report.js") + asset("ways.js"),
        spec_json=json.dumps(_spec_of(result), indent=1),
        run=str(result.path),
        made_at=now(),
    )
    return page


def to_markdown(result: SweepResult, against: SweepResult | None = None) -> str:
    """Return the report of `result` as Markdown that is readable as plain text too."""
    context = _context(result, against)
    comparison: Comparison | None = context["comparison"]
    failures = [
        (cell[:10], " ".join(str(message).split()))
        for cell, message in zip(
            result.failures["cell"].head(20), result.failures["message"].head(20), strict=True
        )
    ]
    kernels = kernels_of(result)
    shown = [fate_table(kernels), *kernel_tables(kernels)] if kernels else []
    if (raced := raced_table(context["frame"])) is not None:
        shown.append(raced)
    text: str = template("report.md.j2").render(
        **context,
        survival_text=survival_text(context["entries"]),
        kernels=[(_TITLES[table.name], table.to_text()) for table in shown],
        failures=failures,
        comparison_text=None if comparison is None else to_text(comparison),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _ways(fates: list[FateEntry], command: str) -> dict[str, Any]:
    """Return what the page's script leads to: stories and fates by their addresses."""
    stories: dict[str, dict[str, str]] = {}
    for entry in fates:
        for story in entry.stories:
            stories.setdefault(story.policy, {})[entry.fate] = f"#{story.anchor}"
    return {
        "stories": stories,
        "fates": {entry.fate: f"#{entry.anchor}" for entry in fates},
        "explain": command,
    }


# --- words -------------------------------------------------------------------------------------


def _context(result: SweepResult, against: SweepResult | None) -> dict[str, Any]:
    """Return what both formats say."""
    entries = survival(result)
    frame = result.compact
    if not frame.empty:
        # Sections ask for it one after the other.
        frame = frame.assign(fate=fates(frame))
    pairs = pairs_of(frame)
    asked = result.spec.answer if result.specs else ""
    said = answers(asked, frame, entries, costs_of(frame), pairs)
    progress = result.progress
    provenance = result.provenance
    banners = []
    if progress.state != "complete":
        banners.append(
            (
                "",
                f"This sweep is {progress.state}: {progress.num_settled:,} of "
                f"{progress.num_cells:,} cells are done.",
            )
        )
    if progress.num_failed:
        text = (
            f"{counted(progress.num_failed, 'cell')} failed and "
            f"{'is' if progress.num_failed == 1 else 'are'} in no number here but in the table of "
            "failed cells, with the message."
        )
        banners.append(("bad", text))
    runs = provenance["runs"]
    command = one_line(shlex.join(runs[-1]["command"])) if runs else "p2mbatch sweep spec.json"
    return {
        "frame": frame,
        "entries": entries,
        "question": _question(result),
        "answers": said,
        "pairs": pairs,
        "corrupted": corruption_answer(entries),
        "drawn": drawn(result.spec) if result.specs else [],
        "together": together(ends(result)) if result.specs and result.spec.sample else "",
        "operators": operator_answer(entries),
        "policies": policy_key(entries),
        "scale": _scale(result),
        "banners": banners,
        "facts": _facts(provenance),
        "command": command,
        "comparison": None if against is None else compare(result, against),
        "version": __version__,
    }


def _question(result: SweepResult) -> str:
    question = result.spec.question if result.specs else ""
    return question or "What becomes of these guests when they migrate?"


def _scale(result: SweepResult) -> str:
    frame = result.compact
    if frame.empty:
        return "There are no rows yet."
    low, high = int(frame["memory_bytes"].min()), int(frame["memory_bytes"].max())
    sizes = show("size", low) if low == high else f"{show('size', low)} to {show('size', high)}"
    cells, seeds = result.progress.num_finished, frame["seed"].nunique()
    moves = int((frame["migration"] > 0).sum())
    return (
        f"{cells:,} simulated guest{'s'[: cells != 1]} of {sizes}, "
        f"{seeds:,} seed{'s'[: seeds != 1]}, {moves:,} migration{'s'[: moves != 1]}."
    )


def _facts(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the provenance as (name, value) lines."""
    if not provenance["runs"]:
        return []
    versions = ", ".join(
        f"{name} {provenance[name]}" for name in ("python", "numba", "numpy", "pandas", "pyarrow")
    )
    facts = [
        ("p2mbatch", f"{provenance['p2mbatch']} (model {provenance['model_version']}), "
                     f"source {provenance['git_commit'] or 'not from a source tree'}"),
        ("versions", versions),
        ("machine", f"{provenance['cpu']}, {provenance['cores']} cores, "
                    f"{show('size', provenance['memory_bytes'])} memory"),
        ("system", str(provenance["system"])),
        ("engine", f"{provenance.get('engine')}, {provenance.get('jobs')} jobs, "
                   f"resident leaves: {provenance.get('resident')}"),
        ("run", f"{provenance['started_at']} to {provenance['ended_at'] or 'now: it still runs'}, "
                f"in {len(provenance['runs'])} part{'s'[: len(provenance['runs']) != 1]}"),
    ]  # fmt: skip
    facts += [
        ("spec", f"{s['source']} ({s['num_cells']:,} cells, digest {s['digest'][:12]})")
        for s in provenance["specs"]
    ]
    return facts


def _spec_of(result: SweepResult) -> dict[str, Any]:
    return result.spec.to_dict() if result.specs else {}


# --- figures -----------------------------------------------------------------------------------


def _figures(
    result: SweepResult, said: Answers, stories: list[Story], on_step: OnStep
) -> list[_Art]:
    """Return the figures, the one first that shows what the headline says."""
    found = []
    for name in said.figures:
        on_step(f"figure {name}")
        if name == "tree":
            found += _trees(result, stories)
            continue
        figure = plots.draw(name, result)
        caption = plots.caption_of(name, figure)
        found.append(_Art(name, inline(figure, name, caption), caption))
    return found


def _trees(result: SweepResult, stories: list[Story]) -> list[_Art]:
    """Return the tree of the most telling guest, and that of the same one under `tracked`."""
    frame = result.compact
    caption = plots.PLOTS["tree"].caption
    if frame.empty:
        return [_Art("tree", inline(plots.draw("tree", result), "tree", caption), caption)]
    row = telling_cell(frame)
    try:
        shown = _tree(live_through(row, 1), tree_title(row), caption, "")
        found = [shown._replace(**_told(result, row, stories))]
    except InputError as error:
        # The file that a guest is from need not be where its results are.
        return [_no_tree(str(error))]
    if row["policy"] != MENDED and (frame["policy"] == MENDED).any():
        caption = (
            f"The same guest on the same hosts under the policy {MENDED}: every entry is written "
            "anew, through the page's own address."
        )
        with contextlib.suppress(InputError):
            # A guest from a file may have booted with too little brk for it.
            shots = live_through(row, 1, policy=MENDED)
            found.append(_tree(shots, f"The same guest, policy {MENDED}", caption, "2"))
    return found


def _told(result: SweepResult, row: Any, stories: list[Story]) -> dict[str, Any]:
    """Return where the cell of `row` is told: its story, or of one that ended alike, and how."""
    frame = result.compact
    own = frame[(frame["cell"] == row["cell"]).to_numpy()]
    (cell,) = result.cell_names([int(row["cell"])])
    ways = {
        "cell": cell[:10],
        "command": f"{explain_command(result)} {cell[:10]}",
    }
    fate = fates(own).iloc[-1]
    alike = [s for s in stories if s.told and (s.fate, s.policy) == (fate, row["policy"])]
    if not alike:
        return ways
    return {**ways, "story": f"#{alike[0].anchor}", "is_told": alike[0].cell == cell}


def _no_tree(why: str) -> _Art:
    """Return what says in the tree's place why there is none."""
    return _Art("tree", f'<p class="note">{escape(one_line(why))}</p>', "There is no tree here.")


def _tree(shots: list[plots.Snapshot], title: str, caption: str, number: str) -> _Art:
    """Return a tree as one wide figure, and for phones as one figure per moment."""
    art = []
    for index, chosen in enumerate([shots, *([shot] for shot in shots)]):
        width, height = plots.PLOTS["tree"].size
        with style():
            figure, ax = new_figure((width if index == 0 else 6.4, height))
            plots.plot_tree(chosen, ax=ax)
            ax.set_title(title if index < 2 else "")
        art.append(inline(figure, f"tree{number}p{index}", title))
    return _Art("tree", art[0], caption, number, "".join(art[1:]))
