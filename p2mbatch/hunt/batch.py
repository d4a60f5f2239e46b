"""Generations of random lives on threads: the same lives and finds on any number of them.

Life k of generation g is drawn from the numbers that (seed, g, k) begin, so it makes no difference
which thread lives it. What a generation adds to what the next is bred from is reduced in the order
of its lives, at the barrier between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import StoppedError
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.hunt.batch import CONTROL, Control, live_range
from p2mbatch.compiled.hunt.life import TOLD
from p2mbatch.compiled.hunt.program import MAX_EVENTS, make_bank
from p2mbatch.compiled.hunt.room import Room, make_room
from p2mbatch.compiled.hunt.rules import BREAK, NUM_RULES
from p2mbatch.compiled.records import OneRecord
from p2mbatch.compiled.status import OK
from p2mbatch.hunt.columns import Json, trace_of
from p2mbatch.hunt.ready import calls_of, kind_of
from p2mbatch.model.policies import Policy

_CHUNK = 512
"""Lives that a thread takes at a time."""


class Failures(NamedTuple):
    """Where lives first broke each rule, in the order of the lives and then of the rules."""

    life: Int64Array
    rule: Int64Array
    """1 to 7."""
    event: Int64Array
    """The event's index in the life's trace."""
    status: Int64Array
    """The status code (`compiled/status`) that it ended with."""
    detail: Int64Array
    """The number of a save's or a restore's failed check."""
    signature: Int64Array
    """What broke, in one number (`compiled/hunt/rules.Break`)."""


class Generation:
    """Lives that were lived between two barriers."""

    def __init__(self, hunter: Hunter, number: int, breaks: np.ndarray[Any, Any]) -> None:
        self.number = number
        self.num_lives = len(breaks)
        self.failures = _failures(breaks)
        self._hunter = hunter

    def trace(self, index: int) -> Json:
        """Return life `index` as a trace's JSON object, drawn and lived anew."""
        return self._hunter.trace(self.number, index)


def _failures(breaks: np.ndarray[Any, Any]) -> Failures:
    life, rule = np.nonzero(breaks["event"] >= 0)
    found = breaks[life, rule]
    names = ("event", "status", "detail", "signature")
    return Failures(life, rule + 1, *(np.ascontiguousarray(found[name]) for name in names))


class _Worker:
    """What one thread lives in."""

    def __init__(self, word_bytes: int) -> None:
        self.room: Room = make_room(geometry(word_bytes))
        self.program = make_bank(1)
        self.told = np.zeros(MAX_EVENTS, TOLD)
        self.control: OneRecord[Control] = np.zeros(1, CONTROL)


class Hunter:
    """Draws, lives and judges the lives of one policy's guests of one width."""

    def __init__(self, policy: Policy, seed: int, threads: int = 2, word_bytes: int = 8) -> None:
        self.policy = policy
        self.seed = seed
        self.word_bytes = word_bytes
        self._kind = kind_of(policy, word_bytes)
        self._calls = calls_of(policy.operations)
        self._workers = [_Worker(word_bytes) for _ in range(threads)]

    def stop(self) -> None:
        """Let the generation that is under way end with `StoppedError`; any thread may call it."""
        for worker in self._workers:
            worker.control[0].stop = 1

    def generation(self, number: int, num_lives: int) -> Generation:
        """Live generation `number`.

        Raises `StoppedError` where it was stopped: none of it counts.
        """
        breaks = np.zeros((num_lives, NUM_RULES), BREAK)
        parts = iter(range(0, num_lives, _CHUNK))
        with ThreadPoolExecutor(len(self._workers)) as pool:
            done = [
                pool.submit(self._live, worker, number, parts, breaks) for worker in self._workers
            ]
            stopped = [future.result() for future in done]
        if any(stopped):
            raise StoppedError
        return Generation(self, number, breaks)

    def _live(
        self, worker: _Worker, number: int, parts: Iterator[int], breaks: np.ndarray[Any, Any]
    ) -> bool:
        """Live parts of a generation until there are no more; return whether it was stopped."""
        for first in parts:
            some = breaks[first : first + _CHUNK]
            if self._run(worker, number, first, some) != OK:
                return True
        return False

    def _run(self, worker: _Worker, number: int, first: int, breaks: np.ndarray[Any, Any]) -> int:
        return live_range(
            self._kind,
            _key(self.seed, number),
            first,
            len(breaks),
            worker.program,
            worker.room,
            self._calls,
            worker.told,
            breaks,
            worker.control,
        )

    def trace(self, number: int, index: int) -> Json:
        """Return life `index` of generation `number` as a trace's JSON object."""
        return self.told(number, index)[0]

    def told(self, number: int, index: int) -> tuple[Json, np.ndarray[Any, Any]]:
        """Return a life as `trace` does, and what each of its events came to (TOLD[events])."""
        worker = self._workers[0]
        self._run(worker, number, index, np.zeros((1, NUM_RULES), BREAK))
        name = f"{self.policy.short}-{8 * self.word_bytes}-{self.seed}-{number}-{index}"
        trace = trace_of(worker.program, 0, self.policy, self.word_bytes, name)
        return trace, worker.told[: len(trace["events"])].copy()


def _key(seed: int, number: int) -> np.uint64:
    """Return what all lives of a generation are drawn under."""
    text = f"p2mbatch-hunt:{seed}:{number}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
