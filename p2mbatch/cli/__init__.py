"""The `p2mbatch` command: each subcommand lives in a module of its own, loaded when it is called.

Commands parse, call and echo. Exit codes: 0 done, 1 the work found failures, 2 usage or input,
128 + n ended by signal n (130 interrupted, 143 terminated, 129 hung up).
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
from collections.abc import Iterable
from typing import Any

import click

from p2mbatch._version import __version__
from p2mbatch.base import signals, terminal
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.base.say import in_short, one_line, say

# name -> (module below p2mbatch.cli, attribute, the help line): `--help` loads none of them.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "sweep": ("sweep", "sweep", "Run a grid of guests and hosts, or go on with one."),
    "status": ("status", "status", "Say how far a sweep has come."),
    "show": ("show", "show", "Print a sweep's table again."),
    "report": ("report", "report", "Write a sweep's report as one HTML page, or as Markdown."),
    "plot": ("plot", "plot", "Draw one figure of a sweep."),
    "compare": ("compare", "compare", "Compare two sweeps cell by cell."),
    "notebooks": ("notebooks", "notebooks", "Copy the notebooks to a directory of yours."),
    "export": ("export", "export", "Write a sweep's table as Parquet, CSV or JSON."),
    "policies": (
        "policies",
        "policies",
        "List the kernels, what goes wrong with them, what mends it.",
    ),
    "spec": ("spec", "spec", "Check sweep specs, print their schema, list the presets."),
    "replay": ("replay", "replay", "Replay recorded traces and compare with what they expect."),
    "explain": ("explain", "explain", "Say step by step how a guest lived and why it died."),
    "kernel": ("kernel", "kernel", "Check a kernel of your own in C, or build it into one file."),
    "race": ("race", "race", "Explore every interleaving of CPUs that grow the p2m."),
    "hunt": ("hunt", "hunt", "Find random lives that break a kernel, and make them small."),
    "bench": (
        "bench",
        "bench",
        "Measure the kernels beside this machine's limits and their peers.",
    ),
    "audit": ("audit", "audit", "Say what a real guest's file holds and whether it can be saved."),
    "fleet": ("fleet", "fleet", "Say which real guests survive a move to the planned hosts."),
    "lookup": ("lookup", "lookup", "Say what is at a PFN, whose a frame is, and by which way."),
    "import": ("import_", "import_", "Turn a real guest's file into a trace."),
    "anonymise": ("anonymise", "anonymise", "Renumber a guest's frames for a bug report."),
    "cache": ("cache", "cache", "Say where compiled kernels are kept, or clear them."),
    "make-stream": ("make", "make_stream", "Write a trace's guest as a migration stream."),
    "make-core": ("make", "make_core", "Write a trace's guest as an xl dump-core file."),
}

# What a person wants -> the commands for it.
GROUPS: dict[str, tuple[str, ...]] = {
    "Run": ("sweep", "status", "spec"),
    "Look": ("show", "report", "plot", "explain", "compare", "export", "notebooks"),
    "Real guests": ("audit", "lookup", "import", "fleet", "anonymise", "make-stream", "make-core"),
    "Kernels": ("policies", "replay", "hunt", "race", "kernel"),
    "Measure": ("bench", "cache"),
}


class _Ended(BaseException):
    """An interruption, or what click would take for one, on its way past click."""


_NARROW = 60
"""Columns below which names stand above what is said of them where they are long."""


class _Formatter(click.HelpFormatter):
    """Writes help as wide as the terminal, from 40 columns on; click's own begins at 50."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        columns = terminal.width()
        if width is None and columns is not None and columns < _NARROW:
            width = columns
        super().__init__(indent_increment, width, max_width)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write names and what is said of them."""
        if self.width < _NARROW:
            col_max = min(col_max, self.width // 3)
            rows = [(self._folded(name), text) for name, text in rows]
        super().write_dl(list(rows), col_max, col_spacing)

    def _folded(self, name: str) -> str:
        """Return a name with what it takes, its choices on lines that hold them."""
        lines = [""]
        for part in re.findall(r"[^|]+\|?", name):
            if len(lines[-1]) + len(part) > self.width - 4 and lines[-1]:
                lines.append("")
            lines[-1] += part
        return "\n    ".join(lines)


class _Context(click.Context):
    """A command's context whose help fits the terminal."""

    formatter_class = _Formatter


