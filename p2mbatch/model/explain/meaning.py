"""What the end of a life means, and what to do: for whoever runs the guest or mends its kernel."""

from __future__ import annotations

from p2mbatch.model.explain.boot import ARRAYS_END
from p2mbatch.model.explain.damage import damage_of, raced_of, told
from p2mbatch.model.explain.restore import SHARED
from p2mbatch.model.explain.save_table import DROPPED
from p2mbatch.model.explain.sets import ANOTHER_FRAME, NEVER_BUILT
from p2mbatch.model.explain.story import EventStory
from p2mbatch.model.fates import CORRUPTED, SURVIVED, fate_of
from p2mbatch.model.policies import Policy

Meaning = tuple[str, str]
"""What it means, and what to do."""

_SHUT_DOWN = "Shut the guest down cleanly where it runs and boot {better}."

_BETTER = {
    "stale": "a kernel with commit 375b2a9ada6d (Linux 2.6.37 and newer)",
    "none": "a kernel that rebuilds its list at every resume",
    "two-level-none": "Linux up to 2.6.29, or 2.6.33 and newer",
    "linear-3.19": "a current kernel",
    "linear-4.4": "Linux 5.14 or newer, or a stable kernel with its fix of max_pfn",
}

_OLD_LIST = {
    "stale": "The list still has frames of an earlier host: at the last resume the kernel looked "
    "for its list's pages by MFNs of the old host, found none of its own, and wrote elsewhere",
    "none": "The list still has the frames of an earlier host: this kernel builds it at boot and "
    "never again",
    "two-level-none": "The list still has the frames of an earlier host: this kernel's resume "
    "reports the list anew and does not build it (Linux 2.6.30 to 2.6.32 did so)",
}

_SAVE: dict[str, str] = {
    "max_pfn-too-large": "The guest reports more pages than a three-level list can name",
    "bad-fll-mfn": "The guest reports no frame for its list that a host can have: the shared info "
    "page was never set, or it was not set again after a restore",
    "map-fll-failed": "The guest reports a frame for its list that is not its own",
    "bad-mfn-in-fll": "An entry of the frame list list is a number that no frame of this host has: "
    "something wrote over it",
    "map-fl-failed": "The frame list list names a frame that is not the guest's",
    "bad-mfn-in-fl": "An entry of a frame list is a number that no frame of this host has: "
    "something wrote over it, or the p2m's own entry of the page that it stands for is no frame",
    "map-leaves-failed": "A frame list names a frame that is not the guest's",
    "bad-mfn-in-p2m-frame-list": "A page that the list names is not the leaf it should be, or lies "
    "past the last PFN to save: its own frame is not in the p2m where it must be",
    "bad-p2m-cr3": "The guest reports no possible frame for its page tables",
    "bad-p2m-range": "The guest reports an address for its linear list at which it can't lie",
    "map-ptes-failed": "A page table of the linear list is no page of the guest's",
    "bad-mfn-in-walk": "The page tables do not lead to every part of the linear list",
    "bad-mfn-in-page-table": "A page table under the linear list names a page that no save "
    "carries: it lies past what the guest reports as its end",
    "p2m-generation-changed": "The guest changed its linear list while it was being sent",
}

_OVERWRITTEN = (
    "Look for what wrote over the shared info page or the tables, and shut it down cleanly."
)

_ADVICE = {
    "max_pfn-too-large": "Look for a corrupt shared info page, or give the guest less memory.",
    "bad-p2m-cr3": _OVERWRITTEN,
    "bad-p2m-range": _OVERWRITTEN,
    "map-ptes-failed": _OVERWRITTEN,
    "bad-mfn-in-walk": _OVERWRITTEN,
}
"""What to do where another kernel would not help."""

_KEEP_SOURCE = "Keep the source until the guest has been seen to run."

_GREW_LIVE = (
    "The guest got memory while it was sent, in leaves that the toolstack had not seen when it "
    "mapped the list: what is there does not arrive",
    f"{_KEEP_SOURCE} Don't change a guest's memory while it is sent; a toolstack of Xen 4.7 or "
    "newer notices it where the guest reports a linear list (Linux 4.3 and newer).",
)

_NO_LIST = (
    "The guest keeps no list, as its start flags said that the toolstack reads the linear table "
    "itself, and this toolstack does not: the guest is still where it was",
    "Migrate it by a toolstack of Xen 4.7 or newer.",
)

