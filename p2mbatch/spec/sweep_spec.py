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
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from p2mbatch._version import MODEL_VERSION
from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.collection import without_collection
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.base.shipped import find_spec
from p2mbatch.base.words import Columns
from p2mbatch.guests.fields import FIELDS, FROM_GUEST, cell_id_of
from p2mbatch.guests.made import Made
from p2mbatch.guests.references import digest_of
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.wording import describe
from p2mbatch.kernels.named import policies_in
from p2mbatch.model.policies import identity
from p2mbatch.spec import file as specfile
from p2mbatch.spec.alike import alike
from p2mbatch.spec.axes import HOSTS, Axis, Span
from p2mbatch.spec.columns import columns_between
from p2mbatch.spec.file import KeyPath
from p2mbatch.spec.messages import OPTIONS, complaint, option_of, placed
from p2mbatch.spec.sections import (
    GUEST_KEY,
    MAP_KEY,
    SHORT_NAMES,
    Cell,
    Grid,
    Sample,
    Values,
    resolve,
)

Answer = Literal["", "survival", "cost", "compare", "live"]
"""What a report can answer first: who came through, what it costs, which policy fares better, how
much guests may grow while they move."""

_MAX_CHECKED = 4096
"""Combinations that are checked before a sweep starts; beyond, each axis's ends stand for it."""


class SweepSpec(BaseModel, metaclass=Made):
    """The cells of a sweep: `grid`, `cells` and `sample`, any of them together.

    `grid` and `sample` are a table or a list of tables. Called with axes, as the command line has
    them, it is one grid: `SweepSpec(memory="1GiB,4GiB", policy="tracked")`. Also made by `load`,
    `from_file`, `from_toml`, `from_dict` or `from_options`. All raise `InputError` naming the key,
    its line and the nearest right name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="p2mbatch sweep")

    question: str = Field("", description="The question that the sweep answers, for its report.")
    answer: Answer = Field(
        "", description="What its report answers first; where nothing is said, what varies decides."
    )
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

    @field_validator("cells", mode="before")
    @classmethod
    def _many_alike(cls, value: Any, info: ValidationInfo) -> Any:
        return alike(value, info.context) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _not_empty(self) -> SweepSpec:
        if not (self.grid or self.cells or self.sample):
            raise ValueError("there is no cell in it: give a [grid], [[cells]] or a [sample]")
        return self

    @classmethod
    def make(cls, /, **given: Any) -> SweepSpec:
        """Return the spec of sections, as in a file, or of one grid's axes, as on a command line.

        Raises `InputError` for what can't be.
        """
        if set(given) & {"grid", "cells", "sample"}:
            return cls.from_dict(given)
        return cls.from_options(**given)

    @classmethod
    def load(cls, name: str | Path) -> SweepSpec:
        """Return the spec in the file `name`, or the preset of that name: `load("headline")`.

        Raises `InputError` where there is neither.
        """
        return cls.from_file(find_spec(str(name)))

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
            with without_collection():
                spec = cls.model_validate(dict(data), context={"directory": directory})
        except ValidationError as error:
            raise InputError(
                complaint(error, source, {} if lines is None else lines, _keys_of)
            ) from None
        spec._source = source
        spec._lines = {} if lines is None else lines
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

        Options that are None are left at the scenario's default. `question` and `answer` are the
        spec's own.
        """
        grid: dict[str, Any] = {}
        about: dict[str, Any] = {}
        for name, value in options.items():
            if value is None:
                continue
            if name in ("question", "answer"):
                about[name] = value
                continue
            if isinstance(value, str) and "," in value and name != HOSTS:
                listed = policies_in(value) if name == "policy" else value.split(",")
                value = [part.strip() for part in listed if part.strip()]
            grid[name] = value
        return cls.from_dict({"grid": grid, **about}, OPTIONS)

    @property
    def source(self) -> str:
        """Where the spec was read: a file's path, or "options"."""
        return self._source

    @property
    def num_cells(self) -> int:
        """How many cells there are at most: cells that several sections name count in each."""
        grids = sum(grid.num_cells for grid in self.grid)
        return grids + len(self.cells) + sum(sample.n for sample in self.sample)

    @property
    def may_repeat(self) -> bool:
        """Whether `expand` may yield the same cell again: draws that have no seed of their own."""
        has_seeds = any(sample.axis("seed") is not None for sample in self.sample)
        return has_seeds or len(self.sample) > 1

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

    def columns(self, first: int, last: int) -> tuple[Columns, Int64Array]:
        """Return the cells at positions `first` to `last` - 1 as columns, and their positions.

        Positions count every cell of every section; one that an earlier section has is left out,
        so that there may be fewer. Together they are the cells of `expand`, in its order; what
        comes before `first` is not walked. There is at least one position in between.
        """
        sections = (self.grid, self.cells, self.sample)
        return columns_between(sections, self._cells_once, first, last)

    @cached_property
    def _cells_once(self) -> dict[Values, int]:
        """The cells written out, each with the first of its places among them."""
        found: dict[Values, int] = {}
        for place, cell in enumerate(self.cells):
            found.setdefault(cell.values, place)
        return found

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
            except PolicyError:
                # Of a policy's file, and no value of a field: it names the place itself.
                raise
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
            **({"answer": self.answer} if self.answer else {}),
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

    @cached_property
    def digest(self) -> str:
        """A digest of `canonical()`: two specs with the same digest have the same cells."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check_one(values: Values) -> None:
    """Raise `InputError`, beginning with a field's name, where no guest or host can be so."""
    from p2mbatch.guests.stage import check_scenario

    try:
        check_scenario(Scenario.model_validate(dict(zip(FIELDS, values, strict=True))))
    except ValidationError as error:
        raise InputError(describe(error)) from None


def _plain_values(values: Values) -> list[Any]:
    """Return a cell's values for a digest: of a file that it names its digest, not its path."""
    at = FIELDS.index("policy")
    values = (*values[:at], identity(values[at]), *values[at + 1 :])
    # A field that came later is named where it says something, so that old digests stay.
    files = [digest_of(values[GUEST_KEY])] if values[GUEST_KEY] else []
    if values[MAP_KEY]:
        files.append(f"neighbour_map={digest_of(values[MAP_KEY])}")
    return [v for i, v in enumerate(values) if i not in (GUEST_KEY, MAP_KEY)] + files


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
