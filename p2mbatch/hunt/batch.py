"""Generations of random lives on threads: the same lives and finds on any number of them.

Life k of generation g is drawn from the numbers that (seed, g, k) begin, so it makes no difference
which thread lives it. What a generation adds to the lives that the next breeds on is reduced in the
order of its lives, at the barrier between the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int16Array, Int64Array, UInt8Array
from p2mbatch.base.errors import StoppedError
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.child.layout import R_CHILD
from p2mbatch.compiled.hunt.batch import CONTROL, Control, keep, live_range
from p2mbatch.compiled.hunt.coverage import MAX_FEATURES, merge
from p2mbatch.compiled.hunt.life import TOLD
from p2mbatch.compiled.hunt.program import MAX_EVENTS, make_bank
from p2mbatch.compiled.hunt.room import Room, make_room
from p2mbatch.compiled.hunt.rules import BREAK, NUM_RULES
from p2mbatch.compiled.records import OneRecord
from p2mbatch.compiled.status import OK
from p2mbatch.hunt.columns import Json, trace_of
from p2mbatch.hunt.corpus import Corpus
from p2mbatch.hunt.ready import calls_of, check_size, kind_of
from p2mbatch.hunt.world import most_tops
from p2mbatch.model.policies import Policy

CHUNK = 512
"""Lives that a thread takes at a time."""


class Failures(NamedTuple):
    """Where lives first broke each rule, in the order of the lives and then of the rules."""

    life: Int64Array
    rule: Int64Array
    """1 to 7."""
    event: Int64Array
    """The event's index in the life's trace."""
    signature: Int64Array
    """What broke, in one number (`compiled/hunt/rules`)."""


class Generation(NamedTuple):
    """Lives that were lived between two barriers."""

    number: int
    num_lives: int
    failures: Failures
    new_lives: Int64Array
    """The lives that reached what none before did, ascending."""
    seen: UInt8Array
    """uint8[MAP]: what lives have reached, these included."""
    num_parents: int
    """The lives that these could be bred from: the first so many of the corpus."""
    hunter: Hunter

    @property
    def coverage(self) -> dict[str, int]:
        """Return how many features were reached so far, and by how many lives of these anew."""
        return {"seen": int(np.count_nonzero(self.seen)), "new": len(self.new_lives)}

    def trace(self, index: int) -> Json:
        """Return life `index` as a trace's JSON object, drawn and lived anew."""
        return self.hunter.told(self.number, index, self.num_parents)[0]


def _failures(breaks: np.ndarray[Any, Any]) -> Failures:
    life, rule = np.nonzero(breaks["event"] >= 0)
    found = breaks[life, rule]
    names = ("event", "signature")
    return Failures(life, rule + 1, *(np.ascontiguousarray(found[name]) for name in names))


class _Worker:
    """What one thread lives in."""

    def __init__(self, policy: Policy, word_bytes: int) -> None:
        self.room: Room = make_room(geometry(word_bytes))
        self.program = make_bank(1)
        self.told = np.zeros(MAX_EVENTS, TOLD)
        self.control: OneRecord[Control] = np.zeros(1, CONTROL)
        own = policy.own
        self._held = None
        if own is not None:
            bound = most_tops(policy) * geometry(word_bytes).entries ** 2
            self._held = own.hold(word_bytes, len(self.room.present), bound)
        if self._held is not None:
            self._held.stops_at(self.control)
            self.room.first_statics[R_CHILD] = self._held.address


class _Lived(NamedTuple):
    """What a generation's threads write, each its own rows."""

    breaks: np.ndarray[Any, Any]
    """BREAK[lives, 7]."""
    features: Int16Array
    """int16[lives, MAX_FEATURES]."""

    def part(self, first: int, stop: int) -> _Lived:
        return _Lived(self.breaks[first:stop], self.features[first:stop])


def _lived(num_lives: int) -> _Lived:
    return _Lived(
        np.zeros((num_lives, NUM_RULES), BREAK), np.empty((num_lives, MAX_FEATURES), np.int16)
    )


