"""The tutorial: the notebooks as pages of the site, executed, with their figures.

Needs nbclient and nbconvert, both in the extra `docs`. Nothing of it is committed.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
_SECONDS = 600


def write_tutorial(out: Path, *, execute: bool) -> None:
    """Write a page for each notebook into `out`, and its figures beside it.

    Without `execute` the pages have the notebooks' text and code, and no outputs. Raises
    `nbclient.exceptions.CellExecutionError` where a cell fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    chapters = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in chapters:
        notebook = nbformat.read(path, as_version=4)
        if execute:
            _execute(notebook)
        text, pictures = page(notebook, path.stem)
        (out / f"{path.stem}.md").write_text(text, encoding="utf-8")
        for name, content in pictures.items():
            (out / name).write_bytes(content)


def _execute(notebook: Any) -> None:
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        ).execute()


def page(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its figures by their file names."""
    names = {"unique_key": stem, "output_files_dir": "."}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources=names)
    text = re.sub(r"<style scoped>.*?</style>\n*", "", text, flags=re.DOTALL)
    # The figure's name is all that the exporter says of it.
    text = re.sub(r"!\[(?:png|svg)\]\((?:\./)?", f"![A figure of chapter {int(stem[:2])}](", text)
    head, _, rest = text.partition("\n")
    note = (
        f"\n*This page is `notebooks/{stem}.ipynb`, run from top to bottom when the site was made; "
        "`p2mbatch notebooks DIR` copies it for you.*\n"
    )
    pictures = {Path(name).name: content for name, content in resources["outputs"].items()}
    return f"{head}\n{note}{rest}", pictures
