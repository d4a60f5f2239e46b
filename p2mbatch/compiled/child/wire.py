"""Memory that is shared with a child, and a byte to it and from it, for compiled code.

The C library's functions are found by their names when the code is loaded, so that what calls them
can be kept in the cache. Where the code is interpreted, `interpreted` does the same in Python.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from p2mbatch.base.arrays import Int64Array, UInt32Array

TIMED_OUT = 2
"""What `receive` returns where nothing came in time."""


def _words(address: int, count: int) -> Int64Array:
    kind = ctypes.c_int64 * int(count)
    return np.ctypeslib.as_array(kind.from_address(int(address)))


def _narrow_words(address: int, count: int) -> UInt32Array:
    kind = ctypes.c_uint32 * int(count)
    return np.ctypeslib.as_array(kind.from_address(int(address)))


def _send(fd: int) -> int:
    try:
        return os.write(int(fd), b"\0")
    except OSError:
        return 0


def _receive(fd: int, wait_ms: int) -> int:
    asked = select.poll()
    asked.register(int(fd), select.POLLIN)
    if not asked.poll(int(wait_ms)):
        return TIMED_OUT
    return len(os.read(int(fd), 1))


if numba.config.DISABLE_JIT:
    words_at, narrow_words_at, send, receive = _words, _narrow_words, _send, _receive
else:

    def _view(kind: Any) -> Callable[..., Any]:
        def typed(typing_context: Any, address: Any, count: Any) -> Any:
            array = types.Array(kind, 1, "C")

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                made = context.make_array(array)(context, builder)
                item = context.get_data_type(kind)
                size = ir.IntType(64)(kind.bitwidth // 8)
                context.populate_array(
                    made,
                    data=builder.inttoptr(arguments[0], item.as_pointer()),
                    shape=[arguments[1]],
                    strides=[size],
                    itemsize=size,
                    meminfo=None,
                )
                return made._getvalue()

            return array(types.int64, types.int64), generate

        return typed

    # `count` words of 64 or of 32 bits at an address; whoever asks knows that they are there.
    words_at = intrinsic(_view(types.int64))
    narrow_words_at = intrinsic(_view(types.uint32))

    def _called(builder: Any, name: str, kinds: list[Any], arguments: list[Any]) -> Any:
        """Return the result of a function of the C library, done again while a signal ends it."""
        word, number = ir.IntType(64), ir.IntType(32)
        call = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, kinds), name)
        errno = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(number.as_pointer(), []), "__errno_location"
        )
        again, failed = builder.append_basic_block(), builder.append_basic_block()
        done = builder.append_basic_block()
        builder.branch(again)
        builder.position_at_end(again)
        result = builder.call(call, arguments)
        # What returns an int leaves the upper half as it likes.
        result = builder.sext(builder.trunc(result, number), word)
        builder.cbranch(builder.icmp_signed("<", result, word(0)), failed, done)
        builder.position_at_end(failed)
        # A signal that came between is the interpreter's to see, later.
        interrupted = builder.icmp_signed("==", builder.load(builder.call(errno, [])), number(4))
        builder.cbranch(interrupted, again, done)
        builder.position_at_end(done)
        return result

    def _send_byte(typing_context: Any, fd: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            byte = cgutils.alloca_once_value(builder, ir.IntType(8)(0))
            word, number = ir.IntType(64), ir.IntType(32)
            fd = builder.trunc(arguments[0], number)
            return _called(builder, "write", [number, byte.type, word], [fd, byte, word(1)])

        return types.int64(types.int64), generate

    def _receive_byte(typing_context: Any, fd: Any, wait_ms: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, number = ir.IntType(64), ir.IntType(32)
            byte = cgutils.alloca_once_value(builder, ir.IntType(8)(0))
            found = cgutils.alloca_once_value(builder, word(TIMED_OUT))
            # A pollfd: the descriptor, and POLLIN in the lower half of what is asked and told.
            asked = cgutils.alloca_once(builder, ir.ArrayType(number, 2))
            fd = builder.trunc(arguments[0], number)
            builder.store(fd, cgutils.gep_inbounds(builder, asked, 0, 0))
            builder.store(number(1), cgutils.gep_inbounds(builder, asked, 0, 1))
            wait = builder.trunc(arguments[1], number)
            ready = _called(builder, "poll", [asked.type, word, number], [asked, word(1), wait])
            with builder.if_then(builder.icmp_signed("!=", ready, word(0))):
                got = _called(builder, "read", [number, byte.type, word], [fd, byte, word(1)])
                builder.store(got, found)
            return builder.load(found)

        return types.int64(types.int64, types.int64), generate

    # `send(fd)` writes one byte to a pipe and returns 1, or less where nobody can read it.
    # `receive(fd, wait_ms)` returns 1 for a byte that came, TIMED_OUT for none; else there is an
    # end of it.
    send, receive = intrinsic(_send_byte), intrinsic(_receive_byte)
    for _made, _twin in (
        (words_at, _words), (narrow_words_at, _narrow_words), (send, _send), (receive, _receive),
    ):  # fmt: skip
        _made.interpreted = _twin
