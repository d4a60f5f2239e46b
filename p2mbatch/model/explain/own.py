"""What a policy of the user's own stored at a resume: by its file's lines, in its own words."""

from __future__ import annotations

from p2mbatch.model.explain.changes import change_of
from p2mbatch.model.explain.log import Asked, Record, Store
from p2mbatch.model.explain.story import Step
from p2mbatch.model.explain.view import View

Failed = tuple[str, str | None] | None


def tell_own(before: View, after: View, records: list[Record], failed: Failed) -> list[Step]:
    """Return the steps of a resume; `failed` is the outcome and the detail of one that ended."""
    steps: list[Step] = []
    asked: Asked | None = None
    for record in records:
        if isinstance(record, Asked):
            asked = record
        if isinstance(record, Store):
            steps.append(_stored(before, record, asked if record.stray else None))
    if failed is not None:
        say = after.said()
        what = f"BUG_ON({failed[1]})" if failed[0] == "bug" else f"a fault, at {failed[1]}"
        function = steps[-1].function if steps else "xen_post_suspend()"
        steps.append(Step("rebuild", function, f"It ends in {what}.", False, say.numbers))
    return steps


def _stored(before: View, store: Store, asked: Asked | None) -> Step:
    """Return one run of stores; `asked` is how its page was found where it is not the list's."""
    say = before.said()
    line = f"Line {say.index(store.line)}: " if store.line else ""
    many = f"{say.count(store.count)} words" if store.count > 1 else "a word"
    text = (
        f"{line}it stores {many} in {before.name(say, store.page)}, from word "
        f"{say.index(store.index)} on: {say.word(store.before)} becomes {say.word(store.after)}."
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
        "rebuild", f"{_name(store.function)}()", text, False if store.stray else None, say.numbers,
        (change_of(before, store),), store.stray, store.count,
        f"{store.function} {store.line} {bool(store.stray)}", store.page, unit="page",
    )  # fmt: skip


def _name(function: str) -> str:
    """Return a function as the user's file names it."""
    return function.rpartition("__")[2] if "__" in function.strip("_") else function