def _fitted(command: click.Command) -> click.Command:
    """Return `command` with help that fits the terminal, its own commands' too."""
    command.context_class = _Context
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _fitted(inner)
    return command


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for."""

    context_class = _Context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises `_Ended` from what click would take for Ctrl-C at a prompt."""
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt, BrokenPipeError) as error:
            # click would write an empty line, take a cut file for an interruption, and a reader
            # that has gone for a failure.
            raise _Ended from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"p2mbatch.cli.{module}"), attribute
        )
        return _fitted(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or say what was probably meant, as a usage error."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_no_such(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the tables alone."""
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", COMMANDS[name][2]) for name in names])


def _no_such(name: str) -> str:
    """Return what to say of a command that there is not."""
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 2, 0.6)
    meant = f": did you mean {' or '.join(near)}?" if near else ": --help lists them"
    return f"{name!r} is no command{meant}"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p2mbatch")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour the names of fates: auto is where the terminal can and NO_COLOR is not set.",
)
def cli(color: str) -> None:
    """Batch analysis of the Xen PV guest's p2m tree and its mfn list list across migrations."""
    terminal.set_color(color)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that takes no more. Commands handle it for files; what is left is stdout."""


def _silence_stdout() -> None:
    """Point stdout away, so that the interpreter's last flush is quiet."""
    if sys.stdout is None:
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(args: list[str] | None = None) -> Any:
    """Run the command line; every deliberate error becomes one line on stderr and its exit code.

    Signals are those of `base/signals.py` where the process is a command of its own.
    """
    try:
        sys.exit(_run(args))
    except BaseException:
        number = signals.received()
        if not number:
            raise
    # Whatever became of the interruption on its way up here.
    signals.say(number)
    sys.exit(128 + number)


def _run(args: list[str] | None) -> int:
    """Run the command line and return its exit code, what is wrong said in one line."""
    signals.unwind(True)
    try:
        code = cli.main(args=args, prog_name="p2mbatch", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except BaseException as error:
        if signals.received():
            raise
        code = _explain((error.__cause__ or error) if isinstance(error, _Ended) else error)
    return code if isinstance(code, int) else 0


_CLICKS = ("Missing", "Invalid", "No such", "Got ", "Option", "Argument", "Could not")
"""How texts of click's own begin; others may begin with a name, which stays as it is."""


def _say_usage(error: click.ClickException) -> None:
    """Say in one line what is wrong with the command line, and where its help is."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    text = " ".join(error.format_message().split()).removesuffix(".")
    text = text[:1].lower() + text[1:] if text.startswith(_CLICKS) else text
    hint = ""
    if ctx is not None and ctx.command.get_help_option(ctx) is not None and "--help" not in text:
        hint = f" ('{ctx.command_path} {ctx.help_option_names[-1]}' says more)"
    say(f"p2mbatch: error: {in_short(one_line(text))}{hint}", err=True)


def _explain(error: BaseException) -> int:
    """Say in one line what ended a command and return its exit code. Raises what is a bug."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        number = getattr(error, "number", int(signal.SIGINT))
        signals.say(number)
        return 128 + number
    if type(error).__name__ == "NoArgsIsHelpError":
        # By name: click had none before 8.2. Its message is the help of a command without any.
        say(error.format_message(), err=True)  # type: ignore[attr-defined]
        return 2
    if isinstance(error, click.ClickException):
        _say_usage(error)
        return 2
    if isinstance(error, BrokenPipeError):
        # The reader has gone.
        _silence_stdout()
        return 0
    if isinstance(error, OSError) and error.errno in _FULL:
        _silence_stdout()
        say(f"p2mbatch: error: the output can't be written: {error.strerror}", err=True)
        return 2
    if isinstance(error, MemoryError):
        # numpy's says how much was asked for.
        say(
            f"p2mbatch: error: out of memory{f': {one_line(error)}' if str(error) else ''}",
            err=True,
        )
        return 2
    if isinstance(error, P2MBatchError):
        say(f"p2mbatch: error: {in_short(one_line(error))}", err=True)
        return error.exit_code
    raise error
