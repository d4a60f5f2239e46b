"""The sections of a sweep spec: axes, grids, cells and samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, model_validator

from p2mbatch.base.errors import InputError
from p2mbatch.guests.fields import (
    FIELDS,
    FOLLOWING,
    FROM_GUEST,
    IDENTITY,
    default_host_memory_bytes,
    follow,
)
from p2mbatch.guests.host_sizes import largest_host
from p2mbatch.guests.made import SHORT
from p2mbatch.guests.references import GUEST, digest_of, guest_fields, map_memory_bytes
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.policies import MENDED, identity, names
from p2mbatch.spec.axes import (
    SIZE_FIELDS,
    Axis,
    Span,
    canonical,
    draw,
    parse_axis,
    parse_seeds,
    spelled,
)
from p2mbatch.spec.named_files import find_policies, parse_guests, parse_maps

Values = tuple[Any, ...]
"""One cell's canonical values in the order of `fields.FIELDS`."""

SHORT_NAMES: Final = SHORT | {"policies": "policy", "seeds": "seed"}
"""What a spec may call a field instead of its own name."""

_SHORT_OF: Final = {name: short for short, name in SHORT_NAMES.items()}

_MEMORY, _HOST, _NEIGHBOUR = (
    FIELDS.index(name) for name in ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes")
)

_SEED, _POLICY = FIELDS.index("seed"), FIELDS.index("policy")

_HOSTS, _LAYOUT, _XEN, _TOOLSTACK, _LINUX = map(
    FIELDS.index, ("hosts", "layout", "xen", "toolstack", "linux")
)

_USUAL = [(FIELDS.index(name), Scenario.model_fields[name].default) for name in FOLLOWING]

MAP_KEY = FIELDS.index("neighbour_map")

GUEST_KEY = FIELDS.index("guest")

_DEFAULTS: Final[Values] = tuple(
    None if name in SIZE_FIELDS or name in FOLLOWING else Scenario.model_fields[name].default
    for name in FIELDS
)

_ADDED: Final = frozenset(FIELDS[FIELDS.index("max_domain_pages") :]) - {"seed", "neighbour_map"}
"""Fields that a spec's digest leaves out where they are not given: older ones had none of them."""

_GUEST_DEFAULTS: Final[Values] = tuple(
    None if name in FROM_GUEST else default for name, default in zip(FIELDS, _DEFAULTS, strict=True)
)


def _parse_field(raw: Any, info: ValidationInfo) -> Axis:
    return parse_field(raw, info.field_name or "", info.context)


def parse_field(raw: Any, name: str, context: Any) -> Axis:
    """Return the axis that `raw` means as a section's field `name`; ValueError says why none.

    Files are looked for where `context` says: a dict with "directory", or None.
    """
    if name == "seeds":
        return parse_seeds(raw)
    directory = (context or {}).get("directory")
    folders = [] if directory is None else [directory]
    if name == "guest":
        return parse_guests(raw, folders)
    if name == "neighbour_map":
        return parse_maps(raw, folders)
    if name in ("policy", "policies"):
        raw = find_policies(raw, folders)
    return parse_axis(SHORT_NAMES.get(name, name), raw)


_Text = int | float | str

AxisField = Annotated[
    Any, PlainValidator(_parse_field, json_schema_input_type=_Text | list[_Text] | None)
]


