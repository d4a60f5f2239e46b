"""The ways in which an event can end other than ok; the text of each is the recorded detail."""

from __future__ import annotations


class End(Exception):
    """An event that did not end ok."""

    outcome: str


class Bug(End):
    """A BUG_ON of the kernel; the text is its expression."""

    outcome = "bug"


class Fault(End):
    """A page fault; the text says what was being reached."""

    outcome = "fault"


class SaveFailed(End):
    """The source's checks failed: the toolstack refused; the text names the check."""

    outcome = "save-failed"


class RestoreFailed(End):
    """The destination had no frame for a page; the text names the page."""

    outcome = "restore-failed"


class Misdirected(End):
    """The toolstack accepted pages that are not the p2m."""

    outcome = "misdirected"
