"""What is asked of a policy of the user's own, beside its functions: in Python or in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from p2mbatch.compiled.child.layout import R_CHILD

if TYPE_CHECKING:
    from p2mbatch.base.arrays import Int64Array
    from p2mbatch.compiled.tables import P2MTables


class Own(Protocol):
    """What a policy of the user's own has beside its functions (`model/own`)."""

    @property
    def digest(self) -> str:
        """What tells it from another, wherever its file lies."""

    def meaning(self, status: int, statics: Int64Array) -> tuple[str, str]:
        """Return (outcome, detail) of a call that stopped; raises `PolicyError`."""

    def where(self, status: int, statics: Int64Array, strays: int) -> str | None:
        """Return "FILE:LINE" of what ended an event, or of its first stray write."""

    def told(self, line: int, word_bytes: int, max_domain_pages: int) -> tuple[str, int]:
        """Return the function ("" for the one that ran) and the line of a store's `Store.line`."""

    def carried(self) -> Carried:
        """Return what another process needs to have it."""

    def hold(self, word_bytes: int, num_pages: int, max_domain_pages: int) -> Held | None:
        """Return the child of its own that a guest needs, of so many pages; None where none.

        `max_domain_pages` is the bound of a p2m of two levels, 0 for any other.
        """


class Carried(Protocol):
    """A policy of the user's own as it goes to another process."""

    @property
    def reference(self) -> str:
        """What it is named by."""

    @property
    def text(self) -> str:
        """The user's file."""

    def enter(self) -> str:
        """Enter it into this process's registry; return its name there."""


class Held(Protocol):
    """A child process while a guest, or a batch of them, has it (`kernels/child`)."""

    address: int
    """What register R_CHILD of the guest's is."""
    release: Callable[[], object]

    def stops_at(self, stop: Any) -> None:
        """Have a call give up once the first word of a record is set."""


def held_child(tables: P2MTables, own: Own | None) -> Held | None:
    """Return the child in which a guest's kernel runs, noted in its statics; None where none."""
    if own is None:
        return None
    state = tables.state[0]
    held = own.hold(int(state.word_bits) // 8, int(state.directmap), int(state.max_domain_pages))
    if held is not None:
        tables.statics[R_CHILD] = held.address
    return held
