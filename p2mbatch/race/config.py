"""A configuration of a race: the kernel, what each CPU does, the toolstack, and how it is written.

Source: docs/races.md, "Configurations and their names".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.compiled.race.layout import MAX_CPUS, MAX_NUMBER, MAX_OPS, MAX_PAGES, PFNS

KERNELS = ("old", "orig", "loser", "relax", "new")
ALLOCATORS = ("never", "own", "any")
MEMORIES = ("sc", "tso")
TOOLSTACKS = ("tree", "list")
INVALID_VALUE = -1
POPULATED_VALUE = 9
"""What `populated_first` sets its PFNs to."""


@dataclass(frozen=True)
class Operation:
    """One call of a CPU: `get(pfn)`, or `set(pfn, value)` where -1 is INVALID_P2M_ENTRY."""

    kind: str
    pfn: int
    value: int | None = None

    @property
    def grows(self) -> bool:
        """Whether this call makes the tree grow where the leaf is missing."""
        return self.kind == "set" and self.value != INVALID_VALUE

    def to_json(self) -> list[Any]:
        """Return it as files have it: ["get", pfn] or ["set", pfn, value]."""
        return ["get", self.pfn] if self.kind == "get" else ["set", self.pfn, self.value]

    def __str__(self) -> str:
        if self.kind == "get":
            return f"get {self.pfn}"
        return f"set {self.pfn} to {'INVALID' if self.value == INVALID_VALUE else self.value}"


@dataclass(frozen=True)
class Config:
    """One configuration, checked.

    Args:
        kernel: one of KERNELS.
        cpus: each CPU's operations, in order.
        allocator, memory: one of ALLOCATORS and of MEMORIES.
        populated_first: PFNs populated before the run, in order.
        toolstack: None, or one of TOOLSTACKS.
        last: xen_p2m_last_pfn and the shared max_pfn at the start, 1 to 8.
    """

    kernel: str
    cpus: tuple[tuple[Operation, ...], ...]
    allocator: str = "never"
    memory: str = "sc"
    populated_first: tuple[int, ...] = ()
    toolstack: str | None = None
    last: int = PFNS

    @property
    def operations(self) -> list[Operation]:
        """Every CPU's operations, one after the other."""
        return [operation for program in self.cpus for operation in program]

    @property
    def num_pages(self) -> int:
        """How many pages the configuration can come to need, the three shared ones included."""
        growing = sum(operation.grows for operation in self.operations)
        return 3 + 3 * (len(self.populated_first) + growing)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON file has it under "config"."""
        return {
            "kernel": self.kernel,
            "allocator": self.allocator,
            "memory": self.memory,
            "populated_first": list(self.populated_first),
            "cpus": [[operation.to_json() for operation in program] for program in self.cpus],
            "toolstack": self.toolstack,
            "last": self.last,
        }

    def with_kernel(self, kernel: str) -> Config:
        """Return the same race in another kernel."""
        return replace(self, kernel=kernel)


def _one_of(where: str, key: str, value: Any, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise InputError(f"{where}: {key}: {_shown(value)} is not one of {', '.join(allowed)}")
    return str(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(where: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{where}: {_shown(value)} is not a whole number from {low} to {high}")
    return value


_MAX_VALUE = 2**62


def parse_operation(where: str, given: Any) -> Operation:
    """Return the operation that `given` (["get", pfn] or ["set", pfn, value]) says.

    Raises `InputError` naming `where`.
    """
    right = '["get", pfn] or ["set", pfn, value]'
    if not isinstance(given, (list, tuple)) or not given or given[0] not in ("get", "set"):
        raise InputError(f"{where}: {_shown(given)} is not {right}")
    if len(given) != (2 if given[0] == "get" else 3):
        raise InputError(f"{where}: {_shown(given)} is not {right}")
    pfn = _whole(f"{where}: pfn", given[1], 0, PFNS - 1)
    if given[0] == "get":
        return Operation("get", pfn)
    value = _whole(f"{where}: value (-1 is INVALID)", given[2], INVALID_VALUE, _MAX_VALUE)
    return Operation("set", pfn, value)


def _parse_cpus(where: str, given: Any) -> tuple[tuple[Operation, ...], ...]:
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= MAX_CPUS:
        raise InputError(f"{where}: cpus: a list of 1 to {MAX_CPUS} CPUs' operations is needed")
    programs = []
    for who, program in enumerate(given):
        place = f"{where}: cpus[{who}]"
        if not isinstance(program, (list, tuple)) or not 1 <= len(program) <= MAX_OPS:
            raise InputError(f"{place}: a list of 1 to {MAX_OPS} operations is needed")
        programs.append(
            tuple(parse_operation(f"{place}[{k}]", given) for k, given in enumerate(program))
        )
    return tuple(programs)


def _parse_populated(where: str, given: Any) -> tuple[int, ...]:
    place = f"{where}: populated_first"
    if not isinstance(given, (list, tuple)):
        raise InputError(f"{place}: {_shown(given)} is not a list of PFNs")
    pfns = tuple(_whole(f"{place}[{k}]", pfn, 0, PFNS - 1) for k, pfn in enumerate(given))
    if len(set(pfns)) != len(pfns):
        raise InputError(f"{place}: {_shown(list(pfns))} names a PFN twice")
    return pfns


_KEYS = ("kernel", "allocator", "memory", "populated_first", "cpus", "toolstack", "last")


def parse_config(where: str, given: Any) -> Config:
    """Return the configuration that a JSON object says.

    `kernel` and `cpus` are required; `where` names the object in complaints. Raises `InputError`
    for an unknown key, a value that is none of the allowed, or more than the explorer holds.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: {_shown(given)} is not an object with kernel and cpus")
    for key in given:
        if key not in _KEYS:
            raise InputError(f"{where}: {_shown(key)} is not one of {', '.join(_KEYS)}")
    for key in ("kernel", "cpus"):
        if key not in given:
            raise InputError(f"{where}: {key} is required")
    toolstack = given.get("toolstack")
    if toolstack is not None:
        _one_of(where, "toolstack", toolstack, (*TOOLSTACKS, "null"))
    config = Config(
        kernel=_one_of(where, "kernel", given["kernel"], KERNELS),
        cpus=_parse_cpus(where, given["cpus"]),
        allocator=_one_of(where, "allocator", given.get("allocator", "never"), ALLOCATORS),
        memory=_one_of(where, "memory", given.get("memory", "sc"), MEMORIES),
        populated_first=_parse_populated(where, given.get("populated_first", [])),
        toolstack=None if toolstack == "null" else toolstack,
        last=_whole(f"{where}: last", given.get("last", PFNS), 1, PFNS),
    )
    return check_size(where, config)


