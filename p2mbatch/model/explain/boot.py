"""What a boot laid out, and what it wanted where it did not come through.

Told from the state it left: nothing of an earlier host is in the way yet.
"""

from __future__ import annotations

from typing import Any

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.tables import NO_PAGE
from p2mbatch.model.explain.flat import tell_flat_boot
from p2mbatch.model.explain.sets import set_function
from p2mbatch.model.explain.story import Part, Said, Step
from p2mbatch.model.explain.view import View
from p2mbatch.model.outcomes import EventResult

TREE = "xen_build_dynamic_phys_to_machine()"

BUILD = "xen_build_mfn_list_list()"

SETUP = "xen_setup_mfn_list_list()"

ARRAYS_END = "The static arrays end"
"""What is said of a guest that has more pages than its kernel was built for."""


def tell_boot(view: View, result: EventResult, event: dict[str, Any]) -> list[Step]:
    """Return the steps of a boot that came to `result`."""
    steps = [_builder(view)]
    if view.policy.is_linear:
        return steps + tell_flat_boot(view, result)
    if view.state.top != NO_PAGE or view.policy.is_two_level:
        steps.append(_tree(view))
    steps += _marked(view, event)
    if result.ok:
        return [*steps, *_list(view), report_step(view, "boot")]
    return [*steps, _ended(view, result)]


def _step(say: Said, function: str, text: str, held: bool | None = None) -> Step:
    return Step("boot", function, text, held, say.numbers)


def _builder(view: View) -> Step:
    state, say = view.state, view.said()
    pages = -(-int(state.nr_pages) >> view.shift)
    text = (
        f"It gives {say.count(state.nr_pages, 'page')} and leaves their frames in "
        f"mfn_list, {say.count(pages, 'page')} from {say.pfn(state.mfn_list_pfn)} on."
    )
    return _step(say, "the domain builder", text)


def _tree(view: View) -> Step:
    state, say = view.state, view.said()
    leaves = -(-int(state.nr_pages) >> view.shift)
    # Those of 1:1 ranges come later.
    mids = min(int(state.num_mids), -(-leaves >> view.shift))
    if view.policy.is_two_level:
        leaves = -(-min(int(state.nr_pages), int(state.max_domain_pages)) >> view.shift)
        text = (
            f"It hangs {say.count(leaves, 'leaf', 'leaves')} of mfn_list into the static array "
            f"p2m_top ({say.pfn(state.static_top)}); all other entries are p2m_missing "
            f"({say.pfn(state.missing)})."
        )
        if state.nr_pages > state.max_domain_pages:
            past = say.count(state.nr_pages - state.max_domain_pages, "page")
            text += f" {ARRAYS_END} at {say.pfn(state.max_domain_pages)}: {past} are in no leaf."
            return _step(say, TREE, text, False)
    else:
        text = (
            f"It takes p2m_missing ({say.pfn(state.missing)}), p2m_mid_missing "
            f"({say.pfn(state.mid_missing)}) and p2m_top ({say.pfn(state.top)}) from brk, and "
            f"hangs {say.count(leaves, 'leaf', 'leaves')} of mfn_list below "
            f"{say.count(mids, 'mid page')}."
        )
    return _step(say, TREE, text)


