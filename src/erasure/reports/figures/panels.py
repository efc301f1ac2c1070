"""Figures of small panels, drawn at once for a page: what Vega draws from their specification, at a twentieth of its cost.

Vega builds axes, titles and marks of each panel one by one: a page on fourteen methods has a hundred panels, and they are more than
half of what all its figures cost. Lines, areas and axes of one kind need no more than a few paths each. A test compares the two;
files that are exported, and notebooks, have Vega's.
"""

from __future__ import annotations

import html
import itertools
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from erasure.reports.figures.theme import CONFIG

__all__ = ["Panels", "Scale", "Trace", "percent_ticks", "text_width"]

_T = TypeVar("_T")

GAP = 18
"""Pixels between panels."""
_PADDING, _TITLE, _LABELS, _LEGEND = 5, 23, 18, 29
"""Pixels around the figure, above each panel, below each axis, and of the legend."""
_SYMBOL, _LEGEND_GAP = 16, 23
_LEAST = 1e-12
"""What a logarithmic axis shows at its lowest end."""
_TICK, _TO_LABEL, _BELOW, _TITLE_BASE = 5, 7, 16, -13
_AXIS, _HEADER, _KEY = CONFIG["axis"], CONFIG["header"], CONFIG["legend"]

_NARROW, _SLIM, _MIDDLE, _WIDE = " !,./:;I[]\\`'|fijlt()-r", 'Jcksvxyz"*', "&ABEKPSVXYCDHNRUwGOQ+<>=~", "Mm%W@—…"


def text_width(text: str, size: float, *, is_bold: bool = False) -> float:
    """About how wide a text is in a sans-serif font, in pixels."""
    shares = (
        0.29 if c in _NARROW else 0.5 if c in _SLIM else 0.7 if c in _MIDDLE else 0.92 if c in _WIDE else _other_width(c)
        for c in text
    )
    return sum(shares) * size * (1.07 if is_bold else 1.0)


def _other_width(character: str) -> float:
    return 1.0 if unicodedata.east_asian_width(character) in {"W", "F"} else 0.56


