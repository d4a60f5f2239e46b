"""What a resume does with the list, told from the log of its stores: trees with a list of pages.

Source: kernel `xen_build_mfn_list_list` of each era (model section 6; policies-spec M6, P3 to P6).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import tables as tb
from p2mbatch.model.explain.changes import change_of
from p2mbatch.model.explain.flat import tell_first_list
from p2mbatch.model.explain.log import Asked, Began, Log, Reached, Record, Store, Took
from p2mbatch.model.explain.own import tell_own
from p2mbatch.model.explain.story import Said, Step
from p2mbatch.model.explain.view import Known, View

BUILD = "xen_build_mfn_list_list()"


@dataclass
class Group:
    """What was done for one top index, or outside of any."""

    top: int | None
    x: int = 0
    stray: int = 0
    records: list[Record] = field(default_factory=list)
    looks: list[int | None] = field(default_factory=list)
    """The picture taken where each record was written down, if one was."""
    first_look: int | None = None
    """The picture taken where the group begins."""

    def add(self, record: Record, look: int | None) -> None:
        """Add a record."""
        self.records.append(record)
        self.looks.append(look)

    @property
    def stores(self) -> list[Store]:
        """The stores."""
        return [record for record in self.records if isinstance(record, Store)]

    @property
    def asked(self) -> list[Asked]:
        """What m2p was asked."""
        return [record for record in self.records if isinstance(record, Asked)]

    @property
    def took(self) -> list[Took]:
        """The pages that were asked for."""
        return [record for record in self.records if isinstance(record, Took)]

    @property
    def reached(self) -> list[Reached]:
        """Where stores through a mid_mfn page's address got to."""
        return [record for record in self.records if isinstance(record, Reached)]


def grouped(log: Log, shift: int, stray_writes: int) -> list[Group]:
    """Return the records by the top index that they are about; `stray_writes` at the end."""
    groups = [Group(None)]
    counts = [0]
    for i, record in enumerate(log.records):
        if not isinstance(record, Began):
            groups[-1].add(record, log.looks.get(i))
            continue
        top = record.x >> shift
        if groups[-1].top != top:
            groups.append(Group(top, record.x, first_look=log.looks.get(i)))
            counts.append(record.stray_writes)
    for group, begin, end in zip(groups, counts, [*counts[1:], stray_writes], strict=True):
        group.stray = end - begin
    return groups


def asked_apart(group: Group) -> list[Group]:
    """Return a group in parts, one for each answer of m2p; each store is of the answer before."""
    parts = [Group(group.top, group.x, first_look=group.first_look)]
    for record, look in zip(group.records, group.looks, strict=True):
        if isinstance(record, Asked) and parts[-1].asked:
            parts.append(Group(group.top, group.x, first_look=look))
        parts[-1].add(record, look)
    left = group.stray
    for part in parts:
        # All of what a wrong page gets is stray, and there is no more than the group has.
        known = sum(store.stray for store in part.stores)
        part.stray = min(left, known if len(parts) > 1 else group.stray)
        left -= part.stray
    parts[-1].stray += left
    return parts


def _with_views(steps: list[Step], looks: list[int | None], ends: tuple[int, int]) -> list[Step]:
    """Return steps with their pictures: each begins where its part did and ends at the next's."""
    out, after = [], ends[1]
    for step, look in reversed(list(zip(steps, looks, strict=True))):
        before = ends[0] if look is None else look
        out.append(dataclasses.replace(step, views=(before, after)))
        after = before
    return out[::-1]


def _words(say: Said, stores: list[Store]) -> str:
    """Return which words of a page were stored to, up to what the first was."""
    first, last = stores[0].index, stores[-1].index + stores[-1].count - 1
    if first == last:
        return f"word {say.index(first)},"
    return f"words {say.index(first)} to {say.index(last)}, the first"


