"""Write the generated pages of docs: `python docs/generate.py`. Tests hold the files to it."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from p2mbatch.cli import COMMANDS, cli
from p2mbatch.compiled.status import BUGS, FAULTS
from p2mbatch.model import toolstacks
from p2mbatch.model.explain.meaning import detail_meaning
from p2mbatch.model.fates import (
    ABORTED,
    ABORTED_DETAIL,
    BY_OUTCOME,
    CORRUPTED,
    DAMAGE,
    FATES,
    FOR_OPERATORS,
    fate_of,
)
from p2mbatch.race.config import KERNELS
from p2mbatch.race.explorer import explore
from p2mbatch.race.meaning import meaning_of
from p2mbatch.race.names import parse_name
from p2mbatch.race.one_lock import classes_under_one_lock
from p2mbatch.race.telling import lines_of, tell
from p2mbatch.store.columns import to_markdown

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from examples import examples_of  # noqa: E402

_WIDTH = 88


def data_dictionary() -> str:
    """Return docs/data-dictionary.md."""
    return (
        "# Data dictionary\n\n"
        "The columns of a sweep's table, in order: one row per cell and migration, migration 0\n"
        "being the boot. The same table is in every export. *scenario* columns say what the cell\n"
        "was, *exact* ones are the same on every machine, engine and number of threads,\n"
        "*measured* ones differ from run to run. Words are explained in [model.md](model.md),\n"
        "scenarios in [sweeps.md](sweeps.md).\n\n"
        "This page is generated from `p2mbatch/store/columns.py` by `python docs/generate.py`.\n\n"
        + to_markdown()
    )


def _fresh(command: click.Command) -> click.Command:
    """Return `command` as it is before anybody asked it for help: it keeps the option it made."""
    fresh = copy.copy(command)
    fresh._help_option = None
    return fresh


def _examples() -> dict[str, str]:
    """Return for each command a link to the question that the cookbook answers by it.

    The first that is answered by it before any other; else the first in which it is used.
    """
    text = (DOCS / "cookbook.md").read_text(encoding="utf-8")
    first, used = {}, {"bench": "[Performance](performance.md)"}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        question = section.partition("\n")[0]
        anchor = re.sub(r"[^\w\s-]", "", question.lower()).replace(" ", "-")
        words = [example.command.split() for example in examples_of(section)]
        names = [word[1] for word in words if word[0] == "p2mbatch"]
        link = f"[{question}](cookbook.md#{anchor})"
        for name in names:
            used.setdefault(name, link)
        for name in names[:1]:
            first.setdefault(name, link)
    return used | first


_EXAMPLES = _examples()


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> list[str]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **command.context_settings,
    )
    full = context.command_path
    parts = [f"## {full}\n\n```\n{command.get_help(context)}\n```\n"]
    if name in _EXAMPLES:
        parts.append(f"Example: {_EXAMPLES[name]}.\n")
    if isinstance(command, click.Group):
        for sub_name in command.list_commands(context):
            sub = command.get_command(context, sub_name)
            assert sub is not None
            parts += _help(_fresh(sub), sub_name, context)
    return parts


def command_reference() -> str:
    """Return docs/cli.md."""
    assert set(cli.list_commands(click.Context(cli))) == set(COMMANDS)
    return (
        "# Command reference\n\n"
        "What each command says of itself with `--help`. Exit codes are the same everywhere: 0\n"
        "done, 1 the work found failures (failed cells, runs that differ, a guest that can't be\n"
        "saved), 2 usage or input, 128 + n ended by signal n (130, 143, 129).\n\n"
        "A mistake is one line on stderr, `p2mbatch: error: …`. The names of fates are coloured\n"
        "where the terminal has colours (`--color`, `NO_COLOR`); tables turn into paragraphs\n"
        "where it is narrow.\n\n"
        "A shell completes commands, options, presets, policies, runs and cells once it was\n"
        "told to, in its start file:\n\n"
        "```\n"
        'eval "$(_P2MBATCH_COMPLETE=bash_source p2mbatch)"        # ~/.bashrc\n'
        'eval "$(_P2MBATCH_COMPLETE=zsh_source p2mbatch)"         # ~/.zshrc\n'
        "_P2MBATCH_COMPLETE=fish_source p2mbatch | source         # ~/.config/fish/config.fish\n"
        "```\n\n"
        "This page is generated from the commands by `python docs/generate.py`.\n\n"
        + "\n".join(_help(_fresh(cli), "p2mbatch"))
    )


_RACES = ("same-pfn", "same-leaf", "same-mid", "leaf-missing", "second-top", "read-back")
_RACED_WALKS = (
    "old.never.sc.t-leaf-2/tree",
    "old.never.sc.t-top/tree",
    "new.never.sc.t-leaf/list",
    "new.never.sc.t-top/list@4",
    "new.never.sc.second-top/-@4",
)
_WITNESSES = (
    ("old.never.sc.same-leaf", "bug"),
    ("old.never.sc.same-leaf", "list+uaf"),
    ("old.never.sc.same-leaf", "false+leak+uaf"),
    ("orig.never.sc.leaf-missing", "leak+list"),
    ("orig.never.sc.leaf-missing", "leak+lost"),
    ("loser.never.sc.same-leaf", "bug"),
    ("new.never.sc.same-leaf", "bug"),
    ("new.never.sc.second-top/-@4", "max"),
    ("old.never.sc.t-leaf-2/tree", "T-lost+T-misdirected"),
    ("new.never.sc.t-top/list@4", "T-lost"),
)


def _share(share: float) -> str:
    """Return a probability with three figures; what is too small for them is not called 0 or 1."""
    if share <= 0 or share > 1 - 1e-12:
        return f"{share:.0f}"
    if share < 0.0005:
        return "below 0.001"
    return "above 0.999" if share >= 0.9995 else f"{share:.3f}"


def _race_rows() -> Iterator[str]:
    for kernel in KERNELS:
        for litmus in _RACES:
            config = parse_name(f"{kernel}.never.sc.{litmus}")
            found = explore(config)
            chance = {name: one.probability or 0.0 for name, one in found.classes.items()}
            silent = [one for name, one in found.classes.items() if name not in ("ok", "bug")]
            labels = sorted({label for one in silent for label in one.labels})
            shares = [
                chance.get("ok", 0.0),
                chance.get("bug", 0.0),
                sum(one.probability or 0.0 for one in silent),
            ]
            yield (
                f"| `{kernel}` | `{litmus}` | {found.schedules:.2e} | "
                + " | ".join(map(_share, shares))
                + f" | {', '.join(labels) or '-'} | "
                f"{', '.join(sorted(classes_under_one_lock(config)))} |"
            )


def _walk_rows() -> Iterator[str]:
    for name in _RACED_WALKS:
        config = parse_name(name)
        ends = explore(config).classes.items()
        told = ", ".join(f"{end} {_share(one.probability or 0.0)}" for end, one in ends)
        locked = ", ".join(sorted(classes_under_one_lock(config)))
        yield f"| `{name}` | {told} | {locked} |"


def _witnesses() -> Iterator[str]:
    for name, end in _WITNESSES:
        config = parse_name(name)
        one = explore(config).classes[end]
        yield f"### `{name}`: {end}\n"
        yield from (f"- {label}: {text}" for label, text in meaning_of(end))
        yield "\n```"
        yield from (line.rstrip() for line in lines_of(config, tell(config, one)))
        yield "```\n"


_RACES_HEAD = """\
# Races: what was found, and a shortest schedule of each

