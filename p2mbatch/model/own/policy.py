"""A file's policy in the registry: its name, its look, its compiled functions, what stopped it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import PolicyError
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.jit import CompileError, compile_lock, make_ready
from p2mbatch.compiled.own import registers as rg
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import BUGS, FAULTS
from p2mbatch.model import policies
from p2mbatch.model.hosts import table_host
from p2mbatch.model.own import vocabulary as vo
from p2mbatch.model.own.assemble import assemble, check
from p2mbatch.model.own.rewrite import Rewritten
from p2mbatch.model.own.source import Source, Written, choose, digest_of, eval_number, read_module
from p2mbatch.model.policies import SPARE_SLOTS, Policy

_PLACE = re.compile(r'File "([^"]*)", line (\d+)')


class Carried(NamedTuple):
    """A policy as it goes to another process: what it is named by, and its whole text."""

    reference: str
    shown: str
    name: str
    text: str

    def enter(self) -> str:
        """Enter it into this process's registry; return its name there."""
        return registered(self)


@dataclass(frozen=True)
class OwnPolicy:
    """A policy of a file, checked."""

    reference: str
    """"PATH:CLASS#DIGEST", as scenarios and traces name it."""
    written: Written
    digest: str

    @cached_property
    def rewritten(self) -> Rewritten:
        """Return its functions as the compiler takes them."""
        return check(self.written)

    @property
    def source(self) -> Source:
        """Return its file."""
        return self.written.module.source

    def carried(self) -> Carried:
        """Return what another process needs to have it."""
        source = self.source
        return Carried(self.reference, source.shown, self.written.name, source.text)

    def hold(self, word_bytes: int, num_pages: int, max_domain_pages: int) -> None:
        """Return None: it is compiled into this process."""

    # --- what the registry asks ---------------------------------------------------------------

    def load(self) -> Operations:
        """Return the compiled functions; raises `PolicyError` for what can't be compiled."""
        base = self.written.base
        theirs = policies.find(base).operations if base else None
        made = assemble(self.written, self.digest, theirs)
        with compile_lock(self.digest):
            try:
                _compile_all(made)
            except CompileError as error:
                raise self._refused(str(error)) from None
        return made

    def _refused(self, text: str) -> PolicyError:
        """Return what the compiler said, with the last line of the file that it named."""
        # The compiler names files as they are seen from the working directory.
        named = ((Path(file).absolute(), int(number)) for file, number in _PLACE.findall(text))
        own = self.source.path.resolve()
        lines = [number for file, number in named if file.resolve() == own]
        line = lines[-1] if lines else self.written.line[0].node.lineno
        said = [part.strip() for part in text.splitlines()]
        calls = [part.removeprefix(">>> ") for part in said if part.startswith(">>> ")]
        told = [
            part for part in said if part.startswith(("Cannot unify", "Invalid", "Unsupported"))
        ]
        if calls and not told:
            told = [f"there is no {calls[-1]}"]
        told = told or [part for part in said if part and not part.startswith("Failed in")]
        return self.source.error(line, f"can't be compiled: {(told or ['no type fits'])[-1]}")

    def meaning(self, status: int, statics: Int64Array) -> tuple[str, str]:
        """Return (outcome, detail) of a call that stopped with `status`.

        Raises `PolicyError` where it is not the guest that failed but the policy itself.
        """
        if status == rg.OWN_BUG:
            return "bug", self.rewritten.sites[int(statics[rg.R_SITE])].text
        if status in BUGS:
            return "bug", BUGS[status]
        if status in FAULTS:
            return "fault", FAULTS[status]
        line = int(statics[rg.R_LINE])
        if status == rg.OWN_FAULT:
            return "fault", self._line(line)
        problems = {
            rg.OWN_OUT_OF_PAGE: "goes past the end of the page: a page has words 0 to n - 1",
            rg.OWN_STEPS: "a loop without an end: it was stopped",
            rg.OWN_ROOM: f"one call hits more than {SPARE_SLOTS} pages: that is not simulated",
        }
        raise self._at(line).error(self._number(line), problems[status])

    def where(self, status: int, statics: Int64Array, strays: int) -> str | None:
        """Return "FILE:LINE" of what ended the call, else of the event's first stray write."""
        if status in FAULTS or status in BUGS or status in (rg.OWN_BUG, rg.OWN_FAULT):
            line = int(statics[rg.R_LINE])
        elif strays:
            line = int(statics[rg.R_STRAY_LINE])
        else:
            return None
        return f"{self._at(line).shown}:{self._number(line)}" if line else None

    def told(self, line: int, word_bytes: int, max_domain_pages: int) -> tuple[str, int]:
        """Return "" and the line, counted within its file."""
        return "", self._number(line)

    def _at(self, line: int) -> Source:
        return self.written.line[-1].source if line >= vo.SHIPPED_LINES else self.source

    def _number(self, line: int) -> int:
        return line % vo.SHIPPED_LINES

    def _line(self, line: int) -> str:
        text = self._at(line).text.splitlines()
        number = self._number(line)
        return text[number - 1].strip() if 0 < number <= len(text) else ""


