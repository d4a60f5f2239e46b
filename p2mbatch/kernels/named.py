"""What a user names a policy by, kernels' C files among it: "kernel:FILE.c".

A file is read only where a person names it, as one in Python is (`model/own/named`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2mbatch.base.errors import PolicyError
from p2mbatch.model import policies
from p2mbatch.model.own import named as written

_PREFIX, _SUFFIX = "kernel:", ".p2mk"


def named_policy(text: str, directories: Sequence[Path] = ()) -> str:
    """Return the name that a policy has in the registry, entered there if need be.

    `text` is as `model.own.named.named_policy` takes it, "kernel:FILE.c", or a `.p2mk`. Raises as
    that does, and `ResourceError` where the machine has no compiler.
    """
    named = text.startswith(_PREFIX) or text.endswith(_SUFFIX)
    if not named or policies.is_known(text) or policies.is_reference(text):
        return written.named_policy(text, directories)
    # Reading one needs a parser, which nobody else waits for.
    from p2mbatch.kernels.policy import kernel_of, registered

    shown = text.removeprefix(_PREFIX)
    if not shown:
        raise PolicyError("policy: 'kernel:' names no file: write kernel:mmu.c")
    here = [folder / shown for folder in directories if (folder / shown).is_file()]
    return registered(kernel_of(here[0] if here else Path(shown), shown))
