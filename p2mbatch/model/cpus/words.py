"""A guest's words as the race's steps see them: `compiled/race/layout`, on a real guest's pages.

The steps read and write a row by places. Here a place is a word of the guest: a page's number is
its PFN, a pointer is told by the page that it reaches, an MFN is itself. What steps store goes into
the guest's tables at once, with all that the model keeps beside the words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import cpus as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.race import layout as at
from p2mbatch.compiled.race.sizes import sizes
from p2mbatch.compiled.status import FAULT_STORE, FAULT_TOP
from p2mbatch.model.life import Life

SHIFT = 72
"""Bits of a page's number or an MFN in a word of the steps: any word of the guest fits."""

POINTER, MACHINE, ENTRY = 1 << SHIFT, 2 << SHIFT, 5 << SHIFT
NOTHING = (4 << SHIFT) - 1
"""The steps' INVALID: what they fill leaves with. `ENTRY` is any other entry that is set."""

NUMBER = POINTER - 1

_WORD = (1 << 64) - 1

# Where in a row: the CPUs' locals, the shared words, the pages.
_REGION = 40
TOP, TOP_MFN, TOP_MFN_P, SHARED = (k << _REGION for k in (1, 2, 3, 4))
PAGES = 1 << 44
FLAGS, LOCK = at.R_FLAGS, 2
GENERATION, LAST, SHARED_MAX = SHARED, SHARED + 1, SHARED + 2

LOCALS, LOCAL_WORDS = 8, 16
"""Where the CPUs' blocks begin, and how long each is."""


def names(entries: int, missing: int, mid_missing: int, mid_missing_mfn: int) -> dict[str, Any]:
    """Return the constants that the steps see, of a guest with these placeholder pages."""
    return sizes(entries, SHIFT) | {
        "R_TOP": TOP,
        "R_TOP_MFN": TOP_MFN,
        "R_TOP_MFN_P": TOP_MFN_P,
        "R_GENERATION": GENERATION,
        "R_LAST": LAST,
        "R_SHARED_MAX": SHARED_MAX,
        "R_LOCK": LOCK,
        "R_PAGES": PAGES,
        "FIRST_FRESH": 0,
        "MISSING": missing,
        "MID_MISSING": mid_missing,
        "MID_MISSING_MFN": mid_missing_mfn,
        "as_int": int,
    }