def check_size(where: str, config: Config) -> Config:
    """Return `config`; raise `InputError` where a state would not hold it."""
    growing = config.num_pages // 3 - 1
    if config.num_pages > MAX_PAGES:
        raise InputError(
            f"{where}: {growing} PFNs populated and set are more than the "
            f"{MAX_PAGES // 3 - 1} that a state has pages for"
        )
    if config.kernel == "new" and 4 * growing > MAX_NUMBER:
        raise InputError(
            f"{where}: {growing} growths count p2m_generation past {MAX_NUMBER}; "
            f"at most {MAX_NUMBER // 4} are held"
        )
    values = set(number_words(config))
    if len(values) > MAX_NUMBER - PFNS:
        raise InputError(
            f"{where}: {len(values)} different values are more than the "
            f"{MAX_NUMBER - PFNS} that are told apart"
        )
    return config


def number_words(config: Config) -> dict[int, int]:
    """Return the word (0 to MAX_NUMBER) that stands for each value that is set.

    Small numbers stand for themselves, larger ones take the words that are left, from the top.
    """
    values = {operation.value for operation in config.operations if operation.grows}
    values.add(POPULATED_VALUE)
    numbers = sorted(value for value in values if value is not None)
    words = {value: value for value in numbers if value <= MAX_NUMBER}
    left = iter(word for word in range(MAX_NUMBER, PFNS, -1) if word not in words)
    words.update({value: next(left, 0) for value in numbers if value > MAX_NUMBER})
    return words
