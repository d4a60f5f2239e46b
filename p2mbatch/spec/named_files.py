"""Axes whose values are files: guests, hosts' maps, policies of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.base.references import split_reference
from p2mbatch.spec.axes import Axis


def find_policies(raw: Any, folders: Sequence[Path]) -> Any:
    """Return the policies that `raw` (a name or a list of them) names, their files read.

    A file is looked for in `folders` first, then in the working directory. What is named with
    its digest is left for the cells to check.
    """
    from p2mbatch.kernels.named import named_policy

    def find(text: Any) -> Any:
        try:
            return named_policy(text.strip(), folders) if isinstance(text, str) else text
        except InputError as error:
            raise ValueError(str(error)) from None

    return list(map(find, raw)) if isinstance(raw, list | tuple) else find(raw)


def parse_guests(raw: Any, directories: Sequence[Path]) -> Axis:
    """Return the guests that `raw` (a file's name or a list of them) names, as "PATH#DIGEST".

    A digest that is there already is left for the cells to check, so that a store's spec can be
    read where the files are not.
    """
    from p2mbatch.guests.file import find_guest

    return _parse_files(
        raw,
        "a guest's trace file",
        lambda text: find_guest(text, directories),
        checked=bool(directories),
    )


def parse_maps(raw: Any, directories: Sequence[Path]) -> Axis:
    """Return the hosts' maps that `raw` names, as `parse_guests`; empty text is no map."""
    from p2mbatch.model.host_map import find_map

    return _parse_files(
        raw,
        "a host's map",
        lambda text: find_map(text, directories),
        checked=bool(directories),
        empty=True,
    )


def _parse_files(
    raw: Any, what: str, find: Callable[[str], Any], *, checked: bool, empty: bool = False
) -> Axis:
    """Return the files that `raw` (a name or a list of them) names, as "PATH#DIGEST" of `find`.

    A name that has its digest is left for the cells unless `checked`. With `empty`, "" is none.
    """
    found: dict[str, str] = {}
    for text in raw if isinstance(raw, list | tuple) else [raw]:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not the name of {what}")
        digest = split_reference(text)[1]
        if not text and empty:
            found.setdefault("", "")
            continue
        if digest and not checked:
            found.setdefault(digest, text)
            continue
        try:
            file = find(text)
        except InputError as error:
            raise ValueError(str(error)) from None
        found.setdefault(file.digest, file.reference)
    if not found:
        raise ValueError("an empty list names no value")
    return list(found.values())