class Ended(Exception):
    """A BUG or a fault that ends the run for everybody: its status code."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Doing(NamedTuple):
    """What the CPU whose turn it is does: the entry that it sets, and its next step."""

    who: int
    pfn: int
    word: int
    step: int


class Words:
    """The words of a guest with a tree of three levels, and what a stored one changes beside."""

    def __init__(self, life: Life, num_cpus: int) -> None:
        self.life = life
        state: Any = life.tables.state[0]
        self.entries = life.tables.words.shape[1]
        self.shift = int(state.entries_shift)
        self.missing, self.mid_missing = int(state.missing), int(state.mid_missing)
        self.mid_missing_mfn = int(state.mid_missing_mfn)
        self.locals = [0] * (LOCALS + LOCAL_WORDS * num_cpus)
        self.doing = Doing(0, 0, INVALID, at.DONE)
        self.freed: set[int] = set()
        """Pages that were given back: whoever goes on using one makes a stray write."""
        self.last_freed = tb.NO_PAGE
        self._slots: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._is_era = life.policy.is_era

    # --- as a row -------------------------------------------------------------------------------

    def __getitem__(self, place: int) -> int:
        if place >= PAGES:
            page, index = divmod(place - PAGES, self.entries)
            return self.leaf_word(page, index)
        if place < TOP:
            return self.locals[place]
        kind, top = place >> _REGION, place & ((1 << _REGION) - 1)
        if kind == TOP >> _REGION:
            return self.mid_word(top)
        if kind == SHARED >> _REGION:
            return self.shared_word(place)
        state: Any = self.life.tables.state[0]
        if kind == TOP_MFN >> _REGION:
            return MACHINE + (self.word(int(state.top_mfn), top) & _WORD)
        return self.pointer(self.word(int(state.top_mfn_p), top))

    def __setitem__(self, place: int, word: int) -> None:
        if place < TOP:
            self.locals[place] = word
        elif place >= PAGES:
            page, index = divmod(place - PAGES, self.entries)
            self._store(page, index, word)
        else:
            kind, top = place >> _REGION, place & ((1 << _REGION) - 1)
            if kind == TOP >> _REGION:
                self.hang_mid(top, word & NUMBER)
            elif kind == TOP_MFN >> _REGION:
                self.name_list_page(top, word & NUMBER)
            elif kind == TOP_MFN_P >> _REGION:
                self.track(top, word & NUMBER)
            else:
                self.share(place, word)

    def _store(self, page: int, index: int, word: int) -> None:
        """Store through a page: an entry, a leaf's address or its MFN."""
        if word == NOTHING or word >= ENTRY:
            self.set_entry(page)
        elif word < MACHINE:
            self.hang_leaf(page, index, word & NUMBER)
        else:
            self.list_leaf(page, index, word & NUMBER)

    # --- the guest's own words ------------------------------------------------------------------

    def slot(self, page: int) -> int:
        """Return the slot of a page, NO_PAGE or lower where it has none."""
        slot = self._slots.get(page)
        if slot is None:
            t = self.life.tables
            row = int(t.block_of[page >> tb.BLOCK_SHIFT])
            slot = tb.NO_PAGE
            if row >= 0:
                slot = int(t.block_code[row, page & ((1 << tb.BLOCK_SHIFT) - 1)])
            if slot >= 0:
                self._slots[page] = slot
        return slot

    def word(self, page: int, index: int) -> int:
        """Return a word of the guest's memory."""
        slot = self.slot(page)
        if slot >= 0:
            return int(self.life.tables.words[slot, index])
        return int(ks.word_of(self.life.tables, self.life.host, page, index))

    def write(self, page: int, index: int, word: int) -> None:
        """Store a word, as an int64, in a page that has a slot."""
        self.life.tables.words[self.slot(page), index] = word

    def pointer(self, word: int) -> int:
        """Return what the steps see of a pointer; a wild one is a mere number to them."""
        found = self._reached.get(word)
        if found is None:
            page = int(ks.reached(self.life.tables, word))
            found = self._reached[word] = POINTER + page if page >= 0 else word & _WORD
        return found

    def address(self, page: int) -> int:
        """Return the word that is the address of a page."""
        return int(ks.address_of(self.life.tables, page))

    def mfn(self, page: int) -> int:
        """Return `virt_to_mfn` of a page as an int64."""
        look_up = ks.era_mfn if self._is_era else ks.tree_mfn
        mfn = int(look_up(self.life.tables, self.life.host, page))
        if mfn <= FAULT_TOP and not self._is_era:
            raise Ended(mfn)
        return mfn

    def machine_word(self, page: int) -> int:
        """Return `virt_to_mfn` of a page as the steps see an MFN."""
        return MACHINE + (self.mfn(page) & _WORD)

    # --- what steps ask and do ------------------------------------------------------------------

    def mid_word(self, top: int) -> int:
        """Return the word of `p2m_top`."""
        return self.pointer(self.word(int(self.life.tables.state[0].top), top))

    def leaf_word(self, mid: int, index: int) -> int:
        """Return the word of a mid page."""
        return self.pointer(self.word(mid, index))

    def shared_word(self, place: int) -> int:
        """Return GEN, LAST or SHMAX, which kernels with a tree have not."""
        raise AssertionError(place)

    def share(self, place: int, word: int) -> None:
        """Store GEN, LAST or SHMAX."""
        raise AssertionError(place)

    def is_listed(self, pfn: int) -> bool:
        """Return whether there is a list, and a place for `pfn` in it."""
        return True

    def says(self, pfn: int) -> int:
        """Return the word that a PFN has by its shared leaf."""
        return INVALID

    def set_by_pointer(self, pfn: int) -> bool:
        """Set an identity value where pointers say it all; return whether they do."""
        return bool(ks.identity_by_pointer(self.life.tables, pfn >> self.shift))

    def take(self) -> int:
        """Return the next page of the allocator; -1 where there is none."""
        self._make_room()
        return int(ks.take_page(self.life.tables))

    def release(self, page: int) -> None:
        """Take note of a page that is given back: it is never handed out again."""
        self.freed.add(page)
        self.last_freed = page

    def fill(self, page: int, word: int) -> None:
        """Fill a fresh page as the step that is due does."""
        filled = INVALID
        if self.doing.step == at.A9:
            # As an int64: an MFN may be any word.
            filled = _signed(word & NUMBER)
        elif self.doing.step == at.A3:
            filled = self.address(self.missing)
        ks.fill_with(self.life.tables, page, filled)

    def hang_mid(self, top: int, page: int) -> None:
        """Let `p2m_top` point to a mid page."""
        t = self.life.tables
        state: Any = t.state[0]
        t.slots[self.slot(page), tb.P_KIND] = tb.POINTER
        self.write(int(state.top), top, self.address(page))
        state.num_mids += 1
        if self._is_era:
            ks.fresh_mid(t, top)

    def name_list_page(self, top: int, mfn: int) -> None:
        """Let `p2m_top_mfn` name the page of the list that the CPU has made."""
        t = self.life.tables
        state: Any = t.state[0]
        self.write(int(state.top_mfn), top, _signed(mfn))
        page = self.locals[LOCALS + LOCAL_WORDS * self.doing.who + at.C_X] & NUMBER
        t.slots[self.slot(page), tb.P_KIND] = tb.MID_MFN
        state.num_mid_mfns += 1
        if not self._is_era:
            t.true_mid_mfn[top] = page

    def track(self, top: int, page: int) -> None:
        """Let `p2m_top_mfn_p` point to a page of the list."""
        t = self.life.tables
        self.write(int(t.state[0].top_mfn_p), top, self.address(page))
        t.true_mid_mfn[top] = page

    def hang_leaf(self, mid: int, index: int, page: int) -> None:
        """Let a mid page point to a leaf: one that was given back is nobody's any more."""
        t = self.life.tables
        where = self.address(page)
        if mid in self.freed:
            ks.store_freed(t, self.life.host, mid, index, where)
            return
        self.write(mid, index, where)
        t.state[0].num_grown += 1
        ks.hang_leaf(t, self.doing.pfn >> self.shift, page)

    def list_leaf(self, page: int, index: int, mfn: int) -> None:
        """Store a leaf's MFN through a page of the list, whatever that page is by now."""
        t, h = self.life.tables, self.life.host
        if not self.can_reach(page):
            raise Ended(FAULT_STORE)
        if page in self.freed:
            ks.store_freed(t, h, page, index, _signed(mfn))
        else:
            top = self.doing.pfn >> 2 * self.shift
            ks.store_listed(t, h, top, page, index, _signed(mfn))

    def can_reach(self, page: int) -> bool:
        """Return whether a store through a page of the list gets there."""
        return bool(ks.has_reached(self.life.tables, self.life.host, page))

    def set_entry(self, leaf: int) -> None:
        """Store the entry that the CPU sets in the page that it took for the leaf."""
        self._make_room()
        store = ks.set_era_entry if self._is_era else ks.set_tree_entry
        store(self.life.tables, self.life.host, self.doing.pfn, leaf, self.doing.word)

    def page_named(self, word: int) -> int:
        """Return `mfn_to_virt` of an MFN that a step has seen."""
        mfn = _signed(word & NUMBER)
        page = int(ks.page_of_mfn(self.life.tables, self.life.host, mfn))
        return POINTER + page if page >= 0 else word & NUMBER

    def _make_room(self) -> None:
        """See to it that one more page can be taken, or one more leaf made."""
        t = self.life.tables
        state: Any = t.state[0]
        if state.num_slots + 6 > len(t.words) or state.num_blocks + 6 > len(t.block_code):
            extra = max(64, len(t.words) // 8)
            self.life.tables = tb.grown(t, extra, extra)


def _signed(word: int) -> int:
    """Return a word of 64 bits as an int64."""
    return word - (1 << 64) if word >> 63 else word
