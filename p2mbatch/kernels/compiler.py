"""The machine's C compiler over untrusted text: bounded, and with no file to open."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import ResourceError
from p2mbatch.base.say import one_line
from p2mbatch.base.sizes import MIB

MAX_SECONDS = 20
MAX_MEMORY_BYTES = 1024 * MIB
MAX_OUTPUT_BYTES = 2 * MIB

_ERROR = re.compile(r"(?m)^([^:\n]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$")
_NO_MEMORY = ("out of memory", "Cannot allocate", "MemoryError")
_LIMIT = "p2mbatch-limit"
_OF_CLANG = ": error: unknown argument: "


@dataclass(frozen=True)
class Ran:
    """What became of one run of the compiler."""

    output: str
    errors: tuple[tuple[str, int, str], ...]
    """(file as the line markers have it, line, message) of each error."""
    trouble: str
    """What else was wrong, one line; "" where the compiler ended by itself."""
    is_ok: bool


def compiler() -> str:
    """Return the machine's C compiler; raises `ResourceError` where there is none."""
    found = find_compiler()
    if found is None:
        raise ResourceError("kernel: no C compiler on this machine: install gcc, or name one by CC")
    return found


def run(arguments: list[str], text: str) -> Ran:
    """Run the compiler over `text` on its standard input; `arguments` name no other file.

    Its time, memory and output are bounded, it runs in an empty folder that goes with it, and its
    environment is ours. Raises `ResourceError` where there is no compiler, where it is clang or
    can't be started.
    """
    command = [compiler(), *arguments, "-"]
    with tempfile.TemporaryDirectory(prefix="p2mbatch-cc-") as folder:
        written, told = Path(folder) / "out", Path(folder) / "told"
        given = Path(folder) / "in"
        given.write_text(text, encoding="utf-8")
        try:
            with given.open("rb") as read, written.open("wb") as out, told.open("wb") as err:
                code = bounded(command, folder, read.fileno(), out.fileno(), err.fileno())
        except OSError as error:
            raise ResourceError(f"kernel: {one_line(command[0])}: {error.strerror}") from None
        with told.open("rb") as file:
            messages = file.read(MIB).decode("utf-8", "replace")
        output = written.read_bytes().decode("utf-8", "replace")
    if code and _OF_CLANG in messages:
        raise ResourceError(
            f"kernel: {one_line(command[0])} is clang: gcc is wanted, whose calls at each load and "
            "store the shim takes: install it, or name it by CC"
        )
    errors = tuple((m[1], int(m[2]), one_line(m[3])) for m in _ERROR.finditer(messages))
    trouble = ""
    if code is None:
        trouble = f"the compiler was not done after {MAX_SECONDS} seconds"
    elif len(output) >= MAX_OUTPUT_BYTES or code in (-signal.SIGXFSZ, 153):
        trouble = f"the preprocessed text is larger than {MAX_OUTPUT_BYTES // MIB} MiB"
    elif code and (any(word in messages for word in _NO_MEMORY) or code < 0):
        trouble = f"the compiler ran out of its {MAX_MEMORY_BYTES // MIB} MiB"
    elif code and not errors:
        last = [line for line in messages.splitlines() if line.strip()]
        trouble = one_line(last[-1]) if last else f"the compiler ended with {code}"
    return Ran(output, errors, trouble, code == 0)


def bounded(
    command: list[str], folder: str, read: int, out: int, err: int, *,
    seconds: int | None = None, file_bytes: int = MAX_OUTPUT_BYTES,
) -> int | None:  # fmt: skip
    """Return the exit code of a tool of the compiler's; None where its time ran out.

    It has `seconds` (MAX_SECONDS), MAX_MEMORY_BYTES of memory and `file_bytes` in each file, runs
    in `folder` and reads and writes the descriptors given. None of its children is left. Raises
    `OSError` where it can't be started.
    """
    seconds = seconds or MAX_SECONDS
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": folder}
    # The shell sets the limits, and becomes the command: nothing of ours runs between fork and
    # exec, where threads would be in the way.
    limits = (
        f"ulimit -t {seconds}; ulimit -v {MAX_MEMORY_BYTES >> 10}; "
        f'ulimit -f {file_bytes >> 9}; ulimit -c 0; exec "$@"'
    )
    child = subprocess.Popen(
        ["/bin/sh", "-c", limits, _LIMIT, *command], cwd=folder, env=environment,
        stdin=read, stdout=out, stderr=err, start_new_session=True,
    )  # fmt: skip
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        _end(child)
        return None
    except BaseException:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, and those of its session: the driver's own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
