"""The examples of the docs, run: `python docs/examples.py` writes what they print into the pages.

An example is a block of the language `console`: lines that begin with `$ ` are run, one after the
other, in a directory of the page's own in which `data` is the repository's, `mine.py` and
`forgotten.py` are the kernels of own-policy.md, `before.c` that of tests/kernels from before the
change of 2.6.37, and `my.patch` the change. What stands under a line is what it prints; `…`
stands for any text. A command must end with 0, or `$ echo $?` must stand under it with its exit
code. Tests hold the pages to what the commands print (tests/product/test_examples.py).
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
PAGES = sorted(
    path.name for path in DOCS.glob("*.md") if "\n```console\n" in path.read_text(encoding="utf-8")
)
"""The pages with examples."""

WIDTH = 88
"""Columns of the terminal that examples are run in."""

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)
_REFILL = "        else:\n            self.p2m_mid_mfn_init(self.p2m_mid_missing_mfn)\n"


class Example(NamedTuple):
    """One command of a page."""

    command: str
    """As it stands there, without the prompt."""
    printed: str
    """What the page says that it prints."""
    span: tuple[int, int]
    """Where that stands in the page's text."""


class Ran(NamedTuple):
    """What came of an example."""

    example: Example
    printed: str
    code: int
    agrees: bool
    """Whether the page says what was printed."""


def examples_of(text: str) -> Iterator[Example]:
    """Yield the commands of a page's text, in order."""
    for block in _BLOCK.finditer(text):
        start = block.start(1)
        prompts = list(_PROMPT.finditer(block[1]))
        ends = [prompt.start() for prompt in prompts[1:]] + [len(block[1])]
        for prompt, end in zip(prompts, ends, strict=True):
            said = block[1][prompt.end() : end]
            yield Example(prompt[1], said, (start + prompt.end(), start + end))


def agrees(said: str, printed: str) -> bool:
    """Return whether a page's text is what was printed; `…` in it is any text."""
    parts = [re.escape(part) for part in said.split("…")]
    return re.fullmatch(".*?".join(parts), printed, re.DOTALL) is not None


def run_page(text: str, folder: Path) -> list[Ran]:
    """Run the examples of a page's text in `folder`; return what came of each, in order."""
    _fill(folder)
    found: list[Ran] = []
    code = 0
    with _inside(folder):
        for example in examples_of(text):
            if example.command == "echo $?":
                printed, code = f"{code}\n", 0
            else:
                printed, code = _run(example.command)
            found.append(Ran(example, printed, code, agrees(example.printed, printed)))
    return found


def unforeseen(ran: list[Ran]) -> list[str]:
    """Return the commands that failed without the page's saying so."""
    after = [*(one.example.command for one in ran), ""][1:]
    return [
        f"{one.example.command}: ended with {one.code}: {one.printed}"
        for one, then in zip(ran, after, strict=True)
        if one.code and then != "echo $?"
    ]


def _fill(folder: Path) -> None:
    """Lay out what examples find where they run."""
    (folder / "data").symlink_to(DOCS.parent / "data")
    sides = [
        (DOCS.parent / "tests/kernels" / side).read_text(encoding="utf-8")
        for side in ("stale.c", "tracked.c")
    ]
    (folder / "before.c").write_text(sides[0], encoding="utf-8")
    patch = difflib.unified_diff(*(side.splitlines(True) for side in sides), "a/mmu.c", "b/mmu.c")
    (folder / "my.patch").write_text("".join(patch), encoding="utf-8")
    text = (DOCS / "own-policy.md").read_text(encoding="utf-8")
    mine = text.split("```python\n")[1].split("```")[0]
    (folder / "mine.py").write_text(mine, encoding="utf-8")
    assert _REFILL in mine
    (folder / "forgotten.py").write_text(mine.replace(_REFILL, ""), encoding="utf-8")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, columns = Path.cwd(), os.environ.get("COLUMNS")
    os.chdir(folder)
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _run(command: str) -> tuple[str, int]:
    """Return what a command prints and its exit code: p2mbatch in this process, others by bash."""
    if not command.startswith("p2mbatch "):
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        return _tidy(done.stdout + done.stderr), done.returncode
    from p2mbatch.cli import main

    printed, said, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            main(shlex.split(command.replace("\\\n", " "))[1:])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    # How far it is, on stderr, depends on how fast it is; a mistake does not.
    return _tidy(printed.getvalue() + (said.getvalue() if code == 2 else "")), code


def _tidy(text: str) -> str:
    """Return text without blanks at the ends of lines, and with the end that a block needs."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write into each page what its commands print, where it says something else."""
    for name in PAGES:
        text = (DOCS / name).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            ran = run_page(text, Path(folder))
        if failed := unforeseen(ran):
            raise SystemExit(f"{name}: " + "\n".join(failed))
        for one in reversed(ran):
            if not one.agrees:
                start, end = one.example.span
                text = text[:start] + one.printed + text[end:]
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
