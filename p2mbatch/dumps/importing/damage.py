"""A damaged list of a real guest, carried over into its trace.

The boot and the sets of a trace leave a sound list. Where the file's differs, in the pages that the
list is made of, an event `poke` writes the file's words: from there on the guest is the file's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.compiled import tables as tb
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.writers.as_guest import guest_of_image
from p2mbatch.dumps.writers.image import image_of, life_at
from p2mbatch.model.life import Life
from p2mbatch.model.trace import FORMAT_3, Trace


def with_damage(guest: DumpGuest, walk: Walk, trace: Trace, *, exact: bool) -> Trace:
    """Return `trace` with the words that `guest`'s list has and a sound one has not.

    `walk` is the guest's failed save check, `exact` whether the trace has the list's pages where
    the file has them. Raises `InputError`, with the reason, where the trace's guest would not fail
    as the file's does.
    """
    if walk.linear is not None:
        raise InputError(_refusal(guest, walk, "it is in the page tables, which no event writes"))
    if not exact:
        why = "the file's tree is not laid out as this policy's boot does it"
        raise InputError(_refusal(guest, walk, why))
    life = life_at(trace)
    shared = guest.shared_info
    assert shared is not None
    if life.scalar("shared_fll") != shared.frame_list_list_mfn:
        why = (
            f"the shared info page names MFN {shared.frame_list_list_mfn:#x} as the frame list "
            f"list, where a sound one names {life.scalar('shared_fll'):#x}, and no event writes it"
        )
        raise InputError(_refusal(guest, walk, why))
    words = _differing(guest, walk, life)
    if not len(words):
        raise InputError(_refusal(guest, walk, "the list's own pages are sound"))
    events = [*trace.events, {"op": "poke", "words": words}]
    damaged = replace(trace, events=events, format=FORMAT_3)
    life.poke(words)
    again = recover(guest_of_image(image_of(life), guest.name)).walk
    if again.result != walk.result:
        why = f"with the list's words the replayed guest's check is {again.result}"
        raise InputError(_refusal(guest, walk, why))
    return damaged


def _refusal(guest: DumpGuest, walk: Walk, why: str) -> str:
    """Return why the damage of `guest` can't be carried over."""
    at = ""
    if walk.failing is not None and walk.failing.mfn is not None:
        at = f": {walk.failing.where} is MFN {walk.failing.mfn:#x}, {walk.failing.leads_to}"
    return (
        f"{guest.name}: the guest's mfn list list is damaged ({walk.result}{at}), and a trace "
        f"can't begin with that: {why}; use --heal for this guest with a sound list"
    )


def _differing(guest: DumpGuest, walk: Walk, life: Life) -> Int64Array:
    """Return int64[k, 3] of [page, index, word]: the list's words where the file has others."""
    listed = np.unique(life.tables.true_mid_mfn[life.tables.true_mid_mfn >= 0])
    own = np.array([life.scalar("mid_missing_mfn"), life.scalar("top_mfn")])
    pages = life.tables.slots[: life.scalar("num_slots"), tb.P_PAGE].tolist()
    slot_of = {page: slot for slot, page in enumerate(pages)}
    rows = [np.zeros((0, 3), np.int64)]
    for pfn in np.union1d(listed, own[own >= 0]).tolist():
        page = guest.pages.read(pfn)
        if page is None or not page.complete:
            why = f"the file does not show the list's page at PFN {pfn}"
            raise InputError(_refusal(guest, walk, why))
        index = np.flatnonzero(page.words != life.tables.words[slot_of[pfn]])
        rows.append(np.stack([np.full(index.size, pfn), index, page.words[index]], axis=1))
    return np.concatenate(rows)
