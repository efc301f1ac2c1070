"""The figure of the page about two models: what each calls the samples of each class. As the report's figures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erasure.reports.figures.figure import Figure, base
from erasure.reports.figures.theme import COLOURS

__all__ = ["confusion_figure"]

_LONGEST = 14
_NUMBERED = 12


def confusion_figure(found: Mapping[str, Any]) -> Figure | None:
    """Two confusion matrices and their difference, side by side.

    Args:
        found: What :func:`erasure.ui.overlay.predictions` says.
    """
    classes = _short(found["classes"])
    if not classes:
        return None
    panels = {"first": f"{found['a']}"[:40], "second": f"{found['b']}"[:40], "difference": "difference"}
    if panels["first"] == panels["second"]:
        panels["second"] += " again"
    top = max(1, max(abs(n) for row in found["difference"] for n in row))
    records: list[dict[str, Any]] = []
    for key, title in panels.items():
        for name, row in zip(classes, found[key], strict=True):
            total = sum(row) or 1
            for called, n in zip(classes, row, strict=True):
                is_change = key == "difference"
                side = ("more often" if n > 0 else "less often") if is_change else ("right" if name == called else "wrong")
                depth = abs(n) / top if is_change else n / total
                records.append({"panel": title, "class": name, "called": called, "n": n, "side": side, "depth": depth})
    sides = {
        "domain": ["right", "wrong", "more often", "less often"],
        "range": [COLOURS["good"], COLOURS["bad"], COLOURS["forget"], COLOURS["retain"]],
    }
    opacity = {"field": "depth", "type": "quantitative", "scale": {"domain": [0, 1], "range": [0.02, 0.7]}, "legend": None}
    is_long = max(len(name) for name in classes) > 2
    x = {"field": "called", "type": "nominal", "sort": classes, "title": "called", "axis": {"labelAngle": -45 if is_long else 0}}
    y = {"field": "class", "type": "nominal", "sort": classes, "title": "class"}
    colour = {"field": "side", "type": "nominal", "scale": sides, "title": None}

    def arranged(n_panels: int, cell: int, most: int) -> dict[str, Any]:
        cell = max(9, min(cell, most // len(classes)))
        layered: list[dict[str, Any]] = [
            {
                "mark": {"type": "rect", "stroke": COLOURS["grid"], "strokeWidth": 0.5},
                "encoding": {"x": x, "y": y, "opacity": opacity, "color": {**colour, "legend": {"columns": n_panels + 1}}},
            }
        ]
        if len(classes) <= _NUMBERED:
            for condition, form in (("== 'difference'", "+d"), ("!= 'difference'", "d")):
                layered.append(
                    {
                        "transform": [{"filter": f"datum.n != 0 && datum.kind {condition}"}],
                        "mark": {"type": "text", "fontSize": 9 if cell < 24 else 10.5},
                        "encoding": {"x": x, "y": y, "text": {"field": "n", "type": "quantitative", "format": form}},
                    }
                )
        kinds = {title: key for key, title in panels.items()}
        return base(
            [{**record, "kind": "difference" if kinds[record["panel"]] == "difference" else "count"} for record in records],
            facet={"field": "panel", "type": "nominal", "sort": list(panels.values()), "title": None},
            columns=n_panels,
            spacing={"column": 16, "row": 22},
            spec={"width": {"step": cell}, "height": {"step": cell}, "layer": layered},
        )

    is_large = len(classes) > 6
    more = f" The {len(classes)} classes in which the two differ most are shown, of {found['n_classes']}."
    return Figure(
        "confusion",
        "What each model calls the samples of each class",
        f"Number of {found['samples']} samples of each class (down) that are called each class (across). The third panel is the second "
        f"less the first." + (more if len(classes) < found["n_classes"] else ""),
        f"Two confusion matrices of {len(classes)} classes and their difference; the numbers are in the table below.",
        arranged(3, 19 if is_large else 26, 195),
        records,
        narrow=arranged(1, 22 if is_large else 34, 250),
    )


def _short(names: Sequence[str]) -> list[str]:
    """Names with room for them, each once."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        text = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        seen[text] = seen.get(text, 0) + 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found
