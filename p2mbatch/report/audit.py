"""An audit as one HTML page of pictures, with nothing to load from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch._version import __version__
from p2mbatch.dumps.audit.findings import Audit
from p2mbatch.plots.dump import dump_snapshot, plot_extents, plot_p2m_map
from p2mbatch.plots.style import new_figure, style
from p2mbatch.plots.tree import plot_tree
from p2mbatch.report.audit_facts import facts_of, failing_entry
from p2mbatch.report.page import asset, inline, template, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Art(NamedTuple):
    name: str
    wide: str
    narrow: str
    """The same figure for a narrow screen, on which a wide one's words could not be read."""
    caption: str


def write_page(result: Audit, path: str | Path) -> None:
    """Write the page of `result` to `path`, all or nothing. Raises `InputError` where it can't."""
    found = result.to_json()
    answer, _, rest = result.meaning[0].partition(". ")
    text = template("audit.html.j2").render(
        version=__version__,
        css=asset("report.css"),
        file=found["file"],
        answer=answer + "." * bool(rest),
        rest=rest.strip(),
        advice=" ".join(text for text in (result.meaning[1], result.evidence) if text),
        hazards=found["hazards"],
        failed=result.failed,
        failing=failing_entry(found),
        notes=found["notes"],
        figures=_figures(result),
        facts=facts_of(found),
    )
    write_text(Path(path), text)


def _figures(result: Audit) -> list[_Art]:
    """Draw the figures."""

    def draw(
        name: str, size: tuple[float, float], plot: Callable[[Axes], Any], caption: str
    ) -> _Art:
        drawn = []
        for kind, inches in (("", size), ("-narrow", (4.4, 4.4 * max(size[1] / size[0], 0.8)))):
            with style():
                figure, ax = new_figure(inches)
                plot(ax)
            drawn.append(inline(figure, name + kind, caption))
        return _Art(name, drawn[0], drawn[1], caption)

    figures = [
        draw(
            "map",
            (9.0, 5.2),
            lambda ax: plot_p2m_map(result, ax=ax),
            "The p2m: each populated page at its PFN (across) and its MFN (up). Steep lines are "
            "extents; columns without colour are holes; dashed lines stand for long stretches "
            "without a page, which are left out.",
        ),
        draw(
            "extents",
            (9.0, 3.6),
            lambda ax: plot_extents(result, ax=ax),
            "Memory by the size of the extent that it lies in: frames in a row on the host.",
        ),
    ]
    # Where no check was made there is nothing to say of any entry, least of all that it is stale.
    if result.walk.result is not None and result.walk.linear is None:
        figures.append(
            draw(
                "tree",
                (7.0, 6.6),
                lambda ax: plot_tree(dump_snapshot(result), ax=ax),
                "The tree and the list that the toolstack reads, as far as its walk came: entries "
                "that are true, stale, or could not be read.",
            )
        )
    return figures
