"""From a kernel's `mmu.c` or `p2m.c` to one C unit of what is reachable from its roots."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from p2mbatch.base.errors import PolicyError
from p2mbatch.base.say import one_line
from p2mbatch.kernels import compiler
from p2mbatch.kernels.carried import digest_of, read_kernel
from p2mbatch.kernels.closure import Layer, emitted, reachable, refused_in
from p2mbatch.kernels.items import Item, Place, Unit, array_names
from p2mbatch.kernels.roots import (
    ARRAYS,
    ERA_NUMBERS,
    LINEAR,
    ROOTS,
    TWO_LEVEL,
    VARIABLES,
    Root,
    era_of,
    glue,
    missing_text,
)
from p2mbatch.kernels.source import Part, Source, wrong
from p2mbatch.kernels.stores import BugSite, ListStore, bug_sites, list_stores

BEFORE_PAGE = ("types.h", "kernel.h", "memory.h", "data.h", "sync.h", "xen.h")
AFTER_PAGE = ("after.h", "linear.h")

BOOT_ALLOCATOR = {
    "p2mk_alloc_bootmem": "pages of the boot allocator",
    "p2mk_memblock_alloc": "pages of the boot allocator",
    "p2mk_slab_is_available": "slab_is_available",
}
"""By what the boot allocator is asked in a unit -> how that is told."""

# Which layer wins where two say a name: the user's file, our machine, a page.h.
USER, MACHINE, PAGE = range(3)


@dataclass(frozen=True)
class Extracted:
    """What was taken of a kernel's file."""

    text: str
    """One preprocessed C unit; its line markers name files as `files` does."""
    era: str
    """`two-level`, `three-level` or `linear`."""
    bits: int
    roots: dict[str, Root]
    sites: tuple[BugSite, ...]
    true_pages: tuple[ListStore, ...]
    kept: tuple[tuple[str, str, int], ...]
    """(name, kind, line) of what was kept of the user's own text."""
    num_items: int
    """How many items the user's text has at file level."""
    arrays: tuple[str, ...]
    """Of a two-level kernel: those of `ARRAYS` that it has, in that order."""
    files: dict[str, str]
    """What the line markers call a file -> the file as messages have it."""
    has_tree: bool
    digest: str
    """Of the file and its tree's headers, wherever they lie: 16 hexadecimal digits."""
    list_from_boot: bool
    """Whether building the list asks for pages of the boot allocator."""

    @property
    def users_file(self) -> str:
        """Return what the line markers call the user's file."""
        return next(name for name in self.files if name.startswith("p2mk-u"))

    def place(self, file: str, line: int) -> str:
        """Return a place of the unit as messages have it: "mmu.c:314"."""
        return f"{one_line(self.files.get(file, file))}:{line}"


def extract(
    path: Path | str, *, tree: Path | str | None = None, bits: int = 64,
    max_domain_pages: int | None = None,
) -> Extracted:  # fmt: skip
    """Take what is reachable from the kernel in a file; see `extract_from`.

    `tree` is the top of the Linux tree whose `asm/xen/page.h` is read in place of ours.
    """
    return extract_from(read_kernel(path, tree), bits=bits, max_domain_pages=max_domain_pages)


def extract_from(
    source: Source, *, bits: int = 64, max_domain_pages: int | None = None
) -> Extracted:
    """Take what is reachable from a kernel, as one unit that the compiler takes.

    `bits` is the kernel's width (64 or 32), `max_domain_pages` the bound of a two-level kernel's
    arrays (32 GiB in pages, 8 GiB with 32 bits). Raises `PolicyError` with file and line of what
    is wrong with the file, `ResourceError` where the machine lacks what is needed.
    """
    marked = _Files(source)
    era = _guessed_era(source.text)
    marks = era == LINEAR
    # What is in no branch that is compiled, and what nothing reaches, says nothing of a kernel.
    for _ in range(3):
        defined = _definitions(era, marks, bits, max_domain_pages)
        taking = _Taking(source, marked, Unit(_preprocessed(source, marked, bits, defined)), bits)
        if taking.era not in (None, era):
            era = taking.era
            marks = era == LINEAR
        elif not (marks or source.page) and taking.has_marks():
            marks = True
        else:
            break
    return taking.taken()