_TRIMMED = (
    "Xen's toolstack (4.7 and newer) left out a block of the linear list that was in use, as its "
    "trim is right only where p2m_vaddr is a multiple of 1 GiB. Lay the table there, or save by a "
    "toolstack that reads the list in its place; every release of Linux from 4.3 on loses as much."
)

_LOSES_BESIDES = {
    "linear-4.4": " Where it got memory after boot, a kernel of 4.3 to 5.13 loses its last pages "
    "besides: 5.14 and newer do not.",
}

_OVER_MAX = (
    "The guest has more pages than this kernel's p2m was built for "
    "(CONFIG_XEN_MAX_DOMAIN_MEMORY): it reports them all, and the list has no entry for those past "
    "the end of its static arrays. The guest can't be saved, and so not be moved; it runs on where "
    "it is",
    "Boot it with less memory, or a kernel of Linux 2.6.37 and newer.",
)

_FAULTS = {
    "p2m_top entry": "The kernel followed a pointer of p2m_top that had been written over",
    "p2m_mid entry": "The kernel followed a pointer of a mid page that had been written over",
    "mid_mfn store": "The kernel stored a leaf's MFN through an address that leads to no page",
    "null list page": "The rebuild asked for a page for the list, got NULL, and stored into it "
    "without looking",
}

_BUGS = {
    "brk overflow": (
        "The kernel had reserved less memory at boot than the p2m of a guest this large needs",
        "Boot the guest with less memory, or a kernel that reserves more.",
    ),
    "bootmem overflow": (
        "The boot allocator has no page left for the p2m",
        "Boot the guest with more memory.",
    ),
    "_brk_start == 0": (
        "The resume needs a page for the list that only boot could have given: a top index has a "
        "mid page and no page of the list, for growing it had got the first and not the second",
        "Nothing can bring this guest back. Don't migrate a guest whose balloon driver has met a "
        "failed allocation; kernels from Linux 3.17 on take such a page when they need it.",
    ),
    "virt_to_mfn(mid_mfn) != *top_mfn_p": (
        "Memory was populated past the PFNs that the rebuild walks: there p2m_top_mfn keeps the "
        "numbers of an earlier host, and growing checks them",
        "Give a guest that was migrated no memory past the maximum that it booted with; kernels "
        "from Linux 3.19 on walk all of it.",
    ),
    "mfn != INVALID_P2M_ENTRY": (
        "A frame was set for a PFN past all that the p2m can hold",
        "Whatever asked for that PFN is wrong: find it.",
    ),
    "!ptep || level != PG_LEVEL_4K": (
        "A frame was set for a PFN past the linear p2m's area, where nothing is mapped",
        "Whatever asked for that PFN is wrong: find it.",
    ),
    "Out of memory": (
        "The resume asked for a page for the list and the guest had none left",
        "Leave the guest some memory when it is migrated.",
    ),
    "p == NULL": (
        "Growing got no page, and this kernel takes no NULL for an answer",
        "Leave the guest some memory; kernels from Linux 2.6.37 on return false instead.",
    ),
    "panic": (
        "Boot asked for a page of the linear p2m and got none",
        "Boot the guest with more memory.",
    ),
}  # fmt: skip

_MID_IDENTITY = (
    "The resume takes a whole mid of identity entries for an allocated one and asks brk for its "
    "page of the list: no guest with such a hole below its end survives a migration on this kernel",
    "Boot without e820_host, or a kernel of Linux 3.17 and newer.",
)

_NO_FRAME = "The new host has no frame for a page that was sent"

_IMPOSSIBLE = "The kernel found its p2m in a state that it holds impossible"

_OTHER_PAGES = (
    "Every check passed, on pages that are not the p2m: the guest that arrives runs on other "
    "memory than its own"
)

_MOVED_LIST = (
    "A page of the list was given another frame while the guest ran; p2m_top_mfn kept the old "
    "one's number, and growing checks it",
    "The kernel's own pages must keep their frames: find what exchanged them.",
)

_UNSHARED = (
    "The list was wrong from boot on: a kernel before the change tells its placeholder page by an "
    "address that mfn_to_virt() never gives on 64-bit, so all mids share one page of the list, and "
    "the last one's leaves are what it has"
)

_FOUND_PLACEHOLDER = (
    "The kernel looked for a page of its list by the MFN that it had on the old host, came to "
    "p2m_mid_missing_mfn, took the mid for one without a page, and asked for one that only boot "
    "could have given"
)

_ONE_AT_A_TIME = (
    "Let one CPU at a time change a guest's memory; one lock around growing would mend the kernel."
)

_RACED_BUG = (
    "Two CPUs grew the p2m below one top index at once, and one of them looked at the list while "
    "the other was changing it",
    _ONE_AT_A_TIME,
)

