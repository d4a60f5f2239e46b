"""The child processes in which users' kernel functions run: begun, kept for the next, ended.

A child has the guest's memory and a control block in common with this process, and two pipes. It
can open nothing, and ends when either pipe does or this process is gone (`shim/runner.c`).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import mmap
import os
import select
import signal
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import ResourceError
from p2mbatch.compiled.child import layout as lo
from p2mbatch.kernels.build import Program
from p2mbatch.model.own.vocabulary import KNOWN

MAX_KEPT: Final = 4
"""Children of one kernel that wait for the next guest."""

MAX_KEPT_PAGES: Final = 1 << 14
"""Pages of a guest's that a child which waits may have, and pages of its own."""

_BEGIN_SECONDS: Final = 60

_LEAST_BYTES: Final = 1 << 30

_FDS: Final = (3, 4, 5, 6)
"""What the shim has: control block, guest's memory, requests, answers."""


_ALIVE: weakref.WeakSet[Child] = weakref.WeakSet()


def _forget_all() -> None:
    """In a process that was forked: its parent's children are not its own."""
    for child in list(_ALIVE):
        child.words[lo.CHILD_LOST] = 1


os.register_at_fork(after_in_child=_forget_all)


class Child:
    """One child of a kernel's; `words` is what compiled code has of it (CHILD_ words)."""

    def __init__(self, program: Program, range_bytes: int) -> None:
        """Begin one that can hold a guest of so many bytes. Raises `ResourceError` if not."""
        self.range_bytes = range_bytes
        self.words: Int64Array = np.zeros(lo.CHILD_WORDS, np.int64)
        try:
            self._begin(program)
        except OSError as error:
            raise ResourceError(f"kernel: its child can't be begun: {error.strerror}") from None

    def _begin(self, program: Program) -> None:
        control_fd, self._control = self._shared("p2mbatch-control", 8 * lo.CONTROL_WORDS)
        try:
            memory_fd, self._memory = self._shared(
                "p2mbatch-guest", self.range_bytes + program.static_bytes
            )
        except BaseException:
            os.close(control_fd)
            raise
        control = np.frombuffer(self._control, np.int64)
        control[lo.C_RANGE] = self.range_bytes
        control[lo.C_PARENT] = os.getpid()
        control[lo.C_TICKS] = lo.MAX_SECONDS * 1_000_000 // lo.TICK_MICROSECONDS
        for k, name in enumerate((*KNOWN, *lo.MORE_KNOWN)):
            control[lo.C_KNOWN + k] = program.pointer(name)
        their_request, request = os.pipe()
        answer, their_answer = os.pipe()
        theirs = (control_fd, memory_fd, their_request, their_answer)
        try:
            self.pid = _spawner().submit(_spawn, program, theirs).result()
        except BaseException:
            os.close(request)
            os.close(answer)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.words[lo.CHILD_REQUEST], self.words[lo.CHILD_ANSWER] = request, answer
        self.words[lo.CHILD_CONTROL] = control.ctypes.data
        self.words[lo.CHILD_MEMORY] = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.words[lo.CHILD_RANGE] = self.range_bytes
        self.words[lo.CHILD_NO_MEMORY] = program.no_memory
        self.words[lo.CHILD_STATICS] = program.static_begin
        for k, (address, _) in enumerate(program.arrays):
            self.words[lo.CHILD_ARRAY + k] = address
        _ALIVE.add(self)
        self.end = weakref.finalize(self, _end, os.getpid(), self.pid, request, answer)
        self._wait(answer)

    def _wait(self, answer: int) -> None:
        """Wait until it is locked in. Raises `ResourceError` where it can't be."""
        waited = select.poll()
        waited.register(answer, select.POLLIN)
        said = waited.poll(_BEGIN_SECONDS * 1000) and os.read(answer, 1)
        if said and np.frombuffer(self._control, np.int64)[lo.C_FILTERED]:
            return
        self.end()
        if said:
            raise ResourceError(
                "kernel: this machine has no filter of system calls (seccomp): without it a "
                "file's functions are not run"
            )
        raise ResourceError("kernel: its child has ended before it was locked in")

    def _shared(self, name: str, size: int) -> tuple[int, mmap.mmap]:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # A file that shrinks under a map of it would end whoever looks.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            return fd, mmap.mmap(fd, size, mmap.MAP_SHARED | getattr(mmap, "MAP_NORESERVE", 0x4000))
        except BaseException:
            os.close(fd)
            raise

    @property
    def address(self) -> int:
        """Return what `R_CHILD` of a guest's statics is while this is its child."""
        return int(self.words.ctypes.data)

    @property
    def is_good(self) -> bool:
        """Return whether it can be asked more, and does not hold much memory of a guest."""
        touched = np.frombuffer(self._control, np.int64)[lo.C_TOUCHED]
        kept = not self.words[lo.CHILD_LOST] and 0 <= touched <= MAX_KEPT_PAGES
        return bool(kept) and self._own_pages() <= MAX_KEPT_PAGES

    def _own_pages(self) -> int:
        """Return the pages of memory that it alone has: a flat table's are among them."""
        try:
            told = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()
        except OSError:
            return 0
        return int(told[1]) - int(told[2])


@functools.cache
def _spawner_of(owner: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "p2mbatch-kernels")


def _spawner() -> ThreadPoolExecutor:
    """Return the thread that begins this process's children.

    They end with it, whatever they do (PR_SET_PDEATHSIG): any other thread may end before.
    """
    return _spawner_of(os.getpid())


def _spawn(program: Program, fds: tuple[int, ...]) -> int:
    """Start the program with `fds` as `_FDS`, and nothing else open."""
    # Out of the way of the numbers that they are to have.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
    try:
        actions: list[tuple[Any, ...]] = []
        actions += [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in zip(high, _FDS, strict=True)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        return os.posix_spawn(
            str(program.path), ["p2mbatch-kernel"], {}, file_actions=actions, setsid=True,
            setsigdef=[signal.SIGPROF, signal.SIGSEGV, signal.SIGINT], setsigmask=[],
        )  # fmt: skip
    finally:
        for fd in high:
            os.close(fd)


def _end(owner: int, pid: int, request: int, answer: int) -> None:
    """End a child; in a process that was forked from its own, nothing but close what it has."""
    os.close(request)
    os.close(answer)
    if os.getpid() != owner:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


class Children:
    """The children of one program. A child has one guest at a time."""

    def __init__(self, program: Program) -> None:
        self._program = program
        # A guest may be let go of amid any allocation, within this lock too.
        self._lock = threading.RLock()
        self._idle: list[Child] = []
        self._owner = os.getpid()

    def take(self, num_bytes: int) -> Child:
        """Return a child that holds a guest of so many bytes and has no other."""
        size = max(_LEAST_BYTES, 1 << (num_bytes - 1).bit_length())
        if self._program.bits == 32:
            size = 229_376 << 12
        with self._lock:
            if self._owner != os.getpid():
                self._owner, self._idle = os.getpid(), []
            for k, child in enumerate(self._idle):
                if child.range_bytes >= size:
                    return self._idle.pop(k)
        return Child(self._program, size)

    def give_back(self, child: Child) -> None:
        """Keep a child for the next guest, or end it."""
        child.words[lo.CHILD_STOP] = 0
        with self._lock:
            if child.is_good and len(self._idle) < MAX_KEPT:
                self._idle.append(child)
                return
        child.end()

    @contextlib.contextmanager
    def one(self, num_bytes: int) -> Iterator[Child]:
        """Have a child inside."""
        child = self.take(num_bytes)
        try:
            yield child
        finally:
            self.give_back(child)
