"""SweepSpec: which cells a sweep has, from a TOML or JSON file, a preset, or options.

A spec is any number of grids (every combination of their axes), cells written out, and samples
drawn from ranges. It is expanded lazily and always in the same order; what it means is its digest,
which knows neither comments nor how a range was written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from p2mbatch import specfile
from p2mbatch._version import MODEL_VERSION
from p2mbatch.axes import SIZE_FIELDS, Axis, Span, canonical, draw, parse_axis, parse_seeds, spelled
from p2mbatch.complaints import OPTIONS, complaint, option_of, placed
from p2mbatch.errors import InputError
from p2mbatch.scenario import (
    FIELDS,
    FROM_GUEST,
    GUEST,
    Scenario,
    cell_id_of,
    default_host_memory_bytes,
    describe,
    digest_of,
    guest_fields,
)
from p2mbatch.specfile import KeyPath

Values = tuple[Any, ...]
"""One cell's canonical values in the order of `scenario.FIELDS`."""

SHORT_NAMES: Final = {
    "memory": "memory_bytes",
    "host_memory": "host_memory_bytes",
    "neighbour_memory": "neighbour_memory_bytes",
    "seeds": "seed",
}
"""What a spec may call a field instead of its own name."""

_MEMORY, _HOST, _NEIGHBOUR = (
    FIELDS.index(name) for name in ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes")
)
_SEED = FIELDS.index("seed")
_GUEST = FIELDS.index("guest")
_DEFAULTS: Final[Values] = tuple(
    None if name in SIZE_FIELDS else Scenario.model_fields[name].default for name in FIELDS
)
_GUEST_DEFAULTS: Final[Values] = tuple(
    None if name in FROM_GUEST else default for name, default in zip(FIELDS, _DEFAULTS, strict=True)
)
_MAX_CHECKED = 4096
"""Combinations that are checked before a sweep starts; beyond, each axis's ends stand for it."""


def _parse_field(raw: Any, info: ValidationInfo) -> Axis:
    name = info.field_name or ""
    if name == "seeds":
        return parse_seeds(raw)
    if name == "guest":
        directory = (info.context or {}).get("directory")
        return _parse_guests(raw, [] if directory is None else [directory])
    return parse_axis(SHORT_NAMES.get(name, name), raw)


