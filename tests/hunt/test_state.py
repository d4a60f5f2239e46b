"""A hunt's state file: what breeding goes on from, whole, and one line where it is damaged."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.hunt.batch import Hunter
from p2mbatch.hunt.corpus import Corpus
from p2mbatch.hunt.herd import Herd
from p2mbatch.hunt.state import STATE, Find, Folder, Progress
from p2mbatch.model import policies

Arrays = dict[str, Any]

QUESTION = {"policy": "stale", "seed": 1}

STALE = policies.find("stale")


@pytest.fixture(scope="module")
def kept() -> Arrays:
    """What a hunter of 32-bit guests goes on from."""
    hunter = Hunter(STALE, seed=5, threads=1, word_bytes=4)
    hunter.keep(hunter.generation(0, 300))
    assert hunter.corpus.count > 20
    return hunter.state()


def written(path: Path, arrays: Arrays) -> Arrays | None:
    """What is read back of arrays that a hunt's folder keeps."""
    Folder(path, QUESTION).save(Progress(), Progress(), arrays)
    return Folder(path, QUESTION).load()[2]


def test_breeding_goes_on_from_the_file(kept: Arrays, tmp_path: Path) -> None:
    arrays = written(tmp_path, kept)
    corpus = Corpus(STALE, 4, arrays)
    assert corpus.count == len(kept["guest"])
    for name, array in corpus.state().items():
        np.testing.assert_array_equal(array, kept[name])
    one, two = (
        Hunter(STALE, seed=5, threads=1, word_bytes=4, state=state) for state in (kept, arrays)
    )
    first, second = one.generation(1, 200), two.generation(1, 200)
    assert first.num_parents > 20
    for column, other in zip(first.failures, second.failures, strict=True):
        np.testing.assert_array_equal(column, other)


def test_a_herds_state_is_its_hunters(tmp_path: Path) -> None:
    herd = Herd("stale", 1, 1, None)
    for number in range(2):
        herd.keep(herd.generation(number, 100))
    arrays = written(tmp_path, herd.state())
    assert arrays is not None
    assert len(arrays["8.guest"]) > 0 < len(arrays["4.guest"])
    other = Herd("stale", 1, 1, arrays)
    for number in (2, 3):
        first, second = herd.generation(number, 60), other.generation(number, 60)
        assert first.failures.signature.tolist() == second.failures.signature.tolist()
        assert first.trace(59) == second.trace(59)
    for damaged, why in (
        ({"2.guest": arrays["8.guest"]}, "'2.guest': is no array"),
        ({"8.seen": arrays["8.seen"][:9]}, "64-bit guests: seen: is uint8"),
    ):
        with pytest.raises(InputError, match=f"^{STATE}: {why}"):
            Herd("stale", 1, 1, arrays | damaged)
    alone = {name: array for name, array in arrays.items() if name.startswith("8.")}
    with pytest.raises(InputError, match="32-bit guests: the arrays are"):
        Herd("stale", 1, 1, alone)


def field(name: str, number: int) -> Callable[[Arrays], None]:
    """Damage: a number of life 3's guest."""

    def damage(arrays: Arrays) -> None:
        index = (Corpus(STALE, 4).bank.guest.dtype.names or ()).index(name)
        arrays["guest"][3, index] = number

    return damage


def word(name: str, column: int, number: int) -> Callable[[Arrays], None]:
    """Damage: a number of life 3 in another array."""

    def damage(arrays: Arrays) -> None:
        arrays[name][3, column] = number

    return damage


def array(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], None]:
    """Damage: a whole array."""

    def damage(arrays: Arrays) -> None:
        arrays[name] = change(arrays[name])

    return damage


