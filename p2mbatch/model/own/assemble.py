"""From a policy as it is written to the seam's functions: what is its own is compiled."""

from __future__ import annotations

import ast
import sys
import types
from typing import Any

import numpy as np

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.own import memory, registers, words
from p2mbatch.compiled.own.build import own_operations
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.model.own import vocabulary as vo
from p2mbatch.model.own.rewrite import Rewritten, arrays_function, callees_of, rewrite_all
from p2mbatch.model.own.source import Written

# Operation of the seam -> the functions of a policy that it calls.
_CALLS = {
    "boot": ("xen_build_mfn_list_list", "xen_setup_mfn_list_list"),
    "rebuild": ("xen_post_suspend",),
    "set_runs": ("alloc_p2m", "set_phys_to_machine"),
    "grow_leaves": ("alloc_p2m",),
    "report": ("xen_setup_mfn_list_list",),
}

# Where it looks PFNs up itself, all is its own.
_ALL = {*_CALLS, "get", "get_row"}

_MISSING = "xen_build_mfn_list_list", "alloc_p2m"


def check(written: Written) -> Rewritten:
    """Check all that a policy says; raises `PolicyError` with the line of what is wrong."""
    source = written.module.source
    for name in _MISSING:
        if written.functions[name].is_abstract:
            raise source.error(
                written.line[0].node, f"class {written.name} has no {name}: write one, or inherit "
                "from Stale or Tracked",
            )  # fmt: skip
    for name in vo.OF_A_LAYOUT if written.own_tree else ():
        if written.functions[name].is_abstract:
            raise source.error(
                written.functions["get_phys_to_machine"].node,
                f"class {written.name} looks PFNs up itself: write its {name} too",
            )
    built = written.functions["xen_build_dynamic_phys_to_machine"]
    if not built.is_abstract and not written.own_tree:
        raise built.source.error(
            built.node, f"{built.name} is for policies with a get_phys_to_machine of their own"
        )
    if written.arrays and not written.own_tree:
        raise source.error(
            written.line[0].node, f"class {written.name}: static arrays are for policies with a "
            "get_phys_to_machine of their own",
        )  # fmt: skip
    num_own = len(written.statics) - len(written.known)
    if num_own > registers.MAX_OWN:
        raise source.error(
            written.line[0].node, f"class {written.name} has {num_own} static variables: "
            f"at most {registers.MAX_OWN}",
        )  # fmt: skip
    for name, function in written.functions.items():
        wanted = vo.ARGUMENTS.get(name)
        if wanted is not None and len(function.parameters) != wanted:
            many = f"{wanted} beside self" if wanted else "self alone"
            raise function.source.error(function.node, f"{name} takes {many}")
    return rewrite_all(written, [n for n, f in written.functions.items() if not f.is_abstract])


def own_parts(written: Written) -> set[str]:
    """Return the seam's operations that the policy does otherwise than what it inherits from.

    All, where it inherits from `Kernel` alone.
    """
    if written.own_tree:
        return set(_ALL)
    if not written.base:
        return set(_CALLS) - {"report"} | _changed(written)
    return _changed(written)


def _changed(written: Written) -> set[str]:
    source = written.module.source
    found = set()
    for operation, names in _CALLS.items():
        reached = set().union(*(callees_of(written, name) for name in names))
        if any(written.functions[name].source is source for name in reached):
            found.add(operation)
    return found


def assemble(written: Written, digest: str, base: Operations | None) -> Operations:
    """Return the compiled functions of a policy; `base` are those of what it inherits from."""
    rewritten = check(written)
    module = types.ModuleType(f"_p2mbatch_own_{digest}")
    # The compiler finds a function's names by way of its module.
    sys.modules[module.__name__] = module
    names = vars(module)
    names["_p2m_inner_kernel"] = inner_kernel
    names["_p2m_int64"] = np.int64
    names["_p2m_as_int"] = as_int
    for room in (registers, memory, words):
        for name, value in vars(room).items():
            if not name.startswith("_"):
                names.setdefault(f"_p2m_{name}", value)
    arrays = arrays_function(written)
    for path, node in (
        *((function.source.path, node) for function, node in rewritten.nodes),
        (written.module.source.path, arrays),
    ):
        exec(compile(ast.Module(body=[node], type_ignores=[]), str(path), "exec"), names)
    functions = {"make_arrays": names[arrays.name], **_functions(written, names)}
    return own_operations(
        names, digest, own_parts(written), base, functions, own_tree=written.own_tree
    )


def _functions(written: Written, names: dict[str, Any]) -> dict[str, Any]:
    """Return what the seam calls by the names of the kernel's functions."""
    found = {}
    for name in vo.ARGUMENTS:
        function = written.functions[name]
        found[name] = None if function.is_abstract else names[function.compiled]
    return found