def _marked(view: View, event: dict[str, Any]) -> list[Step]:
    """Return what boot did of 1:1 ranges and of leaves that move."""
    state, steps = view.state, []
    ranges = event.get("identity")
    if ranges is not None and len(ranges) and int(state.identity_pages):
        say = view.said()
        text = (
            f"It marks {say.count(len(ranges), 'range')} as 1:1, from {say.pfn(ranges[0][0])} to "
            f"{say.pfn(ranges[0][1] - 1)}"
            + (" and others" if len(ranges) > 1 else "")
            + f": {say.count(state.identity_pages, 'PFN')}"
            + (f", with {say.count(state.warnings, 'warning')}" if state.warnings else "")
            + "."
        )
        steps.append(_step(say, "set_phys_range_identity()", text.replace("1:1", "identity")))
    if view.policy.moves_leaves(view.word_bits // 8) and state.bootmem_used:
        say = view.said()
        text = (
            "It moves the leaves out of mfn_list into pages of the boot allocator, from "
            f"{say.pfn(state.bootmem_pfn)} on: {say.count(state.bootmem_used, 'page')} are taken "
            "of it in all."
        )
        steps.append(_step(say, "xen_revector_p2m_tree()", text))
    return steps


def _list(view: View) -> list[Step]:
    """Return how the first list was built."""
    state, say = view.state, view.said()
    if view.policy.is_two_level:
        text = (
            "It stores the MFN of every leaf in the static array p2m_top_mfn "
            f"({say.pfn(state.static_top_mfn)}), {say.count(state.num_leaves, 'entry', 'entries')}"
            f", and those of its pages in p2m_top_mfn_list ({say.pfn(state.static_list)})."
        )
        return [_step(say, BUILD, text)]
    text = (
        f"It builds the list for the first time: p2m_top_mfn is {say.pfn(state.top_mfn)}, "
        f"p2m_mid_missing_mfn {say.pfn(state.mid_missing_mfn)}, and "
        f"{say.count(state.num_mid_mfns, 'mid page')} got a mid_mfn page."
    )
    steps = [_step(say, BUILD, text)]
    if not state.num_mid_mfns and not view.policy.lists_on_64_bit and state.num_mids:
        steps.append(_two_addresses(view))
    return steps


def _two_addresses(view: View) -> Step:
    """Return why the first list of a 64-bit guest before the change has no page of its own."""
    state, say = view.state, view.said()
    page = int(state.mid_missing_mfn)
    text = (
        "mfn_to_virt() gives the direct map's address of p2m_mid_missing_mfn, "
        f"{say.word(view.direct_address(page))}, and the pointer is its kernel image address, "
        f"{say.word(view.address(page))}: they are not equal, so no mid page gets a list page of "
        "its own. All leaves go into that one page, a later mid over an earlier one "
        f"({say.count(state.num_mids, 'mid')} here)."
    )
    return _step(say, BUILD, text, None if state.num_mids == 1 else False)


def report_step(view: View, part: Part) -> Step:
    """Return what the shared info page was set to."""
    state, say = view.state, view.said()
    page = int(state.static_list if view.policy.is_two_level else state.top_mfn)
    what = "p2m_top_mfn_list" if view.policy.is_two_level else "p2m_top_mfn"
    text = (
        f"The shared info page gets pfn_to_mfn_frame_list_list = {say.mfn(state.shared_fll)}, the "
        f"MFN of {what} ({say.pfn(page)}), and max_pfn {say.count(state.shared_max)}."
    )
    return Step(part, SETUP, text, None, say.numbers)


# Structure -> what is asked for when it is still missing, in the order of boot.
_WANTED = (
    ("missing", "p2m_missing"), ("mid_missing", "p2m_mid_missing"), ("top", "p2m_top"),
    ("mid_missing_mfn", "p2m_mid_missing_mfn"), ("top_mfn_p", "p2m_top_mfn_p"),
    ("top_mfn", "p2m_top_mfn"),
)  # fmt: skip


def _ended(view: View, result: EventResult) -> Step:
    """Return what a boot that did not come through wanted."""
    state, say = view.state, view.said()
    if result.detail == "brk overflow":
        text = (
            f"It has not enough pages left: {say.count(state.brk_used)} of "
            f"{say.count(state.brk_pages)} are taken{_wanted(view)}. The kernel does not get "
            "through boot."
        )
        return _step(say, "extend_brk()", text, False)
    if result.detail == "bootmem overflow":
        text = (
            f"The boot allocator has not enough pages left: {say.count(state.bootmem_used)} of "
            f"{say.count(state.bootmem_pages)} are taken."
        )
        return _step(say, "alloc_bootmem_pages()", text, False)
    text = f"It ends in {result.outcome}: {result.detail}."
    return _step(say, TREE, text, False)


def _wanted(view: View) -> str:
    if view.policy.is_era:
        return ""
    for name, kernel_name in _WANTED:
        if getattr(view.state, name) == NO_PAGE and not (
            name == "top_mfn_p" and view.policy.by_old_mfn
        ):
            number = int(view.state.nr_pages) > 0
            mids = -(-int(view.state.nr_pages) // view.n**2)
            if name == "mid_missing_mfn" and number and int(view.state.num_mids) < mids:
                return ", and a mid page of the tree is wanted"
            return f", and {kernel_name} is wanted"
    return ", and a mid_mfn page of the list is wanted"


def tell_layout(view: View, num_grown: int) -> Step:
    """Return how extra memory was populated behind a boot."""
    state, say = view.state, view.said()
    text = (
        f"The balloon driver populates {say.count(num_grown, 'leaf', 'leaves')} of extra memory: "
        f"the p2m grows by {say.count(state.pool_used, 'page')} of the page allocator and has "
        f"{say.count(state.num_mids, 'mid page')} now."
    )
    return _step(say, set_function(view.policy), text)


def tell_tweak(view: View, event: dict[str, Any]) -> Step:
    """Return which values the next save will read in place of the guest's."""
    say = view.said()
    parts = [f"{name} as {say.word(value)}" for name, value in event.get("shared", {}).items()]
    parts += [
        f"entry {say.index(i)} of {view.name(say, page)} as {say.mfn(mfn)}"
        for page, i, mfn in event.get("ptes", [])[:4]
    ]
    text = f"The next save, and nothing else, reads {', '.join(parts)}."
    return Step("save", "the trace", text, None, say.numbers)


def tell_poke(view: View, words: Int64Array) -> Step:
    """Return that words of the guest's pages are as its file has them (int64[k, 3])."""
    say = view.said()
    pages = sorted(set(words[:, 0].tolist()))
    text = (
        f"{say.count(len(words), 'word')} of {say.count(len(pages), 'page')} are as the guest's "
        f"file has them, the first word {say.index(words[0, 1])} of {view.name(say, pages[0])}: "
        f"{say.word(words[0, 2])}."
    )
    return Step("set", "the imported file", text, None, say.numbers)
