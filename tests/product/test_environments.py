"""The lanes under other versions (tests/environments.py): what they run is what there is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import environments
from p2mbatch.cli import cli


@pytest.mark.thorough
def test_each_command_of_the_lanes_ends_well(tmp_path: Path) -> None:
    for command in environments.COMMANDS:
        words = shlex.split(command.replace("OUT", str(tmp_path)))
        # Absolute words are no patterns.
        found = ([] if Path(word).is_absolute() else sorted(Path().glob(word)) for word in words)
        given = [
            str(path) for word, paths in zip(words, found, strict=True) for path in paths or [word]
        ]
        came = CliRunner().invoke(cli, given)
        assert came.exit_code == 0, (command, came.output)


def test_what_the_lanes_test_is_there() -> None:
    assert [name for name in environments.TESTS if not (environments.ROOT / name).exists()] == []
