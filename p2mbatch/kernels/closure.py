"""What of a file is reachable from its roots, and the C text that is made of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from p2mbatch.kernels.items import MARKER, Item, Place

_STRINGS = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
_ASSEMBLER = re.compile(r"\b(?:asm|__asm|__asm__)\b")
# In C23's way, which no part of the kernel's has; its brackets may stand on lines of their own.
_ATTRIBUTE = re.compile(r"\[\s*\[")
# Other spellings of brackets and braces, which no part of the kernel's has either.
_DIGRAPH = re.compile(r"<:|:>|<%|%>|%:")
_OF_THE_COMPILER = re.compile(r"\b(?:__builtin_\w+|__seg_[fg]s|__thread|_Thread_local)\b")
# What computes or stops, and neither stores nor jumps: the shim must see each store.
_COMPUTES = re.compile(
    r"__builtin_(?:trap|expect|offsetof|constant_p|types_compatible_p|choose_expr"
    r"|(?:clz|ctz|ffs|popcount|parity)l{0,2}|bswap(?:16|32|64))"
)
_LEADING = re.compile(r"\b(?:extern|static|inline|__inline__|__inline)\b\s*")


@dataclass
class Layer:
    """Items from one place: the user's file, our headers, the tree's page.h."""

    items: list[Item]
    by_name: dict[str, list[Item]] = field(default_factory=dict)
    """Name -> what defines it: several, where a variable is there without its value too."""
    declared: dict[str, list[Item]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the items by what they define, and by what they say is elsewhere."""
        for item in self.items:
            table = self.declared if item.kind == "declaration" else self.by_name
            for name in item.names:
                table.setdefault(name, []).append(item)


def reachable(roots: Iterable[str], layers: list[Layer]) -> dict[int, list[Item]]:
    """Return the items that the roots reach, of each layer.

    A name is what the first layer says that defines it; where none does, what the first says that
    declares it.
    """
    kept: dict[int, dict[int, Item]] = {number: {} for number in range(len(layers))}
    waiting, seen = list(roots), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        number, items = _lookup(name, layers)
        for item in items:
            if item.order not in kept[number]:
                kept[number][item.order] = item
                waiting.extend(item.uses - seen)
    return {number: [of[o] for o in sorted(of)] for number, of in kept.items()}


def _lookup(name: str, layers: list[Layer]) -> tuple[int, list[Item]]:
    for number, layer in enumerate(layers):
        if name in layer.by_name:
            return number, layer.by_name[name]
    for number, layer in enumerate(layers):
        if name in layer.declared:
            return number, layer.declared[name][:1]
    return 0, []


def refused_in(item: Item) -> tuple[Place, str] | None:
    """Return where an item has what the shim can't run or see, and what is wrong with it."""
    place = item.place
    opened: Place | None = None
    for line in item.text.split("\n"):
        marker = MARKER.fullmatch(line)
        if marker:
            place = Place(marker[2], int(marker[1]) - 1)
        else:
            code = _STRINGS.sub("", line)
            if _ASSEMBLER.search(code):
                return place, f"assembler in {item.names[0]}: the shim can't run it"
            if _ATTRIBUTE.search("[" * bool(opened) + code):
                return (
                    opened or place,
                    f"[[ in {item.names[0]}: the shim can't see what an attribute makes of it",
                )
            if found := _DIGRAPH.search(code):
                return place, f"{found[0]} in {item.names[0]}: write the bracket or brace itself"
            if code.strip():
                opened = place if code.rstrip().endswith("[") else None
            for word in _OF_THE_COMPILER.findall(code):
                if not _COMPUTES.fullmatch(word):
                    return place, f"{word} in {item.names[0]}: the shim can't see what it does"
        place = Place(place.file, place.line + 1)
    return None


PAGES = '__attribute__((section(".data.p2mk_pages"), aligned(4096))) '
"""Of an array that is pages of the guest: no other variable is in its last page."""


def emitted(items: Iterable[Item], arrays: Collection[str] = ()) -> str:
    """Return items as one C text: types, prototypes, variables, functions, each in its order.

    All but types are static, so that nothing of a user's stands in for a name of the shim's.
    `arrays` are those that are pages of the guest.
    """
    items = list(items)
    defined = {n for i in items if i.kind in ("function", "variable") for n in i.names}
    types = [i for i in items if i.kind == "type"]
    functions = [i for i in items if i.kind == "function"]
    outside = [i for i in items if i.kind == "declaration" and not defined & set(i.names)]
    variables = [i for i in items if i.kind == "variable"]
    pieces = [_marked(item, item.text) for item in (*types, *outside)]
    pieces += [_marked(item, _static(item.prototype)) for item in functions]
    pieces += [
        _marked(item, PAGES * bool(set(arrays) & set(item.names)) + _static(item.text))
        for item in variables
    ]
    pieces += [_marked(item, _static(item.text)) for item in functions]
    return "".join(pieces)


def _static(text: str) -> str:
    """Return a definition or prototype as a static one."""
    head, brace, body = text.partition("{")
    end = head.find("=")
    first = head if end < 0 else head[:end]
    rest = "" if end < 0 else head[end:]
    return "static " + _LEADING.sub("", first) + rest + brace + body


def _marked(item: Item, text: str) -> str:
    return f'# {item.place.line} "{item.place.file}"\n{text}\n'
