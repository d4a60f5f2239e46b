"""From a configuration to the arrays of the compiled explorer: the plan and the first state.

Source: docs/races.md, "Memory"; the arrays are described in `p2mbatch.compiled.race.layout`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.race import layout as at
from p2mbatch.compiled.race.explore import run_alone
from p2mbatch.race.config import (
    ALLOCATORS,
    INVALID_VALUE,
    KERNELS,
    POPULATED_VALUE,
    TOOLSTACKS,
    Config,
    Operation,
    number_words,
)

_FIFO_ROOM = 8
"""What one operation and the fill of the next can leave in a store buffer; further operations add
a store each."""


@dataclass(frozen=True)
class Plan:
    """A configuration as the compiled explorer takes it.

    Attributes:
        config: what it was made from.
        fields: int64, the plan.
        first: uint64, the first state's words.
        words: the word that stands for each value.
        max_moves: the most edges that can leave a state, and one row to spare.
    """

    config: Config
    fields: Int64Array
    first: np.ndarray
    words: dict[int, int]
    max_moves: int

    @property
    def row_words(self) -> int:
        """64-bit words a state."""
        return int(self.fields[at.P_ROW_WORDS])


def make_plan(config: Config, *, named_pages: bool = False) -> Plan:
    """Return the plan of `config` with its first state.

    With `named_pages` a page's number says which set takes it for what, instead of the order of
    taking, and no freed page is handed out again: one state then stands for many that differ in
    pages' numbers only. That is for races in which nobody uses a page after somebody else took it.
    """
    fields = np.zeros(at.PLAN_FIELDS, np.int64)
    fields[at.P_CPUS] = len(config.cpus)
    fields[at.P_KERNEL] = KERNELS.index(config.kernel)
    allocator = "never" if named_pages else config.allocator
    fields[at.P_ALLOCATOR] = ALLOCATORS.index(allocator)
    fields[at.P_TAKES_WAIT] = config.allocator == "any"
    fields[at.P_TSO] = config.memory == "tso"
    fields[at.P_TOOLSTACK] = 1 + TOOLSTACKS.index(config.toolstack) if config.toolstack else 0
    fields[at.P_PAGES] = config.num_pages
    fields[at.P_NAMED] = named_pages
    fields[at.P_LAST] = config.last
    words = number_words(config)
    fields[at.P_FIRST : at.P_FIRST + at.PFNS] = at.INVALID
    for pfn in config.populated_first:
        fields[at.P_FIRST + pfn] = words[POPULATED_VALUE]
    for who in range(len(config.cpus)):
        _write_operations(fields, config, who, words)
    _name_pages(fields, config)
    fields[at.P_ROW_WORDS] = (_place_blocks(fields, config, allocator) + 7) // 8
    first = _first_state(fields, config, words)
    pages = config.num_pages if allocator == "any" else 1
    max_moves = len(config.cpus) * (1 + pages) + 2
    return Plan(config, fields, first.view(np.uint64), words, max_moves)


def _block(who: int) -> int:
    return at.P_BLOCKS + who * at.BLOCK_FIELDS


def _operation(who: int, number: int) -> int:
    return _block(who) + at.B_OPS + number * at.OP_FIELDS


def _conflicts(operation: Operation) -> int:
    """Return the bits of what `operation` may touch (layout, "Conflicts")."""
    pfn = operation.pfn
    bits = 1 << at.X_ANY_TOP + pfn // 4 | 1 << at.X_ANY_ENTRY + pfn // 2 | 1 << at.X_ANY_PFN + pfn
    if operation.kind == "set":
        bits |= 1 << at.X_SET_PFN + pfn
    if operation.grows:
        bits |= 1 << at.X_GROW_TOP + pfn // 4 | 1 << at.X_GROW_ENTRY + pfn // 2
        bits |= 1 << at.X_GROW_PFN + pfn | 1 << at.X_GROW
    return bits


def _write_operations(fields: Int64Array, config: Config, who: int, words: dict[int, int]) -> None:
    program = config.cpus[who]
    fields[_block(who) + at.B_NUM_OPS] = len(program)
    later = 0
    for number in reversed(range(len(program))):
        operation = program[number]
        place = _operation(who, number)
        fields[place + at.OP_KIND] = at.SET if operation.kind == "set" else at.GET
        fields[place + at.OP_PFN] = operation.pfn
        if operation.value is not None:
            value = operation.value
            fields[place + at.OP_VALUE] = at.INVALID if value == INVALID_VALUE else words[value]
        fields[place + at.OP_OWN] = _conflicts(operation)
        fields[place + at.OP_LATER] = later
        later |= _conflicts(operation)


def _name_pages(fields: Int64Array, config: Config) -> None:
    """Give every set its three pages, those of `populated_first` coming first."""
    page = at.FIRST_FRESH
    for pfn in config.populated_first:
        fields[at.P_PAGE_PFN + page : at.P_PAGE_PFN + page + 3] = pfn
        page += 3
    for who, program in enumerate(config.cpus):
        for number, operation in enumerate(program):
            if operation.grows:
                fields[_operation(who, number) + at.OP_PAGE] = page
                fields[at.P_PAGE_PFN + page : at.P_PAGE_PFN + page + 3] = operation.pfn
                page += 3


def _place_blocks(fields: Int64Array, config: Config, allocator: str) -> int:
    """Write where everything is in a row; return the bytes that it takes."""
    end = at.R_PAGES + at.ENTRIES * config.num_pages
    for who, program in enumerate(config.cpus):
        block = _block(who)
        fields[block + at.B_CPU_AT] = end
        end += at.C_RESULTS + len(program)
        if fields[at.P_TSO]:
            room = _FIFO_ROOM + len(program)
            fields[block + at.B_FIFO_AT] = end
            fields[block + at.B_FIFO_ROOM] = room
            end += 1 + 2 * room
        if allocator == "own":
            room = 3 * sum(operation.grows for operation in program)
            fields[block + at.B_STACK_AT] = end
            fields[block + at.B_STACK_ROOM] = room
            end += 1 + room
    for field in (at.P_FREE_AT, at.P_TAKEN_AT)[: 2 if fields[at.P_NAMED] else 1]:
        fields[field] = end
        end += (config.num_pages + 7) // 8
    if config.toolstack:
        fields[at.P_TOOL_AT] = end
        end += at.W_BYTES
    return end


def _first_state(fields: Int64Array, config: Config, words: dict[int, int]) -> np.ndarray:
    """Return the first state's bytes: everything missing, then `populated_first`."""
    row = np.zeros(fields[at.P_ROW_WORDS] * 8, np.uint8)
    row[at.R_NEXT] = at.FIRST_FRESH
    row[at.R_TOP : at.R_TOP + 2] = at.POINTER + at.MID_MISSING
    row[at.R_TOP_MFN : at.R_TOP_MFN + 2] = at.MACHINE + at.MID_MISSING_MFN
    row[at.R_TOP_MFN_P : at.R_TOP_MFN_P + 2] = at.POINTER + at.MID_MISSING_MFN
    shared = (at.INVALID, at.POINTER + at.MISSING, at.MACHINE + at.MISSING)
    for page, word in enumerate(shared):
        row[at.R_PAGES + 2 * page : at.R_PAGES + 2 * page + 2] = word
    _populate(row, fields, config, words)
    row[at.R_GENERATION] = row[at.R_LOCK] = 0
    row[at.R_LAST] = row[at.R_SHARED_MAX] = config.last
    for who, program in enumerate(config.cpus):
        cpu = fields[_block(who) + at.B_CPU_AT]
        row[cpu : cpu + at.C_RESULTS + len(program)] = 0
        row[cpu + at.C_STEP] = at.S1 if program[0].kind == "set" else at.G1
    if config.toolstack:
        row[fields[at.P_TOOL_AT] + at.W_STEP] = at.W0
    return row


def _populate(row: np.ndarray, fields: Int64Array, config: Config, words: dict[int, int]) -> None:
    """Set the PFNs of `populated_first`, one after the other, by CPU 0 alone, without buffers."""
    alone = fields.copy()
    alone[at.P_TSO] = 0
    alone[_block(0) + at.B_NUM_OPS] = 1
    cpu = fields[_block(0) + at.B_CPU_AT]
    operation = _operation(0, 0)
    for number, pfn in enumerate(config.populated_first):
        alone[operation + at.OP_KIND] = at.SET
        alone[operation + at.OP_PFN] = pfn
        alone[operation + at.OP_VALUE] = words[POPULATED_VALUE]
        alone[operation + at.OP_PAGE] = at.FIRST_FRESH + 3 * number
        row[cpu : cpu + at.C_RESULTS + 1] = 0
        row[cpu + at.C_STEP] = at.S1
        status = run_alone(row, alone)
        assert status == at.MOVED, status
