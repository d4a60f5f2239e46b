"""What an event came to: the meaning of a kernel's status code, and all that a row tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.status import (
    BUGS,
    FAULTS,
    MISDIRECTED,
    NO_MEMORY,
    OK,
    OWN,
    RESTORE_FAILURES,
    SAVE_ABORTED,
    SAVE_BAD_CR3,
    SAVE_BAD_RANGE,
    SAVE_FAILURES,
    TABLE_FAILURES,
)
from p2mbatch.model.fates import ABORTED_DETAIL
from p2mbatch.model.policies import Policy

_LOW = 0xFFFF_FFFF


@dataclass(slots=True)
class EventResult:
    """What an event came to (model section 7), and how long the kernels took."""

    outcome: str = "ok"
    """`ok`, `bug`, `fault`, `save-failed`, `restore-failed` or `misdirected` (model section 7)."""
    detail: str | None = None
    """The BUG's expression, what was reached, or the failed check; None when ok."""
    set_returned: bool = True
    """Of a set: what `set_phys_to_machine` returned last; False where memory was wanting. Of a live
    migration: False where it was so in some round."""
    entries_set: int = 0
    """Of a set, or of all rounds of a live migration: how many entries succeeded."""
    stray_writes: int = 0
    """Stores of this event through a mid_mfn page that is not the true one (model section 6)."""
    stray_pages: int = 0
    """Distinct pages that they hit."""
    where: str | None = None
    """Under a policy of the user's own, "FILE:LINE" of what ended the event, else of its first
    stray write."""
    lost_pages: int = 0
    """Of a migration: pages populated before the restore and not after the resume (`judge`)."""
    ghost_pages: int = 0
    """Of a migration: pages that m2p names afterwards and that were not populated before."""
    lost_identity_pages: int = 0
    """Of a migration: pages that read as their own number before and not after. A p2m of one tree
    with an mfn list list holds none: kernels have identity entries since Linux 2.6.39."""
    placeholder_writes: int = 0
    """Of a set or of a live migration: stores into pages that many PFNs share. The kernels that
    made such stores had pages of identity entries."""
    rebuild_ns: int = 0
    save_walk_ns: int = 0
    restore_ns: int = 0

    def living(self, went: EventResult) -> EventResult:
        """Return this with what the guest had set while it was sent, which came to `went`."""
        self.set_returned, self.entries_set = went.set_returned, went.entries_set
        self.placeholder_writes = went.placeholder_writes
        self.save_walk_ns = self.save_walk_ns or went.save_walk_ns
        return self

    @property
    def ok(self) -> bool:
        """Return whether the guest lives on: `outcome` is ok."""
        return self.outcome == "ok"


def meaning_of(
    status: int, number: int, policy: Policy, statics: Int64Array
) -> tuple[str, str | None]:
    """Return the outcome and the detail that a kernel's status code means.

    `number` is `State.detail` as the guest's word, `statics` the guest's `P2MTables.statics`.
    """
    if status in (OK, NO_MEMORY):
        return "ok", None
    if status in BUGS:
        return "bug", BUGS[status]
    if status in FAULTS:
        return "fault", FAULTS[status]
    if status == MISDIRECTED:
        return "misdirected", "-"
    if status >= OWN and policy.own is not None:
        return policy.own.meaning(status, statics)
    if status == SAVE_ABORTED:
        return "save-failed", ABORTED_DETAIL
    if status in TABLE_FAILURES:
        return "save-failed", _of_table(status, number)
    if status in RESTORE_FAILURES:
        return "restore-failed", f"{RESTORE_FAILURES[status]} {number}"
    return "save-failed", f"{SAVE_FAILURES[status]} {number}"


def _of_table(status: int, number: int) -> str:
    """Return the detail of a failed walk of a linear p2m's table."""
    name = TABLE_FAILURES[status]
    if status == SAVE_BAD_RANGE:
        return name
    return (
        f"{name} {number}" if status == SAVE_BAD_CR3 else f"{name} {number >> 32} {number & _LOW}"
    )
