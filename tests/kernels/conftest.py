"""What all tests of kernels in C share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry_support import files_forgotten


@pytest.fixture(scope="module", autouse=True)
def _fresh() -> Iterator[None]:
    """Forget afterwards which files were read."""
    with files_forgotten():
        yield
