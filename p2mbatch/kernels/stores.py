"""What the parse says of a kernel's functions: what ends the guest, what stores to the list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2mbatch.kernels.items import Item, Unit, walk

if TYPE_CHECKING:
    from tree_sitter import Node

_BUG = re.compile(r'p2mk_bug\("((?:\\.|[^"\\])*)", (\d+)\)')
_NAMED_SO = re.compile(r"mid_mfn")
_TOP = re.compile(r"p2m_top_mfn(_list)?")
_FOUND_SO = re.compile(r"p2m_top_mfn_p\s*\[|p2mk_noted_virt\(")
# Words of the kernel's that stand expanded in the unit.
_WRITTEN = (("p2mk_noted_virt", "mfn_to_virt"), ("p2mk_noted_mfn", "virt_to_mfn"),
            ("p2mk_extend_brk", "extend_brk"), ("4096UL", "PAGE_SIZE"), ("((void *)0)", "NULL"),
            ("(const void *)", ""))  # fmt: skip


@dataclass(frozen=True)
class BugSite:
    """A condition that ends the guest."""

    function: str
    text: str
    line: int


@dataclass(frozen=True)
class ListStore:
    """A statement that stores into a page of the list: what the page was taken from."""

    function: str
    line: int
    place: str
    """What is stored to, as it is written: `mid_mfn_p[mididx]`."""
    meant: tuple[str, ...]
    """What the page's pointer was given within the function, as it is written."""


def bug_sites(items: Iterable[Item]) -> tuple[BugSite, ...]:
    """Return the conditions in functions that end the guest, in the order of their lines."""
    found = [
        BugSite(item.names[0], m[1].replace('\\"', '"').replace("\\\\", "\\"), int(m[2]))
        for item in items if item.kind == "function" for m in _BUG.finditer(item.text)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda s: s.line))


def list_stores(items: Iterable[Item], unit: Unit) -> tuple[ListStore, ...]:
    """Return the statements that store to a page of the list, in the order of their lines."""
    found = []
    for item in items:
        if item.kind == "function":
            found += _stores_of(item, unit)
    return tuple(sorted(found, key=lambda s: s.line))


def _stores_of(item: Item, unit: Unit) -> list[ListStore]:
    given: dict[str, list[str]] = {}
    stores: list[tuple[Node, str, str]] = []
    for node in walk(item.node):
        left = node.child_by_field_name("declarator" if node.type == "init_declarator" else "left")
        right = node.child_by_field_name("value" if node.type == "init_declarator" else "right")
        if left is None or right is None or node.type == "binary_expression":
            continue
        name = _text(left).lstrip("*& \t")
        if left.type == "subscript_expression":
            pointer = left.child_by_field_name("argument")
            if pointer is not None:
                stores.append((node, _text(pointer), _text(left)))
                if _FOUND_SO.match(_text(pointer)) or _TOP.fullmatch(_text(pointer)):
                    # Straight through the page of addresses, or into the list's top itself.
                    given.setdefault(_text(pointer), [_text(pointer)])
        elif re.fullmatch(r"\w+", name):
            given.setdefault(name, []).append(_text(right))
    return [
        ListStore(item.names[0], unit.place(node).line, _shown(place), tuple(
            dict.fromkeys(map(_shown, given.get(pointer, [])))))
        for node, pointer, place in stores
        if pointer in given and (
            _NAMED_SO.search(pointer) or _TOP.fullmatch(pointer)
            or any(_FOUND_SO.search(g) for g in given[pointer])
        )
    ]  # fmt: skip


def _shown(text: str) -> str:
    """Return an expression of the unit as it stands in the kernel's file, on one line."""
    for ours, theirs in _WRITTEN:
        text = text.replace(ours, theirs)
    return " ".join(text.split())


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
