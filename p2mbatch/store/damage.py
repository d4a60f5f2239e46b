"""Damage of a store: which cells are not as they were written, in words, and how it is mended."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.guests.cell_ids import cell_ids
from p2mbatch.store.blocks import Cells
from p2mbatch.store.ledger import Head, Ledger, read_parts
from p2mbatch.store.packing import Packed, ids_of, unpack_columns

_MAX_NAMED = 4
"""Cells that a line names; the rest is counted."""

_NUM_DIGITS = 10
"""Of a cell's id, as in reports."""


class Damage(NamedTuple):
    """What of a store is not as it was written."""

    blocks: list[int]
    cells: list[str]
    """The ids of the cells in those, as far as they can be told."""
    num_unnamed: int
    """Cells of which no id can be told."""
    others: list[str]
    """What else it is, in words."""

    def __bool__(self) -> bool:
        return bool(self.blocks or self.num_unnamed or self.others)

    def text(self) -> str:
        """Return it in words, with the verb behind it."""
        parts = list(self.others)
        number = len(self.cells) + self.num_unnamed
        if number:
            parts.insert(0, _counted(number, [cell[:_NUM_DIGITS] for cell in self.cells]))
        return " and ".join(parts) + (" is" if number + len(self.others) == 1 else " are")


def _counted(number: int, names: list[str]) -> str:
    """Return `number` cells in words, the first of their `names` too."""
    if number == 1:
        return " ".join(["cell" if names else "one cell", *names])
    named = ", ".join(names[:_MAX_NAMED])
    if named and number > _MAX_NAMED:
        named += " …"
    return f"{number:,} cells" + (f" ({named})" if named else "")


def error_of(path: Path, damage: Damage) -> InputError:
    """Return the error of whoever wants to read the damaged journal at `path`."""
    return InputError(
        f"{path}: the store is damaged: {damage.text()} not as written: give the same sweep "
        "command again, which runs just those anew"
    )


def find_damage(connection: sqlite3.Connection, ledger: Ledger) -> Damage:
    """Return what is wrong with a store: with `ledger`, its blocks' heads, and all their parts."""
    wrong = list(ledger.wrong_heads)
    wrong += [head for head in ledger.heads if read_parts(connection, head, Packed._fields) is None]
    cells, num_unnamed = list[str](), ledger.num_lost_cells
    for head in wrong:
        names = _names(connection, head)
        cells += names
        if not names and isinstance(head.num_cells, int) and isinstance(head.num_failed, int):
            num_unnamed += max(head.num_cells + head.num_failed, 0)
    others = [f"the provenance of run {run.run}" for run in ledger.wrong_runs]
    others += [f"the spec {str(spec.digest)[:12]}" for spec in ledger.wrong_specs]
    is_told = bool(wrong or others or num_unnamed)
    if ledger.is_meta_wrong or (ledger.is_row_missing and not is_told):
        others.append("its list of what is in it")
    elif (ledger.is_chain_wrong or ledger.num_lost_changes) and not is_told:
        others.append("the end of its log")
    return Damage([head.number for head in wrong], cells, num_unnamed, others)


def _names(connection: sqlite3.Connection, head: Head) -> list[str]:
    """Return the ids of a damaged block's cells, from whatever part of it is right."""
    with contextlib.suppress(sqlite3.Error, TypeError):
        if ids := read_parts(connection, head, ["ids"]):
            return Cells(ids_of(ids[0]), {}).names()
        parts = ["cells", "failed"] if head.num_failed else ["cells"]
        found = [read_parts(connection, head, [name]) for name in parts]
        told = [cell_ids(unpack_columns(part[0])) for part in found if part]
        return [cell for some in told for cell in Cells(some, {}).names()]
    return []
