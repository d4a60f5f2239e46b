"""SIGINT, SIGTERM and SIGHUP end a command in one line and 130, 143 or 129, whatever it is at."""

import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from torture import signals as torture

PLACES = {
    "an import that turns it into another error": """
import builtins
real = builtins.__import__
def slow(name, *rest, **options):
    if name == "p2mbatch.model.trace_file":
        try:
            sys.stdout.write("!"); sys.stdout.flush(); time.sleep(30)
        except BaseException:
            raise ImportError("module failed to import") from None
    return real(name, *rest, **options)
builtins.__import__ = slow
""",
    "a finaliser": """
import p2mbatch.cli as c
class Late:
    def __del__(self):
        sys.stdout.write("!"); sys.stdout.flush(); time.sleep(30)
def work(*a, **k):
    Late()
    time.sleep(30)
c.cli.main = work
""",
    "code that swallows it": """
import p2mbatch.cli as c
def work(*a, **k):
    try:
        sys.stdout.write("!"); sys.stdout.flush(); time.sleep(30)
    except BaseException:
        time.sleep(30)
c.cli.main = work
""",
    "one long call without the interpreter's lock": """
import p2mbatch.cli as c, ctypes
def work(*a, **k):
    sys.stdout.write("!"); sys.stdout.flush()
    ctypes.CDLL(None).poll(None, 0, 1)
    import hashlib
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 40_000_000)
c.cli.main = work
""",
    "the compiler, which no exception may leave half way": """
import p2mbatch.cli as c
compiler = {"__name__": "llvmlite.binding.module"}
exec('''def called_back(wait):
    try:
        wait()
    except BaseException:
        print("half way", flush=True)
        raise''', compiler)
def work(*a, **k):
    sys.stdout.write("!"); sys.stdout.flush()
    compiler["called_back"](lambda: time.sleep(30))
c.cli.main = work
""",
    "an error's own line": """
import p2mbatch.cli as c
from p2mbatch.base.errors import InputError
def work(*a, **k):
    raise InputError("x")
def echo(text, **k):
    sys.stdout.write("!"); sys.stdout.flush(); time.sleep(30)
c.cli.main, c.say = work, echo
""",
}


NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


# One handler is for all three: each place has one of them, each of them two places.
@pytest.mark.parametrize(
    ("place", "number"), list(zip(PLACES, itertools.cycle(NUMBERS), strict=False)), ids=list(PLACES)
)
def test_a_signal_where_an_exception_gets_lost(place, number):
    code = (
        "import sys, time\nfrom p2mbatch.base import signals\nsignals.install()\n" + PLACES[place]
    )
    code += "from p2mbatch.__main__ import main\nmain()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "replay", "--check", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.read(1) == "!", process.communicate()
    time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(number)
    out, errors = process.communicate(timeout=25)
    assert time.monotonic() - start < 20
    assert (process.returncode, errors) == (128 + number, torture.LINES[number] + "\n")
    assert out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(number):
    code = (
        "import sys\nfrom p2mbatch.base import signals\nsignals.install()\n"
        "import os, signal\nos.kill(os.getpid(), int(sys.argv.pop(1)))\n"
        "from p2mbatch.__main__ import main\nsys.argv[1:] = ['--version']\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(number))],
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "version" in done.stdout


def test_importing_the_package_leaves_signals_alone():
    code = (
        "import signal\nbefore = [signal.getsignal(n) for n in range(1, 16)]\n"
        "import p2mbatch.__main__, p2mbatch.cli, p2mbatch.sweeps.driver\n"
        "assert [signal.getsignal(n) for n in range(1, 16)] == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_command_itself_is_guarded(tmp_path):
    """What is installed is the guarded entry point, and `python -m p2mbatch` too."""
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [sys.executable, "-m", "p2mbatch", "audit", str(tmp_path / "pipe")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with (tmp_path / "pipe").open("wb"):
        # The command has it open: it waits for bytes that don't come.
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "p2mbatch: terminated\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_command_that_started_it(number, tmp_path):
    torture.prepare(tmp_path)
    process = torture.start(["bench", "--smoke"], tmp_path)
    # It says so just before it starts two processes that compile.
    assert "compiling every kernel" in process.stderr.readline()
    for _ in range(200):
        started = psutil.Process(process.pid).children()
        if len(started) == 2:
            break
        time.sleep(0.05)
    assert len(started) == 2
    process.send_signal(number)
    process.communicate(timeout=60)
    assert torture.alone(process.pid)
    left = list((tmp_path / "tmp").glob("p2mbatch*"))
    assert left == [] or number == signal.SIGKILL, "what nobody could remove"


def test_signals_at_random_moments(tmp_path):
    """The short form of `make torture`: other moments in every run of some seconds."""
    seed = int(time.time())
    tries = torture.run(tmp_path, seed, seconds=20, most=8)
    assert [t for t in tries if t.fault not in ("", "done")] == [], f"seed {seed}"
    assert sum(t.fault == "" for t in tries) >= 1
