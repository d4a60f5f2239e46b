"""The boot of a linear p2m, its list and what it reports (linear-spec L3 to L6)."""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.tables import NO_PAGE
from p2mbatch.model.explain.log import Record, Took
from p2mbatch.model.explain.story import Part, Step
from p2mbatch.model.explain.view import View
from p2mbatch.model.outcomes import EventResult


def tell_flat_boot(view: View, result: EventResult) -> list[Step]:
    """Return the steps of a boot, behind what the domain builder did."""
    state, say = view.state, view.said()
    text = (
        f"It maps mfn_list anew as one table of {say.count(state.max_p2m_pfn, 'entry', 'entries')} "
        f"at {say.word(state.p2m_vaddr)}"
    )
    if state.missing != NO_PAGE:
        text += f": p2m_missing is {say.pfn(state.missing)}"
    if state.identity != NO_PAGE:
        text += (
            f", p2m_identity {say.pfn(state.identity)}; PFNs past the {say.count(state.nr_pages)} "
            "that it boots with read as identity"
        )
    text += f". {say.count(state.boot_used, 'boot page')} are taken in all."
    steps = [Step("boot", "xen_vmalloc_p2m_tree()", text, None, say.numbers)]
    if not result.ok:
        say = view.said()
        text = (
            f"It has no boot page left after {say.count(state.boot_used)}, and the kernel panics."
        )
        return [*steps, Step("boot", "alloc_p2m_page()", text, False, say.numbers)]
    return [*steps, _list(view), tell_flat_report(view, "boot")]


def _list(view: View) -> Step:
    state, say = view.state, view.said()
    if state.top_mfn == NO_PAGE:
        text = (
            "The start flags say that the toolstack reads the table itself: no list is built, up "
            "to the first restore, which clears the flags."
        )
    else:
        text = (
            f"It builds the list: p2m_top_mfn is {say.pfn(state.top_mfn)}, p2m_mid_missing_mfn "
            f"{say.pfn(state.mid_missing_mfn)}, and {say.count(state.num_mid_mfns, 'block')} got a "
            "mid_mfn page."
        )
    return Step("boot", "xen_build_mfn_list_list()", text, None, say.numbers)


def tell_flat_report(view: View, part: Part) -> Step:
    """Return what the shared info page was set to."""
    state, say = view.state, view.said()
    if state.shared_fll == INVALID:
        text = "The shared info page gets no list (pfn_to_mfn_frame_list_list is all ones)"
    else:
        text = (
            f"The shared info page gets pfn_to_mfn_frame_list_list = {say.mfn(state.shared_fll)}, "
            f"the MFN of p2m_top_mfn ({say.pfn(state.top_mfn)})"
        )
    text += ("," if state.reports_table else " and") + f" max_pfn {say.count(state.shared_max)}"
    if state.reports_table:
        text += (
            f", p2m_cr3 of {say.mfn(state.shared_cr3)}, p2m_vaddr {say.word(state.shared_vaddr)} "
            f"and p2m_generation {say.count(state.generation)}"
        )
    return Step(part, "xen_setup_mfn_list_list()", text + ".", None, say.numbers)


def tell_first_list(view: View, records: list[Record], failed: bool) -> Step:
    """Return how a resume built a list where there was none; `view` is after it."""
    say = view.said()
    took = [r.page for r in records if isinstance(r, Took) and r.page >= 0]
    text = (
        "There is no list yet, as the toolstack read the table itself up to the restore: the "
        "kernel takes the first pages of one from the page allocator"
    )
    if took:
        text += ", " + ", ".join(view.name(say, page) for page in took[:3])
    text += "."
    if failed:
        text += " alloc_p2m_page() returns NULL for the next, and nobody looks: a fault."
    return Step(
        "rebuild", "xen_build_mfn_list_list()", text, False if failed else None, say.numbers
    )