def _parse_guests(raw: Any, directories: Sequence[Path]) -> Axis:
    """Return the guests that `raw` (a file's name or a list of them) names, as "PATH#DIGEST".

    A digest that is there already is left for the cells to check, so that a store's spec can be
    read where the files are not.
    """
    from p2mbatch.guestfile import find_guest, split_reference

    found: dict[str, str] = {}
    for text in raw if isinstance(raw, list | tuple) else [raw]:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not the name of a guest's trace file")
        digest = split_reference(text)[1]
        if digest and not directories:
            found.setdefault(digest, text)
            continue
        try:
            guest = find_guest(text, directories)
        except InputError as error:
            raise ValueError(str(error)) from None
        found.setdefault(guest.digest, guest.reference)
    if not found:
        raise ValueError("an empty list names no value")
    return list(found.values())


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
    layout: AxisField = Field(None, description="tail, scattered or extents.")
    migrations: AxisField = Field(None, description="How many migrations.")
    policy: AxisField = Field(None, description="tracked, stale or none.")
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
    seed: AxisField = Field(None, description="One seed, a range of them, or a list.")
    seeds: AxisField = Field(None, description="How many seeds: 5 is 0 to 4. Or as seed.")

    @model_validator(mode="after")
    def _one_name_per_field(self) -> Axes:
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
        for short, long in SHORT_NAMES.items():
            if long == name and value is None:
                value = getattr(self, short)
        return value

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """One axis per field of `scenario.FIELDS`, defaults filled in.

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
        del plain["guest"]
        if self.guest is not None:
            # Where the file lies does not matter.
            plain["guest"] = sorted(map(digest_of, self.guest))
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Return the axes that were given, as plain values that read back to the same."""
        given = ((name, self.axis(name)) for name in FIELDS)
        return {name: spelled(axis) for name, axis in given if axis is not None}

    def _no_spans(self, what: str) -> None:
        for name in FIELDS:
            if isinstance(self.axis(name), Span):
                raise ValueError(
                    f"{self.key_of(name)}: a range in {what} needs a step, such as "
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

    def __contains__(self, values: object) -> bool:
        """Return whether the cell of these canonical values is one of the grid's."""
        assert isinstance(values, tuple)
        for index, (value, members) in enumerate(zip(values, self._members, strict=True)):
            if _key(index)(value) in members:
                continue
            if None not in members or value != resolve(_bare(values))[index]:
                return False
        return True


def _key(index: int) -> Callable[[Any], Any]:
    """Return what makes two values of the field `index` the same."""
    return digest_of if index == _GUEST else _itself


def _itself(value: Any) -> Any:
    return value


def _bare(values: Values) -> Values:
    """Return a cell's memory and guest, from which the rest may follow, and nothing else."""
    return tuple(v if i in (_MEMORY, _GUEST) else None for i, v in enumerate(values))


class Cell(Axes):
    """One cell written out: every field has one value."""

    @model_validator(mode="after")
    def _single(self) -> Cell:
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
    if values[_GUEST]:
        found = guest_fields(values[_GUEST])
        values = tuple(found.get(name, value) for name, value in zip(FIELDS, values, strict=True))
    memory_bytes = values[_MEMORY]
    host = values[_HOST]
    neighbour = values[_NEIGHBOUR]
    return (
        *values[:_HOST],
        default_host_memory_bytes(memory_bytes) if host is None else host,
        *values[_HOST + 1 : _NEIGHBOUR],
        memory_bytes if neighbour is None else neighbour,
        *values[_NEIGHBOUR + 1 :],
    )


class SweepSpec(BaseModel):
    """The cells of a sweep: `grid`, `cells` and `sample`, any of them together.

    `grid` and `sample` are a table or a list of tables. Made by `from_file`, `from_toml`,
    `from_dict` or `from_options`, which raise `InputError` naming the key, its line and the
    nearest right name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="p2mbatch sweep")

    question: str = Field("", description="The question that the sweep answers, for its report.")
    grid: list[Grid] = []
    cells: list[Cell] = []
    sample: list[Sample] = []
    _source: str = PrivateAttr(OPTIONS)
    _lines: Mapping[KeyPath, int] = PrivateAttr(default_factory=dict)

    @field_validator("grid", mode="before", json_schema_input_type=Grid | list[Grid])
    @classmethod
    def _one_grid_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @field_validator("sample", mode="before", json_schema_input_type=Sample | list[Sample])
    @classmethod
    def _one_sample_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _not_empty(self) -> SweepSpec:
        if not (self.grid or self.cells or self.sample):
            raise ValueError("there is no cell in it: give a [grid], [[cells]] or a [sample]")
        return self

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        source: str = "spec",
        lines: Mapping[KeyPath, int] | None = None,
        directory: Path | None = None,
    ) -> SweepSpec:
        """Return the spec of the plain values `data`; `source` and `lines` are for messages.

        Guests' files are looked for in `directory` first, then in the working directory.
        """
        try:
            spec = cls.model_validate(dict(data), context={"directory": directory})
        except ValidationError as error:
            raise InputError(complaint(error, source, lines or {}, _keys_of)) from None
        spec._source = source
        spec._lines = lines or {}
        return spec

    @classmethod
    def from_file(cls, path: str | Path) -> SweepSpec:
        """Return the spec in a TOML file, or a JSON file where the name ends in .json."""
        data, lines = specfile.parse(Path(path))
        return cls.from_dict(data, str(path), lines, Path(path).parent)

    @classmethod
    def from_toml(cls, path: str | Path) -> SweepSpec:
        """Return the spec in the TOML file at `path`."""
        return cls.from_file(path)

    @classmethod
    def from_options(cls, **options: Any) -> SweepSpec:
        """Return the spec of one grid: each option a value, or text with commas and ranges.

        Options that are None are left at the scenario's default.
        """
        grid: dict[str, Any] = {}
        for name, value in options.items():
            if value is None:
                continue
            if isinstance(value, str) and "," in value:
                value = [part.strip() for part in value.split(",") if part.strip()]
            grid[name] = value
        return cls.from_dict({"grid": grid}, OPTIONS)

    @property
    def source(self) -> str:
        """Where the spec was read: a file's path, or "options"."""
        return self._source

    @property
    def num_cells(self) -> int:
        """How many cells there are at most: cells that several sections name count in each."""
        grids = sum(grid.num_cells for grid in self.grid)
        return grids + len(self.cells) + sum(sample.n for sample in self.sample)

    def expand(self) -> Iterator[Values]:
        """Yield each cell's canonical values, lazily; a cell that an earlier grid has is left out.

        Draws of a sample that fall on the same values are yielded each.
        """
        for index, grid in enumerate(self.grid):
            before = self.grid[:index]
            if before:
                yield from (v for v in grid.cells() if not any(v in other for other in before))
            else:
                yield from grid.cells()
        seen: set[Values] = set()
        for cell in self.cells:
            values = cell.values
            if values not in seen and not any(values in grid for grid in self.grid):
                seen.add(values)
                yield values
        for sample in self.sample:
            for values in sample.cells():
                if values not in seen and not any(values in grid for grid in self.grid):
                    yield values

    def scenarios(self) -> Iterator[Scenario]:
        """Yield each cell as a validated `Scenario`, lazily."""
        for values in self.expand():
            yield Scenario.make(**dict(zip(FIELDS, values, strict=True)))

    def cell_ids(self) -> Iterator[str]:
        """Yield each cell's id, lazily."""
        return map(cell_id_of, self.expand())

    def structural_cells(self) -> Iterator[tuple[Values, int]]:
        """Yield (values, count): representatives whose sizes and lives stand for the whole spec.

        What a cell costs and whether it is possible depends on neither its seed nor on who its
        neighbours are, so these axes are counted, not walked. Where the rest is still too long,
        each axis is thinned to values spread over it, its ends always among them.
        """
        for _, values, count in self._listed_cells():
            yield values, count
        for sample in self.sample:
            for values in itertools.islice(sample.cells(), 256):
                yield values, max(sample.n // 256, 1)

    def _listed_cells(self) -> Iterator[tuple[KeyPath, Values, int]]:
        """Yield (section, values, count) of `structural_cells` but for samples."""
        for index, grid in enumerate(self.grid):
            axes = [
                axis if name not in ("seed", "neighbours", "neighbour_memory_bytes") else axis[:1]
                for name, axis in zip(FIELDS, grid.axes, strict=True)
            ]
            keep = 64
            while math.prod(len(axis) for axis in axes) > _MAX_CHECKED and keep > 1:
                keep = keep // 2
                axes = [_thin(axis, max(keep, 2)) for axis in axes]
            number = math.prod(len(axis) for axis in axes)
            for values in itertools.product(*axes):
                yield ("grid", index), resolve(values), max(grid.num_cells // number, 1)
        for index, cell in enumerate(self.cells[:_MAX_CHECKED]):
            yield ("cells", index), cell.values, max(len(self.cells) // _MAX_CHECKED, 1)

    def check(self) -> None:
        """Raise `InputError` for a combination that no guest or host can have.

        Checks `structural_cells` but for samples: what these draw is judged cell by cell.
        """
        for section, values, _ in self._listed_cells():
            try:
                _check_one(values)
            except InputError as error:
                raise InputError(self._about(section, str(error))) from None

    def _about(self, section: KeyPath, text: str) -> str:
        """Return a complaint about `section`, which begins with a field, with its place."""
        name, _, rest = text.partition(": ")
        axes = self.grid if section[0] == "grid" else self.cells
        key = axes[int(section[1])].key_of(name)
        if self._source == OPTIONS:
            return f"{option_of(key)}: {rest}"
        where = placed(self._source, specfile.line_of(self._lines, (*section, key)))
        return f"{where}: {section[0]}.{key}: {rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values that `from_dict` reads back to the same cells."""
        return {
            "question": self.question,
            "grid": [grid.to_dict() for grid in self.grid],
            "cells": [cell.to_dict() for cell in self.cells],
            "sample": [{**s.to_dict(), "n": s.n, "key": s.key} for s in self.sample],
        }

    def canonical(self) -> dict[str, Any]:
        """Return what the spec means, as plain values: the same however it was written."""
        return {
            "model": MODEL_VERSION,
            "grid": [grid.canonical() for grid in self.grid],
            "cells": sorted(map(_plain_values, (cell.values for cell in self.cells))),
            "sample": [sample.canonical() for sample in self.sample],
        }

    @property
    def digest(self) -> str:
        """A digest of `canonical()`: two specs with the same digest have the same cells."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check_one(values: Values) -> None:
    """Raise `InputError`, beginning with a field's name, where no guest or host can be so."""
    from p2mbatch.cell import check_scenario

    try:
        check_scenario(Scenario(**dict(zip(FIELDS, values, strict=True))))
    except ValidationError as error:
        raise InputError(describe(error)) from None


def _plain_values(values: Values) -> list[Any]:
    """Return a cell's values for a digest: of a guest that it has its digest, not its path."""
    guest = [digest_of(values[_GUEST])] if values[_GUEST] else []
    return [*values[:_GUEST], *values[_GUEST + 1 :], *guest]


def _thin(axis: Axis, keep: int) -> Sequence[Any]:
    assert not isinstance(axis, Span)
    if len(axis) <= keep:
        return axis
    ordered = axis if isinstance(axis, range) else sorted(axis)
    return [ordered[round(i * (len(ordered) - 1) / (keep - 1))] for i in range(keep)]


def _keys_of(section: str | None) -> list[str]:
    """Return the keys of one of a spec's sections; None for the spec itself."""
    models: dict[str | None, type[BaseModel]] = {"grid": Grid, "cells": Cell, "sample": Sample}
    return list(models.get(section, SweepSpec).model_fields)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a spec file (draft 2020-12)."""
    schema = SweepSpec.model_json_schema(mode="validation")
    for name in ("Grid", "Cell", "Sample"):
        # One of the two names of a field, as the models' own check has it.
        definition = schema["$defs"][name]
        definition["oneOf"] = [{"required": [n]} for n in ("memory", "memory_bytes", "guest")]
        definition["not"] = {
            "anyOf": [
                {"required": [one, other]}
                for one, other in (*SHORT_NAMES.items(), *((n, "guest") for n in FROM_GUEST))
            ]
        }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
