"""What docs/stable.md promises is there: `interface.json` has it as 1.0 was released.

Something that is gone, or takes less than it did, is for the next major version. What is new is
added to the list when a minor version is released: `python tests/product/test_stable.py`.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from p2mbatch._version import __version__
from p2mbatch.base.shipped import preset_names
from p2mbatch.cli import cli
from p2mbatch.guests.fields import FIELDS
from p2mbatch.model import policies, toolstacks
from p2mbatch.model.fates import BY_OUTCOME, FATES
from p2mbatch.model.trace import FORMAT, FORMAT_2, FORMAT_3
from p2mbatch.store.columns import COLUMNS

LIST = Path(__file__).parent / "interface.json"
STABLE = Path(__file__).resolve().parents[2] / "docs" / "stable.md"

PACKAGES = ("p2mbatch", "p2mbatch.plots", "p2mbatch.report", "p2mbatch.dumps", "p2mbatch.bench",
            "p2mbatch.linux")  # fmt: skip

INNER = {"batches", "blocks", "canonical", "cell_names", "cells_beginning", "check", "columns",
         "failure_counts", "fate_counts", "life", "may_repeat", "pieces", "placement", "policies",
         "shelf", "source", "structural_cells", "unusual", "with_traceback", "add_note",
         "args"}  # fmt: skip
"""Attributes of public classes that other rooms of the package use, and that are not promised."""


def interface() -> dict[str, Any]:
    """Return what is stable, as JSON has it."""
    return {
        "commands": {" ".join(path): sorted(_options(own)) for path, own in _commands(cli)},
        "columns": {column.name: [column.dtype, column.unit, column.kind] for column in COLUMNS},
        "scenario fields": list(FIELDS),
        "trace formats": [FORMAT, FORMAT_2, FORMAT_3],
        "policies": list(policies.names()),
        "toolstacks": list(toolstacks.names()),
        "outcomes": list(BY_OUTCOME),
        "fates": list(FATES),
        "presets": preset_names(),
        "python": dict(_python()),
    }


def _commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    yield path or ("p2mbatch",), group
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)
        else:
            yield (*path, name), command


def _options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from (*parameter.opts, *parameter.secondary_opts)
        else:
            yield parameter.human_readable_name


def _python() -> Iterator[tuple[str, list[str]]]:
    for package in PACKAGES:
        face = importlib.import_module(package)
        for name in face.__all__:
            thing = getattr(face, name)
            yield f"{package}.{name}", _parameters(thing)
            if not inspect.isclass(thing) or package == "p2mbatch.linux":
                continue
            fields = getattr(thing, "__dataclass_fields__", {})
            for attribute in sorted(set(fields) - set(vars(thing))):
                if not attribute.startswith("_"):
                    yield f"{package}.{name}.{attribute}", []
            for attribute in sorted(set(vars(thing)) - INNER):
                if not attribute.startswith(("_", "model_")):
                    own = inspect.getattr_static(thing, attribute)
                    own = getattr(own, "__func__", own)
                    yield f"{package}.{name}.{attribute}", _parameters(own)


def _parameters(thing: Any) -> list[str]:
    """Return the parameters of a function; none of what is no function."""
    if not inspect.isfunction(thing):
        return []
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def gone(promised: Any, there: Any, where: str = "") -> list[str]:
    """Return what of a promise is not there any more, a line each."""
    if isinstance(promised, dict):
        lines = [f"{where}{name}" for name in promised if name not in there]
        shared = [name for name in promised if name in there]
        return lines + [
            line
            for name in shared
            for line in gone(promised[name], there[name], f"{where}{name}: ")
        ]
    return [f"{where}{entry}" for entry in promised if entry not in there]


def test_nothing_that_was_promised_is_gone() -> None:
    assert gone(json.loads(LIST.read_text(encoding="utf-8")), interface()) == []


def test_columns_keep_their_order_and_parameters_their_places() -> None:
    promised, there = json.loads(LIST.read_text(encoding="utf-8")), interface()
    names = [name for name in there["columns"] if name in promised["columns"]]
    assert names == list(promised["columns"])
    for name, parameters in promised["python"].items():
        assert there["python"][name][: len(parameters)] == parameters, name


@pytest.mark.parametrize("part", ["commands", "columns", "python", "policies"])
def test_what_goes_is_found(part: str) -> None:
    promised, there = interface(), interface()
    name = next(iter(promised[part]))
    there[part] = [n for n in there[part] if n != name] if isinstance(there[part], list) else {
        n: value for n, value in there[part].items() if n != name
    }  # fmt: skip
    assert gone(promised, there) == [f"{part}: {name}"]


def test_the_page_names_the_packages_and_formats_that_are_held() -> None:
    text = STABLE.read_text(encoding="utf-8")
    assert all(f"`{package}`" in text for package in PACKAGES)
    assert f"`{FORMAT}`" in text and "`/2`" in text and "`/3`" in text
    assert int(__version__.partition(".")[0]) >= 1


if __name__ == "__main__":
    LIST.write_text(json.dumps(interface(), indent=1) + "\n", encoding="utf-8")
