"""A logged store as a change that is told and drawn."""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.model.explain.log import Store
from p2mbatch.model.explain.story import Change
from p2mbatch.model.explain.view import View


def change_of(view: View, store: Store) -> Change:
    """Return a store as a change; its page is named as the guest is in `view`."""
    bits = view.word_bits

    def word(value: int) -> int:
        return -1 if value == INVALID else value % (1 << bits)

    return Change(
        view.what(view.said(), store.page),
        store.page,
        store.index,
        store.count,
        store.num_changed,
        word(store.before),
        word(store.after),
    )
