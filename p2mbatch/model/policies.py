"""The registry of policies: what each range of kernels does with its p2m and its list.

Whatever names a policy asks here: scenarios, traces, tables, reports, plots. A new one is a file in
`compiled/policies/` and one entry in `_OWN`. The compiled functions are imported when a guest is
first made: help, specs and reports must not wait for a compiler.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from p2mbatch.base.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from p2mbatch.base.errors import InputError
from p2mbatch.base.references import split_reference
from p2mbatch.model.owned import Carried, Own

if TYPE_CHECKING:
    from p2mbatch.base.arrays import Int64Array
    from p2mbatch.compiled.policies.operations import Operations

Pages = TypeVar("Pages", int, "Int64Array")
"""A number of pages, or one for each of many guests."""

MENDED: Final = "tracked"
"""The policy that others are shown beside, and that is taken where nothing says which it was."""


def _own(name: str) -> Callable[[], Operations]:
    def load() -> Operations:
        module = importlib.import_module(f"p2mbatch.compiled.policies.{name}")
        found: Operations = module.OPERATIONS
        return found

    return load


SPARE_SLOTS = 256
"""Pages that one call of a policy of the user's own may hit beyond those that it has."""


@dataclass(frozen=True)
class Policy:
    """One policy: its functions, its words, its look."""

    name: str
    """As scenarios and traces have it."""
    meaning: str
    """Which kernel that is, in a few words after the name."""
    brief: str
    """The same in a word or two, for a legend."""
    load: Callable[[], Operations]
    """Returns the compiled functions."""
    list_brk_pages: int
    """Pages that the first list takes beside one for each mid page."""
    color: str
    hatch: str
    marker: str
    dashes: Any = "-"
    releases: str = ""  # where `meaning` tells them by the change
    spoken: str = ""
    """The name in a sentence, where it alone would be read as something else."""
    lists_on_64_bit: bool = True
    """Whether a 64-bit guest boots with a page of the list for each mid page, as 32-bit ones do."""
    by_old_mfn: bool = False
    """Whether its rebuild looks for the list's pages by the MFNs that the list last had."""
    rebuilds: bool = True
    """Whether it rebuilds its list at a resume."""
    own: Own | None = None
    """What there is beside, where it is of a file of the user's."""
    is_era: bool = False
    """Whether it is one of the eras' (policies-spec), with words and pages of their own."""
    placeholders: int = 3
    """Pages of placeholders that boot takes from brk, `p2m_top` among them."""
    asks_override: bool = False
    """Whether boot asks for pages of m2p overrides (policies-spec P3)."""
    late_list: bool = False
    """Whether the list's pages come from the boot allocator."""
    marks: bool = False
    """Whether its boot takes 1:1 ranges to mark."""
    bootmem: bool = False
    """Whether its boot takes pages from the boot allocator."""
    is_two_level: bool = False
    """Whether its p2m is a tree of two levels in static arrays (policies-spec P1)."""
    is_linear: bool = False
    """Whether its p2m is one flat table (linear-spec)."""
    ends_within: bool = False
    """Whether the end that it reports may lie within a leaf."""
    whole_area: bool = False
    """Whether it reports the flat table whole and knows no start flag."""
    races: str = ""
    """The race explorer's kernel by whose steps several CPUs grow its p2m; empty: not modelled."""
    base: str = ""
    """Of a file of the user's: the era's policy that places its pages alike."""

    @functools.cached_property
    def operations(self) -> Operations:
        """Return the compiled functions, imported the first time."""
        return self.load()

    @property
    def short(self) -> str:
        """Return the name without the digest of a file."""
        return split_reference(self.name)[0]

    @property
    def label(self) -> str:
        """Return what a legend says."""
        return f"{self.short} ({self.brief})"

    @property
    def sentence(self) -> str:
        """Return the name and what it means."""
        return f"{self.short}: {self.meaning}"

    @property
    def places(self) -> str:
        """Return which policy's guests have their pages where this one looks for them."""
        return self.base or self.name

    @property
    def spare_slots(self) -> int:
        """Return the pages that a call may take or hit before it can ask for more room."""
        return SPARE_SLOTS if self.own is not None else 0

    def most_pages(self, word_bytes: int) -> int:
        """Return two levels' usual `MAX_DOMAIN_PAGES`, 32 or 8 GiB; else 0 (policies-spec P1)."""
        return (8_388_608 if word_bytes == 8 else 2_097_152) if self.is_two_level else 0

    def brk_pages(self, num_mids: Pages, word_bytes: int) -> Pages:
        """Return the pages of brk that a boot with so many mid pages takes (model section 4).

        Of many boots at once where `num_mids` is an array.
        """
        if self.is_two_level or self.is_linear:
            return num_mids * 0
        to_list = self.list_distance(num_mids, word_bytes) + 1
        if self.late_list:
            return to_list - self.list_brk_pages
        return to_list + num_mids * (word_bytes == 4 or self.lists_on_64_bit)

    @property
    def hash_pages(self) -> int:
        """Return the pages that a linear boot takes for nothing of the p2m (3.19 to 4.2)."""
        return 4 if self.whole_area else 0

    def list_distance(self, num_mids: Pages, word_bytes: int) -> Pages:
        """Return how far boot puts the frame list list behind `p2m_missing`, in pages."""
        override = word_bytes // 2 if self.asks_override else 0
        return self.placeholders + num_mids + override + self.list_brk_pages - 1

    def moves_leaves(self, word_bytes: int) -> bool:
        """Return whether boot moves the leaves out of `mfn_list` (policies-spec P4b)."""
        return self.bootmem and word_bytes == 8

    def bootmem_pages(self, num_mids: Pages, num_leaves: Pages, word_bytes: int) -> Pages:
        """Return the boot allocator's pages that a boot with so many mids and leaves takes.

        Of many boots at once where these are arrays.
        """
        lists = (self.list_brk_pages + num_mids) * self.late_list
        return lists + num_leaves * self.moves_leaves(word_bytes)


