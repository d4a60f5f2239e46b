"""What a user names a policy by: one of ours, a file, an installed one.

A file is read only where a person names it: an option, a spec, an argument from Python. A store or
a trace names it with its digest, and that is looked for among what has been read and nowhere else.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.base.paths import is_file
from p2mbatch.model import policies
from p2mbatch.model.own.policy import Carried, registered
from p2mbatch.model.own.source import MAX_BYTES, Source, choose, digest_of, read_module

GROUP = "p2mbatch.policies"
"""The entry points of installed policies: "name = package.module:Class"."""

_FILE = re.compile(r"(?s)(.+\.py)(?::(\w+))?")


def named_policy(text: str, directories: Sequence[Path] = ()) -> str:
    """Return the name that a policy has in the registry, entered there if need be.

    `text` is a policy's name, "FILE.py" or "FILE.py:CLASS", or the name of an installed one. A
    relative path is looked for in `directories`, then in the working directory. What is none of
    these is returned as it is. Raises `PolicyError` where the file is not there or is wrong.
    """
    if policies.is_known(text) or policies.is_reference(text):
        return text
    found = _FILE.fullmatch(text)
    if found:
        here = [folder / found[1] for folder in directories if is_file(folder / found[1])]
        path = here[0] if here else Path(found[1])
        return _read(path, str(path), found[2] or "")
    for entry in entry_points(group=GROUP, name=text):
        return _read(_file_of(entry), text, entry.attr, entry.name)
    return text


def _read(path: Path, shown: str, name: str, installed: str = "") -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{shown}: can't be read: {error.strerror}") from None
    except ValueError:
        raise PolicyError(f"policy: {shown!r} is not the name of a file") from None
    if len(raw) > MAX_BYTES:
        raise PolicyError(f"{shown}: larger than {MAX_BYTES} bytes: not a policy's file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyError(f"{shown}, line {line}: not UTF-8 text") from None
    written = choose(read_module(Source(shown, text, path)), name)
    title = installed or (f"{shown}:{name}" if name else shown)
    reference = f"{title}#{digest_of(text, written.name)}"
    return registered(Carried(reference, shown, written.name, text), path.absolute())


def _file_of(entry: EntryPoint) -> Path:
    """Return the file of an installed policy. Neither it nor a package around it is imported."""
    first, *others = entry.module.split(".")
    spec = importlib.util.find_spec(first)
    full = first
    for part in others:
        full = f"{full}.{part}"
        # `find_spec` of the whole name would run the packages that it is in.
        within = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(full, within) if within is not None else None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise InputError(f"policy: {entry.name}: there is no file of {entry.module}")
    return Path(spec.origin)