[races.md](races.md) says what the kernels here are, what is claimed of them and on what evidence,
and what was not modelled; `p2mbatch race NAME` tells more of each. This page is generated from the
explorer by `python docs/generate.py`.

## Two CPUs

Freed pages are never handed out again, memory is sequentially consistent. The shares are
probabilities where every step is picked evenly among those that can be taken. *One lock*: the ends
of those schedules in which no CPU begins to grow while another does.

| kernel | litmus | schedules | ends well | BUG | silent damage | its labels | one lock |
|---|---|---|---|---|---|---|---|"""
_WALKS_HEAD = """
## The toolstack's walk, and max_pfn

| race | ends | one lock |
|---|---|---|"""
_WITNESSES_HEAD = """
## Schedules

Each is a shortest one. A star marks a step after which some end is out of reach.
"""


def races_found() -> str:
    """Return docs/races-found.md."""
    walks = [_WALKS_HEAD, *_walk_rows()]
    return "\n".join([_RACES_HEAD, *_race_rows(), *walks, _WITNESSES_HEAD, *_witnesses()])


_GLOSSARY_HEAD = """\
# Glossary: fates and details

What becomes of a guest is its *fate*; what a row ends with is its *outcome* and *detail*, which
keep their names whichever toolstack or kernel said so. A report has the same words for the details
that its run has. [sweeps.md](sweeps.md#fates) says how guests are counted, [model.md](model.md) how
each check is done, [explain.md](explain.md) how to be told why one guest came to it. This page is
generated from the registries of the package by `python docs/generate.py`.

## Fates

| fate | outcome | what follows |
|---|---|---|"""
_REFUSED_HEAD = """
## What a toolstack refuses

N stands for a number. Where toolstacks print different texts each is there with its name
(`--toolstack`); where one has no such check it prints nothing.

| detail | fate | what is printed | what it means |
|---|---|---|---|"""
_CRASHED_HEAD = """
## What a kernel stops at

| detail | outcome | what it means |
|---|---|---|"""


def _fate_rows() -> Iterator[str]:
    for fate in FATES:
        outcomes = [outcome for outcome, own in BY_OUTCOME.items() if own == fate]
        damaged = " or ".join(f"`{column}`" for column in DAMAGE)
        told = {
            CORRUPTED: f"`ok`, with a row in which {damaged} is not 0",
            ABORTED: f"`save-failed` by `{ABORTED_DETAIL}`",
        }.get(fate, ", ".join(f"`{outcome}`" for outcome in outcomes))
        yield f'| <a id="{fate.replace(" ", "-")}"></a>{fate} | {told} | {FOR_OPERATORS[fate]} |'


def _printed(detail: str) -> str:
    """Return what the toolstacks print for a detail, each text once."""
    texts: dict[str, list[str]] = {}
    for name in toolstacks.names():
        text = toolstacks.find(name).texts.get(detail)
        if text:
            texts.setdefault(re.sub(r"\{[^}]*\}", "N", text), []).append(name)
    if len(texts) == 1:
        return "".join(f"`{text}`" for text in texts)
    return "<br>".join(f"`{text}` ({', '.join(names)})" for text, names in texts.items())


def _refused_rows() -> Iterator[str]:
    details: dict[str, None] = {}
    for name in reversed(toolstacks.names()):
        details |= dict.fromkeys(toolstacks.find(name).texts)
    for detail in details:
        outcome = "restore-failed" if detail == "populate-failed" else "save-failed"
        meaning = detail_meaning(outcome, detail)
        yield f"| `{detail}` | {fate_of(outcome, detail)} | {_printed(detail)} | {meaning} |"


def _crashed_rows() -> Iterator[str]:
    for outcome, details in (("bug", BUGS), ("fault", FAULTS)):
        for detail in details.values():
            # A row's bar would end the cell of a table.
            named = detail.replace("|", "\\|")
            yield f"| `{named}` | `{outcome}` | {detail_meaning(outcome, detail)} |"


def glossary() -> str:
    """Return docs/glossary.md."""
    parts = [_GLOSSARY_HEAD, *_fate_rows(), _REFUSED_HEAD, *_refused_rows()]
    return "\n".join([*parts, _CRASHED_HEAD, *_crashed_rows()]) + "\n"


PAGES = {
    "glossary.md": glossary,
    "data-dictionary.md": data_dictionary,
    "cli.md": command_reference,
    "races-found.md": races_found,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
