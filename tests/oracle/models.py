"""The naive and the compiled model behind one interface: run a trace, look at what is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oracle import reference
from oracle.machines import DIRECT_MAP
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.lookup import lookup
from p2mbatch.model.replay import new_life, observe, run_event
from p2mbatch.model.replay import replay as replay_compiled
from p2mbatch.model.trace_file import parse_trace

Json = dict[str, Any]


class Model(ABC):
    """A guest that lives through a trace. Words are unsigned, as the machine has them."""

    def __init__(self, trace: Json) -> None:
        self.trace = trace
        self.word_bytes: int = trace["guest"]["word_bytes"]
        self.n = 4096 // self.word_bytes
        self.invalid = (1 << 8 * self.word_bytes) - 1
        self.base = DIRECT_MAP[self.word_bytes]

    def run(self) -> Iterator[Json]:
        """Run the events, yielding an "expected" object after each, up to the first not ok."""
        for index in range(len(self.trace["events"])):
            result = self.run_event(index)
            yield result
            if result.get("outcome", "ok") != "ok":
                return

    @abstractmethod
    def run_event(self, index: int) -> Json:
        """Run one event of the trace and return its "expected" object."""

    @abstractmethod
    def page(self, pfn: int) -> list[int]:
        """The words of a page."""

    @abstractmethod
    def structure(self, name: str) -> int:
        """PFN of missing, mid_missing, top, mid_missing_mfn, top_mfn_p or top_mfn."""

    @abstractmethod
    def true_mid_mfn(self, top: int) -> int:
        """PFN of the mid_mfn page last installed for a top index."""

    @abstractmethod
    def lookup(self, pfn: int) -> int:
        """`get_phys_to_machine`."""

    @abstractmethod
    def m2p(self, mfn: int) -> int | None:
        """PFN that the host's m2p holds for a frame, None where it holds none."""

    @abstractmethod
    def owns(self, mfn: int) -> bool:
        """Whether a frame is the guest's."""

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Frames of the host that the guest is on."""

    @property
    @abstractmethod
    def xen_max_p2m_pfn(self) -> int:
        """`xen_max_p2m_pfn`, a count of PFNs."""

    @property
    @abstractmethod
    def shared_info(self) -> tuple[int, int]:
        """`pfn_to_mfn_frame_list_list` and `max_pfn`."""

    def pfn_at(self, address: int) -> int:
        """PFN of the page that an address lies in."""
        return ((address - self.base) & self.invalid) >> 12

    def mfn_of_page(self, pfn: int) -> int:
        """`pfn_to_mfn`: the entry without the foreign bit."""
        entry = self.lookup(pfn)
        return entry if entry == self.invalid else entry & ~(1 << 31)


class Reference(Model):
    """The naive model."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.machine = reference.Machine(trace)

    def run_event(self, index: int) -> Json:
        return self.machine.run(self.trace["events"][index])

    def page(self, pfn: int) -> list[int]:
        return list(self.machine.page(pfn))

    def structure(self, name: str) -> int:
        return self.machine.pfn_at(getattr(self.machine, name))

    def true_mid_mfn(self, top: int) -> int:
        machine = self.machine
        return machine.pfn_at(machine.true_mid_mfn.get(top, machine.mid_missing_mfn))

    def lookup(self, pfn: int) -> int:
        return self.machine.get_phys_to_machine(pfn)

    def m2p(self, mfn: int) -> int | None:
        pfn = self.machine.host.pfn_of(mfn)
        return None if pfn == self.invalid else pfn

    def owns(self, mfn: int) -> bool:
        return mfn in self.machine.host.owned

    @property
    def num_frames(self) -> int:
        return self.machine.host.frames

    @property
    def xen_max_p2m_pfn(self) -> int:
        return self.machine.xen_max_p2m_pfn

    @property
    def shared_info(self) -> tuple[int, int]:
        return self.machine.shared_fll, self.machine.shared_max_pfn


class Compiled(Model):
    """The package's model."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.parsed = parse_trace(trace)
        self.life = new_life(self.parsed)

    def run_event(self, index: int) -> Json:
        event = self.parsed.events[index]
        result = run_event(self.life, self.parsed, event)
        if event["op"] == "fail_alloc":
            return {"op": "fail_alloc"}
        return observe(self.life, event["op"], result)

    def page(self, pfn: int) -> list[int]:
        slots = self.life.tables.slots
        at = np.flatnonzero(slots[: self.life.scalar("num_slots"), tb.P_PAGE] == pfn)
        if not len(at):
            return [0] * self.n
        return [word & self.invalid for word in self.life.tables.words[at[0]].tolist()]

    def structure(self, name: str) -> int:
        return self.life.scalar(name)

    def true_mid_mfn(self, top: int) -> int:
        return int(self.life.tables.true_mid_mfn[top])

    def lookup(self, pfn: int) -> int:
        out = np.empty(1, np.int64)
        lookup(self.life.tables, self.life.host, np.array([pfn]), out)
        return int(out[0]) & self.invalid

    def m2p(self, mfn: int) -> int | None:
        pfn = int(self.life.host.m2p[mfn])
        return None if pfn == -1 else pfn

    def owns(self, mfn: int) -> bool:
        return mfn < len(self.life.host.owned) and bool(self.life.host.owned[mfn])

    @property
    def num_frames(self) -> int:
        return len(self.life.host.owned)

    @property
    def xen_max_p2m_pfn(self) -> int:
        return self.life.scalar("xen_max")

    @property
    def shared_info(self) -> tuple[int, int]:
        return self.life.scalar("shared_fll") & self.invalid, self.life.scalar("shared_max")


REPLAYS: dict[type[Model], Callable[[Json], list[Json]]] = {
    Reference: reference.replay,
    Compiled: lambda trace: replay_compiled(parse_trace(trace)),
}
