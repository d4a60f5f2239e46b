"""A schedule drawn as swim lanes, in SVG: one for each CPU, the toolstack, and memory.

Time goes down, a line a step. A step after which an end is out of reach is marked, and the end
named; the step after which nothing can end well any more is marked apart, by shape as well.
The text is laid out here, so that the file needs no browser to wrap it and no font but any.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape

from p2mbatch.race.config import Config
from p2mbatch.race.meaning import meaning_of
from p2mbatch.race.telling import Told, process_name

_LINE, _PAD, _MARGIN = 14, 5, 12
_NUMBER, _LANE, _MEMORY = 34, 250, 250
_CHARACTER = 6.05
"""The width of a letter at 10 px in the widest of the fonts that are asked for."""
_INK, _PAPER, _PALE, _GREY = "#1b1f24", "#ffffff", "#eef2f6", "#8a94a0"
_BLUE, _ORANGE, _VERMILION = "#0072B2", "#E69F00", "#D55E00"
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def draw_svg(title: str, config: Config, class_name: str, told: Sequence[Told]) -> str:
    """Return the schedule `told` as an SVG document.

    Args:
        title: what the race is called.
        config: the race.
        class_name: the end that the schedule comes to.
        told: its steps (`p2mbatch.race.telling.tell`).
    """
    lanes = len(config.cpus) + (config.toolstack is not None)
    width = 2 * _MARGIN + _NUMBER + lanes * _LANE + _MEMORY
    head = _head(title, config, class_name, told, width)
    body: list[str] = []
    top: float = _MARGIN + _LINE * (2 + len(head))
    lane_top = top
    body += _lane_names(config, lanes, top)
    top += 2 * _LINE
    for number, one in enumerate(told):
        height, parts = _row(number, one, lanes, top)
        body += parts
        top += height
    bottom = top + _PAD
    rules = [
        _line(x, lane_top, x, bottom, _GREY, 0.5)
        for x in [_lane_x(lane) for lane in range(lanes + 1)]
    ]
    foot = list(_foot(class_name, told, bottom + _LINE + _PAD, width))
    height = bottom + _LINE * (len(foot) + 2) + _MARGIN
    parts = [*_text_block(head, _MARGIN, _MARGIN + _LINE, bold_first=True), *rules, *body]
    parts += [text for _, text in foot]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="{_FONT}" font-size="10" '
        f'fill="{_INK}">\n<title>{escape(title)}: {escape(class_name)}</title>\n'
        f"<desc>{escape(_description(config, told))}</desc>\n"
        f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _description(config: Config, told: Sequence[Told]) -> str:
    """Return the schedule in one line, for those who can't see it."""
    return "; ".join(f"{process_name(config, one.step.process)} {one.text}" for one in told)


def _head(
    title: str, config: Config, class_name: str, told: Sequence[Told], width: float
) -> list[str]:
    programs = "; ".join(
        f"CPU {who}: {', '.join(map(str, program))}" for who, program in enumerate(config.cpus)
    )
    before = ", ".join(map(str, config.populated_first))
    lines = [
        f"{title}  ends in  {class_name}  after {len(told)} steps",
        f"kernel {config.kernel}, freed pages: {config.allocator}, memory {config.memory}, "
        + (f"populated before: PFN {before}" if before else "nothing populated before"),
        programs,
    ]
    return [part for line in lines for part in _wrap(line, width - 2 * _MARGIN)]


def _foot(
    class_name: str, told: Sequence[Told], top: float, width: float
) -> Iterator[tuple[float, str]]:
    """Yield what the marks and the end mean, line by line."""
    lines = [f"{label}: {text}" for label, text in meaning_of(class_name)]
    if any(one.closes for one in told):
        lines.append("orange bar: an end is out of reach from here on; red bar and ✗: so is ok")
    for text in lines:
        for part in _wrap(text, width - 2 * _MARGIN):
            yield top, _text(_MARGIN, top, part)
            top += _LINE


def _wrap(text: str, pixels: float) -> list[str]:
    return textwrap.wrap(text, max(int(pixels / _CHARACTER), 8)) or [""]


def _lane_x(lane: int) -> float:
    return _MARGIN + _NUMBER + lane * _LANE


def _lane_names(config: Config, lanes: int, top: float) -> list[str]:
    parts = [
        f'<rect x="{_MARGIN}" y="{top}" width="{_NUMBER + lanes * _LANE + _MEMORY}" '
        f'height="{_LINE + _PAD}" fill="{_PALE}"/>'
    ]
    for lane in range(lanes):
        name = process_name(config, lane)
        parts.append(_text(_lane_x(lane) + _PAD, top + _LINE, name, "bold"))
    parts.append(_text(_lane_x(lanes) + _PAD, top + _LINE, "memory", "bold"))
    return parts


def _row(number: int, one: Told, lanes: int, top: float) -> tuple[float, list[str]]:
    """Return one step's height and its parts."""
    said = _wrap(f"{one.step.name}  {one.text}", _LANE - 4 * _PAD)
    no_more = f"no more: {', '.join(one.closes)}" if one.closes else ""
    closed = _wrap(no_more, _LANE - 4 * _PAD) if no_more else []
    memory = _wrap(one.memory, _MEMORY - 4 * _PAD) if one.memory else []
    height = _LINE * max(len(said) + len(closed), len(memory)) + _PAD
    x, hopeless = _lane_x(one.step.process), "ok" in one.closes
    ink = _VERMILION if hopeless else _ORANGE
    parts = [_text(_MARGIN, top + _LINE - 3, f"{number + 1:3d}{' ✗' if hopeless else ''}")]
    box_height = _LINE * (len(said) + len(closed)) + 2
    parts.append(
        f'<rect x="{x + _PAD}" y="{top}" width="{_LANE - 2 * _PAD}" height="{box_height}" rx="2" '
        f'fill="{_PALE}" stroke="{_VERMILION if one.step.ends_run else _GREY}" '
        f'stroke-width="{2 if one.step.ends_run else 0.5}"/>'
    )
    if one.closes:
        parts.append(
            f'<rect x="{x + _PAD}" y="{top}" width="{4 if hopeless else 3}" '
            f'height="{box_height}" fill="{ink}"/>'
        )
    parts += _text_block(said, x + 2 * _PAD + 2, top + _LINE - 3)
    for k, text in enumerate(closed):
        y = top + _LINE * (len(said) + k + 1) - 3
        parts.append(_text(x + 2 * _PAD + 2, y, text, style="italic"))
    if memory:
        middle = top + _LINE / 2 + 1
        start, end = x + _LANE - _PAD, _lane_x(lanes) + _PAD
        parts.append(_line(start, middle, end, middle, _BLUE, 1))
        parts.append(f'<path d="M{end} {middle} l-5 -3 v6 z" fill="{_BLUE}"/>')
        parts += _text_block(memory, end + _PAD, top + _LINE - 3)
    return height + 2, parts


def _line(x: float, y: float, x2: float, y2: float, ink: str, width: float) -> str:
    return f'<path d="M{x} {y} L{x2} {y2}" stroke="{ink}" stroke-width="{width}" fill="none"/>'


def _text(x: float, y: float, text: str, weight: str = "normal", style: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" font-weight="{weight}" font-style="{style}" '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _text_block(lines: Sequence[str], x: float, y: float, *, bold_first: bool = False) -> list[str]:
    return [
        _text(x, y + _LINE * k, line, "bold" if bold_first and not k else "normal")
        for k, line in enumerate(lines)
    ]
