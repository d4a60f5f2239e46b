"""The numbers of a told life, looked up where they come from: trace, geometry, the naive model.

Nothing here asks the code that printed them. Each number must be one that the naive guest, its
hosts or the trace has at that event, by what it is said to be (`unknown`); and what a line says of
a page, a frame or an entry by name must be so in the naive guest's own memory (`denied`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from oracle import eras, reference
from oracle.build import Json
from p2mbatch.model.explain.story import Explanation, Step

IMAGE = 0xFFFF_FFFF_8000_0000
FLAGS = (1 << 31, 1 << 30, 1 << 62, 1 << 63)
NAMES = (
    "missing", "identity", "mid_missing", "mid_identity", "top", "mid_missing_mfn",
    "mid_identity_mfn", "top_mfn_p", "top_mfn",
)  # fmt: skip
# A static array's first page stands for it.
STATIC = {"top": "p2m_top", "top_mfn": "p2m_top_mfn", "top_mfn_list": "p2m_top_mfn_list"}


def ints(value: Any) -> Iterator[int]:
    """Every integer in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from ints(one)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def spread(runs: list[list[int]]) -> Iterator[int]:
    """The PFNs of [[first, count], ...] and of [[first, value, count], ...]."""
    for first, *_, count in runs:
        yield from range(first, first + count)


class Moment:
    """The naive guest as it is between two events."""

    def __init__(self, guest: Any) -> None:
        self.n: int = guest.n
        self.memory = {pfn: list(words) for pfn, words in guest.memory.items()}
        self.host = self._kept(guest)
        self.shared_fll: int = guest.shared_fll
        self.shared_max: int = guest.shared_max_pfn
        self.is_era = isinstance(guest, eras.Machine)
        self.structures = dict(self._structures(guest))
        self.list_mfn = self._list_mfn(guest)
        self.lists = {
            top: guest.pfn_at(page) for top, page in getattr(guest, "true_mid_mfn", {}).items()
        }
        self.others = {v for v in vars(guest).values() if type(v) is int}
        self.named = {}
        if self.host is not None:
            self.named = {mfn: self.pfn_of(mfn) for mfn in self.host.owned}
        self.leaves = dict(self._leaves(guest))
        self.words = {word for words in self.memory.values() for word in words}
        self.words |= {word & ~flag for word in self.words for flag in FLAGS}

    def _kept(self, guest: Any) -> Any:
        """The guest's host as it is now: it goes on changing."""
        if not hasattr(guest, "host"):
            return None
        host = copy.copy(guest.host)
        host.owned = set(host.owned)
        name = "m2p" if isinstance(guest, eras.Machine) else "written"
        setattr(host, name, dict(getattr(host, name)))
        return host

    def _structures(self, guest: Any) -> Iterator[tuple[str, int]]:
        for name in (*NAMES, "top_mfn_list"):
            value = getattr(guest, name, None)
            if value is None or value == -1 or (not self.is_era and not value):
                continue
            yield STATIC.get(name, f"p2m_{name}"), value if self.is_era else guest.pfn_at(value)

    def _leaves(self, guest: Any) -> Iterator[tuple[int, int]]:
        """Each leaf that has a page of its own, and that page's PFN."""
        if self.host is None or not (guest.booted if self.is_era else guest.top_mfn):
            return
        if self.is_era:
            yield from guest.own_leaves()
            return
        for top, mid in enumerate(guest.page(guest.pfn_at(guest.top))):
            if mid == guest.mid_missing or not guest.can_reach(mid):
                continue
            for i, leaf in enumerate(guest.page(guest.pfn_at(mid))):
                if leaf != guest.missing and guest.can_reach(leaf):
                    yield top * self.n + i, guest.pfn_at(leaf)

    def entries(self) -> dict[int, int]:
        """PFN -> word of all leaves with pages of their own."""
        return {
            x * self.n + i: word
            for x, page in self.leaves.items()
            for i, word in enumerate(self.memory.get(page, [0] * self.n))
        }

    def _list_mfn(self, guest: Any) -> int | None:
        """The MFN of the page that the guest reports."""
        page = self.structures.get("p2m_top_mfn_list", self.structures.get("p2m_top_mfn"))
        if page is None or not self.shared_max:
            return None
        try:
            return guest.pfn_to_mfn(page)
        except reference.Fault:
            # Behind a wild pointer no frame is known of it.
            return None

    def pfn_of(self, mfn: int) -> int | None:
        """What m2p has for a frame."""
        host = self.host
        found = host.m2p.get(mfn) if self.is_era else host.pfn_of(mfn)
        return None if found is None or found == host.__dict__.get("invalid") else found


