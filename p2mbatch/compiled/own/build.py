"""The seam's functions of a policy of one's own, made of the user's functions."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from p2mbatch.compiled.boot import set_shared_info
from p2mbatch.compiled.inspect import p2m_words
from p2mbatch.compiled.jit import own_kernel
from p2mbatch.compiled.lookup import lookup, lookup_parallel
from p2mbatch.compiled.own import operations as written
from p2mbatch.compiled.own import words
from p2mbatch.compiled.policies.operations import Operations

_COMMON = {
    "report": set_shared_info,
    "get": lookup,
    "get_parallel": lookup_parallel,
    "get_row": p2m_words,
}


@functools.cache
def _text() -> Any:
    path = Path(str(written.__file__))
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def own_operations(
    names: dict[str, Any],
    digest: str,
    parts: set[str],
    base: Operations | None,
    functions: dict[str, Any],
    *,
    own_tree: bool,
) -> Operations:
    """Return a policy's operations: `parts` are its own, the others those of `base`.

    `names` is the module that holds its functions, `functions` those that the seam calls, None
    where it has none. `own_tree`: it lays its p2m out and looks PFNs up itself.
    """
    exec(_text(), names)
    # After the text, which says what else is meant by these names.
    functions = {
        **functions,
        "xen_setup_mfn_list_list": functions["xen_setup_mfn_list_list"] or words.report,
        "pfn_to_mfn": functions["pfn_to_mfn"] or names["own_pfn_to_mfn"],
    }
    names |= {name.upper(): made for name, made in functions.items() if made is not None}
    chosen = {name: name for name in parts}
    if own_tree:
        chosen |= {name: f"{name}_own_tree" for name in ("boot", "rebuild", "grow_leaves")}
    if functions["set_phys_to_machine"] is not None:
        chosen |= {"set_runs": "own_set_runs"}
    made = {name: own_kernel(names[text], digest) for name, text in chosen.items()}
    if own_tree:
        made["get_parallel"] = made["get"]
    if base is None:
        return Operations(**(_COMMON | made))
    whole = {"rebuild_mids": None} if "rebuild" in parts else {}
    return base._replace(**made, **whole)
