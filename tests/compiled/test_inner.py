"""What is only a part of other kernels is no machine code of its own."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Flags
from numba.core.targetconfig import ConfigStack

from p2mbatch.compiled.flags import QuickFlags
from p2mbatch.compiled.jit import inline_kernel, inner_kernel, kernel

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


def _double(value: Any) -> Any:
    return value * 2


@pytest.mark.parametrize("as_part", [inner_kernel, inline_kernel])
def test_a_part_is_assembled_only_within_its_callers(
    as_part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = as_part(_double)
    assembled = list[str]()
    whole = JITCodeLibrary._finalize_specific

    def watched(library: Any) -> None:
        assembled.append(library.name)
        whole(library)

    monkeypatch.setattr(JITCodeLibrary, "_finalize_specific", watched)

    @kernel
    def caller(words: Any) -> Any:
        for k in range(len(words)):
            words[k] = part(words[k]) + part(np.int64(k))
        return words.sum()

    assert caller(np.arange(4)) == 24
    assert assembled and not any("_double" in name for name in assembled)
    assert part.overloads, "numba no longer compiles a part by itself: is inner.py of use?"


def test_flags_are_compared_as_numba_compares_them() -> None:
    plain, quick = Flags(), QuickFlags()
    some = Flags()
    some.nrt = True
    # An option that was set to its default is the same as one that was not.
    unset = Flags()
    unset.nrt = False
    every = [plain, quick, some, QuickFlags(some), unset, QuickFlags(unset)]
    for one in every:
        for other in every:
            same = one.values() == other.values()
            assert (one == other) is same and (not same or hash(one) == hash(other))
    assert quick != "flags" and {quick: 1}[plain] == 1


@pytest.mark.parametrize("of", [kernel, inner_kernel, inline_kernel])
def test_all_that_is_compiled_hands_quick_flags_on(
    of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[type]()
    whole = ConfigStack.enter

    def watched(stack: Any, flags: Any) -> Any:
        seen.append(type(flags))
        return whole(stack, flags)

    monkeypatch.setattr(ConfigStack, "enter", watched)
    made = of(lambda value: value + 1)
    made.compile((numba.types.int64,))
    assert seen and QuickFlags in seen
