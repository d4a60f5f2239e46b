"""The monotonic clock, read by compiled code: what Python's `perf_counter_ns` reads."""

from __future__ import annotations

import time
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if numba.config.DISABLE_JIT:

    def now_ns() -> int:
        """Return the monotonic clock, in ns."""
        return time.perf_counter_ns()

else:

    @intrinsic  # type: ignore[untyped-decorator]
    def now_ns(typing_context: Any) -> Any:
        """Return the monotonic clock, in ns: the C library's `clock_gettime`.

        Found by its name when the code is loaded, so that what calls it can be kept in the cache.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, number = ir.IntType(64), ir.IntType(32)
            timespec = cgutils.alloca_once(builder, ir.ArrayType(word, 2))
            kind = ir.FunctionType(number, [number, timespec.type])
            read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
            builder.call(read, [number(time.CLOCK_MONOTONIC), timespec])
            both = builder.load(timespec)
            seconds = builder.mul(builder.extract_value(both, 0), word(1_000_000_000))
            return builder.add(seconds, builder.extract_value(both, 1))

        return types.int64(), generate

    now_ns.interpreted = time.perf_counter_ns  # type: ignore[attr-defined]
