"""A figure's file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.plots.gallery import save


def test_a_place_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be written there"):
        save(matplotlib.figure.Figure(), tmp_path / "nowhere" / "x.svg")


def test_what_was_there_stays_when_drawing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.svg"
    path.write_text("old")
    figure = matplotlib.figure.Figure()

    def fails(file: Any, **_: object) -> None:
        if not hasattr(file, "write"):
            Path(file).write_bytes(b"half")
        else:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fails)
    with pytest.raises((InputError, OSError)):
        save(figure, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.svg"]