class Axes(BaseModel):
    """The axes of one section: for each field one value, a range, or a list of both."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    memory_bytes: AxisField = Field(None, description='The guest\'s span, such as "128GiB".')
    memory: AxisField = Field(None, description="Short for memory_bytes.")
    sparsity: AxisField = Field(None, description="Part of the span that is not populated.")
    layout: AxisField = Field(None, description="tail, scattered, extents or identity.")
    migrations: AxisField = Field(None, description="How many migrations.")
    policy: AxisField = Field(
        None, description=f"One of {', '.join(names())}, or a file of your own: mine.py."
    )
    policies: AxisField = Field(None, description="Short for policy.")
    host_memory_bytes: AxisField = Field(None, description="Each host's machine memory.")
    host_memory: AxisField = Field(None, description="Short for host_memory_bytes.")
    neighbours: AxisField = Field(None, description="Part of the other frames that is owned.")
    neighbour_memory_bytes: AxisField = Field(None, description="How large each neighbour is.")
    neighbour_memory: AxisField = Field(None, description="Short for neighbour_memory_bytes.")
    build_order: AxisField = Field(None, description="Extents of the builder, log2 pages.")
    restore_order: AxisField = Field(None, description="Extents of a restore, log2 pages.")
    word_bytes: AxisField = Field(None, description="8 or 4.")
    guest: Annotated[
        Any, PlainValidator(_parse_field, json_schema_input_type=str | list[str] | None)
    ] = Field(
        None,
        description="Trace files of guests, in place of memory, sparsity, layout and word_bytes.",
    )
    hosts: Annotated[
        Any,
        PlainValidator(_parse_field, json_schema_input_type=str | list[_Text | list[_Text]] | None),
    ] = Field(
        None,
        description="One size or range for each host of a life, the last for all that follow; a "
        "list of such lists is an axis.",
    )
    xen: AxisField = Field(None, description='The hypervisor\'s version, such as "4.0".')
    stuck: AxisField = Field(None, description="end, or stay: a refused guest is tried again.")
    max_domain_pages: AxisField = Field(
        None, description="PFNs that a kernel of two levels holds; 0: as it was configured."
    )
    linux: AxisField = Field(None, description="Releases of Linux, in place of policy.")
    toolstack: AxisField = Field(None, description="legacy, 4.6 or 4.7.")
    hotplug_gib: AxisField = Field(None, description="GiB that a linear p2m has room for.")
    p2m_vaddr: AxisField = Field(
        None, description="Where a linear p2m begins: a multiple of 2 MiB."
    )
    told: AxisField = Field(None, description="auto, yes or no: a linear list can be read.")
    hole_bytes: AxisField = Field(None, description="The 1:1 hole of layout identity.")
    hole: AxisField = Field(None, description="Short for hole_bytes.")
    hole_at_bytes: AxisField = Field(None, description="Where the 1:1 hole begins.")
    hole_at: AxisField = Field(None, description="Short for hole_at_bytes.")
    grow_bytes: AxisField = Field(None, description="What it gets more each time.")
    grow: AxisField = Field(None, description="Short for grow_bytes.")
    grow_where: AxisField = Field(None, description="within, beyond or identity.")
    cpus: AxisField = Field(None, description="How many CPUs set its entries at the same time.")
    live: AxisField = Field(None, description="true: the guest goes on while it is sent.")
    rounds: AxisField = Field(None, description="How many rounds it does so before the pause.")
    churn_bytes: AxisField = Field(None, description="What it gets more in each, on average.")
    churn: AxisField = Field(None, description="Short for churn_bytes.")
    balloon_bytes: AxisField = Field(
        None, description="What it gives back in each, on average, and takes again in the next."
    )
    balloon: AxisField = Field(None, description="Short for balloon_bytes.")
    neighbour_map: AxisField = Field(
        None, description="Listings of xen-mfndump dump-m2p, in place of neighbours."
    )
    seed: AxisField = Field(None, description="One seed, a range of them, or a list.")
    seeds: AxisField = Field(None, description="How many seeds: 5 is 0 to 4. Or as seed.")

    @model_validator(mode="after")
    def _one_name_per_field(self) -> Axes:
        if "axes" in self.__dict__:
            return self  # one of many alike, which were checked (`alike.py`)
        given = self.model_fields_set
        for short, name in SHORT_NAMES.items():
            if short in given and name in given:
                raise ValueError(f"{short}: is the same field as {name}: give one of them")
        if self.guest is not None:
            for name in ("memory", *FROM_GUEST):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: the guest's file says it: leave {name} out")
        elif not given & {"memory", "memory_bytes"}:
            raise ValueError('memory is required, such as memory = "128GiB"')
        if any(self.hosts or ()) and self.axis("host_memory_bytes") is not None:
            name = self.key_of("host_memory_bytes")
            raise ValueError(f"{name}: hosts says how large each host is: leave {name} out")
        if any(self.linux or ()) and self.axis("policy") is not None:
            name = self.key_of("policy")
            raise ValueError(f"{name}: linux says which policy it is: leave one of them out")
        if GUEST in (self.layout or ()):
            raise ValueError("layout: guest is what a guest's file has: name the file in guest")
        return self

    def key_of(self, name: str) -> str:
        """Return which of its two names the scenario's field `name` was given by."""
        short = next((short for short, long in SHORT_NAMES.items() if long == name), name)
        return short if short in self.model_fields_set else name

    def axis(self, name: str) -> Axis | None:
        """Return the axis of the scenario's field `name`, None where it was not given."""
        value: Axis | None = getattr(self, name)
        short = _SHORT_OF.get(name)
        if value is None and short is not None:
            value = getattr(self, short)
        return value

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """One axis per field of `fields.FIELDS`, defaults filled in.

        What follows from the guest's memory or from its file is `[None]`.
        """
        given = (self.axis(name) for name in FIELDS)
        defaults = _DEFAULTS if self.guest is None else _GUEST_DEFAULTS
        return tuple(
            [default] if axis is None else axis
            for axis, default in zip(given, defaults, strict=True)
        )

    def canonical(self) -> dict[str, Any]:
        """Return what the section means as plain values, for the digest."""
        plain = {
            name: None if axis == [None] else canonical(axis)
            for name, axis in zip(FIELDS, self.axes, strict=True)
        }
        for name in _ADDED:
            if self.axis(name) is None:
                del plain[name]
        plain["xen"] = plain["xen"] or [""]
        del plain["guest"]
        plain["policy"] = sorted(map(identity, self.axis("policy") or [MENDED]))
        if self.guest is not None:
            # Where the file lies does not matter.
            plain["guest"] = sorted(map(digest_of, self.guest))
        maps = plain.pop("neighbour_map")
        if maps != [""]:
            plain["neighbour_map"] = sorted(map(digest_of, self.axes[MAP_KEY]))
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Return the axes that were given, as plain values that read back to the same."""
        given = ((name, self.axis(name)) for name in FIELDS)
        return {name: spelled(axis, name) for name, axis in given if axis is not None}

    def _no_spans(self, what: str) -> None:
        for key in sorted(self.model_fields_set):
            if isinstance(getattr(self, key), Span):
                name = SHORT_NAMES.get(key, key)
                raise ValueError(
                    f"{key}: a range in {what} needs a step, such as "
                    + ('"1GiB..512GiB x2"' if name in SIZE_FIELDS else '"0..0.9 +0.1"')
                )


class Grid(Axes):
    """Every combination of the axes, the seeds outermost so that a part of it is a fair part."""

    @model_validator(mode="after")
    def _listed(self) -> Grid:
        self._no_spans("a grid")
        return self

    @property
    def num_cells(self) -> int:
        """The number of combinations; no two of them are the same cell."""
        return math.prod(len(axis) for axis in self.axes)

    def cells(self) -> Iterator[Values]:
        """Yield the canonical values of each combination."""
        outer = self.axes[_SEED]
        inner = self.axes[:_SEED]
        for seed in outer:
            for values in itertools.product(*inner):
                yield resolve((*values, seed))

    @cached_property
    def _members(self) -> tuple[Any, ...]:
        return tuple(
            axis if isinstance(axis, range) else frozenset(map(_key(index), axis))
            for index, axis in enumerate(self.axes)
        )

    @cached_property
    def _following(self) -> frozenset[int]:
        """The fields that follow from others, at least in some cells."""
        # In a range `in` would look at each number.
        return frozenset(
            index
            for index, members in enumerate(self._members)
            if not isinstance(members, range) and None in members
        )

    def __contains__(self, values: object) -> bool:
        """Return whether the cell of these canonical values is one of the grid's."""
        assert isinstance(values, tuple)
        told: Values | None = None
        for index, (value, members) in enumerate(zip(values, self._members, strict=True)):
            if _key(index)(value) in members:
                continue
            if index not in self._following:
                return False
            if told is None:
                told = resolve(self._bare(values))
            if value != told[index]:
                return False
        return True

    def _bare(self, values: Values) -> Values:
        """Return a cell's values without those that follow from others in this grid."""
        gone = self._following - {_MEMORY, GUEST_KEY, _HOSTS, MAP_KEY}
        return tuple(None if index in gone else value for index, value in enumerate(values))


