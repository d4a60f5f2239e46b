"""How numba compiles what is only ever a part of other kernels: not to machine code of its own.

Numba optimises and assembles every function by itself and again within each that calls it. Of a
function that Python never calls, the first is thrown away, and it was a third of all compiling.
Here it is kept as intermediate code, and both happen where it is linked in. Nothing of such a
function needs numba's pruning of reference counts: it has none.

Source: `CPUCodeLibrary` and `BaseNativeLowering` of numba; what is overridden is not public there.
`tests/compiled/test_inner.py` says when another numba does it otherwise.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder

from p2mbatch.compiled.flags import WithQuickFlags


class _NoEngine:
    """What numba hands a function's environment to, which only object mode reads."""

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing: there is no symbol that could hold it."""


class _LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A function's code for other libraries to link in."""

    @property
    def codegen(self) -> _NoEngine:
        """What holds environments, as numba asks it."""
        return _NoEngine()

    def _optimize_final_module(self) -> None:
        """Do nothing: what links it in is optimised as a whole."""

    def _finalize_final_module(self) -> None:
        """Do no more than say so: there is no engine that it would be added to."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, as numba does for a function without a wrapper."""
        self._ensure_finalized()
        return 0


class InnerCompiler(WithQuickFlags, CompilerBase):  # type: ignore[misc]
    """Numba's passes, with a library that is never assembled."""

    def define_pipelines(self) -> list[Any]:
        """Return numba's own pipeline."""
        state = self.state
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return [DefaultPassBuilder.define_nopython_pipeline(state)]