class _Files:
    """How line markers name the files, so that no name of a user's stands in a marker."""

    def __init__(self, source: Source) -> None:
        self.shown: dict[str, str] = {}
        self.layer: dict[str, int] = {}
        self._names: dict[tuple[int, str], str] = {}
        self.source = source

    def name(self, layer: int, shown: str) -> str:
        """Return what the markers call a file of a layer."""
        key = (layer, shown)
        if key not in self._names:
            name = f"p2mk-{'ump'[layer]}{len(self._names)}.c"
            self._names[key] = name
            self.shown[name], self.layer[name] = shown, layer
        return self._names[key]

    def marked(self, layer: int, parts: list[Part]) -> str:
        """Return the text of parts, each with its marker."""
        return "".join(f'# {p.line} "{self.name(layer, p.shown)}"\n{p.text}' for p in parts)


def _header(name: str) -> Part:
    text = (files("p2mbatch.kernels") / "include" / name).read_text("utf-8")
    return Part(f"p2mbatch's {name}", text)


def _preprocessed(source: Source, marked: _Files, bits: int, defined: list[str]) -> str:
    """Return the whole text, macros expanded. Raises `PolicyError` where cpp finds it wrong."""
    page = source.page or [_header("page.h")]
    text = "".join(
        (
            marked.marked(MACHINE, [_header(name) for name in BEFORE_PAGE]),
            marked.marked(PAGE, page),
            marked.marked(MACHINE, [_header(name) for name in AFTER_PAGE]),
            marked.marked(USER, source.parts),
            marked.marked(MACHINE, [_OWN_MARKS]),
        )
    )
    ran = compiler.run(
        ["-E", "-x", "c", "-std=gnu89", "-nostdinc", "-w", f"-m{bits}",
         "-fno-diagnostics-show-caret", "-fdiagnostics-color=never",
         *defined],
        text,
    )  # fmt: skip
    _raise_from(ran, source, marked)
    return ran.output


_OWN_MARKS = Part(
    "what the file says of marks", "#ifdef IDENTITY_FRAME\nint p2mk_has_marks;\n#endif\n"
)
"""Behind a user's file: whether IDENTITY_FRAME has come to be a macro."""

_MARKS = ("IDENTITY_FRAME", "IDENTITY_FRAME_BIT")


def _guessed_era(text: str) -> str:
    defined = [n for n in ("xen_vmalloc_p2m_tree", "p2m_mid_missing", "p2m_top")
               if re.search(rf"\b{n}\b", text)]  # fmt: skip
    return era_of(defined) or TWO_LEVEL