def _key(index: int) -> Callable[[Any], Any]:
    """Return what makes two values of the field `index` the same."""
    return _KEYS.get(index, _itself)


def _policy_key(name: str | None) -> str | None:
    """Return what makes two policies the same; None where a release of Linux says which it is."""
    return None if name is None else identity(name)


def _itself(value: Any) -> Any:
    return value


_KEYS: Final = {GUEST_KEY: digest_of, MAP_KEY: digest_of, _POLICY: _policy_key}


class Cell(Axes):
    """One cell written out: every field has one value."""

    @model_validator(mode="after")
    def _single(self) -> Cell:
        if "axes" in self.__dict__:
            return self
        self._no_spans("cells")
        for name, axis in zip(FIELDS, self.axes, strict=True):
            if len(axis) != 1:
                raise ValueError(
                    f"{self.key_of(name)}: a cell has one value, not {len(axis)}: use a grid"
                )
        return self

    @property
    def values(self) -> Values:
        """The cell's canonical values."""
        return resolve(tuple(axis[0] for axis in self.axes))


class Sample(Axes):
    """`n` cells drawn from lists and ranges by a counter keyed by `key`.

    Where no seed is named, draw i has seed i.
    """

    n: Annotated[int, Field(ge=1, le=1_000_000_000, description="How many cells to draw.")]
    key: Annotated[int, Field(ge=0, description="Another key draws other cells.")] = 0

    def cells(self) -> Iterator[Values]:
        """Yield the canonical values of each draw."""
        named = [
            (index, FIELDS[index], axis)
            for index, axis in enumerate(self.axes)
            if isinstance(axis, Span) or len(axis) > 1
        ]
        fixed = [None if isinstance(axis, Span) else axis[0] for axis in self.axes]
        has_seed = self.axis("seed") is not None
        for draw_index in range(self.n):
            values = list(fixed)
            for index, name, axis in named:
                values[index] = draw(axis, name, self.key, draw_index)
            if not has_seed:
                values[_SEED] = draw_index
            yield resolve(tuple(values))

    def canonical(self) -> dict[str, Any]:
        """Return what the sample means as plain values, for the digest."""
        seed = {} if self.axis("seed") is not None else {"seed": "draw"}
        return {**super().canonical(), **seed, "n": self.n, "key": self.key}


