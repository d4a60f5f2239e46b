"""Real guests' files: read them, audit them, turn them into traces, and write them.

`read_dump(path)` recognises a file by its content and returns a `DumpGuest`; `audit_guest(guest)`
says what is in it; `import_trace(guest, name)` makes a trace of it; `image_at(trace, event)` with
`write_stream` and `write_core` goes the other way. Names load when first used, so importing the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.lazy import exports

if TYPE_CHECKING:
    from p2mbatch.dumps.audit.findings import Audit
    from p2mbatch.dumps.audit.findings import audit as audit_guest
    from p2mbatch.dumps.audit.walk import save_check
    from p2mbatch.dumps.importing.to_trace import import_trace
    from p2mbatch.dumps.model import DumpGuest
    from p2mbatch.dumps.readers.read import read_dump
    from p2mbatch.dumps.writers.core import write_core
    from p2mbatch.dumps.writers.image import image_at
    from p2mbatch.dumps.writers.stream import write_stream
else:
    _EXPORTS = {
        "Audit": "audit.findings",
        "DumpGuest": "model",
        "audit_guest": "audit.findings:audit",
        "image_at": "writers.image",
        "import_trace": "importing.to_trace",
        "read_dump": "readers.read",
        "save_check": "audit.walk",
        "write_core": "writers.core",
        "write_stream": "writers.stream",
    }
    __getattr__, __dir__ = exports(__name__, _EXPORTS)

__all__ = [
    "Audit",
    "DumpGuest",
    "audit_guest",
    "image_at",
    "import_trace",
    "read_dump",
    "save_check",
    "write_core",
    "write_stream",
]
