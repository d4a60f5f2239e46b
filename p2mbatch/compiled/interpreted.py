"""The compiled functions as plain Python: for whoever wants to look on while one runs.

A second specialisation of the same functions, made of their own code when it is first asked for,
so that looking on costs nothing where nobody does. The twin of a kernel calls twins where the
kernel calls kernels. Its integers are NumPy's and wrap as compiled ones do: call it where NumPy
warns of no overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from p2mbatch.compiled import jit

Function = Callable[..., Any]


def _nothing(*arguments: object) -> None:
    """Do what a hint to the compiler does where there is none."""


def _code_of(value: object) -> FunctionType | None:
    """Return the Python function that a kernel was made of; None of what is no kernel."""
    # Where nothing is compiled a kernel is the function with its overflow warnings off.
    found = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
    return found if isinstance(found, FunctionType) else None


class Interpreter:
    """Twins of kernels; `instead` has for some of them what makes another function of the twin.

    `names` are constants that the twins see otherwise, wherever they are a module's.
    """

    def __init__(
        self,
        instead: Mapping[Function, Callable[[Function], Function]],
        names: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._names = names
        self._instead = {_code_of(kernel): change for kernel, change in instead.items()}
        self._spaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._twins: dict[FunctionType, Function] = {}

    def of(self, kernel: Function) -> Function:
        """Return the twin of `kernel`. Raises `TypeError` where it is none."""
        code = _code_of(kernel)
        if code is None:
            raise TypeError(f"{kernel!r} is no kernel")
        return self._twin(code)

    def _twin(self, code: FunctionType) -> Function:
        if code not in self._twins:
            made: Function = FunctionType(
                code.__code__,
                self._space(code.__globals__),
                code.__name__,
                code.__defaults__,
                code.__closure__,
            )
            change = self._instead.get(code)
            # Making the names may have made this twin too: there is one of each.
            self._twins.setdefault(code, change(made) if change else made)
        return self._twins[code]

    def _space(self, names: dict[str, Any]) -> dict[str, Any]:
        """Return the names that a module's twins see: with twins where there are kernels."""
        # The module's own names are kept: an id names nothing that has gone.
        space, _ = self._spaces.setdefault(id(names), ({}, names))
        if not space:
            space.update(names)
            space.update((name, self._seen(value)) for name, value in names.items())
            space.update((name, value) for name, value in self._names.items() if name in names)
        return space

    def _seen(self, value: Any) -> Any:
        """Return what a twin sees where the kernel sees `value`."""
        if value is jit.never_inline or value is jit.prefetch:
            return _nothing
        if value is jit.as_int:
            return np.int64
        if isinstance(value, ModuleType) and value.__name__.startswith("p2mbatch.compiled."):
            space = self._space(vars(value))
            return SimpleNamespace(**space)
        if callable(twin := getattr(value, "interpreted", None)):
            return twin
        code = _code_of(value)
        return value if code is None else self._twin(code)