def resolve(values: Values) -> Values:
    """Return `values` with what a guest's file says, and sizes that follow from its memory."""
    if values[GUEST_KEY]:
        found = guest_fields(values[GUEST_KEY])
        values = tuple(found.get(name, value) for name, value in zip(FIELDS, values, strict=True))
    memory_bytes = values[_MEMORY]
    host, hosts = values[_HOST], values[_HOSTS]
    if host is None:
        host = largest_host(hosts) if hosts else default_host_memory_bytes(memory_bytes)
        if values[MAP_KEY] and not hosts:
            host = map_memory_bytes(values[MAP_KEY])
    filled = list(values)
    filled[_HOST] = host
    if values[_NEIGHBOUR] is None:
        filled[_NEIGHBOUR] = memory_bytes
    if (
        filled[_LAYOUT] != IDENTITY
        and filled[_XEN] is filled[_TOOLSTACK] is None
        and not filled[_LINUX]
    ):
        # What most cells have; a spec may have a million.
        for index, value in _USUAL:
            if filled[index] is None:
                filled[index] = value
        return tuple(filled)
    fields = dict(zip(FIELDS, filled, strict=True))
    try:
        follow(fields, memory_bytes)
    except ValueError as error:
        raise InputError(str(error)) from None
    return tuple(fields.values())
