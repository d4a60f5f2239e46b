"""Scenario: one cell of a sweep, that is a guest, its hosts and its life.

A scenario says everything that decides its rows: whatever is random comes from counters keyed by
its seed. Its id is a digest of its canonical form and the model's version, so the same cell is the
same wherever it is written down.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from p2mbatch._version import MODEL_VERSION
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES, geometry
from p2mbatch.base.sizes import GIB, format_size, parse_size
from p2mbatch.guests.field_types import (
    Address,
    Fraction,
    GrowWhere,
    Hosts,
    Layout,
    LinuxVersion,
    PolicyName,
    SizeBytes,
    SizeOrNone,
    Stuck,
    Told,
    ToolstackName,
    XenVersion,
    YesNo,
    size_of,
    whole_pages,
)
from p2mbatch.guests.host_sizes import canonical_hosts, largest_host
from p2mbatch.guests.made import Made, with_full_names
from p2mbatch.guests.references import GUEST, digest_of, guest_fields, map_named
from p2mbatch.guests.wording import describe
from p2mbatch.model import kernels, policies, toolstacks
from p2mbatch.model.cpus.limits import MAX_CPUS, MAX_ENTRIES, check_races
from p2mbatch.model.linear_shape import USUAL_VADDR
from p2mbatch.model.xen import parse_xen

MAX_ORDER: Final = 18
"""The largest extent order that Xen's allocator has (1 GiB pages): `MAX_ORDER` is 18 or above."""

MAX_MIGRATIONS: Final = 10_000_000

MAX_ROUNDS: Final = 1024

MAX_RACED_BYTES: Final = MAX_ENTRIES * PAGE_BYTES
"""What several CPUs may grow a guest by at a time: each entry's steps are gone through."""

MAX_SEED: Final = (1 << 63) - 1

HOST_PER_GUEST: Final = 4

LEAST_HOST_BYTES: Final = GIB
"""What a host has where none is named: so many times its guest's memory, and not less than that."""


IDENTITY: Final = "identity"
"""The layout with 1:1 pages."""

HOLE_SHIFT_PAGES: Final = 0x69
"""How far behind the middle of the memory a hole begins where nothing says where: real memory maps'
holes begin and end inside of leaves."""

HOLE: Final = ("hole_bytes", "hole_at_bytes")

_SIZES: Final = ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes")

CHURN: Final = ("churn_bytes", "balloon_bytes")
"""What a guest gets, and gives back, in each round of a live migration."""

FOLLOWING: Final = (
    *("xen", "toolstack", "policy", "max_domain_pages", "hotplug_gib"),
    *HOLE,
    "grow_bytes",
    *CHURN,
)
"""Fields whose default depends on others, or on how a spec has them: None where it does not."""

FROM_GUEST: Final = ("memory_bytes", "sparsity", "layout", "word_bytes")
"""The fields that a guest's file decides."""


def default_hole(memory_bytes: int) -> tuple[int, int]:
    """Return how long a hole is and where it begins where nothing says so: a quarter of the memory,
    a little behind its middle."""
    pages = memory_bytes // PAGE_BYTES
    return pages // 4 * PAGE_BYTES, (pages // 2 + HOLE_SHIFT_PAGES) * PAGE_BYTES


def follow(fields: dict[str, Any], memory_bytes: int) -> None:
    """Fill in those of `fields` (None, or not there) that follow from others: the hole, and which
    toolstack came with the hypervisor or the other way round."""
    if fields.get("layout") == IDENTITY:
        for name, value in zip(HOLE, default_hole(memory_bytes), strict=True):
            if fields.get(name) is None:
                fields[name] = value
    if isinstance(fields.get("linux"), str) and fields["linux"]:
        _follow_linux(fields)
    xen, toolstack = fields.get("xen"), fields.get("toolstack")
    with contextlib.suppress(InputError):  # the fields' own checks say what is wrong
        if toolstack is None and isinstance(xen, str) and xen:
            fields["toolstack"] = toolstacks.came_with(parse_xen(xen, ""))
        elif xen is None and isinstance(toolstack, str):
            fields["xen"] = toolstacks.find(toolstack).xen
    for name in FOLLOWING:
        if fields.get(name) is None:
            fields[name] = ScenarioFields.model_fields[name].default


