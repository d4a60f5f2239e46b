"""Two users of one machine: who prepares or swaps the cache's directory runs no code as another."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

STRANGER = 65534

# The victim: checks its directory, is then attacked by the stranger, then loads its kernel. The
# stranger does with the directory's parts what their owner or mode lets him.
_VICTIM = """
import os, sys
from p2mbatch.compiled import jit

folder, evil, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
jit.cache_dir()
child = os.fork()
if not child:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.umask(0o022)
    import shutil
    leaf = os.path.join(folder, "kernels", jit.digest())
    for depth in (leaf, os.path.dirname(leaf), folder):
        try:
            os.rename(depth, depth + ".old")
        except OSError:
            continue
        try:
            os.makedirs(leaf)
            for name in os.listdir(evil):
                shutil.copy(os.path.join(evil, name), leaf)
        except OSError:
            continue
        break
    os._exit(0)
os.waitpid(child, 0)

@jit.kernel
def twice(x):
    return 2 * x

print(twice(21))
"""


class Mark:
    """What the stranger would have run: it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that both users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="p2mbatch-two-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def victim(shared: Path, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    script = shared / "victim.py"
    script.write_text(_VICTIM)
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    environment |= {"P2MBATCH_CACHE_DIR": str(folder), "P2MBATCH_BOUNDSCHECK": ""}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **more}
    return subprocess.run(
        [sys.executable, str(script), str(folder), str(shared / "evil"), str(STRANGER)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def make_evil(shared: Path) -> Path:
    """Write the victim's own kernel files anew with the stranger's code; show that it would run.

    Returns the path that it makes when run.
    """
    evil, mark, own = shared / "evil", shared / "mark", shared / "own"
    evil.mkdir()
    assert victim(shared, own).stdout == "42\n"
    payload = pickle.dumps(Mark(mark))
    files = [path for path in own.rglob("*") if path.is_file()]
    assert files
    for path in files:
        (evil / path.name).write_bytes(sha256(payload).digest() + payload)
        shutil.copy(evil / path.name, path)
    assert victim(shared, own).stdout == "42\n"
    assert mark.is_dir(), "what was planted is no code that a reader of it runs"
    mark.rmdir()
    return mark


def test_a_stranger_runs_no_code(shared: Path) -> None:
    mark = make_evil(shared)
    homes = {name: shared / name for name in ("theirs", "open", "sticky", "prepared", "group")}
    for home in homes.values():
        home.mkdir()
    os.chown(homes["theirs"], STRANGER, STRANGER)
    homes["open"].chmod(0o777)
    homes["sticky"].chmod(0o1777)
    homes["prepared"].chmod(0o1777)
    (homes["prepared"] / "cache").mkdir()
    os.chown(homes["prepared"] / "cache", STRANGER, STRANGER)
    os.chown(homes["group"], 0, STRANGER)
    homes["group"].chmod(0o775)
    for name, home in homes.items():
        done = victim(shared, home / "cache")
        assert (done.returncode, done.stdout) == (0, "42\n"), (name, done.stderr)
        assert not mark.exists(), name
        # In a sticky directory what is ours stays ours: it is used, without a word.
        lines = 0 if name == "sticky" else 1
        assert done.stderr.count("\n") == lines, (name, done.stderr)
        assert done.stderr.count("compiled in memory") == lines, (name, done.stderr)


def test_nothing_is_kept_below_the_shared_temporary_directory(shared: Path) -> None:
    """The user's cache directory, not named by hand, in a home that a group may write."""
    (shared / "evil").mkdir()
    home, temporary = shared / "home", shared / "tmp"
    home.mkdir()
    home.chmod(0o775)
    temporary.mkdir()
    temporary.chmod(0o1777)
    unnamed = {"P2MBATCH_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(home)}
    done = victim(shared, home / ".cache" / "p2mbatch", TMPDIR=str(temporary), **unnamed)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "others may write there" in done.stderr
    assert not list(temporary.iterdir())


def test_a_file_that_a_stranger_left_is_thrown_away(shared: Path) -> None:
    """The directory was open to others once, and is no more."""
    mark = make_evil(shared)
    folder = shared / "cache"
    assert victim(shared, folder).stdout == "42\n"
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        shutil.copy(shared / "evil" / path.name, path)
        os.chown(path, STRANGER, STRANGER)
    done = victim(shared, folder)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert done.stderr.count("\n") == 1 and "damaged" in done.stderr
    assert not mark.exists()
