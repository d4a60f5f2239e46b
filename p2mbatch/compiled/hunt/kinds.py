"""What drawing and living a life asks of its policy, as a record."""

from __future__ import annotations

import dataclasses

from p2mbatch.compiled.records import record_dtype

TREE, ERA, FLAT = range(3)
"""Families: a tree of the first policies' (`model/life`), an era's (`era_life`), a flat table
(`linear_life`)."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Kind:
    """A policy at one width."""

    family: int
    word_bytes: int
    marks: int
    """Whether boot marks 1:1 ranges."""
    two_level: int
    """Pages that each array of tops of a p2m of two levels has at most; 0 for any other p2m."""
    whole_area: int
    takes_bootmem: int
    moves: int
    """Whether boot moves the leaves out of `mfn_list`."""
    rebuilds: int
    brk_one: int
    """Pages of brk that a boot with one mid page takes."""
    foreign_bit: int
    identity_bit: int
    """The bits of a word that say so, 0 where none does."""


KIND = record_dtype(Kind)
