"""A kernel's C file as it is read: untrusted text, checked before any tool of the compiler sees it.

No directive of it reaches the preprocessor that could open a file or make it speak of one:
`#include` is resolved here, `#pragma` is left out, `#line` is refused.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from p2mbatch.base.errors import PolicyError
from p2mbatch.base.paths import is_file, is_there
from p2mbatch.base.say import one_line

MAX_BYTES = 1 << 20
"""Of one file: the largest mmu.c of any release has 80,000."""

MAX_LINE_BYTES = 1 << 16

_CONFLICT = ("<<<<<<< ", ">>>>>>> ")
"""How git begins and ends what it could not merge."""

HEADERS = re.compile(r"(linux|asm|asm-generic|xen|trace|uapi|generated|acpi|xen/interface)/.+")
"""What a kernel's file includes from its tree; what of it is needed is ours."""

BESIDE = frozenset(
    {"debugfs.h", "mmu.h", "multicalls.h", "p2m.h", "xen-ops.h", "smp.h", "pmu.h", "irq.h"}
)
"""What lies beside a mmu.c or p2m.c."""

_OURS_BESIDE = BESIDE - {"p2m.h"}

_PAGE = "asm/xen/page.h"

_DIRECTIVE = re.compile(r"[ \t\f\v]*(?:#|%:)[ \t\f\v]*(\w*)(.*)", re.DOTALL)
_INCLUDED = re.compile(r'[ \t\f\v]*(?:"([^"\n]+)"|<([^>\n]+)>)[ \t\f\v]*')
_PLAIN_PATH = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*")
_SPLICE = re.compile(r"\\[ \t\f\v]*$")
_TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|/\*.*\Z|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?""", re.DOTALL
)
_RAW_STRING = re.compile(r'\b(?:u8|[uUL])?R"')
# They look at other files, or speak to the compiler in the middle of a line.
_OPERATORS = re.compile(r"\b(_Pragma|__pragma|__has_include|__has_include_next|__has_embed)\b")
_KNOWN = {"define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "error",
          "warning", "include", "pragma", ""}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The text of one file, or a part of it, that stands in the unit from `line` on."""

    shown: str
    text: str
    line: int = 1


@dataclass
class Source:
    """A user's file with what it includes from its tree, in the order in which cpp reads it."""

    shown: str
    path: Path
    tree: Path | None
    page: list[Part] = field(default_factory=list)
    """The tree's asm/xen/page.h; nothing where there is no tree."""
    parts: list[Part] = field(default_factory=list)
    has_tree: bool = False

    @property
    def text(self) -> str:
        """Return the user's text, headers of its tree that lie beside it included."""
        return "".join(part.text for part in self.parts)


def wrong(shown: str, line: int, problem: str) -> PolicyError:
    """Return the error that something in a line of a file is wrong."""
    return PolicyError(f"{one_line(shown)}, line {line}: {problem}")


def read_source(path: Path, shown: str, tree: Path | None = None) -> Source:
    """Return a kernel's file, checked; its includes from `tree`, if that is given.

    Raises `PolicyError` with file and line where it is no readable C text, or where a directive
    of it may not stand.
    """
    source = Source(shown, path, tree, has_tree=tree is not None)
    if tree is not None:
        page = tree / "arch/x86/include/asm/xen/page.h"
        older = tree / "include/asm-x86/xen/page.h"
        found = page if is_there(page) or not is_there(older) else older
        if not is_there(found):
            raise PolicyError(
                f"--tree {one_line(tree)}: no arch/x86/include/{_PAGE} in it: the top of a Linux "
                "tree is wanted"
            )
        if _leads_out(tree, found):
            raise PolicyError(f"{_within(tree, found)}: leads out of the tree")
        _read_into(source.page, found, _within(tree, found), None, set())
    _read_into(source.parts, path, shown, tree, set())
    return source


def _within(tree: Path, path: Path) -> str:
    return str(path.relative_to(tree))


def checked_part(part: Part) -> Part:
    """Return a part that was read before, its text checked anew: it includes nothing.

    Raises `PolicyError` where it is no C text, or where a directive of it may not stand.
    """
    text = _decoded(part.text.encode("utf-8", "surrogatepass"), part.shown)
    lines = []
    for number, line in logical_lines(text, part.shown):
        directive = _DIRECTIVE.fullmatch(line.rstrip("\n"))
        if directive:
            at = number + part.line - 1
            line, _ = _directive(directive[1], directive[2], line, at, part.shown, None)
        lines.append(line)
    return Part(part.shown, "".join(lines), part.line)