class Rebuild:
    """One rebuild to be told: `before` is the guest at its beginning, `after` at its end."""

    def __init__(self, before: View, after: View, known: Known) -> None:
        self.before, self.after, self.known = before, after, known
        self.steps: list[Step] = []

    def tell(
        self, log: Log, status: tuple[str, str | None], looks: tuple[int, int] = (0, 0)
    ) -> list[Step]:
        """Return the steps; `status` is the event's outcome and detail.

        `looks` are the pictures of the guest before the rebuild and behind it.
        """
        records = log.records
        self._looks: list[int | None] = []
        self._tell_all(log, records, status)
        self._looks += [None] * (len(self.steps) - len(self._looks))
        return _with_views(self.steps, self._looks, looks)

    def _tell_all(self, log: Log, records: list[Record], status: tuple[str, str | None]) -> None:
        if not records and status[0] == "ok":
            self.steps.append(self._nothing())
            return
        groups = grouped(log, self.before.shift, int(self.after.state.stray_writes))
        groups = [group for group in groups if group.records or group.top is not None]
        for group in groups:
            failed = status if group is groups[-1] and status[0] in ("bug", "fault") else None
            if group.top is None and self.before.policy.own is not None:
                self.steps += tell_own(self.before, self.after, group.records, failed)
            elif group.top is None and self.before.policy.is_two_level:
                self._whole(group)
            elif group.top is None and self.before.state.top_mfn == tb.NO_PAGE:
                first = failed is not None
                self.steps.append(tell_first_list(self.after, group.records, first))
            elif group.top is None:
                self._refill(group)
            else:
                self._tell(group, failed)
            self._looks += [group.first_look] * (len(self.steps) - len(self._looks))

    def _add(
        self, say: Said, text: str, group: Group, alike: str | None, held: bool | None = None
    ) -> None:
        changes = tuple(change_of(self.before, s) for s in group.stores)
        self.steps.append(
            Step(
                "rebuild",
                BUILD,
                text,
                held,
                say.numbers,
                changes,
                group.stray,
                sum(store.count for store in group.stores),
                alike,
                group.top,
            )
        )

    def _nothing(self) -> Step:
        say = self.before.said()
        text = (
            "This kernel's resume does not build the list: what stands in it are MFNs of an "
            "earlier host."
        )
        return Step("rebuild", "xen_post_suspend()", text, False, say.numbers)

    def _whole(self, group: Group) -> None:
        """Tell the rebuild of a list in static arrays, which writes all of it."""
        stores = group.stores
        lists = [s for s in stores if s.page == self.before.state.static_list]
        entries = [s for s in stores if s.page != self.before.state.static_list]
        if not entries or not lists:
            return
        say = self.before.said()
        num = sum(s.count for s in entries)
        changed = sum(s.num_changed for s in entries)
        text = (
            f"It stores the MFN of every leaf in p2m_top_mfn, {say.count(num, 'entry', 'entries')}"
            f", of which {say.count(changed)} change; the first was {say.mfn(entries[0].before)} "
            f"and is {say.mfn(entries[0].after)}. Then p2m_top_mfn_list: its first word was "
            f"{say.mfn(lists[0].before)} and is {say.mfn(lists[0].after)}. Nothing of an earlier "
            "host is read."
        )
        self._add(say, text, group, None)

    def _refill(self, group: Group) -> None:
        """Tell what is done before the loop: the placeholders' pages are filled anew."""
        for store in group.stores:
            say = self.before.said()
            stands_for = {
                int(self.before.state.mid_missing_mfn): "p2m_missing",
                int(self.before.state.mid_identity_mfn): "p2m_identity",
            }.get(store.page, "what it stands for")
            text = (
                f"It fills {self.before.name(say, store.page)} with {say.mfn(store.after)}, the "
                f"present MFN of {stands_for}, where {say.mfn(store.before)} stood."
            )
            self._add(say, text, Group(None, records=[store]), None)

    # --- one top index ------------------------------------------------------------------------

    def _tell(self, group: Group, failed: tuple[str, str | None] | None) -> None:
        policy = self.before.policy
        if policy.by_old_mfn or (group.asked and policy.own is not None):
            self._by_old_mfn(group, failed)
        else:
            self._by_address(group, failed)

    def _by_address(self, group: Group, failed: tuple[str, str | None] | None) -> None:
        """Tell a mid's part by a kernel that keeps its list's pages as addresses."""
        # The pages of a list that is built for the first time are known only afterwards.
        say, state = self.before.said(), self.after.state
        top = group.top
        assert top is not None
        page = int(self.after.t.true_mid_mfn[top])
        taken = [took for took in group.took if took.page >= 0]
        kind = "late" if taken else "missing" if page == state.mid_missing_mfn else "mid"
        parts = [f"Top index {say.index(top)}:"]
        if failed is None or taken:
            parts.append(self._which_page(say, kind, page, taken))
        stored = next((s for s in group.stores if s.page == state.top_mfn), None)
        if stored is not None:
            of = "the present MFN of p2m_mid_missing_mfn" if kind == "missing" else "its MFN here"
            before = (
                "as before" if stored.num_changed == 0 else f"where {say.mfn(stored.before)} stood"
            )
            parts.append(
                f"p2m_top_mfn[{say.index(top)}] is now {say.mfn(stored.after)}, {of}, {before}."
            )
        entries = [s for s in group.stores if s.page == page and s.function != "track"]
        if entries and kind != "missing":
            count = sum(store.count for store in entries)
            parts.append(
                f"{say.count(count, 'MFN')} of leaves go into its words, the first "
                f"{say.mfn(entries[-1].after)}."
            )
        if failed is not None:
            parts.append(self._failing(say, group, failed))
        alike = None if failed else f"{kind}{stored is not None and stored.num_changed}"
        self._add(say, " ".join(parts), group, alike, False if failed else None)

    def _which_page(self, say: Said, kind: str, page: int, taken: list[Took]) -> str:
        """Return which page of the list a mid's part goes to."""
        linear = self.before.policy.is_linear
        if kind == "late":
            mid = "its block has a pte page of its own" if linear else "there is a mid page"
            return (
                f"{mid} and no page of the list, so it takes one, {say.pfn(taken[0].page)} by "
                f"{taken[0].by}()."
            )
        if kind == "missing":
            return "its block has a shared pte page." if linear else "there is no mid page."
        return f"p2m_top_mfn_p leads to the list's own page, {say.pfn(page)}."

    def _failing(self, say: Said, group: Group, failed: tuple[str, str | None]) -> str:
        """Return what a BUG or a fault of a rebuild was about."""
        outcome, detail = failed
        view, state = self.after, self.after.state
        top = group.top or 0
        if detail == "_brk_start == 0" and view.policy.by_old_mfn:
            return (
                f"That is p2m_mid_missing_mfn ({say.pfn(state.mid_missing_mfn)}): the kernel takes "
                f"top index {say.index(top)} for one without a page of the list and asks "
                "extend_brk() for one, and brk closed at boot: BUG_ON(_brk_start == 0)."
            )
        if detail == "_brk_start == 0":
            word = view.word(int(state.top), top)
            page = view.page_at(word)
            mid = "p2m_mid_identity" if page == state.mid_identity else "a mid page"
            return (
                f"p2m_top[{say.index(top)}] is {mid} ({say.pfn(page)}) and p2m_top_mfn_p still "
                f"names p2m_mid_missing_mfn ({say.pfn(state.mid_missing_mfn)}): it asks "
                "extend_brk() for a page, and brk closed at boot: BUG_ON(_brk_start == 0)."
            )
        if detail == "Out of memory":
            return (
                f"p2m_top[{say.index(top)}] needs a page of the list, and the page allocator has "
                "none: the boot allocator panics, Out of memory."
            )
        if detail == "mid_mfn_p != p2m_mid_missing_mfn":
            page = int(view.t.true_mid_mfn[top])
            return (
                f"p2m_top[{say.index(top)}] is p2m_mid_missing and the list has "
                f"{view.name(say, page)} there: BUG_ON({detail})."
            )
        if outcome == "fault" and detail == "mid_mfn store" and group.reached:
            return self._unreachable(say, group.reached[-1].where)
        if detail == "null list page":
            return (
                "alloc_p2m_page() returns NULL and nobody looks: the first store to it is a fault."
            )
        if outcome == "fault":
            return f"It stops at a pointer that leads nowhere: a fault, at the {detail}."
        return f"BUG_ON({detail})."

    def _unreachable(self, say: Said, where: int) -> str:
        """Return why a store through an address faults."""
        view = self.after
        page = view.page_at(where)
        if page < view.state.directmap and not view.is_present(page):
            why = f"{say.pfn(page)} has no frame, so the kernel has it out of the direct map"
        else:
            why = f"its page is past the direct map, which ends at {say.pfn(view.state.directmap)}"
        return f"The store to {say.word(where)} is a fault: {why}."

    # --- by an old MFN ------------------------------------------------------------------------

    def _by_old_mfn(self, group: Group, failed: tuple[str, str | None] | None) -> None:
        """Tell a mid's part by a kernel that finds its list's page by the MFN it once had."""
        parts = asked_apart(group)
        for part in parts:
            self._by_one_mfn(part, failed if part is parts[-1] else None)
            self._looks += [part.first_look] * (len(self.steps) - len(self._looks))

    def _by_one_mfn(self, group: Group, failed: tuple[str, str | None] | None) -> None:
        """Tell what was done by one answer of m2p."""
        view, say = self.before, self.before.said()
        top = group.top
        assert top is not None
        text = f"Top index {say.index(top)}: "
        asked = group.asked[0] if group.asked else None
        if asked is None:
            if failed is not None:
                self._add(say, text + self._failing(say, group, failed), group, None, False)
            return
        text += (
            f"p2m_top_mfn[{say.index(top)}] is {say.mfn(asked.mfn)}{self._origin(say, asked.mfn)}. "
            f"mfn_to_virt() asks this host's m2p: {self._answer(say, asked)}"
        )
        page = group.reached[-1].page if group.reached else tb.UNREACHABLE
        stores = [s for s in group.stores if s.page == page]
        num = sum(store.count for store in stores)
        alike: str | None = None
        if page == int(view.t.true_mid_mfn[top]):
            text += (
                f": {view.name(say, page)}, the true one. {say.count(num, 'MFN')} of leaves go "
                "where they belong."
            )
            alike = "true"
        elif stores:
            text += (
                f". What lies there is {view.name(say, page)}, not the list: "
                f"{say.count(num, 'stray write')}, {_words(say, stores)} "
                f"{say.word(stores[0].before)} made {say.word(stores[0].after)}."
            )
            text += self._damage(page)
            alike = f"stray {self._kind(page)}"
        else:
            text += "."
        if failed is not None:
            text += " " + self._failing(say, group, failed)
            alike = None
        self._add(say, text, group, alike, False if failed or group.stray else None)

    def _origin(self, say: Said, mfn: int) -> str:
        origin = self.before.origin(say, self.known, mfn)
        return f" ({origin})" if origin else ""

    def _answer(self, say: Said, asked: Asked) -> str:
        """Return what m2p has for an old MFN, as the guest reads it, and why."""
        view = self.before
        mfn = asked.mfn % (1 << view.word_bits)
        if mfn >> int(view.state.m2p_order):
            return (
                "the number is past the order of the table that the guest worked out at boot, "
                f"so {say.pfn(asked.pfn)}"
            )
        if mfn >= view.h.par[0].m2p_entries:
            return (
                f"only {say.count(int(view.h.par[0].m2p_entries))} of its entries are mapped, "
                f"the read faults and leaves {say.pfn(asked.pfn)}"
            )
        if asked.pfn == INVALID:
            return "nobody's frame here, m2p is INVALID"
        if view.own_pfn(asked.mfn) >= 0:
            return f"the frame is the guest's own, {say.pfn(asked.pfn)}"
        return f"the frame is another domain's, {say.pfn(asked.pfn)} there"

    def _kind(self, page: int) -> str:
        code = self.before.code(page)
        if code <= tb.LAZY:
            return "leaf"
        return "ordinary" if code < 0 else str(int(self.before.t.slots[code, tb.P_KIND]))

    def _damage(self, page: int) -> str:
        """Return what follows where a page of the p2m's own is hit."""
        state = self.before.state
        if page == state.missing:
            return " Every hole of the p2m now reads as what was stored."
        kind = self._kind(page)
        texts = {
            "leaf": " The PFNs of those words have other numbers for their frames now.",
            str(tb.LEAF): " The PFNs of those words have other numbers for their frames now.",
            str(tb.POINTER): " What was a pointer there is wild from now on.",
            str(tb.MID_MFN): " The list has these numbers in the wrong place.",
            str(tb.TOP_MFN): " What the loop reads next for those top indexes is damaged.",
            "ordinary": " Whatever the guest kept there is gone, and nothing tells.",
            str(tb.ORDINARY): " Whatever the guest kept there is gone, and nothing tells.",
        }
        return texts.get(kind, "")
