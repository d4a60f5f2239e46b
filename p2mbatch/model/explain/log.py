"""The store log: the policy's own functions run as plain Python on words that write down stores.

Only what explains a life runs so (`compiled/interpreted`); sweeps know nothing of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import grow, lists, lookup, loops, owners, pages
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.compiled.policies import flat, stale, three_list, tracked


@dataclass
class Store:
    """Stores into words of one page that lie in a row, by one function."""

    page: int
    index: int
    count: int
    num_changed: int
    before: int
    after: int
    function: str
    line: int
    """Of a policy of the user's own: the line of its file, 0 elsewhere."""
    stray: int = 0
    """How many of them are known to be stray one by one."""


class Asked(NamedTuple):
    """`mfn_to_virt`'s question to the host's m2p, and the answer the guest gets."""

    mfn: int
    pfn: int


class Reached(NamedTuple):
    """The page that a store through a mid_mfn page's address gets to; UNREACHABLE: none."""

    where: int
    page: int


class Took(NamedTuple):
    """A page that was asked for; below 0 where there was none."""

    by: str
    page: int


class Began(NamedTuple):
    """One mid's part of the list begins at leaf `x`; `stray_writes` so far in this event."""

    x: int
    stray_writes: int


Record = Store | Asked | Reached | Took | Began


@dataclass
class Log:
    """What was written down, in its order."""

    records: list[Record] = field(default_factory=list)
    tables: tb.P2MTables | None = None
    """The tables that are watched just now."""
    stray: bool = False
    """Whether a stray store is under way."""
    making: bool = False
    """Whether room is being made for a page: what it holds by then is no store of the guest's."""
    look: Callable[[tb.P2MTables], int] | None = None
    """Takes a picture where a part of the work begins, and returns its number; None: takes none."""
    looks: dict[int, int] = field(default_factory=dict)
    """Picture at the record of that number."""

    def begin(self) -> None:
        """Forget what was written down."""
        self.records.clear()
        self.looks.clear()

    def noted(self, record: Record) -> None:
        """Write down what is no store; the same question twice in a row is one."""
        if isinstance(record, (Asked, Reached)):
            for last in reversed(self.records[-3:]):
                if type(last) is type(record):
                    if last == record:
                        return
                    break
        if self.look is not None and isinstance(record, (Began, Asked)):
            assert self.tables is not None
            self.looks[len(self.records)] = self.look(self.tables)
        self.records.append(record)

    def stored(self, slot: int, i: int, old: Int64Array, new: Int64Array) -> None:
        """Write down that words of the page in `slot` from `i` on, once `old`, are now `new`."""
        assert self.tables is not None
        page = int(self.tables.slots[slot, tb.P_PAGE])
        changed = int(np.count_nonzero(old != new))
        last = self.records[-1] if self.records else None
        # Asking who stores takes longer than the store; only users' lines tell runs apart.
        function, line = ("", 0) if isinstance(last, Store) and not last.line else _storing()
        if (
            isinstance(last, Store)
            and (last.page, last.index + last.count, last.line) == (page, i, line)
            and bool(last.stray) == self.stray
        ):
            last.count += len(new)
            last.num_changed += changed
            last.stray += len(new) if self.stray else 0
            return
        if not function:
            function, line = _storing()
        self.records.append(
            Store(
                page, i, len(new), changed, int(old[0]), int(new[0]), function, line,
                len(new) if self.stray else 0,
            )
        )  # fmt: skip

    @contextmanager
    def watching(self, t: tb.P2MTables) -> Iterator[tb.P2MTables]:
        """Yield `t` with words that write down what is stored in them."""
        words = t.words.view(_Watched)
        words.log, words.base_address = self, t.words.__array_interface__["data"][0]
        self.tables = t
        with np.errstate(over="ignore"):
            yield t._replace(words=words)


