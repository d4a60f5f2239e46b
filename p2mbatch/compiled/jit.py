"""The only file that knows the compiler's options and where compiled kernels are cached.

Numba's disk cache does not notice an edited callee in another module nor changed options, so the
cache lives in a per-user directory whose name is a digest of every kernel source, numba's version,
the options and the CPU. Nothing is compiled at import: signatures are lazy.

Environment:
    P2MBATCH_BOUNDSCHECK=1  compile with bounds checks and without the disk cache (for tests).
    P2MBATCH_CACHE_DIR      where to keep compiled kernels instead of the user's cache directory.
    NUMBA_DISABLE_JIT=1     numba's own switch: kernels run as plain Python.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding as llvm
import numba
import numpy as np
import platformdirs
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic, typeof_impl

from p2mbatch.compiled import cache
from p2mbatch.compiled.flags import KernelCompiler
from p2mbatch.compiled.inner import InnerCompiler
from p2mbatch.compiled.quick_start import without_scipy

without_scipy()

F = TypeVar("F", bound=Callable[..., Any])

Inner = Callable[..., int]
"""An inner kernel that another is handed by the kernel that names it: known when compiled.

Whoever takes one is an `inline_kernel`: a function that is still an argument when all is optimised
is an address of this process, and what has one is not kept in the cache.
"""

BOUNDSCHECK = os.environ.get("P2MBATCH_BOUNDSCHECK", "") not in ("", "0")

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": BOUNDSCHECK,
    "error_model": "numpy",
    # Said of none, it would be said of all that an `inline_kernel` is the first to call.
    "forceinline": False,
}

# Kernels make no arrays, so nothing needs counting; counting the tables' references at every call
# cost more than most calls did.
_NO_COUNTING: dict[str, Any] = {"_nrt": False, "pipeline_class": KernelCompiler}

# Python never calls it.
_PART: dict[str, Any] = _NO_COUNTING | {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": InnerCompiler,
}

_OUTSIDE = ("geometry.py", "arrays.py")
"""Files of `base/` whose constants and types are part of the machine code."""


def compiled_files() -> list[Path]:
    """Return every file whose text decides what the machine code is: this folder and `_OUTSIDE`."""
    here = Path(__file__).resolve().parent
    return sorted(here.rglob("*.py")) + [here.parent / "base" / name for name in _OUTSIDE]


def digest() -> str:
    """Return a name for everything that decides what machine code the kernels become."""
    parts = [numba.__version__, repr(sorted(_OPTIONS.items())), llvm.get_host_cpu_name()]
    parts.append(llvm.get_host_cpu_features().flatten())
    for file in compiled_files():
        parts.append(file.name + file.read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def named_base() -> Path:
    """Return the directory that is to hold compiled kernels; nothing says that it can.

    There is no second choice: below a shared temporary directory anybody can prepare one.
    """
    named = os.environ.get("P2MBATCH_CACHE_DIR")
    return (Path(named) if named else Path(platformdirs.user_cache_dir("p2mbatch"))).absolute()


def _open_cache(*below: str) -> int | None:
    """Return a descriptor of the kernels' directory `below` the base; None, and a line, if not."""
    base = named_base()
    try:
        return cache.open_trusted(base, ("kernels", *below))
    except cache.Untrusted as error:
        reason = str(error)
    except OSError as error:
        reason = f"{base}: {error.strerror}"
    cache.say_once(f"kernels are compiled in memory and not kept: {reason}")
    return None


def cache_base() -> tuple[Path, int] | None:
    """Return the directory that holds every version's kernels and a descriptor of it, or None."""
    fd = _open_cache()
    return None if fd is None else (named_base() / "kernels", fd)


@functools.cache
def cache_dir(own: str = "") -> Path | None:
    """Return the directory of this build's compiled kernels, made if need be; None for no cache.

    Where that is not this user's alone, or takes no files, kernels are compiled in memory, and
    stderr says so. The path leads through an open descriptor: nobody can put another directory in
    its place. `own` is the digest of a policy of the user's own, whose machine code has a directory
    to itself.
    """
    if BOUNDSCHECK:
        return None
    fd = _open_cache(digest() + own)
    if fd is None:
        return None
    try:
        return cache.usable_path(fd)
    except cache.Untrusted as error:
        os.close(fd)
        cache.say_once(f"kernels are compiled in memory and not kept: {named_base()}: {error}")
        return None


def _compile(function: F, *, cached: bool = True, own: str = "", **extra: Any) -> F:
    """Return `function` as a lazily compiled dispatcher, its cache pointed at `cache_dir`."""
    if numba.config.DISABLE_JIT:
        # Compiled integers wrap without a word, and so they must where they are interpreted.
        return np.errstate(over="ignore")(function)
    directory = cache_dir(own) if cached else None
    before = numba.config.CACHE_DIR
    try:
        # The cache's place is read when the dispatcher is made; the setting is global, so it is
        # put back at once for the sake of everybody else's kernels.
        numba.config.CACHE_DIR = str(directory) if directory else ""
        made = numba.njit(cache=directory is not None, **(_OPTIONS | extra))(function)
        if directory is not None:
            made._cache = cache.CheckedCache(function)
        return cast(F, made)
    finally:
        numba.config.CACHE_DIR = before


def kernel(function: F) -> F:
    """Compile `function` for one thread, without the GIL, on its first call from Python."""
    return _compile(function, **_NO_COUNTING)


