"""From a unit of C to the program that is a child: compiled with the shim, kept in the cache.

The unit is compiled so that the shim sees each of its loads and stores (`-fsanitize=thread`, whose
calls are the shim's own: unlike the address sanitizer's they tell a store behind a load of the same
place). What the program is made of names it: unit, shim, compiler, options.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from p2mbatch.base.errors import PolicyError, ResourceError
from p2mbatch.base.paths import is_file
from p2mbatch.base.say import one_line
from p2mbatch.compiled import cache
from p2mbatch.compiled.child.layout import c_header
from p2mbatch.compiled.jit import named_base
from p2mbatch.compiled.status import BUG_NULL, BUGS
from p2mbatch.kernels.compiler import bounded, compiler
from p2mbatch.kernels.extract import COMPILED, Extracted
from p2mbatch.kernels.roots import ROOTS, VARIABLES

MAX_SECONDS: Final = 60
MAX_STATIC_BYTES: Final = 64 << 20
"""What a kernel's static variables may take."""
MAX_FILE_BYTES: Final = MAX_STATIC_BYTES + (32 << 20)
"""What a file of a tool's may take: a program with all of these, and its lines."""

_COMMON: Final = (
    "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
    "-fno-strict-aliasing", "-fno-asynchronous-unwind-tables", "-mno-sse", "-mno-mmx", "-mno-80387",
)  # fmt: skip

_SHIM: Final = (
    "-std=gnu11",
    "-O2",
    "-fno-tree-loop-distribute-patterns",
    "-Wall",
    "-Wextra",
    *_COMMON,
)
_UNIT: Final = (
    *COMPILED, "-O1", "-g1", "-fno-inline-functions-called-once", "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0", *_COMMON,
    # What is copied or filled must be seen: by a call, not by the compiler's own instructions.
    "-mmemcpy-strategy=libcall:-1:noalign", "-mmemset-strategy=libcall:-1:noalign",
)  # fmt: skip
_LINK: Final = (
    "-static", "-nostdlib", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
    "-Wl,--no-warn-rwx-segments",
)  # fmt: skip


_WITHIN: Final = "#pragma GCC visibility push(hidden)\n"
"""Before a unit: all that it names is in the same program, and so is near."""
_PLACES: Final = {
    64: (("-fpie",), 0x200000000000),
    32: (("-fno-pic", "-fno-pie"), 0xB0000000),
}
"""By width: how addresses are compiled, and where the program lies: where no MFN is as large, so
that an address of an array is never taken for one."""


@dataclass(frozen=True)
class Program:
    """A child's program, and where in the user's file each part of it comes from."""

    path: Path
    bits: int
    symbols: dict[str, int]
    """Where its variables are."""
    arrays: tuple[tuple[int, int], ...]
    """(address, bytes) of the static arrays of a p2m of two levels, as `roots.ARRAYS` has them."""
    starts: tuple[int, ...]
    places: tuple[str, ...]
    """From each of `starts`, rising addresses, on: the place in the user's file, "" for none."""

    def place(self, address: int) -> str:
        """Return "FILE:LINE" of an address of the program; "" where it is not the user's."""
        import bisect

        # A hook's return address is behind the call that the line made.
        at = bisect.bisect_right(self.starts, address - 1) - 1
        return self.places[at] if at >= 0 else ""

    @property
    def static_begin(self) -> int:
        """Return the address from which on its pages are shared with who begins it."""
        return self.symbols["p2mk_static_begin"]

    @property
    def static_bytes(self) -> int:
        """Return how many bytes of it are shared with who begins it."""
        return self.symbols["p2mk_static_end"] - self.static_begin

    def pointer(self, name: str) -> int:
        """Return where a static pointer is that the model knows too; 0 where it has none."""
        return 0 if self.arrays else self.symbols.get(name, 0)

    @functools.cached_property
    def _image(self) -> bytes:
        return self.path.read_bytes()

    def text_at(self, address: int) -> str:
        """Return the C text that lies at an address of the program; "" where there is none."""
        for virtual, raw in self._loaded():
            if virtual <= address < virtual + len(raw):
                found = raw[address - virtual :].partition(b"\0")[0]
                return one_line(found[:400].decode("utf-8", "replace"))
        return ""

    @functools.cached_property
    def no_memory(self) -> int:
        """Return where the text of the BUG is that says that there is no memory; 0 where none."""
        return self.address_of(BUGS[BUG_NULL])

    def address_of(self, text: str) -> int:
        """Return the first address at which the program has a C text; 0 where it has none."""
        for virtual, raw in self._loaded():
            at = raw.find(b"\0" + text.encode() + b"\0")
            if at >= 0:
                return virtual + at + 1
        return 0

    def _loaded(self) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of the parts of the program that are loaded."""
        image = self._image
        wide = image[4] == 2
        offset = int.from_bytes(image[32:40] if wide else image[28:32], "little")
        size, count = (
            int.from_bytes(image[at : at + 2], "little") for at in ((54, 56) if wide else (42, 44))
        )
        for k in range(count):
            header = image[offset + k * size : offset + (k + 1) * size]
            places = ((8, 16), (16, 24), (32, 40)) if wide else ((4, 8), (8, 12), (16, 20))
            begin, virtual, length = (int.from_bytes(header[a:b], "little") for a, b in places)
            if header[0] == 1:
                yield virtual, image[begin : begin + length]


def shim_files() -> dict[str, str]:
    """Return the shim's files by name, the header that is made of Python among them."""
    folder = files("p2mbatch.kernels") / "shim"
    found = {
        entry.name: entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith((".c", ".h", ".lds"))
    }
    return found | {"layout.h": c_header() + _roots_header()}


