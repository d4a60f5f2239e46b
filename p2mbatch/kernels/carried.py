"""A kernel's file with what its tree says beside it, as one text: what is kept, sent and compared.

A `.p2mk` is this text in a file. Nothing in it is trusted more than a `mmu.c` is: what it is made
of is checked again, and compiled again, by whoever reads it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from p2mbatch.base.errors import PolicyError
from p2mbatch.base.say import one_line
from p2mbatch.kernels.source import MAX_BYTES, Part, Source, checked_part, read_source, read_text

FORMAT = "p2mbatch-kernel/1"
SUFFIX = ".p2mk"
MAX_PARTS = 256
_LAST_LINE = 1 << 20


def read_kernel(path: Path | str, tree: Path | str | None = None) -> Source:
    """Return the kernel in a file: a `mmu.c` or `p2m.c`, with its `tree`, or a `.p2mk`.

    Raises `PolicyError` with file and line of what is wrong.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        return read_source(path, str(path), None if tree is None else Path(tree))
    if tree is not None:
        raise PolicyError(f"{one_line(path)}: has its tree's headers in it: leave out --tree")
    return source_of(read_text(path, str(path)), str(path))


def check_name(path: Path | str) -> None:
    """Raise `PolicyError` where a file that is to be written is not named as a `.p2mk`."""
    if Path(path).suffix != SUFFIX:
        raise _wrong(str(path), f"a built kernel's name ends in {SUFFIX}")


def text_of(source: Source) -> str:
    """Return a kernel as one text, the same for the same file and tree wherever they lie."""
    found = {"format": FORMAT, "name": source.path.name, **_texts(source, source.path.name)}
    return json.dumps(found, ensure_ascii=True, separators=(",", ":")) + "\n"


def _texts(source: Source, name: str) -> dict[str, list[list[str | int]]]:
    """Return the texts of a kernel, its own file by a name."""
    return {
        "page": [[p.shown, p.line, p.text] for p in source.page],
        "parts": [
            [name if p.shown == source.shown else p.shown, p.line, p.text] for p in source.parts
        ],
    }


def digest_of(source: Source) -> str:
    """Return the name that a kernel has in ids: 16 hexadecimal digits.

    It is of what the file and its tree's headers say, whatever the file is called.
    """
    said = json.dumps(_texts(source, ""), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def source_of(text: str, shown: str) -> Source:
    """Return the kernel that a text is; `shown` is what messages call it.

    Raises `PolicyError` where it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(shown, "not what `kernel build` writes: no JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _wrong(shown, f'not what `kernel build` writes: "format" is not {FORMAT!r}')
    name = found.get("name")
    if not isinstance(name, str) or not name or "/" in name or "\0" in name:
        raise _wrong(shown, '"name" is not the name of a file')
    page, parts = (_parts(found, key, shown) for key in ("page", "parts"))
    if not parts:
        raise _wrong(shown, '"parts" is empty')
    return Source(name, Path(name), None, page, parts, has_tree=bool(page))


def _parts(found: dict[str, Any], key: str, shown: str) -> list[Part]:
    listed = found.get(key)
    if not isinstance(listed, list) or len(listed) > MAX_PARTS:
        raise _wrong(shown, f'"{key}" is not a list of {MAX_PARTS} parts at most')
    parts = []
    for entry in listed:
        match entry:
            case [str(name), int(line), str(text)] if 0 < line <= _LAST_LINE and name:
                parts.append(checked_part(Part(name, text, line)))
            case _:
                raise _wrong(shown, f'"{key}" has what is no [file, line, text]')
    if sum(len(part.text) for part in parts) > MAX_BYTES:
        raise _wrong(shown, f'"{key}" has more than {MAX_BYTES} bytes')
    return parts


def _wrong(shown: str, problem: str) -> PolicyError:
    return PolicyError(f"{one_line(shown)}: {problem}")
