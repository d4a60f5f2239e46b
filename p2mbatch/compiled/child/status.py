"""Why a call of a child's stopped, beside what stops a policy of the user's own in Python."""

from __future__ import annotations

from typing import Final

from p2mbatch.compiled.child import layout
from p2mbatch.compiled.status import OWN

CHILD: Final = OWN + 10

CHILD_DIED: Final = CHILD
"""There is no child any more."""

CHILD_BROKEN: Final = CHILD + 1
"""What it says is not what such a call can have done."""

CHILD_PAGES: Final = CHILD + 2
"""It has words in more pages than can be told of."""

CHILD_STOPPED: Final = CHILD + 3
"""Whoever asked does not wait any longer."""

CHILD_RUNS: Final = CHILD + 4
"""Its guest boots with more runs of pages, of ranges or of extra memory than can be told of."""

CHILD_TABLES: Final = CHILD + 5
"""The tables of its linear p2m don't lead everywhere to tables, or it has no shared leaves."""

CHILD_ENDED: Final = CHILD + 10
"""Plus a STATUS_ of the child's (`layout`): how the call ended there."""

CHILD_DIVIDE: Final = CHILD_ENDED + layout.S_DIVIDE
CHILD_ILLEGAL: Final = CHILD_ENDED + layout.S_ILLEGAL
CHILD_STACK: Final = CHILD_ENDED + layout.S_STACK
CHILD_LOOP: Final = CHILD_ENDED + layout.S_LOOP
CHILD_SYSCALL: Final = CHILD_ENDED + layout.S_SYSCALL
CHILD_POOL: Final = CHILD_ENDED + layout.S_POOL
CHILD_TOUCHED: Final = CHILD_ENDED + layout.S_PAGES
CHILD_AREA: Final = CHILD_ENDED + layout.S_AREA
