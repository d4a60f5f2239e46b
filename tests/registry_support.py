"""What tests that read users' files share: the registry of policies, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from p2mbatch.model import policies


@contextlib.contextmanager
def files_forgotten() -> Iterator[None]:
    """Forget at the end which files were read inside, and with them their children."""
    before = dict(policies._REGISTRY)
    try:
        yield
    finally:
        policies._REGISTRY.clear()
        policies._REGISTRY.update(before)
