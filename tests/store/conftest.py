"""A store with made-up cells, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep_support import fill


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill(tmp_path / "s", range(10))
    return tmp_path / "s"