def _follow_linux(fields: dict[str, Any]) -> None:
    """Fill in what a release of Linux decides; ValueError where it is refused or policy differs."""
    try:
        kernel = kernels.kernel_of(fields["linux"], fields.get("word_bytes", 8))
    except InputError as error:
        raise ValueError(str(error)) from None
    if fields.get("policy") is None:
        fields["policy"] = kernel.policy
    elif fields["policy"] != kernel.policy:
        raise ValueError(
            f"policy: is {fields['policy']!r}, and linux {fields['linux']} is "
            f"{kernel.policy!r}: leave one of them out"
        )
    for name in ("max_domain_pages", "hotplug_gib"):
        if fields.get(name) is None:
            fields[name] = getattr(kernel, name)


def default_host_memory_bytes(memory_bytes: int) -> int:
    """Return the host's memory where none is named: four times the guest's, at least 1 GiB."""
    return max(HOST_PER_GUEST * memory_bytes, LEAST_HOST_BYTES)


class ScenarioFields(BaseModel, metaclass=Made):
    """One cell: a guest, its hosts and how often it migrates (the fields of docs/sweeps.md).

    Sizes are bytes, given as integers or as text such as "128GiB". Left out, `host_memory_bytes`
    is 4 x memory (at least 1 GiB), or the largest of `hosts` where those are given, and
    `neighbour_memory_bytes` is the guest's memory; both are resolved when the scenario is made, and
    so is what the file of `guest` says: the fields `FROM_GUEST`, which must not say otherwise, and
    the digest where it was left out. Fields may have the names of the command line (`memory`).
    Raises `InputError` with one line that names the first field that is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    memory_bytes: SizeBytes
    sparsity: Annotated[Fraction, Field(lt=1)] = 0.0
    layout: Layout = "tail"
    migrations: Annotated[int, Field(ge=0, le=MAX_MIGRATIONS)] = 1
    policy: PolicyName = policies.MENDED
    host_memory_bytes: SizeBytes = PAGE_BYTES
    neighbours: Fraction = 1.0
    neighbour_memory_bytes: SizeBytes = PAGE_BYTES
    build_order: Annotated[int, Field(ge=0, le=MAX_ORDER)] = 9
    restore_order: Annotated[int, Field(ge=0, le=MAX_ORDER)] = 0
    word_bytes: Literal[8, 4] = 8
    guest: str = ""
    """"PATH#DIGEST" of a guest's trace file (`p2mbatch.guests.file`), or empty."""
    hosts: Hosts = ""
    """One size or range for each host (`p2mbatch.guests.host_sizes`); empty: all are
    `host_memory_bytes`."""
    xen: XenVersion = ""
    """The hypervisor's version, which decides m2p's order and what freed frames leave in m2p; empty
    for one of today."""
    stuck: Stuck = "end"
    """Whether a life ends with a refused save or restore, or stays and is tried again."""
    max_domain_pages: Annotated[int, Field(ge=0)] = 0
    """PFNs that a kernel of two levels holds, whole arrays of them; 0: as it was configured."""
    linux: LinuxVersion = ""
    """The release of Linux, which decides policy, max_domain_pages and hotplug_gib; or empty."""
    toolstack: ToolstackName = toolstacks.USUAL
    """Which toolstack saves the guest (`model/toolstacks`); by default what came with `xen`."""
    hotplug_gib: Annotated[int, Field(ge=0, le=1 << 14)] = 512
    """GiB that a linear p2m's area is long enough for, at least."""
    p2m_vaddr: Address = f"{USUAL_VADDR:#x}"
    """Where a linear p2m begins."""
    told: Told = "auto"
    """Whether the domain builder tells a guest that its linear list can be read; by the toolstack
    where nothing says so."""
    hole_bytes: SizeOrNone = 0
    hole_at_bytes: SizeOrNone = 0
    """How much of the span is 1:1 with layout identity, and where that begins."""
    grow_bytes: SizeOrNone = 0
    """What the guest gets more before each migration."""
    grow_where: GrowWhere = "within"
    """Where that is: in the span's holes, past its end, or in the 1:1 pages."""
    cpus: Annotated[int, Field(ge=1, le=MAX_CPUS)] = 1
    """How many CPUs set its entries at the same time, a page for each in turn, under a schedule
    that the seed decides."""
    live: YesNo = "no"
    """Whether the guest goes on living while it is sent, in rounds of copying."""
    rounds: Annotated[int, Field(ge=0, le=MAX_ROUNDS)] = 5
    """Of a live migration: how many rounds there are before the pause. Xen's toolstack stops after
    five."""
    churn_bytes: SizeOrNone = 0
    """What the guest gets more in each of them, on average, where `grow_where` says."""
    balloon_bytes: SizeOrNone = 0
    """What it gives back in each of them, on average, and takes again in the next."""
    neighbour_map: str = ""
    """"PATH#DIGEST" of a real host's m2p (`p2mbatch.model.host_map`), or empty."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0

    @model_validator(mode="before")
    @classmethod
    def _resolve_defaults(cls, data: Any) -> Any:
        """Fill in what a guest's file says, and sizes that are a multiple of its memory."""
        if not isinstance(data, dict):
            return data
        data = with_full_names(data)
        if isinstance(data.get("guest"), str) and data["guest"]:
            data = _with_guest(data)
        if "memory_bytes" not in data:
            return data
        try:
            memory_bytes = parse_size(data["memory_bytes"])
        except InputError:
            return data  # the field's own check says what is wrong
        filled = dict(data)
        mapped = None
        if isinstance(filled.get("neighbour_map"), str) and filled["neighbour_map"]:
            mapped = map_named(filled["neighbour_map"])
            filled["neighbour_map"] = mapped.reference
        if filled.get("host_memory_bytes") is None:
            filled["host_memory_bytes"] = (
                mapped.memory_bytes if mapped else default_host_memory_bytes(memory_bytes)
            )
            with contextlib.suppress(ValueError):  # the field's own check says what is wrong
                if hosts := canonical_hosts(filled.get("hosts") or ""):
                    filled["host_memory_bytes"] = largest_host(hosts)
        if filled.get("neighbour_memory_bytes") is None:
            filled["neighbour_memory_bytes"] = memory_bytes
        follow(filled, memory_bytes)
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.layout == GUEST and not self.guest:
            raise ValueError("layout: guest is what a guest's file has: name the file in guest")
        for name in (*_SIZES, *HOLE, "grow_bytes", *CHURN):
            try:
                whole_pages(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.layout != IDENTITY and (self.hole_bytes or self.hole_at_bytes):
            raise ValueError("hole_bytes: 1:1 pages are of layout identity alone")
        if self.live == "no" and (self.churn_bytes or self.balloon_bytes):
            name = next(name for name in CHURN if getattr(self, name))
            raise ValueError(f"{name}: a guest lives on while it is sent where live is yes alone")
        if self.cpus > 1:
            self._check_cpus()
        if self.grow_where == IDENTITY and self.layout != IDENTITY:
            raise ValueError("grow_where: there are 1:1 pages with layout identity alone")
        if policies.find(self.policy).is_linear and self.word_bytes == 4:
            raise ValueError(f"word_bytes: 32-bit guests of policy {self.policy} are not modelled")
        if self.neighbour_map and (
            self.neighbours != 1.0 or self.neighbour_memory_bytes != self.memory_bytes
        ):
            name = "neighbours" if self.neighbours != 1.0 else "neighbour_memory_bytes"
            raise ValueError(f"{name}: neighbour_map says whose each frame is: leave {name} out")
        if self.hosts and self.host_memory_bytes != largest_host(self.hosts):
            raise ValueError("host_memory_bytes: hosts says how large each host is: leave it out")
        geo = geometry(self.word_bytes)
        limit = geo.max_p2m_pfn * PAGE_BYTES
        step = geo.entries**2
        if self.max_domain_pages % step or self.max_domain_pages > geo.max_p2m_pfn:
            raise ValueError(
                f"max_domain_pages: {self.max_domain_pages} is not a multiple of {step} up to "
                f"{geo.max_p2m_pfn}"
            )
        if self.memory_bytes > limit:
            raise ValueError(
                f"memory_bytes: {format_size(self.memory_bytes)} is over MAX_P2M_PFN, "
                f"{format_size(limit)} with word_bytes {self.word_bytes}"
            )
        return self

    def _check_cpus(self) -> None:
        """Raise `ValueError` where several CPUs can't grow the guest, or have nothing to grow."""
        try:
            check_races(policies.find(self.policy), "cpus")
        except InputError as error:
            raise ValueError(str(error)) from None
        if not self.grow_bytes:
            raise ValueError("cpus: several CPUs grow a guest: say by how much in grow_bytes")
        if self.grow_bytes > MAX_RACED_BYTES:
            raise ValueError(
                f"grow_bytes: is {format_size(self.grow_bytes)}, and several CPUs grow a guest by "
                f"{format_size(MAX_RACED_BYTES)} at most each time"
            )

    @classmethod
    def make(cls, /, **fields: Any) -> Self:
        """Return the scenario of `fields`; raises `InputError` naming the first that is wrong."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InputError(f"scenario: {describe(error)}") from None

    def canonical(self) -> dict[str, Any]:
        """Return the fields in their fixed order with plain values: what the id is a digest of."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def cell_id(self) -> str:
        """The cell's id: 32 hex digits, a digest of the canonical form and the model's version."""
        return cell_id_of(tuple(getattr(self, name) for name in FIELDS))


FIELDS: Final[tuple[str, ...]] = tuple(ScenarioFields.model_fields)
"""The scenario's fields in canonical order."""

_MEMORY, _HOST_MEMORY, _NEIGHBOUR_MEMORY, _POLICY = (
    FIELDS.index(name) for name in (*_SIZES, "policy")
)

FILES: Final = ("guest", "neighbour_map")
"""The fields that name a file as "PATH#DIGEST", of which the digest counts."""

_FILES_AT = tuple(FIELDS.index(name) for name in FILES)

_DEFAULTS: Final[tuple[Any, ...]] = tuple(
    None if field.is_required() else field.default for field in ScenarioFields.model_fields.values()
)


def cell_id_of(values: tuple[Any, ...]) -> str:
    """Return the id of the cell whose canonical values, in the order of `FIELDS`, are `values`.

    The digest is of "name=value" of the fields that are not at their defaults, so a field that is
    added later changes no id. `repr` of ints, floats and these names is exact and the same
    everywhere. Of a guest's file the digest counts, not where it lies.
    """
    defaults = list(_DEFAULTS)
    defaults[_HOST_MEMORY] = default_host_memory_bytes(values[_MEMORY])
    defaults[_NEIGHBOUR_MEMORY] = values[_MEMORY]
    parts = [
        f"{name}={value!r}"
        for name, value, default in zip(FIELDS, _plain(values), defaults, strict=True)
        if value != default and name not in FILES
    ]
    parts += [f"{FIELDS[at]}={digest_of(values[at])}" for at in _FILES_AT if values[at]]
    text = f"p2mbatch-cell/{MODEL_VERSION}:" + ",".join(parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values` with what tells a policy from another in place of where its file lies."""
    return (*values[:_POLICY], policies.identity(values[_POLICY]), *values[_POLICY + 1 :])


def _with_guest(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields `data` with what the guest's file says; ValueError where they differ."""
    try:
        found = guest_fields(data["guest"])
    except InputError as error:
        raise ValueError(f"guest: {error}") from None
    for name in FROM_GUEST:
        given = data.get(name)
        written = size_of(given) if name == "memory_bytes" else given
        if given is not None and written != found[name]:
            raise ValueError(
                f"{name}: is {given!r}, and {found[name]!r} in {data['guest']}: leave it out"
            )
    return {**data, **found}
