"""The `p2mbatch` command: each subcommand lives in a module of its own, loaded when it is called.

Commands parse, call and echo. Exit codes: 0 done, 1 the work found failures, 2 usage or input,
130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from p2mbatch._version import __version__
from p2mbatch.base.errors import P2MBatchError

# name -> (module below p2mbatch.cli, attribute, the help line): `--help` loads none of them.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "sweep": ("sweep", "sweep", "Run a grid of guests and hosts, or go on with one."),
    "status": ("status", "status", "Say how far a sweep has come."),
    "report": ("report", "report", "Write a sweep's report as one HTML page, or as Markdown."),
    "plot": ("plot", "plot", "Draw one figure of a sweep."),
    "compare": ("compare", "compare", "Compare two sweeps cell by cell."),
    "notebooks": ("notebooks", "notebooks", "Copy the notebooks to a directory of yours."),
    "export": ("export", "export", "Write a sweep's table as Parquet, CSV or JSON."),
    "spec": ("spec", "spec", "Check sweep specs, print their schema, list the presets."),
    "replay": ("replay", "replay", "Replay recorded traces and compare with what they expect."),
    "race": ("race", "race", "Explore every interleaving of CPUs that grow the p2m."),
    "bench": (
        "bench",
        "bench",
        "Measure the kernels beside this machine's limits and their peers.",
    ),
    "audit": ("audit", "audit", "Say what a real guest's file holds and whether it can be saved."),
    "lookup": ("lookup", "lookup", "Say what is at a PFN, whose a frame is, and by which way."),
    "import": ("import_", "import_", "Turn a real guest's file into a trace."),
    "anonymise": ("anonymise", "anonymise", "Renumber a guest's frames for a bug report."),
    "make-stream": ("make", "make_stream", "Write a trace's guest as a migration stream."),
    "make-core": ("make", "make_core", "Write a trace's guest as an xl dump-core file."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for."""

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
    """Run the command line; every deliberate error becomes one line on stderr and its exit code."""
    try:
        code = cli.main(args=args, prog_name="p2mbatch", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("p2mbatch: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # The reader has gone.
        _silence_stdout()
        code = 0
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _silence_stdout()
        click.echo(f"p2mbatch: error: the output can't be written: {error.strerror}", err=True)
        code = 2
    except MemoryError as error:
        # numpy's says how much was asked for.
        click.echo(f"p2mbatch: error: out of memory{f': {error}' if str(error) else ''}", err=True)
        code = 2
    except P2MBatchError as error:
        click.echo(f"p2mbatch: error: {error}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
