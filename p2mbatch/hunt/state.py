"""A hunt's folder: what was asked, how far it has come, what was found; written at each barrier.

`state.npz` has all of it in one file that is replaced whole, so that a hunt that was killed goes on
from its last barrier: the hunt as JSON, and the arrays that breeding goes on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole
from p2mbatch.base.paths import is_there
from p2mbatch.hunt.kinds import is_kind

STATE = "state.npz"

LOCK = "lock"

VERSION = 3
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
        if not is_there(path):
            return Progress(), Progress(), None
        arrays = _read(path)
        try:
            kept = json.loads(arrays.pop("hunt").tobytes())
            question = kept["question"]
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise InputError(f"{path}: is not a hunt's: name another folder") from None
        # Of another version the rest may be written otherwise.
        if question != self.question:
            raise InputError(f"{self.path}: has another hunt, {_differs(question, self.question)}")
        try:
            progress, barrier = (_progress(kept[name]) for name in ("progress", "barrier"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{path}: is not a hunt's: name another folder") from None
        return progress, barrier, arrays

    def save(self, progress: Progress, barrier: Progress, arrays: Arrays) -> None:
        """Write all of it, whole or not at all; `arrays` are those of the barrier."""
        kept = {"progress": asdict(progress), "barrier": asdict(barrier)}
        text = json.dumps({"question": self.question, **kept})
        packed = {"hunt": np.frombuffer(text.encode(), np.uint8), **arrays}
        write_whole(self.path / STATE, lambda file: np.savez(file, **packed))


def _progress(kept: dict[str, Any]) -> Progress:
    """Return what `asdict` made of a progress.

    Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` where it is not one's.
    """
    _check(isinstance(kept["finds"], list))
    progress = Progress(**(kept | {"finds": [Find(**find) for find in kept["finds"]]}))
    for name in ("generation", "lives", "part", "broken", "unconfirmed"):
        _check(_is_count(getattr(progress, name)))
    _check(isinstance(progress.seconds, int | float) and 0 <= progress.seconds < math.inf)
    for counts in (progress.looked_at, progress.coverage):
        _check(isinstance(counts, dict) and all(map(_is_count, counts.values())))
    for find in progress.finds:
        texts = (find.kind, find.sentence, find.trace)
        _check(isinstance(find.lines, list))
        _check(all(isinstance(text, str) for text in (*texts, *find.lines)))
        _check(is_kind(find.kind) and find.trace == f"{find.kind}.trace.json.gz")
        _check(all(map(_is_count, (find.rule, find.life, find.events))) and 1 <= find.rule <= 7)
    return progress


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def _read(path: Path) -> Arrays:
    """Return a state file's arrays, read only once it is known how many bytes they are."""
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as packed:
                infos = packed.infolist()
            if sum(info.file_size for info in infos) > _MOST_BYTES:
                raise InputError(f"{path}: is larger than any hunt's")
            # As it is written: so no member is larger than the file, and none is encrypted.
            _check(
                all(i.compress_type == zipfile.ZIP_STORED and not i.flag_bits & 1 for i in infos)
            )
            file.seek(0)
            with np.load(file, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
            _check(all(isinstance(array, np.ndarray) for array in arrays.values()))
            return arrays
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    except _DAMAGED:
        raise InputError(f"{path}: is not a hunt's: name another folder") from None


_DAMAGED = (
    ValueError, EOFError, AttributeError, TypeError, KeyError, OverflowError, MemoryError,
    SyntaxError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zip files and arrays of NumPy that are damaged are told by."""


def _differs(there: Any, asked: dict[str, Any]) -> str:
    """Return what of a question is another one's."""
    names = {**asked, **there} if isinstance(there, dict) else {}
    for name in names:
        if there.get(name) != asked.get(name):
            return f"{name} {there.get(name)!r} and not {asked.get(name)!r}: name another folder"
    return "of another version"