class _Watched(np.ndarray[Any, np.dtype[np.int64]]):
    """A guest's words, and views of them: each store is written down."""

    log: Log | None = None
    base_address = 0

    def __array_finalize__(self, source: Any) -> None:
        self.log = getattr(source, "log", None)
        self.base_address = getattr(source, "base_address", 0)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.log is None or self.log.making:
            super().__setitem__(key, value)
            return
        whole = np.asarray(self)
        if isinstance(key, tuple):
            slot, key = key
            whole = whole[slot]
        part = whole[key] if isinstance(key, slice) else whole[key : key + 1]
        old = part.copy()
        part[:] = value
        assert self.log.tables is not None
        n = self.log.tables.words.shape[1]
        at = (part.__array_interface__["data"][0] - self.base_address) // 8
        self.log.stored(at // n, at % n, old, part)


_HELPERS = {
    "__setitem__", "stored", "_storing", "_fill_page", "_copy_without", "_copy_words", "fill",
    "copy_words", "copy_without", "copy_each", "copy_run", "copy_eras", "store_leaves",
    "store_entry", "stray_store", "mid_mfn_init", "copy_mid", "_set_word", "set_entry",
    "store", "_store_any", "store_word", "run", "_stored", "_plain_run", "_built", "_is_set",
    "write_entry", "advance",
}  # fmt: skip
"""Functions that store for others."""


def _storing() -> tuple[str, int]:
    """Return which compiled function is storing, and the line of the user's file if it has one."""
    frame = sys._getframe(2)
    line = 0
    while frame.f_back is not None and frame.f_code.co_name in _HELPERS:
        line = line or int(frame.f_locals.get("line", 0))
        frame = frame.f_back
    return frame.f_code.co_name, line


def _fill_page(t: tb.P2MTables, slot: int, word: int) -> None:
    def fill() -> None:
        t.words[slot][:] = word

    fill()


def _copy_without(entries: Int64Array, out: Int64Array, flags: int, invalid: int) -> None:
    out[: len(entries)] = np.where(entries != INVALID, entries & ~flags, invalid)


def _copy_words(source: Int64Array, out: Int64Array) -> None:
    out[: len(source)] = source


def _counts_up(numbers: Int64Array) -> bool:
    return bool((np.diff(numbers) == 1).all())


def _page_of(t: tb.P2MTables, slot: int) -> int:
    """Return the page of a slot that was asked for; what it is below 0 where there is none."""
    return int(t.slots[slot, tb.P_PAGE]) if slot >= 0 else int(slot)


Function = Callable[..., Any]


def _none_shared(t: tb.P2MTables, h: tb.HostTables, block: int, end: int) -> int:
    """Leave all blocks to be built one by one."""
    return block


class Logged:
    """A policy's functions with a log: twins of its own that write down what they do."""

    def __init__(self) -> None:
        self.log = Log()
        self._twins = Interpreter(self._instead())

    def of(self, kernel: Function) -> Function:
        """Return the twin of `kernel`, which runs on watched tables."""
        twin = self._twins.of(kernel)

        def run(t: tb.P2MTables, *arguments: Any) -> Any:
            with self.log.watching(t) as watched:
                return twin(watched, *arguments)

        return run

    def _instead(self) -> dict[Function, Callable[[Function], Function]]:
        """Return what looks on at which functions, and whole arrays for loops over words."""
        begins: dict[Function, Callable[[Function], Function]] = {
            # Each has the leaf at which a mid's part begins among its arguments.
            getattr(module, name): self._begins(at)
            for module, name, at in (
                (tracked, "rebuild_mid", 7),
                (tracked, "_tracked_mid", 2),
                (stale, "_stale_mid", 2),
                (three_list, "_build_mid", 2),
                (flat, "_build_block", 3),
            )
        }
        return begins | {
            lists.fill_page: lambda twin: _fill_page,
            loops.copy_without: lambda twin: _copy_without,
            loops.copy_words: lambda twin: _copy_words,
            loops.counts_up: lambda twin: _counts_up,
            owners.guest_m2p: self._notes(lambda pfn, t, h, mfn: Asked(int(mfn), int(pfn))),
            lookup.store_page: self._notes(lambda page, t, h, at: Reached(int(at), int(page))),
            pages.stray_store: self._while("stray"),
            pages.take_slot: self._while("making"),
            pages.fill_leaf: self._while("making"),
            grow.alloc_p2m_page: self._notes(lambda page, t: Took("alloc_p2m_page", int(page))),
            lists.extend_brk: self._notes(lambda slot, t: Took("extend_brk", _page_of(t, slot))),
            # So that each block is built by itself, and told.
            flat.build_shared: lambda twin: _none_shared,
            three_list.bootmem: self._notes(
                lambda page, t, count: Took("alloc_bootmem_pages", int(page))
            ),
        }

    def _begins(self, at: int) -> Callable[[Function], Function]:
        def change(twin: Function) -> Function:
            def begin(*arguments: Any) -> Any:
                x = int(arguments[at])
                state = self._state()
                if twin.__name__ == "_build_block":
                    x <<= int(state.entries_shift)
                self.log.noted(Began(x, int(state.stray_writes)))
                return twin(*arguments)

            return begin

        return change

    def _state(self) -> Any:
        assert self.log.tables is not None
        return self.log.tables.state[0]

    def _notes(self, record: Callable[..., Record]) -> Callable[[Function], Function]:
        """Return what writes down `record(found, *arguments)` of each call."""

        def change(twin: Function) -> Function:
            def run(*arguments: Any) -> Any:
                found = twin(*arguments)
                self.log.noted(record(found, *arguments))
                return found

            return run

        return change

    def _while(self, flag: str) -> Callable[[Function], Function]:
        """Return what has a flag of the log set while a function runs."""

        def change(twin: Function) -> Function:
            def run(*arguments: Any) -> Any:
                before = getattr(self.log, flag)
                setattr(self.log, flag, True)
                try:
                    return twin(*arguments)
                finally:
                    setattr(self.log, flag, before)

            return run

        return change