def own_kernel(function: F, own: str) -> F:
    """Do `kernel` for a policy of the user's own, whose digest is `own`."""
    return _compile(function, own=own, **_NO_COUNTING)


def inner_kernel(function: F) -> F:
    """Compile `function` as part of the kernels that call it; Python must not call it.

    The wrapper that takes a NamedTuple of arrays apart, machine code and a cache file of its own
    are most of what a small function costs to compile.
    """
    return _compile(function, cached=False, **_PART)


def inline_kernel(function: F) -> F:
    """Like `inner_kernel`, but part of its callers before anything is optimised.

    For helpers in loops that should be vectorised: a call that is still there when the loop is
    looked at stops that.
    """
    return _compile(function, cached=False, forceinline=True, **_PART)


if numba.config.DISABLE_JIT:

    def never_inline() -> None:
        """Do nothing: there is no compiled code."""

else:

    @intrinsic  # type: ignore[untyped-decorator]
    def never_inline(typing_context: Any) -> Any:
        """Keep the kernel that calls this out of its callers: for what is long or rarely run.

        Inlined everywhere, the host's bijections made every kernel take seconds to compile.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.function.attributes.add("noinline")
            return context.get_dummy_value()

        return types.void(), generate


if numba.config.DISABLE_JIT:

    def prefetch(array: Any, index: Any) -> None:
        """Do nothing: there is no compiled code."""

else:

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
        """Ask for the cache line of the `index`-th element of a contiguous array.

        `index` is unsigned and in range. Unlike a load it is done with at once, so many more than
        fit the processor's window of instructions are under way together.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            found = context.make_array(signature.args[0])(context, builder, arguments[0])
            line = builder.bitcast(
                builder.gep(found.data, [arguments[1]]), ir.IntType(8).as_pointer()
            )
            word = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
            call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            # A read of data that is kept in every cache.
            builder.call(call, [line, word(0), word(3), word(1)])
            return context.get_dummy_value()

        return types.void(array, types.uint64), generate


@inner_kernel
def as_int(value: Any) -> int:
    """Return `value` as the int64 that all of a kernel's numbers are."""
    return np.int64(value)


def parallel_kernel(function: F) -> F:
    """Compile `function` with `prange` over all cores: for one big guest, never inside a sweep."""
    return _compile(function, parallel=True)


def set_num_threads(count: int) -> int:
    """Let the parallel kernels use `count` threads; return how many it was before."""
    before = int(numba.get_num_threads())
    numba.set_num_threads(count)
    return before


@contextlib.contextmanager
def threads_at_most(count: int) -> Iterator[None]:
    """Let the parallel kernels use `count` threads inside, or all there are; then as before.

    For one thread nothing is done: nobody calls a parallel kernel then, and asking numba costs more
    than most events of a small guest.
    """
    if count == 1:
        yield
        return
    before = set_num_threads(min(count, int(numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        set_num_threads(before)


class CompileError(Exception):
    """What the compiler says of a function that it can't compile."""


def make_ready(function: Any, *arguments: Any) -> None:
    """Load `function` for the types of `arguments`, or compile it, without calling it.

    Raises `CompileError` where it can't be compiled.
    """
    if hasattr(function, "compile"):
        try:
            function.compile(tuple(function.typeof_pyval(value) for value in arguments))
        except NumbaError as error:
            raise CompileError(str(error)) from error


class _Typed(types.WrapperAddressProtocol):  # type: ignore[misc]
    """A compiled function as a value of its type: what other compiled code may be handed."""

    def __init__(self, function: Any, signature: Any) -> None:
        made = function.get_compile_result(signature)
        # Both are asked for at every call that is handed this; numba would work them out anew.
        self._address = int(
            made.library.get_pointer_to_function(made.fndesc.llvm_cfunc_wrapper_name)
        )
        self.kind = types.FunctionType(signature)
        self._function, self._signature = function, signature

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Any:
        """Return the numba type of the function."""
        return self._signature


@typeof_impl.register(_Typed)  # type: ignore[untyped-decorator]
def _kind_of(value: _Typed, context: Any) -> Any:
    return value.kind


def function_value(function: Any, *arguments: Any) -> Any:
    """Return `function` as a value that a kernel takes, loaded or compiled for such `arguments`.

    Whoever is handed it goes by its type alone, so that it is compiled once for all functions of
    that type. The function itself where nothing is compiled.
    """
    if not hasattr(function, "compile"):
        return function
    kinds = tuple(function.typeof_pyval(value) for value in arguments)
    make_ready(function, *arguments)
    return _Typed(function, function.overloads[kinds].signature)


@contextlib.contextmanager
def compile_lock(own: str = "", names: Iterable[str] = ("complete",)) -> Iterator[bool]:
    """Hold the lock under which kernels are compiled; yields whether any of `names` is missing.

    Two processes that fill one cache at once can race on its index, so the first compiles and the
    second waits and then loads. `own` is as for `cache_dir`; `names` are what the cache holds once
    this is left.
    """
    directory = cache_dir(own)
    with cache.locked(directory) as locked:
        if directory is None or not locked:
            yield True
            return
        notes = [directory / name for name in names]
        yield not all(note.exists() for note in notes)
        with contextlib.suppress(OSError):  # a full disk: the next process is told again
            for note in notes:
                note.touch()