_OWN = (
    Policy(
        name="tracked",
        meaning="the kernel after the change",
        releases="Linux 2.6.37",
        brief="after the change",
        load=_own("tracked"),
        list_brk_pages=3,
        color=BLUE,
        hatch="",
        marker="o",
        races="old",
    ),
    Policy(
        name="stale",
        meaning="the kernel before it",
        releases="Linux 2.6.37's release candidates",
        brief="before the change",
        load=_own("stale"),
        # Before the change there was no p2m_top_mfn_p.
        list_brk_pages=2,
        # It tells p2m_mid_missing_mfn by its address, and mfn_to_virt gives another one there.
        lists_on_64_bit=False,
        by_old_mfn=True,
        color=VERMILION,
        hatch="////",
        marker="s",
        dashes=(0, (5, 2)),
    ),
    Policy(
        name="none",
        meaning="a kernel that never rebuilds its list",
        brief="never rebuilt",
        load=_own("none"),
        list_brk_pages=3,
        color=BLACK,
        hatch="xx",
        marker="^",
        dashes=(0, (1, 1.6)),
        spoken="policy none",
        rebuilds=False,
    ),
)

_ERAS = (
    Policy(
        name="two-level",
        meaning="Linux 2.6.27 to 2.6.29 and 2.6.33 to 2.6.36",
        brief="2.6.33 to 2.6.36",
        load=_own("two_level"),
        list_brk_pages=0,
        color=PURPLE,
        hatch="..",
        marker=">",
        is_era=True,
        is_two_level=True,
    ),
    Policy(
        name="two-level-none",
        meaning="Linux 2.6.30 to 2.6.32",
        brief="2.6.30 to 2.6.32",
        load=_own("two_level_none"),
        list_brk_pages=0,
        color=BLACK,
        hatch="++",
        marker="P",
        rebuilds=False,
        is_era=True,
        is_two_level=True,
    ),
    Policy(
        name="tail",
        meaning="Linux 2.6.38",
        brief="2.6.38",
        load=_own("tail"),
        list_brk_pages=3,
        color=SKY,
        hatch="..",
        marker="v",
        is_era=True,
        asks_override=True,
        races="old",
    ),
    Policy(
        name="identity",
        meaning="Linux 3.0 to 3.6, on 32-bit to 3.13",
        brief="3.0 to 3.6",
        load=_own("identity"),
        list_brk_pages=3,
        color=GREEN,
        hatch="++",
        marker="D",
        is_era=True,
        placeholders=4,
        asks_override=True,
        marks=True,
        races="orig",
    ),
    Policy(
        name="moved",
        meaning="Linux 3.7 to 3.13",
        brief="3.7 to 3.13",
        load=_own("moved"),
        list_brk_pages=3,
        color=ORANGE,
        hatch="--",
        marker="p",
        is_era=True,
        placeholders=4,
        asks_override=True,
        marks=True,
        bootmem=True,
        races="orig",
    ),
    Policy(
        name="mid-identity",
        meaning="Linux 3.14 to 3.16",
        brief="3.14 to 3.16",
        load=_own("mid_identity"),
        list_brk_pages=4,
        color=PURPLE,
        hatch="oo",
        marker="h",
        is_era=True,
        placeholders=5,
        asks_override=True,
        marks=True,
        bootmem=True,
        races="orig",
    ),
    Policy(
        name="late-list",
        meaning="Linux 3.17 and 3.18",
        brief="3.17 and 3.18",
        load=_own("late_list"),
        list_brk_pages=3,
        color=BLUE,
        hatch="**",
        marker="<",
        is_era=True,
        placeholders=5,
        asks_override=True,
        late_list=True,
        marks=True,
        bootmem=True,
        races="orig",
    ),
)