def array_pages(written: Written) -> int:
    """Return the pages that its static arrays take in the wider guest, by their defaults."""
    width = {"P2M_PER_PAGE", "P2M_MID_PER_PAGE", "P2M_TOP_PER_PAGE"}
    known = {
        **written.module.constants,
        **dict.fromkeys(width, 512),
        "MAX_DOMAIN_PAGES": 8_388_608,
        "MAX_P2M_PFN": 512**3,
    }
    found = 0
    for name, words in written.arrays.items():
        try:
            found += -(-eval_number(words, known) // 512)
        except ValueError:
            raise written.module.source.error(
                words, f"{name}: how many words it has is told by numbers alone"
            ) from None
    return found


def _compile_all(made: Operations) -> None:
    """Compile a policy's functions, or load them, before the first guest needs them."""
    t = tb.allocate(
        geometry(8), nr_pages=1, max_p2m_pfn=1, mfn_list_pfn=0, brk_pfn=0, brk_pages=1,
        pool=np.zeros((0, 2), np.int64), directmap_pages=1, num_slots=1, num_blocks=1,
        machine=tb.MACHINE_2,
    )  # fmt: skip
    runs = np.zeros((1, 3), np.int64)
    h = table_host(1, runs, runs)
    make_ready(made.boot, t, h, np.zeros((0, 2), np.int64))
    make_ready(made.rebuild, t, h, 0)
    make_ready(made.report, t, h)
    make_ready(made.set_runs, t, h, runs, 0)
    make_ready(made.grow_leaves, t, h, runs[0], False, 0)
    make_ready(made.get, t, h, runs[0], runs[0])
    make_ready(made.get_row, t, h, 0, runs[0])


def registered(carried: Carried, path: Path | None = None) -> str:
    """Enter a policy into the registry, if it is not there; return what it is named by."""
    if policies.is_known(carried.reference):
        return carried.reference
    source = Source(carried.shown, carried.text, path or Path(carried.shown))
    written = choose(read_module(source), carried.name)
    own = OwnPolicy(carried.reference, written, digest_of(carried.text, written.name))
    own.rewritten  # noqa: B018  (checks all of it)
    base = policies.find(written.base or policies.MENDED)
    look = policies.free_look(written.name)
    policies.register(
        Policy(
            name=carried.reference,
            meaning=_meaning(written),
            brief=f"from {base.name}" if written.base else "of one's own",
            load=own.load,
            list_brk_pages=max(base.list_brk_pages, 3) + array_pages(written),
            color=look[0],
            hatch=look[1],
            marker=look[2],
            dashes=(0, (4, 1, 1, 1)),
            own=own,
        )
    )
    return carried.reference


def _meaning(written: Written) -> str:
    """Return the first line of what its class or its file says of itself."""
    for node in (written.line[0].node, written.module.source.tree):
        text = ast.get_docstring(node)
        if text:
            return text.splitlines()[0].rstrip(".")
    return "a policy of one's own"
