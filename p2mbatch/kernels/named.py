"""What a user names a policy by, kernels' C files among it: "kernel:FILE.c".

A file is read only where a person names it, as one in Python is (`model/own/named`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from p2mbatch.base.errors import PolicyError
from p2mbatch.base.paths import is_file
from p2mbatch.model import policies
from p2mbatch.model.own import named as written

_PREFIX, _SUFFIX = "kernel:", ".p2mk"
_CLASS = re.compile(r"(?s)(.+\.py):\w+")


def policies_in(text: str) -> list[str]:
    """Return the policies that a list names, with commas between them.

    A comma is part of a file's name where no file is called what stands before it.
    """
    parts, found, at = text.split(","), [], 0
    while at < len(parts):
        names = [",".join(parts[at:end]).strip() for end in range(at + 1, len(parts) + 1)]
        of_file = [end for end, name in enumerate(names) if _is_file(name)]
        end = of_file[0] if of_file and not policies.is_known(names[0]) else 0
        found.append(names[end])
        at += end + 1
    return [name for name in found if name]


def _is_file(name: str) -> bool:
    """Return whether a name of a policy is that of a file which is there."""
    file = name.removeprefix(_PREFIX)
    with_class = _CLASS.fullmatch(file)
    try:
        return is_file(with_class[1] if with_class else file)
    except ValueError:
        return False


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
    here = [folder / shown for folder in directories if is_file(folder / shown)]
    return registered(kernel_of(here[0] if here else Path(shown), shown))
