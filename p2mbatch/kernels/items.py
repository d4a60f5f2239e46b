"""The preprocessed text as items at file level, with what they define and name."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from p2mbatch.base.errors import ResourceError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAX_PARSE_SECONDS = 20

MARKER = re.compile(r'# (\d+) "([^"\n]*)"[^\n]*')
_MARKER = re.compile(MARKER.pattern.encode())
_ATTRIBUTE = re.compile(rb"__attribute(?:__)?\s*\(")
_LAYOUT = re.compile(
    rb"(?:__)?aligned(?:__)?\s{0,9}\([^()]{0,99}(?:\([^()]{0,99}\)[^()]{0,99}){0,9}\)"
    rb"|(?:__)?packed(?:__)?|noreturn"
)
_RANGE = re.compile(rb"(\[[^\[\]\n]{0,999})\.\.\.(?=[^\[\]\n]{0,999}\])")
# The parser takes size_t, bool and their like for C's own.
_NAMING = {"identifier", "type_identifier", "primitive_type"}
_FUNCTION = "function_definition"
_TYPES = {"struct_specifier", "union_specifier", "enum_specifier", "type_definition"}


@dataclass(frozen=True)
class Place:
    """Where something stands: in which file, as the line markers have it, and in which line."""

    file: str
    line: int


@dataclass(frozen=True)
class Item:
    """One item at file level."""

    kind: str
    """`function`, `variable`, `declaration` (of one that is elsewhere), `type`."""
    names: tuple[str, ...]
    """What it defines or declares."""
    uses: frozenset[str]
    text: str
    """As it is emitted; line markers of its own where it goes over several."""
    place: Place
    order: int
    node: Any
    has_error: bool
    prototype: str = ""
    """Of a function: what declares it."""


class Unit:
    """A preprocessed text, its tree and its places."""

    def __init__(self, text: str) -> None:
        """Parse `text`. Raises `ResourceError` without the parser, or where it takes too long."""
        raw = text.encode("utf-8")
        self.places: list[Place] = []
        self.raw = self._without_markers(raw)
        self.seen = _without_ranges(_without_attributes(self.raw))
        self.tree = _parse(self.seen)

    def _without_markers(self, raw: bytes) -> bytes:
        lines = raw.split(b"\n")
        file, line = "", 1
        for index, text in enumerate(lines):
            marker = _MARKER.fullmatch(text)
            self.places.append(Place(file, line))
            line += 1
            if marker:
                file, line = marker[2].decode("utf-8", "replace"), int(marker[1])
                lines[index] = b""
            elif text.lstrip().startswith(b"#"):
                # What is left of pragmas.
                lines[index] = b""
        return b"\n".join(lines)

    def place(self, node: Node) -> Place:
        """Return where a node stands."""
        return self.places[node.start_point.row]

    def files(self) -> set[str]:
        """Return the files that the text says it is from."""
        return {place.file for place in self.places}

    def text_of(self, row: int, start: int, end: int) -> str:
        """Return a stretch of the text that begins in `row`, with markers where its lines jump.

        Attributes but for those of layout are gone.
        """
        lines = _kept_attributes(self.raw[start:end]).decode("utf-8", "replace").split("\n")
        pieces = [lines[0]]
        last = self.places[row]
        for offset, line in enumerate(lines[1:], 1):
            place = self.places[row + offset]
            if not line.strip():
                continue
            if place != Place(last.file, last.line + 1):
                pieces.append(f'# {place.line} "{place.file}"')
            pieces.append(line)
            last = place
        return "\n".join(pieces)

    def items(self) -> Iterator[Item]:
        """Yield the items in their order; what is none of C's is left out."""
        for order, node in enumerate(self.tree.root_node.children):
            item = self._item(order, node)
            if item is not None:
                yield item

    def _item(self, order: int, node: Node) -> Item | None:
        if node.type == _FUNCTION:
            return self._function(order, node)
        if node.type in _TYPES:
            kind = "type"
            names = _names_of_type(node)
            if node.type != "type_definition" and not names:
                return None
        elif node.type == "declaration":
            kind, names = _declared(node)
        else:
            return None
        text = self.text_of(node.start_point.row, node.start_byte, node.end_byte)
        if not text.rstrip().endswith(";"):
            text += ";"
        return Item(
            kind, tuple(names), frozenset(_used(node)), text, self.place(node), order, node,
            node.has_error,
        )  # fmt: skip

    def _function(self, order: int, node: Node) -> Item | None:
        body = node.child_by_field_name("body")
        declarator = node.child_by_field_name("declarator")
        if body is None or declarator is None:
            return None
        name = _declarator_name(declarator)
        if name is None:
            return None
        return Item(
            "function", (name,), frozenset(_used(node)),
            self.text_of(node.start_point.row, node.start_byte, node.end_byte),
            self.place(node), order, node, node.has_error,
            self.text_of(node.start_point.row, node.start_byte, body.start_byte).rstrip() + ";",
        )  # fmt: skip

    def errors(self) -> Iterator[Place]:
        """Yield where the text is no C, outermost first."""
        for node in walk(self.tree.root_node, lambda n: n.has_error and not n.is_error):
            if node.is_error or node.is_missing:
                yield self.place(node)


