"""How models of input are made in Python: by the command line's names, mistakes in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from p2mbatch.base.errors import InputError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _Type
else:
    _Type = type(BaseModel)

SHORT: Final = {
    "memory": "memory_bytes",
    "host_memory": "host_memory_bytes",
    "neighbour_memory": "neighbour_memory_bytes",
    "hole": "hole_bytes",
    "hole_at": "hole_at_bytes",
    "grow": "grow_bytes",
    "churn": "churn_bytes",
    "balloon": "balloon_bytes",
}
"""What the command line calls a field of a scenario -> its name."""


def with_full_names(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields `data` by their own names.

    Raises `ValueError`, for pydantic to collect, where one is given by both of its names.
    """
    if SHORT.keys().isdisjoint(data):
        return data
    for name in data:
        if name in SHORT and SHORT[name] in data:
            raise ValueError(f"{name}: is short for {SHORT[name]}: give one of them")
    return {SHORT.get(name, name): value for name, value in data.items()}


class Made(_Type):
    """The type of a model that is called as its `make` is: no error of pydantic's gets out."""

    def __call__(cls, /, *unnamed: Any, **fields: Any) -> Any:
        """Return what its `make` makes of `fields`. Raises `InputError` for what has no name."""
        if unnamed:
            raise InputError(f"{cls.__name__}: {unnamed[0]!r}: say what it is, as memory='1GiB'")
        return cls.make(**fields)  # type: ignore[attr-defined]
