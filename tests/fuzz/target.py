"""What the fuzzers call: read some bytes in every way and hold the results against each other.

Any exception but the package's own one-line errors is a finding, and so is a difference between
reading a file and reading a pipe.
"""

from __future__ import annotations

import gzip
import io

from p2mbatch.base.errors import P2MBatchError
from p2mbatch.base.sources import SequentialCursor
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_cursor
from p2mbatch.model.trace_file import parse_trace, trace_to_json

AUDIT_PFNS = 1 << 21
"""Guests that claim a larger span are read but not audited, so that one run takes milliseconds."""


def _import(guest):
    """Import `guest` under the policy that it shows, or says it does not, and under a tree's."""
    for policy in (None, "identity"):
        try:
            parse_trace(trace_to_json(import_trace(guest, "fuzz", policy, heal=True)))
        except P2MBatchError as error:
            assert "\n" not in str(error), error


def _outcome(read, *, imports=False):
    """Return (what a reader made of its input, the audit where it made a guest)."""
    try:
        guest = read()
        if guest.max_p2m_pfn > AUDIT_PFNS:
            return "guest", None
        result = audit(guest)
        audit_text(result)
        if imports:
            _import(guest)
        return "guest", result.to_json()
    except P2MBatchError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 600, text
        return "error", None


def check(data: bytes) -> str:
    """Read `data` mapped, as a pipe and through gzip; return "guest" or "error"."""
    mapped, full = _outcome(lambda: read_bytes(data, "fuzz"), imports=True)
    piped, partial = _outcome(
        lambda: read_cursor(SequentialCursor(io.BytesIO(data).readinto, "fuzz"), small_bytes=0)
    )
    assert mapped == piped, f"mapped: {mapped}, piped: {piped}"
    if full is not None and partial is not None:
        for key in ("format", "word_bytes", "max_p2m_pfn", "pages_present", "p2m_sha256"):
            assert full[key] == partial[key], key
        # A pipe may not be able to tell, but it never tells something else.
        if full["save_check"] is not None and partial["save_check"] is not None:
            assert full["save_check"] == partial["save_check"]
    return mapped


def check_packed(data: bytes) -> str:
    """Read `data` as what a gzip file holds."""
    file = io.BytesIO(data)
    unpacked = gzip.GzipFile(fileobj=file)
    cursor = SequentialCursor(unpacked.readinto, "fuzz", file.tell)
    return _outcome(lambda: read_cursor(cursor, small_bytes=1 << 20))[0]
