"""A hunt: generations of random lives with a barrier between, until the time or the lives are over.

What is found goes by the seed alone, on any number of threads: a generation is drawn from what the
whole ones before it left, and time only cuts between generations.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from p2mbatch.base.files import write_whole
from p2mbatch.hunt.finds import Generation, new_finds
from p2mbatch.hunt.state import Arrays, Find, Folder, Progress

SUMMARY = "summary.json"


class Hunter(Protocol):
    """What draws, lives and judges lives in batches, and breeds on from those that were new."""

    num_lives: int
    """Lives of a whole generation."""

    def generation(self, number: int, num_lives: int) -> Generation:
        """Live the first `num_lives` lives of a generation."""

    def keep(self, generation: Any) -> None:
        """Breed on from a whole generation, one of its own."""

    def state(self) -> Arrays:
        """Return what another hunter goes on from."""


MakeHunter = Callable[[Arrays | None], Hunter]


class Watcher(Protocol):
    """Is told how a hunt gets on."""

    def begin(self, progress: Progress) -> None:
        """The first generation is about to be lived."""

    def found(self, find: Find) -> None:
        """There is a find that was not there before."""

    def looking(self) -> None:
        """A life is about to be judged."""

    def lived(self, progress: Progress) -> None:
        """A generation's lives are lived, and what they showed is written."""


def hunt(
    make: MakeHunter, folder: Folder, lives: int | None, seconds: float | None, watcher: Watcher
) -> Progress:
    """Hunt on in `folder`, which is held, up to `lives` lives in all or for `seconds`.

    `make` makes the hunter from what an earlier one left. A generation that an earlier hunt ended
    inside of is lived once more, with the same in it. Raises `InputError` where the folder has
    another hunt.
    """
    progress, barrier, arrays = folder.load()
    if lives is not None and progress.all_lives >= lives:
        return progress
    hunter = make(arrays)
    watcher.begin(barrier)
    start = time.monotonic()
    while True:
        progress = copy.deepcopy(barrier)
        _live(hunter, folder, progress, lives, watcher)
        if progress.part == 0:
            barrier = progress
        folder.save(progress, barrier, hunter.state())
        write_summary(folder, progress, ())
        watcher.lived(progress)
        if seconds is not None and time.monotonic() - start >= seconds:
            return progress
        if lives is not None and progress.all_lives >= lives:
            return progress


def _live(
    hunter: Hunter, folder: Folder, progress: Progress, lives: int | None, watcher: Watcher
) -> None:
    """Live a generation, or its first lives where `lives` ends there, and note what it showed."""
    begun = time.monotonic()
    left = hunter.num_lives if lives is None else lives - progress.lives
    generation = hunter.generation(progress.generation, min(hunter.num_lives, left))
    for find in new_finds(generation, progress.lives, progress, folder.path, watcher.looking):
        progress.finds.append(find)
        watcher.found(find)
    progress.broken += len(set(generation.failures.life.tolist()))
    progress.coverage = generation.coverage
    if generation.num_lives == hunter.num_lives:
        hunter.keep(generation)
        progress.generation += 1
        progress.lives += generation.num_lives
    else:
        progress.part = generation.num_lives
    progress.seconds += time.monotonic() - begun


def summary(folder: Folder, progress: Progress, known: Iterable[str]) -> dict[str, Any]:
    """Return a hunt as one object of plain values; `known` are the kinds that were expected."""
    expected = set(known)
    return {
        "question": folder.question,
        "lives": progress.all_lives,
        "generations": progress.generation,
        "seconds": round(progress.seconds, 3),
        "lives_per_second": round(progress.all_lives / progress.seconds) if progress.seconds else 0,
        "broken_lives": progress.broken,
        "unconfirmed_lives": progress.unconfirmed,
        "coverage": progress.coverage,
        "finds": [
            {**asdict(find), "known": find.kind in expected} for find in sorted_finds(progress)
        ],
    }


def sorted_finds(progress: Progress) -> list[Find]:
    """Return the finds by rule and kind."""
    return sorted(progress.finds, key=lambda find: (find.rule, find.kind))


def write_summary(folder: Folder, progress: Progress, known: Iterable[str]) -> None:
    """Write `summary.json`, whole or not at all."""
    text = json.dumps(summary(folder, progress, known), indent=1) + "\n"
    write_whole(Path(folder.path) / SUMMARY, lambda file: file.write(text.encode()))
