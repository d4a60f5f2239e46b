"""What a kernel's file must have, era by era, and what the shim calls it by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from p2mbatch.kernels.closure import PAGES

TWO_LEVEL, THREE_LEVEL, LINEAR = "two-level", "three-level", "linear"

ERA_NUMBERS = {TWO_LEVEL: 2, THREE_LEVEL: 3, LINEAR: 4}
"""What P2MK_ERA says of an era in `include/page.h`."""


@dataclass(frozen=True)
class Wanted:
    """A root by the shim's name: how it is called and which functions of the kernel it may be."""

    name: str
    result: str
    parameters: str
    candidates: tuple[str, ...]
    eras: tuple[str, ...] = (TWO_LEVEL, THREE_LEVEL, LINEAR)
    is_optional: bool = False

    @property
    def arguments(self) -> str:
        """Return the names of its parameters, as a call has them."""
        parts = self.parameters.split(", ") if self.parameters != "void" else []
        return ", ".join(part.split()[-1] for part in parts)


_PFN = "unsigned long pfn"

ROOTS = (
    Wanted("list", "void", "void", ("xen_build_mfn_list_list",)),
    Wanted("boot", "void", "void", ("xen_build_dynamic_phys_to_machine",)),
    Wanted("report", "void", "void", ("xen_setup_mfn_list_list",)),
    Wanted("get", "unsigned long", _PFN, ("get_phys_to_machine",)),
    Wanted("set", "int", f"{_PFN}, unsigned long mfn", ("set_phys_to_machine",)),
    Wanted("vmalloc", "void", "void", ("xen_vmalloc_p2m_tree",), (LINEAR,)),
    Wanted("grow", "int", _PFN, ("xen_alloc_p2m_entry", "alloc_p2m"), (THREE_LEVEL, LINEAR), True),
    Wanted("identity", "unsigned long", "unsigned long start, unsigned long end",
           ("set_phys_range_identity",), (THREE_LEVEL, LINEAR), True),
    Wanted("revector", "unsigned long", "void", ("xen_revector_p2m_tree",), (THREE_LEVEL,), True),
    Wanted("early_set", "int", f"{_PFN}, unsigned long mfn", ("__set_phys_to_machine",),
           (THREE_LEVEL, LINEAR), True),
)  # fmt: skip

VARIABLES = ("xen_max_p2m_pfn", "xen_p2m_size", "xen_p2m_addr", "xen_p2m_last_pfn")
"""Whose addresses the shim is given, where the file has them."""


ARRAYS = ("p2m_missing", "p2m_top", "p2m_top_mfn", "p2m_top_mfn_list")
"""The static arrays of a p2m of two levels: pages of the guest."""


def era_of(defined: Collection[str]) -> str | None:
    """Return the era of a file by what it defines; None where it is no p2m's."""
    if "xen_vmalloc_p2m_tree" in defined:
        return LINEAR
    if "p2m_mid_missing" in defined:
        return THREE_LEVEL
    if "p2m_top" in defined:
        return TWO_LEVEL
    return None


def missing_text(function: str, shown: str, basename: str, defined: Collection[str]) -> str:
    """Return what to say where a file has not got a root."""
    where = ""
    if era_of(defined) is None and basename.startswith("mmu"):
        where = ": it moved to p2m.c in 2.6.38"
    elif era_of(defined) is None and basename.startswith("p2m"):
        where = ": before 2.6.38 it was in mmu.c"
    return f"no {function} in {shown}{where}"


@dataclass(frozen=True)
class Root:
    """A root that a file has."""

    name: str
    """The shim's name for it."""
    function: str
    result: str
    """Its result's type, as it is written."""
    line: int

    @property
    def is_static(self) -> bool:
        """Return whether no other file of the kernel's can call it."""
        return "static" in self.result.split()


def glue(
    found: Mapping[str, Root], variables: Collection[str], arrays: Sequence[str],
    boot_builds_list: bool,
) -> str:  # fmt: skip
    """Return the C text at the end of a unit: `p2mk_roots` and `p2mk_arrays`, all that it exports.

    `variables` are those of `VARIABLES` that the file has, `arrays` its static arrays.
    """
    made, lines = [], ["struct p2mk_roots {"]
    lines += [f"\t{w.result} (*{w.name})({w.parameters});" for w in ROOTS]
    lines += ["\tint boot_builds_list;"]
    lines += [f"\tvoid *{name};" for name in VARIABLES]
    lines += ["};"]
    for wanted in ROOTS:
        root = found.get(wanted.name)
        if root is not None:
            lines.append(_called(wanted, root))
            made.append(f"\t.{wanted.name} = p2mk_root_{wanted.name},")
    made.append(f"\t.boot_builds_list = {int(boot_builds_list)},")
    made += [f"\t.{name} = &{name}," for name in VARIABLES if name in variables]
    lines += ["const struct p2mk_roots p2mk_roots = {", *made, "};"]
    lines += ["struct p2mk_array { const char *name; void *address; unsigned long num_bytes; };"]
    lines += ["const struct p2mk_array p2mk_arrays[] = {"]
    lines += [f'\t{{ "{name}", {name}, sizeof({name}) }},' for name in arrays]
    lines += ["\t{ 0, 0, 0 }", "};"]
    if arrays:
        lines += [f"{PAGES}static char p2mk_pages_end[4096] __attribute__((used));"]
    return "\n".join(lines) + "\n"


def _called(wanted: Wanted, root: Root) -> str:
    call = f"{root.function}({wanted.arguments})"
    words = root.result.split()
    if "void" in words or wanted.result == "void":
        body = f"{call};" + (" return 1;" if wanted.result == "int" else "")
    elif wanted.name == "grow" and "_Bool" not in words and "bool" not in words:
        # An error number, not a truth.
        body = f"return {call} >= 0;"
    else:
        body = f"return {call};"
    return f"static {wanted.result} p2mk_root_{wanted.name}({wanted.parameters}) {{ {body} }}"
