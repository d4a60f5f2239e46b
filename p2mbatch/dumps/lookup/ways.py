"""The ways to a PFN's entry: the guest's own tree, and the list that the toolstack reads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.geometry import PAGE_SHIFT
from p2mbatch.dumps.audit.structures import linked_page
from p2mbatch.dumps.audit.walk_state import unsigned
from p2mbatch.dumps.lookup.subject import Subject


class Step(NamedTuple):
    """One word on the way."""

    page: str
    """Which page it is in."""
    page_pfn: int | None
    """The page's PFN, None for the shared info page."""
    place: int | None
    """The word's place in the page, None for the shared info page."""
    word: int | None
    """The word itself (a page table's frame, without its flags), None where it was not kept."""
    leads_to_pfn: int | None
    """The page that it leads to, None where it is no page of the guest's, or the entry itself."""


class Way(NamedTuple):
    """The steps as far as they lead, and why they end where they end early."""

    steps: list[Step]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the way as plain values."""
        return {"steps": [step._asdict() for step in self.steps], "reason": self.reason or None}


def tree_way(subject: Subject, pfn: int) -> Way:
    """Return the guest's own way to the entry of `pfn`: `p2m_top`, mid, leaf."""
    guest, structures = subject.guest, subject.structures
    n = guest.geometry.entries
    top, mid, entry = pfn // n**2, pfn // n % n, pfn % n
    if not structures.found:
        return Way([], structures.reason)
    steps = [Step("p2m_top", structures.top, top, None, None)]
    mid_pfn = structures.mids.get(top, structures.mid_missing)
    steps[0] = _read(subject, steps[0], mid_pfn if mid_pfn >= 0 else None)
    if mid_pfn < 0:
        return Way(steps, "the entry of p2m_top is not known")
    name = "p2m_mid_missing" if mid_pfn == structures.mid_missing else f"mid of top {top}"
    leaf_pfn = linked_page(guest, structures, mid_pfn, mid)
    steps.append(_read(subject, Step(name, mid_pfn, mid, None, None), leaf_pfn))
    if leaf_pfn is None:
        return Way(steps, "the mid page's pointer leads out of the guest's memory")
    name = "p2m_missing" if leaf_pfn == structures.missing else f"leaf {pfn // n}"
    steps.append(_read(subject, Step(name, leaf_pfn, entry, None, None), None))
    return Way(steps)


def list_way(subject: Subject, pfn: int) -> Way:
    """Return the toolstack's way to the entry of `pfn`: the mfn list list, or the page tables."""
    shared = subject.guest.shared_info
    if shared is None:
        return Way([], "the file does not hold the frame list list")
    return _tables_way(subject, pfn) if shared.p2m_cr3 else _frame_list_way(subject, pfn)


def _frame_list_way(subject: Subject, pfn: int) -> Way:
    guest = subject.guest
    assert guest.shared_info is not None
    n = guest.geometry.entries
    top, mid, entry = pfn // n**2, pfn // n % n, pfn % n
    mfn = guest.shared_info.frame_list_list_mfn
    page = _pfn_of(subject, mfn)
    steps = [Step("shared info", None, None, mfn, page)]
    for name, index in (("frame list list", top), (f"frame list of top {top}", mid)):
        if page is None:
            return Way(steps, _lost(steps[-1].word))
        step = _read(subject, Step(name, page, index, None, None), None)
        page = None if step.word is None else _pfn_of(subject, step.word)
        steps.append(step._replace(leads_to_pfn=page))
    if page is None:
        return Way(steps, _lost(steps[-1].word))
    steps.append(_read(subject, Step(f"leaf {pfn // n} as listed", page, entry, None, None), None))
    return Way(steps)


def _tables_way(subject: Subject, pfn: int) -> Way:
    guest, linear = subject.guest, subject.walk.linear
    assert linear is not None
    n = guest.geometry.entries
    address = linear.vaddr + (pfn * guest.word_bytes >> PAGE_SHIFT << PAGE_SHIFT)
    page = _pfn_of(subject, linear.cr3_mfn)
    steps = [Step("shared info (p2m_cr3)", None, None, linear.cr3_mfn, page)]
    for level in range(4 if guest.word_bytes == 8 else 3, 0, -1):
        if page is None:
            return Way(steps, _lost(steps[-1].word))
        data = guest.pages.read_table(page)
        if data is None:
            return Way(steps, f"the page table at PFN {page} is not in the file, or not kept")
        index = address >> (PAGE_SHIFT + 9 * (level - 1)) & 511
        word = int(data.entries[index])
        frame = word >> PAGE_SHIFT & (1 << (40 if guest.word_bytes == 8 else 32)) - 1
        if not word & 1:
            steps.append(Step(f"level {level} table", page, index, 0, None))
            return Way(steps, "the entry is absent")
        target = frame if data.holds_pfns else _pfn_of(subject, frame)
        if data.holds_pfns:
            frame = subject.entry(frame)
        steps.append(Step(f"level {level} table", page, index, frame, target))
        page = target
    if page is None:
        return Way(steps, _lost(steps[-1].word))
    steps.append(_read(subject, Step(f"leaf {pfn // n}", page, pfn % n, None, None), None))
    return Way(steps)


def _pfn_of(subject: Subject, mfn: int) -> int | None:
    """Return the lowest PFN that names `mfn`, None where none does."""
    if mfn >> 63 or mfn <= 0:
        return None
    pfn = int(subject.guest.p2m.find(np.array([mfn], np.int64))[0])
    return pfn if pfn >= 0 else None


def _lost(word: int | None) -> str:
    if word is None:
        return "the word was not kept: read the file, not a pipe"
    return f"no PFN of this guest has frame {word:#x}"


def _read(subject: Subject, step: Step, leads_to: int | None) -> Step:
    """Return `step` with the word that its page has there, and the page that it leads to."""
    assert step.page_pfn is not None and step.place is not None
    page = subject.guest.pages.read(step.page_pfn)
    word = None
    if page is not None and step.place < page.words.size:
        word = unsigned(int(page.words[step.place]), subject.guest.word_bytes)
    return step._replace(word=word, leads_to_pfn=leads_to)