def _roots_header() -> str:
    lines = ["struct p2mk_roots {"]
    lines += [f"    {root.result} (*{root.name})({root.parameters});" for root in ROOTS]
    lines += ["    int boot_builds_list;"]
    lines += [f"    void *{name};" for name in VARIABLES]
    return "\n".join([*lines, "};", ""])


def build(unit: Extracted) -> Program:
    """Return the program of a unit, from the cache or made now.

    Raises `PolicyError` with the user's line for what does not compile or link, `ResourceError`
    where the machine can't make such a program.
    """
    shim = shim_files()
    parts = [_compiler_says(), repr((_SHIM, _UNIT, _LINK, _PLACES)), str(unit.bits), unit.text]
    parts += [name + text for name, text in shim.items()]
    name = "c-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    folder = _kept(name)
    if folder is None:
        folder = Path(_own_folder()) / name
        folder.mkdir(mode=0o700, exist_ok=True)
    if not is_file(folder / "places.json"):
        _make(unit, shim, folder)
    kept = json.loads((folder / "places.json").read_text("utf-8"))
    return Program(
        folder / "program", unit.bits, kept["symbols"],
        tuple((kept["symbols"][name], kept["sizes"][name]) for name in unit.arrays),
        tuple(kept["starts"]),
        tuple(unit.place(*place) if place else "" for place in kept["places"]),
    )  # fmt: skip


@functools.cache
def _compiler_says() -> str:
    done = subprocess.run(
        [compiler(), "--version"], capture_output=True, check=False, timeout=MAX_SECONDS
    )
    return done.stdout.decode("utf-8", "replace").partition("\n")[0]


