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

_OPERATIONS = ("boot", "rebuild", "report", "set_runs", "grow_leaves")

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
) -> Operations:
    """Return a policy's operations: `parts` are its own, the others those of `base`.

    `names` is the module that holds its functions, `functions` those that the seam calls.
    """
    report = functions["xen_setup_mfn_list_list"] or words.report
    exec(_text(), names)
    # After the text, which says what else is meant by these names.
    names |= {
        "XEN_BUILD_MFN_LIST_LIST": functions["xen_build_mfn_list_list"],
        "XEN_POST_SUSPEND": functions["xen_post_suspend"],
        "XEN_SETUP_MFN_LIST_LIST": report,
        "ALLOC_P2M": functions["alloc_p2m"],
    }
    made = {name: own_kernel(names[name], digest) for name in _OPERATIONS if name in parts}
    if base is None:
        return Operations(**(_COMMON | made))
    whole = {"rebuild_mids": None} if "rebuild" in parts else {}
    return base._replace(**made, **whole)