_LINEAR = (
    Policy(
        name="linear-3.19",
        meaning="Linux 3.19 to 4.2",
        brief="3.19 to 4.2",
        load=_own("linear_3_19"),
        list_brk_pages=0,
        color=SKY,
        hatch="||",
        marker="X",
        is_era=True,
        is_linear=True,
        whole_area=True,
        races="new",
    ),
    Policy(
        name="linear-4.4",
        meaning="Linux 4.3 to 5.13",
        brief="4.3 to 5.13",
        load=_own("linear_4_4"),
        list_brk_pages=0,
        color=GREEN,
        hatch="OO",
        marker="d",
        is_era=True,
        is_linear=True,
        ends_within=True,
        races="new",
    ),
    Policy(
        name="linear",
        meaning="Linux 5.14 and newer",
        brief="5.14 and newer",
        load=_own("linear"),
        list_brk_pages=0,
        color=ORANGE,
        hatch="",
        marker="8",
        is_era=True,
        is_linear=True,
        races="new",
    ),
)

_REGISTRY: dict[str, Policy] = {policy.name: policy for policy in _OWN + _ERAS + _LINEAR}


def register(policy: Policy) -> None:
    """Let `policy` be named from now on, behind those there are.

    Raises `InputError` where its name is taken.
    """
    if policy.name in _REGISTRY:
        raise InputError(f"policy: there is a {policy.name!r} already")
    _REGISTRY[policy.name] = policy


def names() -> tuple[str, ...]:
    """Return the names of the policies that a scenario may have, in the order of all tables.

    Those of files of the user's are not among them.
    """
    return tuple(name for name in _REGISTRY if not is_reference(name))


def is_known(name: object) -> bool:
    """Return whether there is a policy of that name, one of a file that was read included."""
    return isinstance(name, str) and name in _REGISTRY


def find(name: str) -> Policy:
    """Return the policy of that name; raises `InputError` with those that there are."""
    if name not in _REGISTRY:
        raise InputError(f"policy: {name!r} is unknown: use {', '.join(names())}")
    return _REGISTRY[name]


def carried(names: Iterable[str]) -> list[Carried]:
    """Return what another process needs of those of `names` that are of files of the user's."""
    found = [find(name).own for name in sorted(names)]
    return [own.carried() for own in found if own is not None]


def is_reference(name: str) -> bool:
    """Return whether a policy is named with its digest, as stores and traces have one's own."""
    return bool(split_reference(name)[1])


def identity(name: str) -> str:
    """Return what a policy is named by in digests: of a file of the user's only what it says."""
    return f"own:{name.rpartition('#')[2]}" if is_reference(name) else name


def sort_key(name: str) -> tuple[int, str]:
    """Return what sorts names as `names` has them, unknown ones behind by the alphabet."""
    known = names()
    return (known.index(name) if name in known else len(known), name)


def shown(name: str) -> Policy:
    """Return how a policy that a table names is written and drawn, known here or not.

    A table may come from elsewhere. An unknown policy has a look of its own, always the same, that
    no known one has; it has no functions.
    """
    return _REGISTRY.get(name) or _stranger(name)


def free_look(name: str) -> tuple[str, str, str]:
    """Return a color, a hatch and a marker that no policy has, always the same for `name`."""
    taken = {(policy.color, policy.hatch, policy.marker) for policy in _REGISTRY.values()}
    looks = list(
        itertools.product((PURPLE, GREEN, ORANGE, SKY), ("\\\\\\\\", "..", "++", "oo"), "DvPX")
    )
    begin = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    free = (looks[(begin + k) % len(looks)] for k in range(len(looks)))
    return next(look for look in free if look not in taken)


def _stranger(name: str) -> Policy:
    color, hatch, marker = free_look(name)
    return Policy(
        name=name,
        meaning="a policy that is not known here",
        brief="not known here",
        load=functools.partial(find, name),  # type: ignore[arg-type]
        list_brk_pages=0,
        color=color,
        hatch=hatch,
        marker=marker,
        dashes=(0, (4, 1, 1, 1)),
    )