@functools.cache
def _own_folder() -> str:
    import atexit

    made = tempfile.mkdtemp(prefix="p2mbatch-kernels-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _kept(name: str) -> Path | None:
    """Return the folder of the cache for a program; None where there is no cache."""
    base = named_base()
    try:
        os.close(cache.open_trusted(base, ("kernels", name)))
    except cache.Untrusted as error:
        cache.say_once(f"kernels are compiled and not kept: {error}")
        return None
    except OSError as error:
        cache.say_once(f"kernels are compiled and not kept: {base}: {error.strerror}")
        return None
    return base / "kernels" / name


def _make(unit: Extracted, shim: dict[str, str], folder: Path) -> None:
    """Compile and link the program into `folder`, where it appears whole."""
    with tempfile.TemporaryDirectory(prefix="p2mbatch-cc-") as work:
        here = Path(work)
        for name, text in shim.items():
            (here / name).write_text(text, encoding="utf-8")
        (here / "unit.i").write_text(_WITHIN + unit.text, encoding="utf-8")
        code, base = _PLACES[unit.bits]
        width = (f"-m{unit.bits}", *code)
        _compile(unit, [*width, *_SHIM, "-c", "runner.c", "-o", "runner.o"], here, "the shim")
        _compile(unit, [*width, *_UNIT, "-c", "unit.i", "-o", "unit.o"], here, "the unit")
        _compile(
            unit, [*width, *_LINK, f"-Wl,--defsym,p2mk_base={base:#x}", "-Wl,-T,kernel.lds",
                   "runner.o", "unit.o", "-o", "program"], here, "the program",
        )  # fmt: skip
        symbols, sizes = _symbols(here)
        size = symbols["p2mk_bss_end"] - symbols["p2mk_data_begin"]
        if size > MAX_STATIC_BYTES:
            raise PolicyError(
                f"{_shown(unit)}: its static variables take {size >> 20} MiB: at most "
                f"{MAX_STATIC_BYTES >> 20} MiB are simulated"
            )
        starts, places = _lines(here)
        told = {"symbols": symbols, "sizes": sizes, "starts": starts, "places": places}
        (here / "places.json").write_text(json.dumps(told), encoding="utf-8")
        (here / "program").chmod(0o700)
        for name in ("program", "places.json"):
            # Another process may be making the same: whoever is last replaces like by like.
            fresh = folder / f"{name}.{os.getpid()}"
            shutil.copy2(here / name, fresh)
            fresh.replace(folder / name)


def _run(arguments: list[str], here: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of the compiler's in `here`, within the limits that all have."""
    out, err = here / "said.out", here / "said.err"
    try:
        with Path(os.devnull).open("rb") as read, out.open("wb") as said, err.open("wb") as told:
            code = bounded(
                arguments, str(here), read.fileno(), said.fileno(), told.fileno(),
                seconds=MAX_SECONDS, file_bytes=MAX_FILE_BYTES,
            )  # fmt: skip
    except OSError as error:
        raise ResourceError(f"kernel: {one_line(arguments[0])}: {error.strerror}") from None
    if code is None:
        raise PolicyError(f"kernel: the compiler was not done after {MAX_SECONDS} s")
    texts = [file.read_bytes().decode("utf-8", "replace") for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *texts)


def _shown(unit: Extracted) -> str:
    return unit.place(unit.users_file, 1).rpartition(":")[0]


_ERROR: Final = re.compile(r"(?m)^([^:\n]+):(\d+):(?:\d+:)? (?:fatal )?[Ee]rror: (.*)$")
_OF_A_TOOL: Final = re.compile(r"(?m)^[\w.+-]+: (?:fatal )?error: .*$")
_UNDEFINED: Final = re.compile(r"(?m)([^\s:(]+):(\d+): undefined reference to `(\w+)'")
_SOMEWHERE: Final = re.compile(r"undefined reference to `(\w+)'")


def _compile(unit: Extracted, arguments: list[str], here: Path, what: str) -> None:
    done = _run([compiler(), *arguments], here)
    if done.returncode == 0:
        return
    said = done.stderr
    if what == "the shim":
        lines = [line for line in said.splitlines() if "error" in line] or said.splitlines()
        raise ResourceError(
            f"kernel: {one_line(compiler())} can't make a program for {unit.bits}-bit x86: "
            f"{one_line(lines[0]) if lines else 'it says nothing'}"
        )
    # What is said of a file that is not the unit's may have a line of it in it.
    if found := next((one for one in _ERROR.finditer(said) if one[1] in unit.files), None):
        raise PolicyError(f"{_at(unit, found[1], int(found[2]))}: {one_line(found[3])}")
    if found := _UNDEFINED.search(said):
        raise PolicyError(
            f"{_at(unit, Path(found[1]).name, int(found[2]))}: {found[3]} is neither in the file "
            "nor among what the shim gives"
        )
    if found := _SOMEWHERE.search(said):
        raise PolicyError(
            f"{_shown(unit)}: {found[1]} is neither in it nor among what the shim gives"
        )
    too_large = ("relocation truncated", "too large", "File size limit", "too big")
    if any(word in said for word in too_large) or done.returncode in (-signal.SIGXFSZ, 153):
        raise PolicyError(
            f"{_shown(unit)}: its static variables are too large: at most "
            f"{MAX_STATIC_BYTES >> 20} MiB are simulated"
        )
    of_tool = _OF_A_TOOL.search(said)
    why = f": {one_line(of_tool[0])}" if of_tool else ""
    raise PolicyError(f"{_shown(unit)}: {what} can't be made of it{why}")


def _at(unit: Extracted, file: str, line: int) -> str:
    name, _, number = unit.place(file, line).rpartition(":")
    return f"{name}, line {number}"


def _symbols(here: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return the addresses of the program's variables by name, and the bytes of those that say."""
    found: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for line in _run(["nm", "-S", "program"], here).stdout.splitlines():
        address, *size, kind, name = line.split()
        if kind in "bBdDrRA":
            found[name] = int(address, 16)
            sizes.update((name, int(said, 16)) for said in size)
    return found, sizes


_LINE: Final = re.compile(r"(?m)^(\S+)\s+(\d+|-)\s+(0x[0-9a-f]+)")


def _lines(here: Path) -> tuple[list[int], list[tuple[str, int] | None]]:
    """Return from which address of the program on which line of which file is compiled."""
    told = _run(["objdump", "--dwarf=decodedline", "program"], here).stdout
    rows = sorted(
        (int(address, 16), (file, int(line)) if line != "-" else None)
        for file, line, address in _LINE.findall(told)
        if address != "0x0"
    )
    starts: list[int] = []
    places: list[tuple[str, int] | None] = []
    for address, place in rows:
        if starts and starts[-1] == address:
            places[-1] = place or places[-1]
        elif not places or places[-1] != place:
            starts.append(address)
            places.append(place)
    return starts, places
