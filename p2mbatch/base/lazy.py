"""Names of a package that load when they are first used.

A package's `__init__` names its exports twice: for type checkers in imports under `TYPE_CHECKING`,
for the interpreter in a table handed to `exports`, in the branch that checkers don't read (a module
with a `__getattr__` has every name for them, and a misspelt one would be `Any`). A test holds the
two together.
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

    `table` is exported name -> the module that has it, named from the package on; "module:name"
    where it has another name there, "." for a module that is itself exported. What was used once
    is kept in the package.
    """

    def load(name: str) -> Any:
        if name not in table:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if table[name] == ".":
            return importlib.import_module(f"{package}.{name}")
        module, _, inner = table[name].partition(":")
        value = getattr(importlib.import_module(f"{package}.{module}"), inner or name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return load, names
