"""Names of a package that load when they are first used.

A package's `__init__` names its exports twice: for type checkers in imports under `TYPE_CHECKING`,
for the interpreter in a table handed to `exports`. A test holds the two together.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def exports(
    package: str, table: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of `package`.

    `table` is exported name -> the module that has it, named from the package on; a module that is
    itself exported is named ".". What was used once is kept in the package.
    """

    def load(name: str) -> Any:
        if name not in table:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if table[name] == ".":
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{table[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted([*table, "__version__"] if package == "p2mbatch" else table)

    return load, names
