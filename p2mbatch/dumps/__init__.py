"""Real guests' files: read them, audit them, turn them into traces, and write them.

`read_dump(path)` recognises a file by its content and returns a `DumpGuest`; `audit.audit(guest)`
says what is in it; `import_trace(guest, name)` makes a trace of it; `image_at(trace, event)` with
`write_stream` and `write_core` goes the other way. Names load when first used, so importing the
package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Audit": "audit",
    "DumpGuest": "model",
    "anonymise": "importer",
    "image_at": "image",
    "import_trace": "importer",
    "read_dump": "read",
    "save_check": "walk",
    "write_core": "core_writer",
    "write_stream": "stream_writer",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'p2mbatch.dumps' has no attribute {name!r}")
    return getattr(importlib.import_module(f"p2mbatch.dumps.{_EXPORTS[name]}"), name)
