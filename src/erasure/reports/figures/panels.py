"""Small panels with the same axes, as one view: each is a cell of a grid, and values are places within their cell.

A facet would have Vega build the axes, the title and the marks of each panel anew, which takes twice as long. Panels are small enough
for a phone, and as large on a wide page, where two figures stand side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erasure.reports.figures.figure import base
from erasure.reports.figures.theme import CONFIG

__all__ = ["LEGEND_OFFSET", "Axis", "Panels"]

_WIDTH = 300
_APART = 14
_TITLE = 36
"""Height above a panel: two lines of its title, and some air."""
LEGEND_OFFSET = _TITLE + 2
"""Where a legend stands above the first titles."""
_LETTER = 6.5
"""Width of a letter of a label."""
# A name of more than sixteen letters goes on in a second line, after a space if there is one; one that does not has an empty line above.
_TWO_LINES = "split(replace(datum.panel, regexp('^(?:(?=.{17})(?:(.{4,16}) |(.{16}))|)(.*)$'), '$1$2|$3'), '|')"


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

    def offset(self, *, is_reversed: bool = False) -> dict[str, Any]:
        """The channel that places a value within its panel."""
        return {"field": self.field, "type": "quantitative", "scale": {**self.scale, "reverse": is_reversed}}

    def labels(self, length: float) -> list[dict[str, Any]]:
        """Those labels that have room beside each other along a number of pixels, from the last one backwards."""
        low, high = (self._position(end) for end in self.scale["domain"])
        kept: list[dict[str, Any]] = []
        room = math.inf
        for value, words in reversed(list(self.ticks.items())):
            at = length * (self._position(value) - low) / (high - low)
            half = _LETTER * len(words) / 2
            # At the ends of a panel a label keeps within it.
            align, middle = ("left", at + half) if at < half else ("right", at - half) if at > length - half else ("center", at)
            if middle + half <= room:
                kept.append({self.field: value, "label": words, "align": align})
                room = middle - half - _LETTER / 2
        return kept

    def _position(self, value: float) -> float:
        return math.log(value) if self.scale.get("type") == "log" else value


@dataclass(frozen=True)
class Panels:
    """A grid of panels, line by line.

    Args:
        names: Their titles; each panel has one of its own.
        x: To the right.
        y: Upwards.
        height: Of each panel, in units of its width.
    """

    names: Sequence[str]
    x: Axis
    y: Axis
    height: float

    @property
    def columns(self) -> int:
        """Panels beside each other."""
        return min(len(self.names), 2 if len(self.names) == 4 else 3)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a panel in pixels."""
        width = min(180, (_WIDTH - _APART * (self.columns - 1)) // self.columns)
        return width, round(self.height * width)

    def spec(self, layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The figure: panels with what is drawn in them.

        Args:
            layers: Records with ``panel``, ``x`` and ``y`` under ``data``, a ``mark`` and perhaps an ``encoding``.
        """
        width, height = self.size
        lines = -(-len(self.names) // self.columns)
        cells = {name: {"column": i % self.columns, "line": i // self.columns} for i, name in enumerate(self.names)}
        cell = {
            "x": _band("column", self.columns, _APART / (width + _APART)),
            "y": _band("line", lines, _TITLE / (height + _TITLE)),
        }
        offsets = {"xOffset": self.x.offset(), "yOffset": self.y.offset(is_reversed=True)}
        path = {"detail": [{"field": "column"}, {"field": "line"}], "order": {"value": None}}
        drawn = [
            _layer(
                ({**{k: v for k, v in record.items() if k != "panel"}, **cells[record["panel"]]} for record in layer["values"]),
                layer["mark"],
                {**cell, **offsets, **path, **layer.get("encoding", {})},
            )
            for layer in layers
        ]
        places = list(cells.values())
        return base(
            [{"panel": name, **place} for name, place in cells.items()],
            width=self.columns * (width + _APART) - _APART,
            height=lines * (height + _TITLE) - _TITLE,
            layer=[self._titles(cell), *self._rules(places, cell, offsets), *self._labels(places, cell, offsets), *drawn],
        )

    def _titles(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        width, height = self.size
        mark = {
            "type": "text",
            "baseline": "alphabetic",
            "dy": -height / 2 - 19,
            "limit": width + _APART - 2,
            "fontSize": 10.5,
            "fontWeight": CONFIG["header"]["labelFontWeight"],
            "lineHeight": 12,
        }
        transform = [{"calculate": _TWO_LINES, "as": "title"}]
        return {"transform": transform, "mark": mark, "encoding": {**cell, "text": {"field": "title"}}}

    def _rules(
        self, places: Sequence[Mapping[str, Any]], cell: Mapping[str, Any], offsets: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Lines through the ticks of each panel."""
        mark = {"type": "tick", "color": CONFIG["axis"]["gridColor"], "thickness": 1}
        width, height = self.size
        each = ((self.x, "xOffset", "vertical", height), (self.y, "yOffset", "horizontal", width))
        return [
            _layer(
                ({**place, axis.field: at} for place in places for at in axis.ticks),
                {**mark, "orient": orient, "size": size},
                {**cell, channel: offsets[channel]},
            )
            for axis, channel, orient, size in each
            if axis.is_ruled
        ]

    def _labels(
        self, places: Sequence[Mapping[str, Any]], cell: Mapping[str, Any], offsets: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Words at the ticks: below the last panel of each column, and left of the first of each line."""
        mark = {"type": "text", "color": CONFIG["axis"]["labelColor"], "fontSize": 10}
        width, height = self.size
        last = {place["column"]: place for place in places}
        first = [place for place in places if place["column"] == 0]
        text = {"text": {"field": "label"}}
        return [
            _layer(
                ({**place, **label} for place in last.values() for label in self.x.labels(width)),
                {**mark, "baseline": "top", "dy": height / 2 + 6, "align": {"expr": "datum.align"}},
                {**cell, "xOffset": offsets["xOffset"], **text},
            ),
            _layer(
                ({**place, self.y.field: at, "label": words} for place in first for at, words in self.y.ticks.items()),
                {**mark, "align": "right", "dx": -width / 2 - 6},
                {**cell, "yOffset": offsets["yOffset"], **text},
            ),
        ]


def _layer(values: Iterable[Mapping[str, Any]], mark: Mapping[str, Any], encoding: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding}


def _band(field: str, n: int, gap: float) -> dict[str, Any]:
    scale = {"domain": list(range(n)), "paddingInner": gap, "paddingOuter": 0}
    return {"field": field, "type": "ordinal", "axis": None, "scale": scale}