_RACED_LIST = (
    f"{_OTHER_PAGES}. Two CPUs had grown the p2m at once, and {{what}}: the list names leaves that "
    "are not the p2m's, or not all that are"
)

_USED_ON = "the one that came second had gone on using what it gave back"

_TOOK_PLACE = "the leaf of one had taken the place of the other's, and both stored theirs"


def detail_meaning(outcome: str, detail: str) -> str:
    """Return what a row's outcome and detail say of any guest, as a sentence.

    Causes depend on the life and are `conclude`'s.
    """
    check = detail.partition(" ")[0]
    if outcome == "restore-failed":
        text = _NO_FRAME
    elif outcome == "misdirected":
        return _OTHER_PAGES + "."
    elif outcome == "bug" and detail == "virt_to_mfn(mid_mfn) != *top_mfn_p":
        # Why that is so differs: the rebuild stopped short, or there is none.
        text = "What p2m_top_mfn has for a page of the list is another frame's number"
    elif outcome == "bug":
        text = _BUGS[detail][0] if detail in _BUGS else _IMPOSSIBLE
    elif outcome == "fault":
        text = _FAULTS.get(detail, f"The kernel followed a pointer that leads nowhere, at {detail}")
    else:
        text = _SAVE.get(check, "")
    # Behind the colon stands why.
    text = text.partition(": ")[0]
    return f"{text}." if text else ""


def fate_of_life(stories: list[EventStory]) -> str:
    """Return the fate of a life: its last event's, or that it was damaged unseen."""
    last = stories[-1]
    fate = fate_of(last.outcome, last.detail)
    return CORRUPTED if fate == SURVIVED and damage_of(stories) else fate


def conclude(policy: Policy, stories: list[EventStory]) -> Meaning:
    """Return what the end of a life means, and what to do."""
    last = stories[-1]
    detail = last.detail or ""
    if last.outcome in ("save-failed", "restore-failed", "misdirected"):
        text, advice = _refused(policy, stories, detail.partition(" ")[0])
    elif last.outcome == "bug":
        text, advice = _bug(policy, stories, detail)
    elif last.outcome == "fault":
        text, advice = _fault(policy, last, detail)
    else:
        return _came_through(policy, stories)
    damage, raced = damage_of(stories[:-1]), raced_of(stories[:-1])
    if "stray_writes" in damage or raced:
        text += f". Before that, {told(damage, raced)}"
    return text + ".", advice


def _better(policy: Policy) -> str:
    return _SHUT_DOWN.format(better=_BETTER.get(policy.name, "a current kernel"))


def _refused(policy: Policy, stories: list[EventStory], check: str) -> Meaning:
    last = stories[-1]
    if last.outcome == "restore-failed" and last.steps[-1].text.endswith(SHARED):
        return (
            "A store had gone into a page that many PFNs share: PFNs without memory look as if "
            "they had some, and the new host has no frames for those; the guest is still where it "
            "was",
            _better(policy),
        )
    if last.outcome == "restore-failed":
        return (
            f"{_NO_FRAME}; the guest is still where it was",
            "Migrate to a host with more memory.",
        )
    if last.outcome == "misdirected":
        if any(step.part == "live" and step.changes for step in last.steps):
            return _GREW_LIVE
        if what := _misled(stories):
            return _RACED_LIST.format(what=what), f"{_KEEP_SOURCE} {_ONE_AT_A_TIME}"
        return (
            _OTHER_PAGES,
            f"{_KEEP_SOURCE} {_better(policy)}",
        )
    if check == "p2m-generation-changed":
        return _SAVE[check] + "; nothing is lost", "Try again."
    text = _SAVE[check]
    if last.detail == f"bad-fll-mfn {(1 << 64) - 1}" and policy.is_linear:
        return _NO_LIST
    if check == "bad-mfn-in-fll" and any(ARRAYS_END in step.text for step in stories[0].steps):
        return _OVER_MAX
    read = check in ("map-fl-failed", "map-leaves-failed", "bad-mfn-in-p2m-frame-list")
    if read and _is_unshared(policy, stories):
        text = _UNSHARED
    elif "on host " in last.steps[-1].text or (read and last.number > 1):
        text = _OLD_LIST.get(policy.name, text)
    return (
        f"{text}. The guest can't be saved, and so not be moved; it runs on where it is",
        _ADVICE.get(check) or _better(policy),
    )


def _dead(policy: Policy) -> str:
    better = _BETTER.get(policy.name, "a current kernel")
    return f"Nothing can bring this guest back. Boot {better}."


