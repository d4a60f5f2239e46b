"""The compiler's flags, compared quickly.

Numba looks up which of its own functions an operator is by the flags too, hundreds of times for
each function that it compiles, and compares them by asking for every option by its name: an eighth
of all compiling. What is equal and what is not stays the same.

Source: `TargetConfig` and `CompilerBase` of numba. `tests/compiled/test_inner.py` says when another
numba does it otherwise.
"""

from __future__ import annotations

from typing import Any

from numba.core.compiler import Compiler, Flags

_DEFAULTS = {name: option.default for name, option in Flags.options.items()}

_HASH = hash(Flags())


class QuickFlags(Flags):  # type: ignore[misc]
    """Flags that are equal to others as numba's own are."""

    __slots__ = ()

    def __hash__(self) -> int:
        """Return what numba's own do, who hash the options' names alone."""
        return _HASH

    def __eq__(self, other: object) -> bool:
        """Return whether all options are the same, those that were not set by their defaults."""
        if not isinstance(other, Flags):
            return NotImplemented
        mine, theirs = self._values, other._values
        return bool(mine == theirs or {**_DEFAULTS, **mine} == {**_DEFAULTS, **theirs})


class WithQuickFlags:
    """Of a compiler: it hands such flags on."""

    def __init__(
        self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, names: Any
    ) -> None:
        """Take what numba's `CompilerBase` does."""
        super().__init__(typing, target, library, args, result, QuickFlags(flags), names)  # type: ignore[call-arg]


class KernelCompiler(WithQuickFlags, Compiler):  # type: ignore[misc]
    """Numba's own compiler."""
