"""The files that a scenario names as "PATH#DIGEST": a guest's, a host's map, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from p2mbatch.base.errors import InputError

if TYPE_CHECKING:
    from p2mbatch.model.host_map import NeighbourMap

GUEST: Final = "guest"
"""The layout of a guest from a file."""


def digest_of(reference: str) -> str:
    """Return the digest of a file's "PATH#DIGEST", or "" of ""."""
    return reference.rpartition("#")[2]


def guest_fields(reference: str) -> dict[str, Any]:
    """Return what the file of "PATH#DIGEST" or "PATH" says: the fields `FROM_GUEST`, and guest.

    Raises `InputError` where the file is not there or is not that guest.
    """
    from p2mbatch.guests.file import guest_of

    guest = guest_of(reference)
    return {
        "memory_bytes": guest.memory_bytes,
        "sparsity": guest.sparsity,
        "layout": GUEST,
        "word_bytes": guest.layout.word_bytes,
        "guest": guest.reference,
    }


def map_memory_bytes(reference: str) -> int:
    """Return the memory of the host whose map "PATH#DIGEST" or "PATH" is."""
    from p2mbatch.model.host_map import map_of

    return map_of(reference).memory_bytes


def map_named(reference: str) -> NeighbourMap:
    """Return the map of "PATH#DIGEST" or "PATH"; ValueError where there is no such map."""
    from p2mbatch.model.host_map import map_of

    try:
        return map_of(reference)
    except InputError as error:
        raise ValueError(f"neighbour_map: {error}") from None
