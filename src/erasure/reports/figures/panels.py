"""Panels beside each other as one view: each is a cell of a grid, and values are places within their cell.

A facet would have Vega build the axes, the title and the marks of each panel anew, which takes twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erasure.reports.figures.figure import base
from erasure.reports.figures.theme import COLOURS, CONFIG

__all__ = ["AT_COMMA", "LEGEND_OFFSET", "Axis", "Panels", "filled"]

_WIDTH = 300
_APART = 14
_TITLE = 36
"""Height above a panel: two lines of its title, and some air."""
LEGEND_OFFSET = _TITLE + 2
"""Where a legend stands above the first titles."""
_LABELS = 22
"""Height of the labels below a panel."""
_FONT = 10.5
_ROOM = 0.06
"""Of an axis to either side of its values, as a share of these."""
_ROUNDING = 1e-6
"""Values that differ by no more than this share of the largest stand at one place."""
_SHARE = "share_of_axis"
_LETTER = 6.5
"""Width of a letter of a label."""
# Titles of two lines; those of one have an empty line above.
_BY_LENGTH = "split(replace(datum.panel, regexp('^(?:(?=.{17})(?:(.{4,16}) |(.{16}))|)(.*)$'), '$1$2|$3'), '|')"
AT_COMMA = "split(replace(datum.panel, regexp('^(?:(.+), |)(.*)$'), '$1|$2'), '|')"
"""Titles whose last part, after a comma, is their second line."""


@dataclass(frozen=True)
class Axis:
    """What all panels share in one direction.

    Args:
        field: The field of the records.
        scale: Scale of Vega-Lite; its domain is given.
        ticks: What is written at which value, in ascending order.
        is_ruled: Whether a line of each panel goes through each tick.
    """

    field: str
    scale: Mapping[str, Any]
    ticks: Mapping[float, str]
    is_ruled: bool = True

    @classmethod
    def of_names(cls, field: str, names: Sequence[str]) -> Axis:
        """A line for each name, the first at the top, at half a unit from what is around it."""
        ticks = {len(names) - 0.5 - i: name for i, name in enumerate(names)}
        return cls(field, {"domain": [0, len(names)], "nice": False}, ticks, is_ruled=False)

    @classmethod
    def around(cls, field: str, values: Iterable[float], *, is_ruled: bool = True) -> Axis:
        """A linear axis with room for some values and two ticks or more."""
        given = list(values)
        low, high = min(given), max(given)
        largest = max(abs(low), abs(high))
        room = _ROOM * (high - low) if high - low > _ROUNDING * largest else 0.05 * largest or 0.5
        low, high = low - room, high + room
        power = 10.0 ** math.floor(math.log10(high - low))
        for step in (5 * power, 2 * power, power, power / 2, power / 5, power / 10):
            places = range(math.ceil(low / step), math.floor(high / step) + 1)
            if len(places) > 1:
                break
        digits = max(0, -math.floor(math.log10(step * 1.001)))
        ticks = [round(place * step, digits) for place in places]
        figures = max(3, math.floor(math.log10(largest or 1.0)) - math.floor(math.log10(step)) + 1)  # that tell neighbours apart
        words = {at: f"{at + 0.0:,.{digits}f}" if 1e-6 < step < 1e6 else f"{at + 0.0:.{figures}g}" for at in ticks}
        words = {at: word.replace("-", "\N{MINUS SIGN}") for at, word in words.items()}
        return cls(field, {"domain": [low, high], "nice": False, "zero": False}, words, is_ruled)

    def offset(self, *, is_reversed: bool = False) -> dict[str, Any]:
        """The channel that places a value within its panel."""
        return {"field": self.field, "type": "quantitative", "scale": {**self.scale, "reverse": is_reversed}}

    def labels(self, length: float) -> list[dict[str, Any]]:
        """Those labels that have room beside each other along a number of pixels, from the last one backwards."""
        kept: list[dict[str, Any]] = []
        room = math.inf
        for value, words in reversed(list(self.ticks.items())):
            at = length * self.share(value)
            half = _LETTER * len(words) / 2
            # No label reaches farther than the middle between two panels.
            align, middle = "center", at
            if at < half - _APART / 2:
                align, middle = "left", at + half
            elif at > length - half + _APART / 2:
                align, middle = "right", at - half
            if middle + half <= room:
                kept.append({self.field: value, "label": words, "align": align})
                room = middle - half - _LETTER / 2
        return kept

    def share(self, value: float) -> float:
        """Where a value is between the ends."""
        low, high = (self._position(end) for end in self.scale["domain"])
        return (self._position(value) - low) / (high - low)

    def _position(self, value: float) -> float:
        return math.log(value) if self.scale.get("type") == "log" else value


@dataclass(frozen=True)
class Panels:
    """A grid of panels, line by line.

    Args:
        names: Their titles; each panel has one of its own.
        x: To the right; of each panel by its name, or one for all.
        y: Upwards.
        columns: Panels beside each other.
        size: Width and height of a panel in pixels.
        lines: Expression of Vega that makes a title two lines; by default names that are too long for one go on in the second.
    """

    names: Sequence[str]
    x: Axis | Mapping[str, Axis]
    y: Axis
    columns: int
    size: tuple[int, int]
    lines: str = _BY_LENGTH

    @classmethod
    def small(cls, names: Sequence[str], x: Axis, y: Axis, height: float) -> Panels:
        """Panels for which a phone has room, ``height`` times as high as wide; on a wide page two such figures stand side by side."""
        columns = min(len(names), 2 if len(names) == 4 else 3)
        width = min(180, (_WIDTH - _APART * (columns - 1)) // columns)
        return cls(names, x, y, columns, (width, round(height * width)))

    def spec(self, layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The figure: panels with what is drawn in them.

        Args:
            layers: Records with ``panel`` and the fields of the axes under ``values``, a ``mark`` and perhaps an ``encoding``.
        """
        width, height = self.size
        above = _TITLE + (0 if isinstance(self.x, Axis) else _LABELS)
        lines = -(-len(self.names) // self.columns)
        cells = {name: {"column": i % self.columns, "line": i // self.columns} for i, name in enumerate(self.names)}
        cell = {
            "x": _band("column", self.columns, _APART / (width + _APART)),
            "y": _band("line", lines, above / (height + above)),
        }
        of_x = self.x if isinstance(self.x, Axis) else Axis(_SHARE, {"domain": [0, 1], "nice": False}, {})
        offsets = {"xOffset": of_x.offset(), "yOffset": self.y.offset(is_reversed=True)}
        path = {"detail": [{"field": "column"}, {"field": "line"}], "order": {"value": None}}
        drawn = [
            _layer(
                (self._placed(record, cells) for record in layer["values"]),
                layer["mark"],
                {**cell, **offsets, **path, **layer.get("encoding", {})},
            )
            for layer in layers
        ]
        return base(
            [{"panel": name, **place} for name, place in cells.items()],
            width=self.columns * (width + _APART) - _APART,
            height=lines * (height + above) - above,
            layer=[self._titles(cell), *self._rules(cells, cell, offsets), *self._labels(cells, cell, offsets), *drawn],
        )

    def _placed(self, record: Mapping[str, Any], cells: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """A record in its cell; where panels have axes of their own, with its place between the ends of its panel's."""
        placed = {**{name: value for name, value in record.items() if name != "panel"}, **cells[record["panel"]]}
        if not isinstance(self.x, Axis):
            axis = self.x[record["panel"]]
            placed[_SHARE] = axis.share(record[axis.field])
        return placed

    def _titles(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        width, height = self.size
        mark = {
            "type": "text",
            "baseline": "alphabetic",
            "dy": -height / 2 - 19,
            "limit": width + _APART - 2,
            "fontSize": _FONT,
            "fontWeight": CONFIG["header"]["labelFontWeight"],
            "lineHeight": 12,
        }
        transform = [{"calculate": self.lines, "as": "title"}]
        return {"transform": transform, "mark": mark, "encoding": {**cell, "text": {"field": "title"}}}

    def _rules(
        self, cells: Mapping[str, Mapping[str, int]], cell: Mapping[str, Any], offsets: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Lines through the ticks of each panel, and around panels that have axes of their own."""
        mark = {"type": "tick", "color": CONFIG["axis"]["gridColor"], "thickness": 1}
        width, height = self.size
        found = []
        if not isinstance(self.x, Axis):
            frame = {"type": "rect", "width": width, "height": height, "fill": None, "stroke": CONFIG["axis"]["gridColor"]}
            found.append(_layer(cells.values(), frame, cell))
        if self._axis(self.names[0]).is_ruled:
            ticks = ({"panel": panel, self._axis(panel).field: at} for panel in cells for at in self._axis(panel).ticks)
            values = [self._placed(tick, cells) for tick in ticks]
            found.append(_layer(values, {**mark, "orient": "vertical", "size": height}, {**cell, "xOffset": offsets["xOffset"]}))
        if self.y.is_ruled:
            values = [{**place, self.y.field: at} for place in cells.values() for at in self.y.ticks]
            found.append(_layer(values, {**mark, "orient": "horizontal", "size": width}, {**cell, "yOffset": offsets["yOffset"]}))
        return found

    def _axis(self, panel: str) -> Axis:
        return self.x if isinstance(self.x, Axis) else self.x[panel]

    def _labels(
        self, cells: Mapping[str, Mapping[str, int]], cell: Mapping[str, Any], offsets: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Words at the ticks: left of the first panel of each line, and below each panel, or of one axis the last of each column."""
        mark = {"type": "text", "color": CONFIG["axis"]["labelColor"], "fontSize": _FONT}
        width, height = self.size
        last = {place["column"]: panel for panel, place in cells.items()}
        below = last.values() if isinstance(self.x, Axis) else cells
        first = [place for place in cells.values() if place["column"] == 0]
        text = {"text": {"field": "label"}}
        return [
            _layer(
                (self._placed({"panel": panel, **label}, cells) for panel in below for label in self._axis(panel).labels(width)),
                {**mark, "baseline": "top", "dy": height / 2 + 6, "align": {"expr": "datum.align"}},
                {**cell, "xOffset": offsets["xOffset"], **text},
            ),
            _layer(
                ({**place, self.y.field: at, "label": words} for place in first for at, words in self.y.ticks.items()),
                {**mark, "align": "right", "dx": -width / 2 - 6},
                {**cell, "yOffset": offsets["yOffset"], **text},
            ),
        ]


def filled(colour: str, opacity: float) -> dict[str, Any]:
    """The mark of an area whose outline is a path."""
    return {"type": "line", "color": COLOURS[colour], "strokeWidth": 0, "fill": COLOURS[colour], "fillOpacity": opacity}


def _layer(values: Iterable[Mapping[str, Any]], mark: Mapping[str, Any], encoding: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding}


def _band(field: str, n: int, gap: float) -> dict[str, Any]:
    scale = {"domain": list(range(n)), "paddingInner": gap, "paddingOuter": 0}
    return {"field": field, "type": "ordinal", "axis": None, "scale": scale}