def read_text(path: Path, shown: str) -> str:
    """Return the text of a regular file of `MAX_BYTES` at most; no other kind is opened for long.

    Raises `PolicyError` where it can't be read or is no text.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise PolicyError(f"{one_line(shown)}: can't be read: {error.strerror}") from None
    except ValueError:
        raise PolicyError(f"kernel: {shown!r} is not the name of a file") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        what = (
            "a directory: name the mmu.c or p2m.c in it; the tree is --tree"
            if stat.S_ISDIR(mode)
            else "not a regular file"
        )
        raise PolicyError(f"{one_line(shown)}: {what}")
    with os.fdopen(handle, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise PolicyError(
            f"{one_line(shown)}: larger than {MAX_BYTES} bytes: not a kernel's mmu.c or p2m.c"
        )
    if not raw.strip():
        raise PolicyError(f"{one_line(shown)}: empty: a kernel's mmu.c or p2m.c is wanted")
    return _decoded(raw, shown)


def _decoded(raw: bytes, shown: str) -> str:
    nul = raw.find(b"\0")
    if nul >= 0:
        raise wrong(shown, raw.count(b"\n", 0, nul) + 1, "not C text: it has a zero byte")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Names of authors, in the kernel's old files.
        text = raw.decode("latin-1")
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        raise wrong(shown, line, "a carriage return that ends no line")
    if not text.endswith("\n"):
        text += "\n"
    for number, line_text in enumerate(text.split("\n"), 1):
        if line_text.startswith(_CONFLICT):
            raise wrong(shown, number, "a conflict of a merge that was left in")
        if len(line_text) > MAX_LINE_BYTES:
            raise wrong(shown, number, f"longer than {MAX_LINE_BYTES} characters: not C text")
    return text


def _leads_out(tree: Path, path: Path) -> bool:
    return not path.resolve().is_relative_to(tree.resolve())


def _read_into(
    parts: list[Part], path: Path, shown: str, tree: Path | None, seen: set[Path]
) -> None:
    """Add the text of a file to `parts`; its directives are checked, its includes put in."""
    seen.add(path)
    # What a link leads to outside would be carried by a built file to whoever is given that.
    if tree is not None and tree in path.parents and _leads_out(tree, path):
        raise PolicyError(f"{one_line(shown)}: leads out of the tree")
    kept: list[str] = []
    start = 1
    for number, line in logical_lines(read_text(path, shown), shown):
        included = None
        directive = _DIRECTIVE.fullmatch(line.rstrip("\n"))
        if directive:
            line, included = _directive(directive[1], directive[2], line, number, shown, tree)
        kept.append(line)
        if included is not None and included not in seen and tree is not None:
            parts.append(Part(shown, "".join(kept), start))
            _read_into(parts, included, _within(tree, included), tree, seen)
            kept, start = [], number + line.count("\n")
    parts.append(Part(shown, "".join(kept), start))


def logical_lines(text: str, shown: str) -> list[tuple[int, str]]:
    """Return (number, line) of a text as cpp takes it: comments are gone, spliced lines are one.

    Each line ends with as many ends of lines as it had, so that numbers stay right. Raises
    `PolicyError` where it can't be told what is a comment and what is not.
    """
    lines: list[str] = []
    starts: list[int] = []
    goes_on = False
    for number, line in enumerate(text.split("\n")[:-1], 1):
        splice = _SPLICE.search(line)
        if goes_on:
            lines[-1] += line[: splice.start()] if splice else line
        else:
            starts.append(number)
            lines.append(line[: splice.start()] if splice else line)
        goes_on = splice is not None
    joined = "\n".join(lines)

    def place(at: int) -> int:
        return starts[joined.count("\n", 0, at)]

    def without(match: re.Match[str]) -> str:
        token = match[0]
        if token.startswith("//"):
            return " "
        if token.startswith("/*"):
            if not token.endswith("*/") or len(token) < 4:
                raise wrong(shown, place(match.start()), "a comment without an end")
            return " " + "\n" * token.count("\n")
        if "/*" in token and (len(token) < 2 or token[-1] != token[0]):
            raise wrong(shown, place(match.start()), f"missing terminating {token[0]}")
        return token

    raw = _RAW_STRING.search(joined)
    if raw:
        raise wrong(shown, place(raw.start()), "raw strings are not C")
    ends = [*starts[1:], text.count("\n") + 1]
    return [
        (start, line + "\n" * (end - start))
        for start, end, line in zip(
            starts, ends, _TOKENS.sub(without, joined).split("\n"), strict=True
        )
    ]


def _directive(
    name: str, rest: str, line: str, number: int, shown: str, tree: Path | None
) -> tuple[str, Path | None]:
    """Return what stands for a directive, and the file of the tree that it includes."""
    blank = "\n" * line.count("\n")
    if name.isdecimal() or name == "line":
        raise wrong(shown, number, "#line: lines are counted in your file")
    if name not in _KNOWN:
        raise wrong(shown, number, f"#{one_line(name)} is not taken: no kernel's file has it")
    operator = _OPERATORS.search(rest)
    if operator:
        raise wrong(shown, number, f"{operator[1]} is not taken: no other file is looked at")
    if name == "pragma":
        return blank, None
    if name != "include":
        return line, None
    found = _INCLUDED.fullmatch(rest)
    if found is None:
        raise wrong(shown, number, "#include takes a header's name in quotes or angle brackets")
    return blank, _resolve(found[1] or found[2], bool(found[1]), number, shown, tree)


def _resolve(header: str, quoted: bool, number: int, shown: str, tree: Path | None) -> Path | None:
    """Return the file of the tree that stands for a header; None where ours does."""
    if not _PLAIN_PATH.fullmatch(header) or ".." in header.split("/"):
        raise wrong(
            shown, number, f"#include of {header!r}: only headers of the kernel's tree are taken"
        )
    if tree is None:
        if HEADERS.fullmatch(header) or (quoted and header in BESIDE):
            return None
        raise wrong(shown, number, f"no {header!r} here: give the kernel's tree with --tree LINUX")
    if quoted:
        beside = tree / "arch/x86/xen" / header
        if is_file(beside):
            return beside if header not in _OURS_BESIDE else None
    roots = ("include", "arch/x86/include", "include/uapi", "arch/x86/include/uapi",
             "include/asm-x86", "arch/x86/include/generated")  # fmt: skip
    inner = header.removeprefix("asm/")
    for root in roots:
        if is_file(tree / root / header) or (
            root == "include/asm-x86" and is_file(tree / root / inner)
        ):
            return None
    if header.startswith(("generated/", "asm/")):
        # A tree that was never built has none of its own.
        return None
    raise wrong(shown, number, f"no {header!r} in the tree {one_line(tree)}")