class Hunter:
    """Draws, lives and judges the lives of one policy's guests of one width."""

    def __init__(
        self,
        policy: Policy,
        seed: int,
        threads: int = 2,
        word_bytes: int = 8,
        state: dict[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Make one that goes on from `state`, what `Hunter.state` was; from nothing if None.

        Raises `InputError` where `state` is none, and so before anything compiled sees it;
        `PolicyError` where the policy's tables are larger than the guests that are drawn.
        """
        check_size(policy, word_bytes)
        self.policy = policy
        self.seed = seed
        self.word_bytes = word_bytes
        self.corpus = Corpus(policy, word_bytes, state)
        self._kind = kind_of(policy, word_bytes)
        self._calls = calls_of(policy.operations, policy.is_linear)
        self._workers = [_Worker(policy, word_bytes) for _ in range(threads)]

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what another hunter of the same policy, seed and width can go on from."""
        return self.corpus.state()

    def stop(self) -> None:
        """Let the generation that is under way end with `StoppedError`; any thread may call it."""
        for worker in self._workers:
            worker.control[0].stop = 1

    @property
    def kernel_ns(self) -> int:
        """Return what the kernels of guests and toolstack took of all lives, on all threads."""
        return sum(int(worker.room.took_ns[0]) for worker in self._workers)

    def generation(self, number: int, num_lives: int) -> Generation:
        """Live the first `num_lives` of generation `number`.

        A life is the same whatever others are lived. Raises `StoppedError` where it was stopped.
        """
        lived, num_parents = _lived(num_lives), self.corpus.count
        parts = iter(range(0, num_lives, CHUNK))
        with ThreadPoolExecutor(len(self._workers)) as pool:
            done = [
                pool.submit(self._live, worker, number, parts, lived) for worker in self._workers
            ]
            try:
                stopped = [future.result() for future in done]
            except BaseException:
                # Not after the whole generation, which the pool's end would wait for.
                self.stop()
                raise
        if any(stopped):
            raise StoppedError
        new, seen = np.zeros(num_lives, np.uint8), self.corpus.seen.copy()
        merge(lived.features, seen, new)
        return Generation(
            number=number,
            num_lives=num_lives,
            failures=_failures(lived.breaks),
            new_lives=np.flatnonzero(new),
            seen=seen,
            num_parents=num_parents,
            hunter=self,
        )

    def keep(self, generation: Generation) -> None:
        """Breed on from those of a generation's lives that reached something new."""
        self.corpus.seen[:] = generation.seen
        for index in generation.new_lives[: self.corpus.room_left].tolist():
            self._draw(self._workers[0], generation.number, index, generation.num_parents)
            keep(self._workers[0].program, self.corpus.bank, self.corpus.count)
            self.corpus.count += 1

    def _live(self, worker: _Worker, number: int, parts: Iterator[int], lived: _Lived) -> bool:
        """Live parts of a generation until there are no more; return whether it was stopped."""
        for first in parts:
            part = lived.part(first, first + CHUNK)
            if self._run(worker, number, first, self.corpus.count, part) != OK:
                return True
        return False

    def _run(
        self, worker: _Worker, number: int, first: int, num_parents: int, lived: _Lived
    ) -> int:
        return live_range(
            self._kind,
            _key(self.seed, number),
            first,
            len(lived.breaks),
            self.corpus.bank,
            num_parents,
            worker.program,
            worker.room,
            self._calls,
            worker.told,
            lived.breaks,
            lived.features,
            worker.control,
        )

    def _draw(self, worker: _Worker, number: int, index: int, num_parents: int) -> None:
        """Draw and live one life anew; its program and its events' records are the worker's."""
        self._run(worker, number, index, num_parents, _lived(1))

    def told(
        self, number: int, index: int, num_parents: int = 0
    ) -> tuple[Json, np.ndarray[Any, Any]]:
        """Return a life as a trace's JSON object, and what each of its events came to.

        It is that of a generation that had so many parents. The second is TOLD[events].
        """
        worker = self._workers[0]
        self._draw(worker, number, index, num_parents)
        name = f"{self.policy.short}-{8 * self.word_bytes}-{self.seed}-{number}-{index}"
        trace = trace_of(worker.program, 0, self.policy, self.word_bytes, name)
        return trace, worker.told[: len(trace["events"])].copy()


def _key(seed: int, number: int) -> np.uint64:
    """Return what all lives of a generation are drawn under."""
    text = f"p2mbatch-hunt:{seed}:{number}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
