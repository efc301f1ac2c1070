"""What a figure is, and what figures have in common.

Every function is pure: numbers in, a figure out. A figure carries its data, which is also what is exported as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from erasure.reports.figures.theme import CONFIG

__all__ = ["MAX_DOTS", "MAX_LINES", "MAX_PANELS", "STEP", "Figure", "Section", "base", "counted", "spread"]

MAX_PANELS = 24
"""Methods that get a panel of their own."""
MAX_LINES = 40
MAX_DOTS = 3000
"""Repetitions that a figure draws as dots; of more, some of each method."""
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
STEP = 19
"""Height of a line in pixels."""
_UNKNOWN = "…"


Section: TypeAlias = Literal["overview", "certainty", "behaviour", "cost"]
"""The part of a page that a figure stands in."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure as Vega-Lite.

    Args:
        key: Name of its files.
        title: What it shows.
        caption: How to read it.
        alt: What a reader who cannot see it should know.
        spec: The Vega-Lite specification, data included.
        data: The records it is drawn from.
        section: Where it stands on the page.
        in_notebooks: Whether notebooks show it below the table of a run.
        narrow: The specification for a small screen; None if ``spec`` can be read there as well.
    """

    key: str
    title: str
    caption: str
    alt: str
    spec: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]
    section: Section = "behaviour"
    in_notebooks: bool = False
    narrow: Mapping[str, Any] | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"application/vnd.vegalite.v5+json": dict(self.spec), "text/plain": f"{self.title}: {self.alt}"}


def base(data: Sequence[Mapping[str, Any]], **spec: Any) -> dict[str, Any]:
    """A specification with our theme and its data."""
    config = dict(CONFIG)
    if all(_fits(text, config["axis"]) for text in _labels(data, spec)):
        # To measure labels for a limit is half of the drawing.
        config["axis"] = {**config["axis"], "labelLimit": 0}
    return {"$schema": _SCHEMA, "config": config, "data": {"values": [dict(record) for record in data]}, **spec}


def _labels(data: Sequence[Mapping[str, Any]], spec: Any) -> set[str]:
    """What the axes of a specification may say beside numbers."""
    if isinstance(spec, list | tuple):
        return set().union(*(_labels(data, each) for each in spec))
    if not isinstance(spec, Mapping):
        return set()
    found = set().union(*(_labels(data, each) for key, each in spec.items() if key != "data"))
    for name in ("x", "y"):
        channel = spec.get(name)
        if isinstance(channel, Mapping) and "field" in channel and channel.get("type") != "quantitative":
            given = (channel.get("sort"), (channel.get("scale") or {}).get("domain"))
            listed = [value for values in given if isinstance(values, list | tuple) for value in values]
            # A field that no record has is computed while drawing.
            own = {record[channel["field"]] for record in data if channel["field"] in record} or {_UNKNOWN}
            found |= {str(value) for value in (*listed, *own)}
    return found


def _fits(text: str, axis: Mapping[str, Any]) -> bool:
    """Whether a label is surely narrower than the limit of an axis, by the widest letters of each kind in sans-serif fonts."""
    if not text.isascii():
        return False
    widths = (1.02 if c in "mwMW%@" else 0.8 if c.isupper() or c == "&" else 0.6 for c in text)
    return sum(widths) * float(axis["labelFontSize"]) <= float(axis["labelLimit"])


def counted(shown: int, total: int, what: str = "methods") -> str:
    """How many are shown, where not all are."""
    return f" The {shown} best of {total} {what} are shown." if shown < total else ""


def spread(
    records: Iterable[Mapping[str, Any]], value: str, cell: Callable[[Mapping[str, Any]], Hashable], most: int
) -> list[Mapping[str, Any]]:
    """At most a number of records of each cell, evenly from its smallest value to its largest."""
    cells: dict[Hashable, list[Mapping[str, Any]]] = {}
    for record in records:
        cells.setdefault(cell(record), []).append(record)
    kept: list[Mapping[str, Any]] = []
    for own in cells.values():
        if len(own) > most:
            ranked = sorted(own, key=lambda record: record[value])
            own = [ranked[round(i * (len(own) - 1) / (most - 1))] for i in range(most)]
        kept += own
    return kept
