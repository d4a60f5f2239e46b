"""How long many guests' linear p2ms are, as columns: what `linear_shape` says of one at a time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.model.linear_shape import BLOCK_PFNS, LEAF_PFNS
from p2mbatch.model.policies import Policy


class FlatFields(Protocol):
    """What scenarios say of linear p2ms: one element for each."""

    @property
    def hotplug_gib(self) -> Int64Array:
        """Return the GiB that each area is long enough for."""

    @property
    def p2m_vaddr(self) -> Int64Array:
        """Return where each table begins, as a signed word."""

    @property
    def told(self) -> BoolArray | Int64Array:
        """Return whether the guest is told that the toolstack can read its table."""


class FlatPlaces(NamedTuple):
    """The columns of `LinearShape`: one element for each guest."""

    area_pfns: Int64Array
    num_leaves: Int64Array
    own_leaves: Int64Array
    table_pages: Int64Array
    list_pages: Int64Array
    boot_pages: Int64Array
    later_pages: Int64Array
    no_list: BoolArray


def flat_places(
    fields: FlatFields, policy: Policy, nr_pages: Int64Array, span: Int64Array, reach: Int64Array
) -> FlatPlaces:
    """Return what p2ms are like of guests that boot with `nr_pages` of `span`."""
    end, reach = np.maximum(nr_pages, span), np.maximum(nr_pages, reach)
    size = -(-nr_pages // LEAF_PFNS) * LEAF_PFNS
    area_pfns = BLOCK_PFNS * np.maximum(-(-size // BLOCK_PFNS), fields.hotplug_gib)
    own_blocks = -(-np.minimum(reach, area_pfns) // BLOCK_PFNS)
    own_leaves = -(-np.minimum(end, area_pfns) // LEAF_PFNS)
    num_leaves = np.minimum(area_pfns, (-(-reach // BLOCK_PFNS) + 1) * BLOCK_PFNS) // LEAF_PFNS
    above = sum(
        ((fields.p2m_vaddr & ((1 << bits) - 1)) + 8 * area_pfns - 1 >> bits) + 1
        for bits in (30, 39)
    )
    table_pages = 2 + own_blocks + above
    list_pages = 3 + own_blocks
    no_list: BoolArray = (fields.told != 0) & (not policy.whole_area)
    boot_pages = 2 + own_leaves + table_pages + policy.hash_pages + list_pages * ~no_list
    return FlatPlaces(
        area_pfns,
        num_leaves,
        own_leaves,
        table_pages,
        list_pages,
        boot_pages,
        later_pages=list_pages * no_list,
        no_list=no_list,
    )
