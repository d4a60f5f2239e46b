"""The C compiler of this machine, if there is one."""

from __future__ import annotations

import os
import shutil


def find_compiler() -> str | None:
    """Return the C compiler: `$CC`, cc, gcc or clang; None where there is none."""
    named = os.environ.get("CC", "").split()
    for name in [*named[:1], "cc", "gcc", "clang"]:
        found = shutil.which(name)
        if found:
            return found
    return None
