"""Names of files that more than one floor of the house looks for."""

JOURNAL_NAME = "journal.sqlite"
"""A sweep's store, in the directory that is called its run."""