def _shortened(text: str, size: float, limit: float) -> str:
    """A bold text within a limit, as Vega cuts it."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: int(limit)])
    if text_width(text, size, is_bold=True) <= limit:
        return text
    while text and text_width(f"{text}…", size, is_bold=True) > limit:
        text = text[:-1]
    return f"{text}…"


def _log(value: float) -> float:
    """Logarithm, of 0 that of the least number that an axis shows."""
    return math.log(max(value, _LEAST))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis of all panels.

    Args:
        low: Value at the left, or the bottom.
        high: Value at the right, or the top.
        is_log: Whether it is logarithmic.
        labels: What stands at which value; values outside are left out.
        has_grid: Whether lines cross the panel there.
    """

    low: float
    high: float
    is_log: bool = False
    labels: Mapping[float, str]
    has_grid: bool = True

    def at(self, value: float) -> float:
        """Where a value is, from 0 to 1; below the least on a logarithmic axis it is at its end."""
        ends = (self.low, self.high, value)
        if self.is_log:
            ends = (_log(self.low), _log(self.high), max(_log(value), _log(self.low)))
        low, high, value = ends
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Places from 0 to 1 and their labels."""
        slack = 1e-6 * (self.high - self.low)
        within = {value: label for value, label in self.labels.items() if self.low - slack <= value <= self.high + slack}
        return [(self.at(value), label) for value, label in within.items()]


def percent_ticks(high: float, n: int = 2) -> dict[float, str]:
    """About ``n`` round shares from 0 to ``high``, as percentages."""
    if high <= 0:
        return {}
    rough = high / n
    power = math.floor(math.log10(rough))
    factor = next(factor for factor, least in ((10, 50**0.5), (5, 10**0.5), (2, 2**0.5), (1, 0.0)) if rough / 10**power >= least)
    step = factor * 10.0**power
    digits = max(0, -math.floor(math.log10(step) + 1e-9) - 2)
    return {i * step: f"{100 * i * step:.{digits}f}%" for i in range(int(high / step + 1e-9) + 1)}


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A line, or an area down to other values.

    Args:
        xs: Values on the horizontal axis, in their order.
        ys: Values on the vertical axis.
        bases: The other end of an area; a line without.
        colour: Of the line or the area.
        opacity: Of an area.
        width: Of a line, in pixels.
        dash: Lengths of its dashes and gaps; none draws it through.
        is_stepped: Whether a value holds until the next.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    bases: Sequence[float] | None = None
    colour: str
    opacity: float = 1.0
    width: float = 1.5
    dash: str = ""
    is_stepped: bool = False


@dataclass(frozen=True, kw_only=True)
class Panels:
    """A figure of panels that share their axes.

    Args:
        traces: What each panel shows, by its title, the first at the back.
        columns: Panels in a row.
        width: Of each panel, in pixels.
        height: The same.
        x: The horizontal axis.
        y: The vertical one.
        legend: Name, colour and dashes of lines.
        is_clipped: Whether what reaches beyond a panel is cut off.
    """

    traces: Mapping[str, Sequence[Trace]]
    columns: int
    width: int
    height: int
    x: Scale
    y: Scale
    legend: Sequence[tuple[str, str, str]] = ()
    is_clipped: bool = False

    def drawn(self) -> tuple[str, float, float]:
        """The figure as SVG without its root, and its size."""
        titles = {name: _shortened(name, _HEADER["labelFontSize"], _HEADER["labelLimit"]) for name in self.traces}
        widths = [text_width(title, _HEADER["labelFontSize"], is_bold=True) for title in titles.values()]
        over = max(0.0, (max(widths) - self.width) / 2)
        rows = -(-len(titles) // self.columns)
        has_axes_apart = len(titles) % self.columns > 0
        across = math.ceil(self.width + 2 * over) + GAP
        down = self.height + _TITLE + GAP + (_LABELS if has_axes_apart else 0)
        labels = [text_width(label, _AXIS["labelFontSize"]) for _, label in self.y.ticks()]
        left = _PADDING + math.ceil(max(over, max(labels, default=0.0) + _TO_LABEL + 1))
        top = _PADDING + _TITLE + (_LEGEND if self.legend else 0)
        parts = [self._legend(left, _PADDING)] if self.legend else []
        rows_left, axis = self._rows(), self._columns()
        for number, (name, traces) in enumerate(self.traces.items()):
            row, column = divmod(number, self.columns)
            is_last = has_axes_apart or row == rows - 1
            parts += [
                f'<g transform="translate({left + column * across},{top + row * down})">',
                rows_left if not column else "",
                self._grid(),
                axis if is_last else "",
                *map(self._trace, traces),
                f'<text x="{_n(self.width / 2)}" y="{_TITLE_BASE}" text-anchor="middle" font-size="{_HEADER["labelFontSize"]}px" '
                f'font-weight="{_HEADER["labelFontWeight"]}" fill="{_HEADER["labelColor"]}">{html.escape(titles[name])}</text></g>',
            ]
        body = (
            f'<g fill="none" stroke-miterlimit="10" font-family="{CONFIG["font"]}">{"".join(parts)}</g>'
            f'<defs><clipPath id="panel"><rect x="0" y="0" width="{self.width}" height="{self.height}"/></clipPath></defs>'
        )
        width = left + (self.columns - 1) * across + self.width + over + _PADDING
        return body, math.ceil(width), top + (rows - 1) * down + self.height + _LABELS + _PADDING

    def _place(self, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
        return [(self.width * self.x.at(x), self.height * (1 - self.y.at(y))) for x, y in zip(xs, ys, strict=True)]

    def _trace(self, trace: Trace) -> str:
        if not trace.xs:
            return ""
        path = _path(self._place(trace.xs, trace.ys), is_stepped=trace.is_stepped)
        clip = ' clip-path="url(#panel)"' if self.is_clipped else ""
        if trace.bases is None:
            dash = f' stroke-dasharray="{trace.dash}"' if trace.dash else ""
            return f'<path d="M{path}" stroke="{trace.colour}" stroke-width="{trace.width:g}"{dash}{clip}/>'
        bases = self._place(trace.xs, trace.bases)
        back = _path(reversed(bases)) if not trace.is_stepped else _path([bases[-1], bases[0]])
        return f'<path d="M{path}L{back}Z" fill="{trace.colour}" opacity="{trace.opacity:g}"{clip}/>'

    def _grid(self) -> str:
        lines = [f"M0.5,{_half(self.height * (1 - at))}h{self.width}" for at, _ in self.y.ticks() if self.y.has_grid]
        lines += [f"M{_half(self.width * at)},0.5v{self.height}" for at, _ in self.x.ticks() if self.x.has_grid]
        return f'<path d="{"".join(lines)}" stroke="{_AXIS["gridColor"]}"/>' if lines else ""

    def _rows(self) -> str:
        """The vertical axis, which stands before each row."""
        ticks = self.y.ticks()
        lines = [f"M0.5,{_half(self.height * (1 - at))}h-{_TICK}" for at, _ in ticks]
        texts = [(self.height * (1 - at), label) for at, label in ticks]
        size = _AXIS["labelFontSize"]
        shown = _apart([(at - size / 2, at + size / 2) for at, _ in texts])
        words = [f'<text x="{0.5 - _TO_LABEL}" y="{_n(at + 3.5)}">{html.escape(text)}</text>' for at, text in _kept(texts, shown)]
        return self._axis([*lines, f"M0.5,0.5v{self.height}"], words, "end")

    def _columns(self) -> str:
        """The horizontal axis, which stands below each column, or each panel."""
        ticks = [(self.width * at, label) for at, label in self.x.ticks()]
        lines = [f"M{_half(at)},{self.height + 0.5}v{_TICK}" for at, _ in ticks]
        texts = [(at, label, self._anchor(at)) for at, label in ticks]
        ends = []
        for at, label, anchor in texts:
            wide = text_width(label, _AXIS["labelFontSize"])
            start = at - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
            ends.append((start, start + wide))
        words = [
            f'<text x="{_n(at + 0.5)}" y="{self.height + _BELOW + 0.5}"{"" if anchor == "middle" else _anchored(anchor)}>'
            f"{html.escape(text)}</text>"
            for at, text, anchor in _kept(texts, _apart(ends))
        ]
        return self._axis([*lines, f"M0.5,{self.height + 0.5}h{self.width}"], words, "middle")

    def _anchor(self, at: float) -> str:
        """The outer labels stay within the panel."""
        return "start" if at < 1 else "end" if at > self.width - 1 else "middle"

    def _axis(self, lines: Sequence[str], words: Sequence[str], anchor: str) -> str:
        return (
            f'<path d="{"".join(lines)}" stroke="{_AXIS["tickColor"]}"/><g{_anchored(anchor)} font-size="{_AXIS["labelFontSize"]}px" '
            f'fill="{_AXIS["labelColor"]}">{"".join(words)}</g>'
        )

    def _legend(self, left: float, top: float) -> str:
        parts, at = [], 0
        for name, colour, dash in self.legend:
            parts.append(
                f'<path d="M{at + 1},6h10" stroke="{colour}" stroke-width="{_KEY["symbolStrokeWidth"]}" stroke-dasharray="{dash}"/>'
                f'<text x="{at + _SYMBOL}" y="9">{html.escape(name)}</text>'
            )
            at += math.ceil(_SYMBOL + text_width(name, _KEY["labelFontSize"])) + _LEGEND_GAP
        size = _KEY["labelFontSize"]
        return f'<g transform="translate({left},{top})" font-size="{size}px" fill="{_KEY["labelColor"]}">{"".join(parts)}</g>'


def _anchored(anchor: str) -> str:
    return f' text-anchor="{anchor}"'


def _path(points: Iterable[tuple[float, float]], *, is_stepped: bool = False) -> str:
    parts: list[str] = []
    before = ""
    for x, y in points:
        across, height = _n(x), _n(y)
        if is_stepped and before:
            parts.append(f"{across},{before}")
        parts.append(f"{across},{height}")
        before = height
    return "L".join(parts)


def _apart(ends: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Which labels stay so that none stands upon another: every other one, of those again every other one, and the last of two."""
    kept = list(range(len(ends)))
    is_crowded = False
    while len(kept) >= 3 and any(not _are_apart(ends[a], ends[b]) for a, b in itertools.pairwise(kept)):
        kept, is_crowded = kept[::2], True
    if is_crowded and len(kept) < 3 and kept[-1] != len(ends) - 1:
        kept = [kept[0], len(ends) - 1]
    return frozenset(kept)


def _are_apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return b[0] >= a[1] or a[0] >= b[1]


def _kept(items: Sequence[_T], shown: frozenset[int]) -> list[_T]:
    return [item for number, item in enumerate(items) if number in shown]


def _half(value: float) -> str:
    """A line of one pixel, in the middle of pixels."""
    return f"{math.floor(value + 0.5) + 0.5:g}"


def _n(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
