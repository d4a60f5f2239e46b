"""The walk of a toolstack of Xen 4.5 or older, check by check, in that one's order and words.

Source: libxc's `xc_domain_save` of those releases (history section 11), read and not recorded: it
looks at no number before it maps it, but for a 0 of the frame list list, and trims nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from p2mbatch.model import toolstacks
from p2mbatch.model.explain.save import ORDER, TreeWalk
from p2mbatch.model.explain.story import Said


class LegacyWalk(TreeWalk):
    """One walk to be told, by what it came to."""

    size_from = "XENMEM_maximum_gpfn is the highest PFN by the shared info page, whose max_pfn is"

    def _checks(self) -> tuple[Callable[[], bool], ...]:
        return (
            self._size, self._list_list, self._map_list_list, self._map_lists, self._map_leaves,
            self._same_p2m,
        )  # fmt: skip

    def _error(self, say: Said) -> str:
        text = toolstacks.said(self.tool.name, self.failed)
        if self.failed != ORDER[-1]:
            return text
        entry = say.printed(self._entry(self.at))
        return (
            f"{text}: entry {say.count(self.at << self.view.shift)}: "
            f"p2m_frame_list[{say.index(self.at)}] is {entry}, max {say.printed(self.view.frames)}"
        )

    def _list_list(self) -> bool:
        say = self.view.said()
        text = f"pfn_to_mfn_frame_list_list is {say.mfn(self.fll_mfn)}"
        if self.failed == ORDER[1]:
            text += ": it waits a second for the guest to set it, and gives up."
        else:
            text += ": it is set, and whether it is a frame of this host is not asked."
        return self._check(say, text, ORDER[1])