def walk(node: Node, inside: Any = None) -> Iterator[Node]:
    """Yield a node and all below it, in their order; below those alone that `inside` says."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        if inside is None or inside(top):
            stack.extend(reversed(top.children))


@cache
def _parser() -> Parser:
    try:
        import tree_sitter_c
        from tree_sitter import Language, Parser
    except ImportError:
        raise ResourceError(
            "kernel: the parser of C is not installed: pip install 'p2mbatch[own-c]'"
        ) from None
    return Parser(Language(tree_sitter_c.language()))


def _parse(raw: bytes) -> Any:
    end = time.monotonic() + MAX_PARSE_SECONDS
    try:
        # Of what it reads piece by piece it tells how far it is, and of nothing else.
        tree = _parser().parse(
            lambda at, _: raw[at : at + 65536],
            progress_callback=lambda *_: time.monotonic() > end,
        )
    except ValueError:
        tree = None
    if tree is None:
        _parser().reset()
        raise ResourceError(f"kernel: the file was not parsed after {MAX_PARSE_SECONDS} seconds")
    return tree


def _blank(found: bytes) -> bytes:
    return bytes(c if c == 10 else 32 for c in found)


def _attribute_spans(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each `__attribute__((…))` begins and ends."""
    at = 0
    while match := _ATTRIBUTE.search(raw, at):
        depth, at = 1, match.end()
        while at < len(raw) and depth:
            depth += {40: 1, 41: -1}.get(raw[at], 0)
            at += 1
        yield match.start(), at


def _without_attributes(raw: bytes) -> bytes:
    found = bytearray(raw)
    for start, end in _attribute_spans(raw):
        found[start:end] = _blank(raw[start:end])
    return bytes(found)


def _kept_attributes(raw: bytes) -> bytes:
    """Return text whose attributes are those of layout alone: no section, no constructor."""
    pieces, last = [], 0
    for start, end in _attribute_spans(raw):
        pieces.append(raw[last:start])
        kept = b", ".join(m[0] for m in _LAYOUT.finditer(raw[start:end]))
        pieces.append(b"__attribute__((" + kept + b"))" if kept else b"")
        pieces.append(b"\n" * raw.count(b"\n", start, end))
        last = end
    return b"".join([*pieces, raw[last:]])


def _without_ranges(raw: bytes) -> bytes:
    """Return text whose ranges in initialisers, `[a ... b]`, are sums, which the parser knows."""
    return _RANGE.sub(rb"\1 + ", raw)


def _declarator_name(node: Node) -> str | None:
    """Return the name that a declarator declares."""
    found: Node | None = node
    while found is not None and found.type not in _NAMING:
        inner = found.child_by_field_name("declarator")
        if inner is None:
            inner = next((c for c in found.named_children if "declarator" in c.type
                          or c.type in _NAMING), None)  # fmt: skip
        found = inner
    return found.text.decode("utf-8", "replace") if found is not None and found.text else None


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def _names_of_type(node: Node) -> list[str]:
    """Return the names that a type's definition gives: tags, enumerators, the typedef's own."""
    names = []
    if node.type == "type_definition":
        for declarator in node.children_by_field_name("declarator"):
            name = _declarator_name(declarator)
            if name:
                names.append(name)
    for inner in walk(node):
        has_body = inner.child_by_field_name("body") is not None
        if inner.type in _TYPES and has_body and (tag := inner.child_by_field_name("name")):
            names.append(f"{inner.type.split('_')[0]} {_text(tag)}")
        elif inner.type == "enumerator" and (own := inner.child_by_field_name("name")):
            names.append(_text(own))
    return names


def _declared(node: Node) -> tuple[str, list[str]]:
    """Return the kind of a declaration and its names."""
    names: list[str] = []
    is_function = False
    for declarator in node.children_by_field_name("declarator"):
        name = _declarator_name(declarator)
        if name:
            names.append(name)
        inner: Node | None = declarator
        while inner is not None and inner.type == "pointer_declarator":
            inner = inner.child_by_field_name("declarator")
        is_function = is_function or (
            inner is not None
            and inner.type == "function_declarator"
            and getattr(inner.child_by_field_name("declarator"), "type", "") == "identifier"
        )
    storage = {_text(c) for c in node.children if c.type == "storage_class_specifier"}
    tags = [n for child in node.children if child.type in _TYPES for n in _names_of_type(child)]
    kind = "declaration" if "extern" in storage or is_function else "variable"
    return (kind if names else "type"), [*names, *tags]


def _used(node: Node) -> Iterator[str]:
    """Yield all that an item names; tags with their keyword."""
    tags: set[int] = set()
    for inner in walk(node):
        if inner.type in _TYPES and inner.type != "type_definition":
            tag = inner.child_by_field_name("name")
            if tag is not None:
                tags.add(tag.id)
                yield f"{inner.type.split('_')[0]} {_text(tag)}"
        elif inner.type in _NAMING and inner.id not in tags:
            yield _text(inner)


def array_names(node: Node) -> list[str]:
    """Return the names of a declaration's arrays."""
    found = []
    for declarator in node.children_by_field_name("declarator"):
        outer, inner = node, declarator
        while inner.type not in _NAMING:
            below = inner.child_by_field_name("declarator")
            if below is None:
                break
            outer, inner = inner, below
        if outer.type == "array_declarator" and inner.type in _NAMING:
            found.append(_text(inner))
    return found