DAMAGES = {
    "hosts": (field("num_hosts", 5), "life 3: guest.num_hosts: 5 is not from 0 to 4"),
    "events": (field("num_events", -1), "life 3: guest.num_events: -1 is not"),
    "no event": (field("num_events", 0), "life 3: events: do not begin with their only boot"),
    "pool": (field("num_pool", 1 << 40), "life 3: guest.num_pool: "),
    "memory": (field("nr_pages", 1 << 40), "life 3"),
    "reach": (field("reach", 1 << 30), "life 3: guest.reach: 1073741824 is not from"),
    "map": (field("directmap", 1 << 28), "life 3: guest.directmap_pages: is 268435456"),
    "list": (field("mfn_list_pfn", -7), "life 3"),
    "far list": (field("mfn_list_pfn", 1 << 20), "life 3"),
    "table": (field("pgd", 7), "life 3: guest.pgd: 7 is not -1, as this kernel has none"),
    "domains": (word("hosts", 1, 25), "life 3: hosts.0..num_domain: 25 is not from 1 to 24"),
    "foreign": (word("hosts", 2, -1), "life 3: hosts.0..num_foreign: -1"),
    "xen": (word("hosts", 5, 6), "life 3: hosts.0..xen: 6 is not from 0 to 5"),
    "frames": (word("hosts", 0, 1 << 50), "life 3"),
    "frame": (word("domain", 1, 1 << 40), "life 3"),
    "gap": (word("domain", 0, 1), "life 3"),
    "op": (word("events", 4, 9), "life 3: events.1..op: 9 is not from 0 to 3"),
    "boot": (word("events", 1, 4), "life 3: events.0..host: 4 is not from"),
    "columns": (array("runs", lambda a: a[:, :-1]), "runs: is int64"),
    "lives": (array("pool", lambda a: a[:-1]), "pool: is int64"),
    "type": (array("domain", lambda a: a.astype(np.float64)), "domain: is float64"),
    "numbers": (array("guest", lambda a: a[0, 0]), "is int64"),
    "many": (array("guest", lambda a: np.repeat(a, 4096, axis=0)), "of at most 4096"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_life_is_refused_before_it_is_lived(kept: Arrays, name: str) -> None:
    damage, why = DAMAGES[name]
    arrays = {key: value.copy() for key, value in kept.items()}
    damage(arrays)
    with pytest.raises(InputError, match=why) as told:
        Corpus(STALE, 4, arrays)
    assert "\n" not in str(told.value)


def test_another_arrays_name_is_refused(kept: Arrays) -> None:
    for arrays in (kept | {"more": kept["guest"]}, {"seen": kept["seen"]}, {}):
        with pytest.raises(InputError, match="the arrays are"):
            Corpus(STALE, 4, arrays)


FIND = Find("a-kind", 1, 0, 2, "broke", "a-kind.trace.json.gz", ["told"])


def kept_text(path: Path, change: Callable[[Any], None]) -> None:
    """Write a state whose JSON is changed."""
    folder = Folder(path, QUESTION)
    folder.save(Progress(finds=[FIND]), Progress(), {})
    assert folder.load()[0].finds == [FIND]
    with np.load(path / STATE) as file:
        text = json.loads(file["hunt"].tobytes())
    change(text)
    np.savez(path / STATE, hunt=np.frombuffer(json.dumps(text).encode(), np.uint8))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("generation",), "x"),
        (("lives",), -1),
        (("lives",), True),
        (("seconds",), float("nan")),
        (("looked_at",), {"1": "x"}),
        (("coverage",), []),
        (("finds",), {}),
        (("finds", 0, "lines"), "\x1b[2J"),
        (("finds", 0, "lines"), [3]),
        (("finds", 0, "kind"), 3),
        (("finds", 0, "kind"), "../x"),
        (("finds", 0, "trace"), "/etc/passwd"),
        (("finds", 0, "rule"), 9),
        (("finds", 0, "more"), 9),
    ],
)
def test_what_is_no_progress_is_said(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    def change(text: Any) -> None:
        at = text["progress"]
        for name in place[:-1]:
            at = at[name]
        at[place[-1]] = value

    kept_text(tmp_path, change)
    with pytest.raises(InputError, match="is not a hunt's: name another folder"):
        Folder(tmp_path, QUESTION).load()


def test_another_versions_hunt_is_said(tmp_path: Path) -> None:
    kept_text(tmp_path, lambda text: text["question"].update(version=1))
    with pytest.raises(InputError, match="has another hunt, version 1 and not"):
        Folder(tmp_path, QUESTION).load()
    kept_text(tmp_path, lambda text: text.update(question=[]))
    with pytest.raises(InputError, match="has another hunt, of another version"):
        Folder(tmp_path, QUESTION).load()


def packed(path: Path, data: bytes, method: int = zipfile.ZIP_STORED, flags: int = 0) -> None:
    """Write a zip file of one member, hunt.npy."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("hunt.npy", data)
    if flags:
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"PK\x01\x02") + 8] |= flags
        raw[6] |= flags
        path.write_bytes(raw)


def npy(shape: str) -> bytes:
    """A NumPy file of uint8 whose head says a shape, and that has eight bytes."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(8)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: packed(path, npy("(8,)"), zipfile.ZIP_DEFLATED),
        lambda path: packed(path, npy("(8,)"), flags=1),
        lambda path: packed(path, npy("(1125899906842624,)")),
        lambda path: packed(path, npy("(1" + "0" * 30 + ",)")),
        lambda path: packed(path, npy("((((")),
        lambda path: packed(path, b"no array"),
        lambda path: packed(path, b""),
        lambda path: np.savez(path, hunt=np.frombuffer(b"[" * 200_000, np.uint8)),
        lambda path: np.savez(path, hunt=np.frombuffer(b"\xff\xfe", np.uint8)),
        lambda path: path.write_bytes(os.urandom(300)),
        lambda path: path.write_bytes(b""),
    ],
    ids=["packed", "locked", "large", "larger", "head", "bytes", "empty", "nested", "text", "noise",
         "nothing"],
)  # fmt: skip
def test_a_damaged_file_is_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / STATE)
    with pytest.raises(InputError, match="is not a hunt's: name another folder"):
        Folder(tmp_path, QUESTION).load()
