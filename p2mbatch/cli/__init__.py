"""The `p2mbatch` command: each subcommand lives in a module of its own, loaded when it is called.

Commands parse, call and echo. Exit codes: 0 done, 1 the work found failures, 2 usage or input,
128 + n ended by signal n (130 interrupted, 143 terminated, 129 hung up).
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from typing import Any

import click

from p2mbatch._version import __version__
from p2mbatch.base import signals
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.base.say import one_line, printable, say

# name -> (module below p2mbatch.cli, attribute, the help line): `--help` loads none of them.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "sweep": ("sweep", "sweep", "Run a grid of guests and hosts, or go on with one."),
    "status": ("status", "status", "Say how far a sweep has come."),
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


class _Ended(BaseException):
    """An interruption, or what click would take for one, on its way past click."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises `_Ended` from what click would take for Ctrl-C at a prompt."""
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt) as error:
            # click would write an empty line, and take a cut file for an interruption.
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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p2mbatch")
def cli() -> None:
    """Batch analysis of the Xen PV guest's p2m tree and its mfn list list across migrations."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that takes no more. Commands handle it for files; what is left is stdout."""


def _silence_stdout() -> None:
    """Point stdout away, so that the interpreter's last flush is quiet."""
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
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except BaseException as error:
        if signals.received():
            raise
        code = _explain((error.__cause__ or error) if isinstance(error, _Ended) else error)
    return code if isinstance(code, int) else 0


def _say_usage(error: click.ClickException) -> None:
    """Say what is wrong with the command line as click does, the message in one line."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None:
        say(ctx.get_usage(), err=True)
        if ctx.command.get_help_option(ctx) is not None:
            say(f"Try '{ctx.command_path} {ctx.help_option_names[-1]}' for help.\n", err=True)
    text = error.format_message()
    # The one message of several lines lists the choices of a parameter, and holds nothing given.
    is_list = isinstance(error, click.MissingParameter)
    say(f"Error: {printable(text) if is_list else one_line(text)}", err=True)


def _explain(error: BaseException) -> int:
    """Say in one line what ended a command and return its exit code. Raises what is a bug."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        number = getattr(error, "number", int(signal.SIGINT))
        signals.say(number)
        return 128 + number
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
        say(f"p2mbatch: error: {one_line(error)}", err=True)
        return error.exit_code
    raise error