class Lookup:
    """One event's numbers: `before` and `after` are the naive guest around it.

    `paused` is one that was live, once it had been paused.
    """

    def __init__(
        self,
        trace: Json,
        event: Json,
        want: Json,
        before: Moment,
        after: Moment,
        paused: Sequence[Moment] = (),
    ) -> None:
        self.trace, self.event, self.want = trace, event, want
        self.before, self.after = before, after
        self.n = before.n
        guest = trace["guest"]
        # How far the p2m goes: a linear one has an area.
        self.end: int = guest.get("max_p2m_pfn", guest.get("area_pfns", 0))
        self.left = paused[0] if paused else before
        self.moments = (before, after, *paused)
        self.hosts = [m.host for m in self.moments if m.host is not None]
        self.detail = [int(n) for n in re.findall(r"\b\d+\b", want.get("detail") or "")]
        self.runs = event.get("runs", []) + event.get("during", [])
        several = (*event.get("rounds", []), *event.get("sets", []))
        self.runs += [run for runs in several for run in runs]
        self.tweaked = _tweaked(trace["events"], event)
        # What a save is to read in place of what there is stands in an event before it.
        tweaks = [one for one in trace["events"] if one["op"] == "tweak"]
        self.plain = {*ints(trace["guest"]), *ints(tweaks), *ints(event), *ints(want), *self.detail}
        self.known = {
            "mfns": self._mfns(), "pfns": self._pfns(), "counts": self._counts(),
            "indexes": {*range(self.n), *self.detail, *range(self._num_leaves()),
                        *(x // self.n**k for m in self.moments for x in m.leaves for k in (0, 1)),
                        *(pfn // self.n**k for pfn in spread(self.runs) for k in (1, 2))},
        }  # fmt: skip
        self.known["words"] = self._words()

    def _num_leaves(self) -> int:
        ends = [m.shared_max for m in self.moments if m.shared_max < 1 << 40]
        return max(-(-end // self.n) for end in (self.end, *ends, 1)) + 1

    def _mfns(self) -> set[int]:
        known = set(self.plain) | {0}
        for moment in self.moments:
            known |= moment.words | moment.others | {moment.shared_fll}
            if moment.list_mfn is not None:
                known.add(moment.list_mfn)
        for host in self.hosts:
            known |= set(host.domain.values()) | host.owned
        for pfn, mfn, count in self.runs:
            if isinstance(mfn, int):
                known |= set(range(mfn, mfn + count))
            else:
                known |= set(range(pfn, pfn + count))
        return known | {mfn & ~flag for mfn in known for flag in FLAGS}

    def _pfns(self) -> set[int]:
        guest = self.trace["guest"]
        known = self.plain | {*spread(self.runs)} | {0, self.n**3}
        for name in ("page_pool", "boot_pool", "identity", "extra"):
            known |= {*spread(guest.get(name, []))}
        for name, count in (("mfn_list_pfn", -(-guest["nr_pages"] // self.n)),
                            ("brk_pfn", guest.get("brk_pages", 0))):  # fmt: skip
            known |= {*range(guest.get(name, 0), guest.get(name, 0) + count)}
        if "bootmem" in guest:
            known |= {*range(guest["bootmem"][0], sum(guest["bootmem"]))}
        for first in guest.get("static", {}).values():
            known |= {*range(first, first + guest.get("max_domain_pages", 0) // self.n**2 + 1)}
        for start, end in self.event.get("identity", []):
            known |= {start, end - 1}
        known |= {end - 1 for end in ints(self.tweaked.get("max_pfn"))}
        invalid = (1 << 8 * guest["word_bytes"]) - 1
        known |= {pfn for pfn, word in self.before.entries().items() if word != invalid}
        for moment in self.moments:
            known |= moment.memory.keys() | {*moment.lists.values(), *moment.structures.values()}
            # What a save ends at: all that is reported, or what is left of whole top entries.
            known |= {moment.shared_max - 1, *range(-1, moment.shared_max % (1 << 40), self.n**2)}
            known |= {self._page_at(word) for word in moment.words}
        for host in self.hosts:
            known |= host.domain.keys()
            known |= {*(host.m2p.values() if self.before.is_era else host.written.values())}
            if not self.before.is_era:
                known |= {p + i for _, p, count in host.foreign for i in range(count)}
        return known

    def _page_at(self, word: int) -> int:
        wide = self.trace["guest"]["word_bytes"] == 8
        base = (IMAGE if word >= IMAGE else 0xFFFF_8800_0000_0000) if wide else 0xC000_0000
        return ((word - base) & ((1 << (64 if wide else 32)) - 1)) >> 12

    def _words(self) -> set[int]:
        wide = self.trace["guest"]["word_bytes"] == 8
        maps = (IMAGE, 0xFFFF_8800_0000_0000) if wide else (0xC000_0000,)
        mask = (1 << (64 if wide else 32)) - 1
        known = self.known["mfns"] | {1, (1 << 64) - 1} | {host.frames for host in self.hosts}
        known |= {m.shared_max - 1 for m in self.moments}
        known |= {base + (page << 12) & mask for base in maps for page in self.known["pfns"]}
        known |= {pfn | 1 << bit for pfn in spread(self.runs) for bit in (30, 62)}
        for at in self.detail:
            known |= {first + (at << shift) & mask for first in self.plain for shift in
                      (12, 21, 30, 39)}  # fmt: skip
        # A table's address, its end for what is reported, and a root as cr3 has it.
        for first in {*self.plain, *(m.shared_max for m in self.moments)}:
            known |= {first << 12 & mask}
            known |= {first + 4096 * -(-end // 512) - 1 & mask for end in self.plain}
            known |= {first + 4096 * -(-m.shared_max // 512) - 1 & mask for m in self.moments}
        return known

    def _counts(self) -> set[int]:
        guest, n = self.trace["guest"], self.n
        ends = {guest["nr_pages"], self.end}
        ends |= {m.shared_max for m in self.moments} | {*ints(self.tweaked.get("max_pfn"))}
        known = (
            self.plain
            | {0, 1, n, *(at * n for at in self.detail)}
            | {m.shared_max for m in self.moments}
        )
        # Pages past the static arrays' end.
        known |= {max(guest["nr_pages"] - guest.get("max_domain_pages", 0), 0)}
        # Mid pages: of the memory reported, and where 1:1 ranges begin and end.
        marked = (e - b for b, e in self.event.get("identity", []))
        known |= {*range(self._num_leaves() // n + 2 + sum(2 + k // n**2 for k in marked))}
        for end in ends:
            leaves = -(-end // n)
            # Leaves in all, top entries, and the leaves of the last top entry.
            known |= {leaves, -(-leaves // n), leaves % n, leaves - leaves % n}
            known |= {k * n for k in range(min(-(-leaves // n), n) + 1)}
        for moment in self.moments:
            known |= {value for value in moment.others if 0 <= value < 1 << 40}
            known |= {len(moment.lists), *range(len(set(moment.lists.values())) + 1)}
            # Leaves with pages of their own under each top index, all of them or some of the first.
            for top in {x // n for x in moment.leaves}:
                known |= {*range(sum(x // n == top for x in moment.leaves) + 1)}
        for host in self.hosts:
            known |= {host.frames, getattr(host, "mapped", 0)}
        total = sum(count for *_, count in self.runs)
        known |= {total, *range(total + 1)} if self.runs else set()
        known |= {*range(len(self.event.get("rounds", [])) + 1), len(self.event.get("sets", []))}
        known |= self._changed() | {len(self.event.get(name, [])) for name in ("identity", "words")}
        return known

    def _changed(self) -> set[int]:
        """How many words of each page differ, how many of all; entries that a restore changed."""
        before, after = self.left.memory, self.after.memory
        each = {
            pfn: sum(a != b for a, b in zip(before[pfn], words, strict=True))
            for pfn, words in after.items()
            if pfn in before
        }
        found = set(each.values()) | {sum(each.values())}
        if "static" in self.trace["guest"]:
            first = self.trace["guest"]["static"]["p2m_top_mfn"]
            pages = range(first, first + self.trace["guest"]["max_domain_pages"] // self.n**2)
            found.add(sum(each.get(pfn, 0) for pfn in pages))
        used = {pfn: sum(map(bool, words)) for pfn, words in after.items()}
        return found | set(used.values()) | self._not_carried()

    def _not_carried(self) -> set[int]:
        """How many entries became INVALID, and how many stayed as they were past any end."""
        if self.event["op"] != "migrate":
            return set()
        was, now = self.left.entries(), self.after.entries()
        invalid = (1 << 8 * self.trace["guest"]["word_bytes"]) - 1
        ends = {self.before.shared_max, *range(0, self.before.shared_max % (1 << 40), self.n**2)}
        gone = [pfn for pfn, word in was.items() if word != now.get(pfn) == invalid]
        # Or what is not sent, whatever a resume stores over it later.
        unsent = [p for p, word in was.items() if word != invalid and word not in self.left.named]
        owned = self.left.named
        kept = [pfn for pfn, word in was.items() if word == now.get(pfn) and owned.get(word) == pfn]
        names = self.after.host.domain
        unnamed = [pfn for pfn, word in was.items() if word != invalid and pfn not in names]
        lost = (gone, unsent, unnamed)
        return {sum(pfn < end for pfn in some) for end in ends for some in lost} | {
            sum(pfn >= end for pfn in kept) for end in ends
        }

    def unknown(self, step: Step) -> list[str]:
        """The numbers of a step that are not known for what they are said to be."""
        return [
            f"{kind} {value}"
            for kind, values in step.numbers.items()
            for value in values
            if value is not None and value not in self.known[kind]
        ]

    # --- what is said of things by name -------------------------------------------------------

    def denied(self, step: Step) -> list[str]:
        """What a step says that is not so in the naive guest."""
        return [said for said, is_so in self.claims(step) if not is_so]

    def claims(self, step: Step) -> Iterator[tuple[str, bool]]:
        """Each thing that is said by name, and whether it is so before the event or after it."""
        text = step.text
        for page, name, pfn in re.findall(
            r"(?:page (\d+) of )?\b(p2m_\w+) \((?:PFN )(0x\w+)\)", text
        ):
            known = {m.structures.get(name) for m in self.moments} - {None}
            yield f"{name} is {pfn}", not known or int(pfn, 16) - int(page or 0) in known
        for top, pfn in re.findall(r"the mid_mfn page of top index (\d+) \(PFN (0x\w+)\)", text):
            known = {m.lists.get(int(top)) for m in self.moments} - {None}
            yield f"list of {top} is {pfn}", not known or int(pfn, 16) in known
        for index, pfn, mfn in re.findall(
            r"word (\d+) of [^()]*\(PFN (0x\w+)\), is MFN (0x\w+)", text
        ):
            words = self.before.memory.get(int(pfn, 16), [0] * self.n)
            yield f"word {index} of {pfn} is {mfn}", words[int(index)] == int(mfn, 16)
        for index, mfn in re.findall(r"Entry (\d+) of the frame list list is MFN (0x\w+)", text):
            where = self.tweaked.get("frame_list_list_mfn", self.before.shared_fll)
            page = self.before.pfn_of(where)
            words = self.before.memory.get(page, [0] * self.n) if page is not None else []
            is_so = int(index) < len(words) and words[int(index)] == int(mfn, 16)
            yield f"entry {index} of the list list is {mfn}", is_so
        for top, mfn in re.findall(r"p2m_top_mfn\[(\d+)\] is (?:now )?MFN (0x\w+)", text):
            pages = [(m, m.structures.get("p2m_top_mfn")) for m in self.moments]
            known = {m.memory[p][int(top)] for m, p in pages if p in m.memory}
            yield f"p2m_top_mfn[{top}] is {mfn}", int(mfn, 16) in known
        for old, new in re.findall(r"was MFN (0x\w+) and is MFN (0x\w+)\.$", text):
            if step.part == "restore":
                yield f"the list was at {old}", int(old, 16) == self.left.list_mfn
                is_so = self.after.list_mfn in (None, int(new, 16))
                yield f"the list is at {new}", is_so or self.want["outcome"] != "ok"
        for frames in re.findall(r"new host \((\d+) frames\)", text):
            yield f"{frames} frames", self.after.host.frames == int(frames)
        yield from self._of_m2p(step)

    def _of_m2p(self, step: Step) -> Iterator[tuple[str, bool]]:
        """What is said of m2p, on the host where that is looked at."""
        if "live" in self.event or step.part not in ("save", "rebuild"):
            return
        moment = self.before if step.part == "save" else self.after
        said = r"MFN (0x\w+)(?:: on host [^;]*; here it is|[:,]) "
        for mfn, pfn in re.findall(said + r"the guest's own,[^()]*\(PFN (0x\w+)\)", step.text):
            number = int(mfn, 16)
            is_so = number in moment.host.owned and moment.pfn_of(number) == int(pfn, 16)
            yield f"{mfn} is the guest's {pfn}", is_so
        for mfn, pfn in re.findall(said + r"not the guest's, m2p has PFN (0x\w+)", step.text):
            number = int(mfn, 16)
            is_so = number not in moment.host.owned and moment.pfn_of(number) == int(pfn, 16)
            yield f"{mfn} is another's {pfn}", is_so


def _tweaked(events: Sequence[Json], event: Json) -> Json:
    """What a tweak before an event has its save read in place of the shared info."""
    found: Json = {}
    for one in events:
        if one is event:
            break
        if one["op"] == "tweak":
            found = one.get("shared", {})
        elif one["op"] == "migrate":
            found = {}
    return found


def _note_pauses(guest: Any, moments: list[Moment]) -> None:
    """Let a naive guest add to `moments` what it is when a live migration pauses it."""
    name = "during" if isinstance(guest, eras.Machine) else "live_on"
    goes_on = getattr(guest, name)

    def noted(*arguments: Any) -> None:
        goes_on(*arguments)
        moments.append(Moment(guest))

    setattr(guest, name, noted)


def lived(trace: Json) -> list[Lookup]:
    """Live a trace in the naive model; return what each event's numbers are looked up in."""
    naive = eras.machine if trace["policy"] in eras.POLICIES else reference.Machine
    guest: Any = naive(trace)
    found, before = [], Moment(guest)
    paused: list[Moment] = []
    _note_pauses(guest, paused)
    for event in trace["events"]:
        paused.clear()
        want = guest.run(event)
        after = Moment(guest)
        found.append(Lookup(trace, event, want, before, after, tuple(paused)))
        if not reference.goes_on(event, want):
            break
        before = after
    return found


def wrong_numbers(told: Explanation, lookups: list[Lookup]) -> str:
    """What is wrong with the numbers of a told life; "" where nothing is."""
    for story, lookup in zip(told.events, lookups, strict=True):
        for step in story.steps:
            if found := lookup.unknown(step) + lookup.denied(step):
                return f"{story.title}: {', '.join(found)}: {step.text!r}"
    return ""