def _definitions(era: str, marks: bool, bits: int, max_domain_pages: int | None) -> list[str]:
    """Return the macros that say which kernel is built."""
    configured = ["X86", "XEN", "XEN_PV", "PARAVIRT", "SMP", "MMU"]
    configured += ["X86_64", "64BIT"] if bits == 64 else ["X86_32", "X86_PAE"]
    found = [f"-DCONFIG_{name}=1" for name in configured]
    found += ["-D__KERNEL__", f"-DP2MK_ERA={ERA_NUMBERS[era]}", f"-DP2MK_IDENTITY={int(marks)}"]
    # What would make one text two units.
    found += ["-U__DATE__", "-U__TIME__", "-U__TIMESTAMP__"]
    # Of a tree's kernel the bound that the tree itself has: guests' own are below it.
    tree = (4096 // (bits // 8)) ** 3
    two_level = (8 << 20) if bits == 64 else (2 << 20)
    pages = max_domain_pages or (two_level if era == TWO_LEVEL else tree)
    found.append(f"-DP2MK_MAX_DOMAIN_PAGES={pages}UL")
    return found


def _raise_from(ran: compiler.Ran, source: Source, marked: _Files) -> None:
    """Raise what the compiler found wrong, at the user's line."""
    if ran.is_ok and not ran.trouble:
        return
    for file, line, message in ran.errors:
        shown = marked.shown.get(file)
        if shown is not None:
            raise wrong(shown, line, _told(message, source.has_tree))
    raise PolicyError(f"{one_line(source.shown)}: {ran.trouble or ran.errors[0][2]}")


_UNKNOWN = (
    re.compile(r"implicit declaration of function '(\w+)'"),
    re.compile(r"'(\w+)' undeclared"),
    re.compile(r"unknown type name '(\w+)'"),
)


def _told(message: str, has_tree: bool) -> str:
    """Return a message of the compiler's in our words, where it is of a name that is missing."""
    for pattern in _UNKNOWN:
        found = pattern.search(message)
        if found:
            where = "in the file, its tree's xen headers" if has_tree else "in the file"
            more = "" if has_tree else ": its tree, by --tree LINUX, may have it"
            return f"{found[1]} is not known, neither {where} nor among what the shim gives{more}"
    return re.sub(r" \[-W[^\]]*\]$", "", message)


class _Taking:
    """The closure of one file."""

    def __init__(self, source: Source, marked: _Files, unit: Unit, bits: int) -> None:
        self.source, self.marked, self.unit, self.bits = source, marked, unit, bits
        # cpp opened no other file; if it had, nothing of the text would be shown or used.
        if any(f and f not in marked.shown and f[0] != "<" for f in unit.files()):
            raise PolicyError(
                f"{one_line(source.shown)}: it makes the preprocessor read other files"
            )
        items: dict[int, list[Item]] = {USER: [], MACHINE: [], PAGE: []}
        for item in unit.items():
            items[marked.layer.get(item.place.file, MACHINE)].append(item)
        self.layers = [Layer(items[number]) for number in (USER, MACHINE, PAGE)]

    @property
    def era(self) -> str | None:
        """Return the era by what the file defines; None where it is no p2m's."""
        return era_of(self.layers[USER].by_name)

    def has_marks(self) -> bool:
        """Return whether entries are marked as 1:1 in what is reached, or by its own macro."""
        candidates = [name for wanted in ROOTS for name in wanted.candidates]
        own = reachable([n for n in candidates if n in self.layers[USER].by_name], self.layers)
        used = any(name in item.uses for item in own[USER] for name in _MARKS)
        return used or "p2mk_has_marks" in self.layers[MACHINE].by_name

    def taken(self) -> Extracted:
        """Return what is reachable. Raises `PolicyError` at the line of what is wrong."""
        user = self.layers[USER]
        era, roots = self._roots()
        for item in user.items:
            for name in item.names:
                if name.split()[-1].startswith("p2mk_"):
                    raise self._error(item.place, f"{name}: names in p2mk_ are the shim's")
        names = [root.function for root in roots.values()]
        variables = [n for n in VARIABLES if n in user.by_name]
        kept = reachable([*names, *variables], self.layers)
        own = kept[USER]
        self._check(own, kept[PAGE])
        arrays: tuple[str, ...] = ()
        if era == TWO_LEVEL:
            found = {n for i in own if i.kind == "variable" for n in array_names(i.node)}
            arrays = tuple(n for n in ARRAYS if n in found)
        from_boot = reachable([roots["boot"].function], self.layers)[USER]
        # Without a function of its own it is built where it is reported.
        listing = roots.get("list", roots["report"]).function
        builds = "list" not in roots or any(listing in i.names for i in from_boot)
        items = sorted((i for of in kept.values() for i in of), key=lambda i: i.order)
        text = emitted(items, arrays)
        text += '# 1 "p2mk-glue.c"\n' + glue(roots, variables, arrays, builds)
        self._compile(text)
        shown = {"p2mk-glue.c": "the shim's calls", **self.marked.shown}
        return Extracted(
            text, era, self.bits, roots, bug_sites(own), list_stores(own, self.unit),
            tuple((i.names[0], i.kind, i.place.line) for i in own), len(user.items), arrays, shown,
            self.source.has_tree, digest_of(self.source), self._asks_boot(listing),
        )  # fmt: skip

    def _asks_boot(self, function: str) -> bool:
        """Return whether what a function of the user's reaches asks for pages of boot's."""
        reached = reachable([function], self.layers)[USER]
        return any(name in item.text for item in reached for name in BOOT_ALLOCATOR)

    def _error(self, place: Place, problem: str) -> PolicyError:
        return wrong(self.marked.shown.get(place.file, self.source.shown), place.line, problem)

    def _roots(self) -> tuple[str, dict[str, Root]]:
        user = self.layers[USER]
        functions = {n: i[0] for n, i in user.by_name.items() if i[0].kind == "function"}
        era = self.era
        basename = self.source.path.name
        found = {}
        for wanted in ROOTS:
            if era is not None and era not in wanted.eras:
                continue
            name = next((n for n in wanted.candidates if n in functions), None)
            if name is None:
                if wanted.is_optional or (wanted.name == "list" and self._report_builds(era)):
                    continue
                self._missing(wanted.candidates[0], basename)
            else:
                item = functions[name]
                head = item.prototype.partition(name)[0]
                found[wanted.name] = Root(wanted.name, name, head, item.place.line)
        if era is None:
            raise PolicyError(f"{one_line(self.source.shown)}: no p2m_top and no "
                              "xen_vmalloc_p2m_tree in it: not a p2m that is known")  # fmt: skip
        if era == LINEAR and self.bits == 32:
            raise PolicyError(
                f"{one_line(self.source.shown)}: a linear p2m with 32 bits is not modelled "
                "(Linux 3.19 to 5.8 had it)"
            )
        return era, found

    def _report_builds(self, era: str | None) -> bool:
        """Return whether the list is built where it is reported, as in 2.6.27 to 2.6.29."""
        report = next(wanted.candidates[0] for wanted in ROOTS if wanted.name == "report")
        own = reachable([report], self.layers)[USER]
        return era == TWO_LEVEL and any("p2m_top_mfn" in item.names for item in own)

    def _missing(self, function: str, basename: str) -> None:
        """Raise that a root is missing, or the syntax error that hides it."""
        user = self.layers[USER]
        if re.search(rf"\b{function}\s{{0,9}}\([^;{{}}]{{0,999}}\)\s{{0,9}}{{", self.source.text):
            for place in self.unit.errors():
                if self.marked.layer.get(place.file) == USER:
                    raise self._error(
                        place, f"not C from here on: {function} is not found behind it"
                    )
        shown = one_line(self.source.shown)
        raise PolicyError(missing_text(function, shown, basename, user.by_name))

    def _check(self, own: list[Item], page: list[Item]) -> None:
        known = {n for layer in self.layers for n in layer.by_name}
        for item in own:
            others = self.layers[USER].by_name.get(item.names[0], []) if item.names else []
            if item.kind == "function" and others[0] is not item:
                raise self._error(
                    item.place, f"{item.names[0]} is there twice: first in line "
                    f"{others[0].place.line}",
                )  # fmt: skip
        for item in (*own, *page):
            refused = refused_in(item)
            if refused is not None:
                raise self._error(*refused)
            if item.kind == "declaration":
                missing = [n for n in item.names if n not in known]
                if missing:
                    raise self._error(item.place, _told(
                        f"'{missing[0]}' undeclared", self.source.has_tree))  # fmt: skip

    def _compile(self, text: str) -> None:
        """Raise the first error that the compiler finds in the unit."""
        ran = compiler.run([*COMPILED, f"-m{self.bits}", "-fsyntax-only"], text)
        _raise_from(ran, self.source, self.marked)


COMPILED = ("-x", "cpp-output", "-std=gnu11", "-ffreestanding", "-fno-diagnostics-show-caret",
            "-fdiagnostics-color=never", "-fmax-errors=20",
            "-Werror=implicit-function-declaration", "-Werror=implicit-int")  # fmt: skip
"""How a unit is compiled, whatever for."""
