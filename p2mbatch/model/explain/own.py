"""What a policy of the user's own stored at a resume: by its file's lines, in its own words."""

from __future__ import annotations

import dataclasses
import re

from p2mbatch.model.explain.changes import change_of
from p2mbatch.model.explain.log import Asked, Record, Store
from p2mbatch.model.explain.story import Step
from p2mbatch.model.explain.view import View

Failed = tuple[str, str | None] | None


def tell_own(before: View, after: View, records: list[Record], failed: Failed) -> list[Step]:
    """Return the steps of a resume; `failed` is the outcome and the detail of one that ended."""
    asked: Asked | None = None
    runs: dict[tuple[str, int, int, bool], tuple[Store, Asked | None]] = {}
    for record in records:
        if isinstance(record, Asked):
            asked = record
        if isinstance(record, Store):
            key = (record.function, record.line, record.page, bool(record.stray))
            kept, first = runs.get(key, (None, asked if record.stray else None))
            runs[key] = (_together(kept, record), first)
    steps = [_stored(before, store, first) for store, first in runs.values()]
    if failed is not None:
        say = after.said()
        what = f"BUG_ON({failed[1]})" if failed[0] == "bug" else f"a fault, at {failed[1]}"
        function = steps[-1].function if steps else "xen_post_suspend()"
        steps.append(Step("rebuild", function, f"It ends in {what}.", False, say.numbers))
    return steps


def _together(kept: Store | None, store: Store) -> Store:
    """Return a line's stores into one page as one: from its lowest word on, the first value's."""
    if kept is None:
        return dataclasses.replace(store)
    return dataclasses.replace(
        kept,
        index=min(kept.index, store.index),
        count=kept.count + store.count,
        num_changed=kept.num_changed + store.num_changed,
        stray=kept.stray + store.stray,
    )


def _stored(before: View, store: Store, asked: Asked | None) -> Step:
    """Return one run of stores; `asked` is how its page was found where it is not the list's."""
    say = before.said()
    own = before.policy.own
    assert own is not None
    function, number = own.told(
        store.line, int(before.state.word_bits) // 8, int(before.state.max_domain_pages)
    )
    function = function or _name(store.function)
    line = f"Line {say.index(number)}: it" if number else "It"
    text = (
        f"{line} makes {say.count(store.count, 'store')} into {before.name(say, store.page)}, from "
        f"word {say.index(store.index)} on, of which {say.count(store.num_changed)} change what "
        f"was there; first {say.word(store.before)} becomes {say.word(store.after)}."
    )
    if store.stray:
        text += f" {say.count(store.stray, 'stray write')}"
        if asked is not None:
            text += (
                f": the page was found by mfn_to_virt({say.mfn(asked.mfn)}), for which this "
                f"host's m2p has {say.pfn(asked.pfn)}"
            )
        text += "."
    return Step(
        "rebuild", f"{function}()", text, False if store.stray else None, say.numbers,
        (change_of(before, store),), store.stray, store.count,
        f"{store.function} {store.line} {bool(store.stray)}", store.page, unit="page",
    )  # fmt: skip


def _name(function: str) -> str:
    """Return a function as the user's file names it: its class stands before it when compiled."""
    return re.sub(r"^_p2m_[A-Za-z0-9]+_", "", function)
