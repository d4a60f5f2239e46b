"""A hunt's folder: what was asked, how far it has come, what was found; written at each barrier.

`state.npz` has all of it in one file that is replaced whole, so that a hunt that was killed goes on
from its last barrier: the hunt as JSON, and the arrays that breeding goes on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole

STATE = "state.npz"

LOCK = "lock"

VERSION = 1
"""Of what a hunt draws and how it breeds: another one finds others from the same seed."""

_MOST_BYTES = 1 << 30

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Find:
    """One kind of failure, by the first life that showed it."""

    kind: str
    rule: int
    life: int
    """The life's number in the hunt, from 0."""
    events: int
    """Events of the least life."""
    sentence: str
    trace: str
    """The file of the least life, in the hunt's folder."""
    lines: list[str]
    """The find told (`tell`)."""


@dataclass
class Progress:
    """How far a hunt has come."""

    generation: int = 0
    """Generations that were lived whole."""
    lives: int = 0
    """Lives of these."""
    part: int = 0
    """Lives of the next one, where a hunt by --lives ended inside of it."""
    seconds: float = 0.0
    """Time that lives took, shrinking included."""
    broken: int = 0
    """Lives that broke a rule."""
    unconfirmed: int = 0
    """Lives looked at of which the batches and the model that judges one life tell other rules."""
    finds: list[Find] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    """How many lives of each signature were judged."""
    coverage: dict[str, int] = field(default_factory=dict)
    """What lives have reached so far, as the batches count it."""

    @property
    def all_lives(self) -> int:
        """Return how many lives were lived, each counted once."""
        return self.lives + self.part


class Folder:
    """A hunt's folder, held by this process."""

    def __init__(self, path: Path, question: dict[str, Any]) -> None:
        self.path = path
        self.question = question | {"version": VERSION}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, made if need be. Raises `InputError` where that can't be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a")
        except OSError as error:
            raise InputError(f"{self.path}: can't be written to: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{self.path}: another hunt is at work there") from None
            yield

    def load(self) -> tuple[Progress, Progress, Arrays | None]:
        """Return how far the hunt has come, how far it was at its last barrier, and what breeding
        goes on from there; None at the start.

        Raises `InputError` where the folder has another hunt, or what is no hunt.
        """
        path = self.path / STATE
        if not path.exists():
            return Progress(), Progress(), None
        arrays = _read(path)
        try:
            kept = json.loads(arrays.pop("hunt").tobytes())
            question = kept["question"]
            progress, barrier = (_progress(kept[name]) for name in ("progress", "barrier"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{path}: is not a hunt's: name another folder") from None
        if question != self.question:
            raise InputError(f"{self.path}: has another hunt, {_differs(question, self.question)}")
        return progress, barrier, arrays

    def save(self, progress: Progress, barrier: Progress, arrays: Arrays) -> None:
        """Write all of it, whole or not at all; `arrays` are those of the barrier."""
        kept = {"progress": asdict(progress), "barrier": asdict(barrier)}
        text = json.dumps({"question": self.question, **kept})
        packed = {"hunt": np.frombuffer(text.encode(), np.uint8), **arrays}
        write_whole(self.path / STATE, lambda file: np.savez(file, **packed))


def _progress(kept: dict[str, Any]) -> Progress:
    finds = [Find(**find) for find in kept["finds"]]
    return Progress(**(kept | {"finds": finds}))


def _read(path: Path) -> Arrays:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is larger than any hunt's")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError):
        raise InputError(f"{path}: is not a hunt's: name another folder") from None


def _differs(there: Any, asked: dict[str, Any]) -> str:
    """Return what of a question is another one's."""
    if not isinstance(there, dict):
        return "of another version"
    name = next(name for name in {**asked, **there} if there.get(name) != asked.get(name))
    return f"{name} {there.get(name)!r} and not {asked.get(name)!r}: name another folder"
