"""Colours and type of every figure: one palette for print, the same names as variables of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["COLOURS", "CONFIG", "VERDICT_MARKS", "variables_of"]

# Okabe and Ito's palette, which colour-blind readers can tell apart, darkened where it meets white paper.
COLOURS: Mapping[str, str] = {
    "ink": "#1a2330",
    "muted": "#5a6574",
    "grid": "#dde2e8",
    "surface": "#fefefe",
    "forget": "#c8500a",
    "retain": "#0a6fb0",
    "test": "#0a8a66",
    "gold": "#d79a0b",
    "good": "#0b7f63",
    "close": "#2f7fc2",
    "under": "#cc5a12",
    "over": "#8b4fa8",
    "bad": "#b3263c",
    "none": "#7b8794",
    "fourth": "#b2588f",
}
"""Each colour occurs once, so that the page can put a variable in its place."""

VERDICT_MARKS: Mapping[str, tuple[str, str]] = {
    "indistinguishable": ("good", "circle"),
    "not-told-apart": ("close", "square"),
    "different": ("gold", "diamond"),
    "under-forgotten": ("under", "triangle-up"),
    "over-forgotten": ("over", "triangle-down"),
    "damaged": ("bad", "cross"),
    "no-op": ("none", "triangle-right"),
    "failed": ("none", "triangle-left"),
    "undecided": ("none", "circle"),
}
"""Colour and shape of each verdict: no figure rests on colour alone."""

CONFIG: Mapping[str, Any] = {
    "background": None,
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": COLOURS["muted"],
        "titleColor": COLOURS["ink"],
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": COLOURS["grid"],
        "domainColor": COLOURS["grid"],
        "tickColor": COLOURS["grid"],
        "labelLimit": 150,
    },
    "axisQuantitative": {"labelLimit": 0},  # numbers are short, and to measure them for a limit is a quarter of the drawing
    "legend": {
        "labelColor": COLOURS["ink"],
        "titleColor": COLOURS["muted"],
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "orient": "top",
        "labelLimit": 240,
        "columnPadding": 22,
        "rowPadding": 5,
        "symbolStrokeWidth": 2,
    },
    "header": {"labelColor": COLOURS["ink"], "labelFontSize": 12, "labelFontWeight": 600, "labelLimit": 150, "titleFontSize": 12},
    "title": {"color": COLOURS["ink"], "fontSize": 13, "anchor": "start"},
    "text": {"color": COLOURS["ink"], "fontSize": 11},
    "rule": {"color": COLOURS["muted"]},
}


def variables_of(svg: str) -> str:
    """An SVG whose colours follow the page: every colour of the palette becomes the variable of its name."""
    for name, colour in COLOURS.items():
        svg = svg.replace(f'"{colour}"', f'"var(--c-{name})"')
    return svg