def _misled(stories: list[EventStory]) -> str:
    """Return what CPUs that grew the p2m at once did to its list, as far as races can; or ""."""
    if any(story.race.stray_writes for story in stories):
        return _USED_ON
    return _TOOK_PLACE if any(story.race.num_replaced for story in stories) else ""


def _is_unshared(policy: Policy, stories: list[EventStory]) -> bool:
    """Return whether the first list was wrong already: boot's steps say so."""
    never_right = any(step.held is False for step in stories[0].steps)
    return not policy.lists_on_64_bit and stories[-1].number == 1 and never_right


def _bug(policy: Policy, stories: list[EventStory], detail: str) -> Meaning:
    if detail == "_brk_start == 0" and _has_mid_identity(stories):
        return _MID_IDENTITY
    if stories[-1].race.met_change:
        return _RACED_BUG
    if ANOTHER_FRAME in stories[-1].steps[-1].text:
        return _MOVED_LIST
    if NEVER_BUILT in stories[-1].steps[-1].text:
        return _OLD_LIST[policy.name] + "; growing checks it", _dead(policy)
    if detail == "_brk_start == 0" and policy.by_old_mfn:
        return _FOUND_PLACEHOLDER, _dead(policy)
    if detail in _BUGS:
        return _BUGS[detail]
    return (
        f"{_IMPOSSIBLE}: BUG_ON({detail})",
        "Read what the steps before it stored where.",
    )


def _has_mid_identity(stories: list[EventStory]) -> bool:
    return "is p2m_mid_identity (" in stories[-1].steps[-1].text


def _fault(policy: Policy, last: EventStory, detail: str) -> Meaning:
    text = _FAULTS.get(detail, f"The kernel followed a pointer that leads nowhere, at {detail}")
    if detail == "mid_mfn store" and policy.by_old_mfn:
        text += ": it had looked for its list's page by the MFN that it had on the old host"
        if last.op == "migrate":
            text += ", and on the new one nobody has that frame, or no page lies there"
    if detail == "null list page":
        return text, "Leave the guest some memory when it is migrated."
    return text, _dead(policy)


def _came_through(policy: Policy, stories: list[EventStory]) -> Meaning:
    moves = sum(story.op == "migrate" for story in stories)
    num = f"{moves} migration{'' if moves == 1 else 's'}"
    damage = damage_of(stories)
    if not damage:
        if not moves:
            return "The guest runs; it was not migrated.", ""
        return _whole(policy, stories, num)
    raced = raced_of(stories)
    came = f"The guest came through {num}, all reported ok" if moves else "The guest runs"
    text = f"{came}, but {told(damage, raced)}. Nothing tells it."
    others = {name for name, many in damage.items() if many > raced.get(name, 0)}
    advice = _advice_of(policy, stories, others)
    return text, f"{_ONE_AT_A_TIME} {advice}".strip() if raced else advice


def _advice_of(policy: Policy, stories: list[EventStory], damage: set[str]) -> str:
    """Return what to do about `damage` that no race did."""
    if not damage:
        return ""
    if "stray_writes" in damage:
        return "Don't trust what this guest has in memory. " + _better(policy)
    if "lost_pages" in damage:
        return _lost(policy, stories)
    return "Read which step stored where. " + _better(policy)


def _whole(policy: Policy, stories: list[EventStory], num: str) -> Meaning:
    """Return what it means that nothing that rows count was lost in so many migrations."""
    text = f"The guest came through {num} with all that it had"
    if lost := sum(story.lost_identity for story in stories):
        were = "PFN was" if lost == 1 else "PFNs were"
        text += f", but {lost} {were} the machine's own (1:1) and read as holes now"
    # Rows of the first recordings' machine count no losses: the steps tell of them.
    if any(step.part == "restore" and step.held is False for s in stories for step in s.steps):
        came = f"The guest came through {num}, but not all that it had was saved."
        return came, _lost(policy, stories)
    if policy.rebuilds:
        return text + ".", ""
    return (
        text + ". Its list has the frames of an earlier host, and the next save reads that.",
        _better(policy),
    )


def _lost(policy: Policy, stories: list[EventStory]) -> str:
    if any(DROPPED in step.text for story in stories for step in story.steps):
        return _TRIMMED + _LOSES_BESIDES.get(policy.name, "")
    if policy.name in _BETTER:
        return _better(policy)
    return (
        "Keep a guest's memory below the end that it reports at boot (max_pfn): what lies past it "
        "no save carries."
    )
