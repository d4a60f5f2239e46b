"""The cache of compiled kernels: whose directory it is, and what becomes of damaged files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.compiled import cache, jit

_USE = (
    "from p2mbatch.compiled.bijection import *\n"
    "import numpy as np\n"
    "from p2mbatch.compiled import jit\n"
    "@jit.kernel\n"
    "def twice(x):\n"
    "    return 2 * x\n"
    "print(twice(21), jit.cache_dir() is not None, len(twice.stats.cache_hits))\n"
)


def run(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    # Where anybody may rename anything there is no falling back to.
    unsafe = tmp_path / "unsafe"
    unsafe.mkdir(exist_ok=True)
    unsafe.chmod(0o777)
    script = tmp_path / "use.py"
    script.write_text(_USE)
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    environment |= {"P2MBATCH_CACHE_DIR": str(folder), "TMPDIR": str(unsafe)}
    environment |= {"P2MBATCH_BOUNDSCHECK": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("damage", ["empty", "cut", "random"])
def test_damaged_files_are_compiled_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "cache"
    assert run(folder, tmp_path).stdout == "42 True 0\n"
    assert run(folder, tmp_path).stdout == "42 True 1\n"
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        bad = {"empty": b"", "cut": data[: len(data) // 2], "random": os.urandom(len(data))}
        path.write_bytes(bad[damage])
    found = run(folder, tmp_path)
    assert (found.returncode, found.stdout) == (0, "42 True 0\n"), found.stderr
    assert found.stderr.count("\n") == 1 and "damaged" in found.stderr
    assert run(folder, tmp_path).stdout == "42 True 1\n"


def test_a_directory_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    found = run(folder, tmp_path)
    assert (found.returncode, found.stdout) == (0, "42 False 0\n"), found.stderr
    assert "compiled in memory" in found.stderr and found.stderr.count("\n") == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(cache.Untrusted, match="link"):
        cache.open_trusted(tmp_path / "cache", ("kernels",))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
@pytest.mark.parametrize("theirs", ["cache", "cache/kernels", "cache/kernels/x"])
def test_another_users_directory_is_not_used(tmp_path: Path, theirs: str) -> None:
    folder = tmp_path / theirs
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    with pytest.raises(cache.Untrusted, match="belongs to user 65534"):
        cache.open_trusted(tmp_path / "cache", ("kernels", "x"))


def test_a_swap_after_the_check_changes_nothing(tmp_path: Path) -> None:
    fd = cache.open_trusted(tmp_path / "cache", ("kernels",))
    try:
        path = cache.usable_path(fd)
        (tmp_path / "cache" / "kernels").rename(tmp_path / "old")
        (tmp_path / "cache" / "kernels").mkdir()
        (path / "file").write_text("mine")
        assert (tmp_path / "old" / "file").read_text() == "mine"
        assert not list((tmp_path / "cache" / "kernels").iterdir())
    finally:
        os.close(fd)


def test_two_processes_that_compile_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: run(tmp_path / "cache", tmp_path), range(2)))
    for process in found:
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout in ("42 True 0\n", "42 True 1\n")
    assert run(tmp_path / "cache", tmp_path).stdout == "42 True 1\n"
    assert not list((tmp_path / "cache").rglob("*.part"))


class FullDisk:
    """Lets the `fails_at`-th step of a file that is made and written find no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
        self.steps, self._fails_at = 0, fails_at
        for place, name in ((os, "mkdir"), (os, "fdopen"), (Path, "replace")):
            monkeypatch.setattr(place, name, self._before(getattr(place, name)))
        made, opened = os.open, Path.open
        ask = self._before(lambda: None)

        def make(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                ask()
            return made(path, flags, *rest, **options)

        def open_path(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if "w" in mode:
                ask()
            return opened(path, mode, *rest, **options)

        monkeypatch.setattr(os, "open", make)
        monkeypatch.setattr(Path, "open", open_path)

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            self.steps += 1
            if self.steps - 1 == self._fails_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments, **options)

        return step


def keep_and_load(base: Path) -> tuple[bool, Any]:
    """Make a cache below `base`, keep a kernel there under its lock, and load it again."""
    try:
        fd = cache.open_trusted(base, ("kernels", "build"))
    except OSError:
        return False, None  # what jit.py tells in one line
    with cache.locked(cache.usable_path(fd)):
        kept = cache._CheckedFile(str(cache.usable_path(fd)), "twice")
        kept.save("key", b"machine code")
    found = kept.load("key")
    os.close(fd)
    return True, found


def test_a_disk_that_is_full_at_each_step_of_keeping_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    outcomes = []
    for step in range(20):
        base = tmp_path / f"cache{step}"
        with monkeypatch.context() as patched:
            disk = FullDisk(patched, step)
            outcomes.append(keep_and_load(base))
        assert list(base.rglob("*.part")) == []
        if disk.steps <= step:
            break
    assert outcomes[-1] == (True, b"machine code"), "nothing failed in the last"
    assert len(outcomes) > 6
    # Without a directory nothing is kept; without a lock it is; never half of it.
    assert all(found in (None, b"machine code") for _, found in outcomes)
    assert (False, None) in outcomes and (True, None) in outcomes


def test_no_room_for_the_lock_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "cache_dir", lambda own="": tmp_path)
    for step in range(4):
        with monkeypatch.context() as patched:
            FullDisk(patched, step)
            with jit.compile_lock() as compiled:
                assert compiled == (step < 3), "then it was complete"
