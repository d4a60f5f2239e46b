"""A linear p2m's words as the race's steps see them: a level-1 page is a mid, a block its index.

Source: linear-spec L5. Identity is missing to the steps: a slot's shared leaf and a block's shared
table say which of the two they are, and never change but for pages of their own.
"""

from __future__ import annotations

from typing import Any

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import cpus as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.policies.flat import MAPS, SLOTS
from p2mbatch.compiled.race import layout as at
from p2mbatch.model.cpus.words import GENERATION, LAST, POINTER, Words
from p2mbatch.model.life import Life


class FlatWords(Words):
    """The words of a guest with a linear p2m."""

    def __init__(self, life: Life, num_cpus: int) -> None:
        super().__init__(life, num_cpus)
        state: Any = life.tables.state[0]
        self.mid_missing = int(state.missing_pte)
        self._shared_tables = (self.mid_missing, int(state.identity_pte))
        self._identity = int(state.identity)
        self._has_list = int(state.top_mfn) != tb.NO_PAGE
        self._tables: dict[int, int] = {}

    def mid_word(self, top: int) -> int:
        """Return the level-1 page of a block, the shared ones as the missing one."""
        table, index = self._level2(top)
        page = self.word(table, index) & (MAPS - 1)
        return POINTER + (self.mid_missing if page in self._shared_tables else page)

    def leaf_word(self, mid: int, index: int) -> int:
        """Return the leaf of a slot, the shared ones as the missing one."""
        if mid in self._shared_tables:
            return POINTER + self.missing
        page = self.word(mid, index) & (MAPS - 1)
        return POINTER + (self.missing if page == self._identity else page)

    def _level2(self, block: int) -> tuple[int, int]:
        """Return the level-2 page of a block and its index there."""
        state: Any = self.life.tables.state[0]
        where = int(state.p2m_vaddr) + (block << 21)
        table = self._tables.get(block)
        if table is None:
            table = int(state.pgd)
            for level in (4, 3):
                index = (where >> (9 * level + 3)) & (SLOTS - 1)
                table = self.word(table, index) & (MAPS - 1)
            self._tables[block] = table
        return table, (where >> 21) & (SLOTS - 1)

    def shared_word(self, place: int) -> int:
        """Return GEN, LAST or SHMAX."""
        state: Any = self.life.tables.state[0]
        if place == GENERATION:
            return int(state.generation)
        return int(state.hint if place == LAST else state.shared_max)

    def share(self, place: int, word: int) -> None:
        """Store GEN, LAST or SHMAX."""
        state: Any = self.life.tables.state[0]
        if place == GENERATION:
            state.generation = word
        elif place == LAST:
            state.hint = word
        else:
            state.shared_max = word

    def is_listed(self, pfn: int) -> bool:
        """Return whether there is a list, and a place for `pfn` in it."""
        return self._has_list and pfn >> 2 * self.shift < SLOTS

    def says(self, pfn: int) -> int:
        """Return the word that a PFN has by its shared leaf: INVALID, or its identity value."""
        t = self.life.tables
        is_identity = int(t.leaf_page[pfn >> self.shift]) == self._identity
        return pfn | int(t.state[0].identity_bit) if is_identity else INVALID

    def fill(self, page: int, word: int) -> None:
        """Fill a fresh page as the step that is due does."""
        super().fill(page, word)
        t = self.life.tables
        x = self.doing.pfn >> self.shift
        if self.doing.step == at.A3:
            # What the block's shared table has: one leaf for all of its slots.
            first = x >> self.shift << self.shift
            is_identity = (t.leaf_page[first : first + SLOTS] == self._identity).any()
            ks.fill_with(t, page, (self._identity if is_identity else self.missing) | MAPS)
        elif self.doing.step == at.A15 and int(t.leaf_page[x]) == self._identity:
            bit = int(t.state[0].identity_bit)
            t.words[self.slot(page)] = [
                pfn | bit for pfn in range(x << self.shift, (x + 1) << self.shift)
            ]

    def can_reach(self, page: int) -> bool:
        """Return that a store through a page of the list gets there, present or not."""
        return True

    def hang_mid(self, top: int, page: int) -> None:
        """Let a block have a level-1 page of its own."""
        self.life.tables.slots[self.slot(page), tb.P_KIND] = tb.TABLE
        table, index = self._level2(top)
        self.write(table, index, page | MAPS)

    def hang_leaf(self, mid: int, index: int, page: int) -> None:
        """Let a slot have a leaf of its own."""
        t = self.life.tables
        self.write(mid, index, page | MAPS)
        t.state[0].num_grown += 1
        ks.hang_leaf(t, self.doing.pfn >> self.shift, page)
