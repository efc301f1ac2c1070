"""Figures of verdicts: forgetting against utility, and every value by seed. Pure functions, as in ``figures``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from erasure.analysis.verdicts import TITLES, Verdict
from erasure.records.rows import Row
from erasure.reports.figures.figure import MAX_DOTS, MAX_LINES, STEP, Figure, base, counted, spread
from erasure.reports.figures.labels import LONGEST, place_labels
from erasure.reports.figures.panels import AT_COMMA, Axis, Panels, filled
from erasure.reports.figures.theme import COLOURS, CONFIG, VERDICT_MARKS

__all__ = ["seeds", "tradeoff"]

_FEWEST_DOTS = 5
_WIDE, _NARROW = (640, 400), (330, 330)
"""Width and height of the trade-off."""
_USUAL = 2.0
"""Standard deviations within which a retrained model usually lies by one value."""


def tradeoff(judgements: Sequence[Verdict]) -> Figure | None:
    """How far each method is from retrained models where it should forget, against how far where it should not."""
    judged = sorted(
        (j for j in judgements if j.tested is not None and j.tested.differences and not j.is_exact), key=lambda j: j.rank
    )
    points: list[dict[str, Any]] = [
        {
            "method": j.label,
            "forgetting": min(j.worst("forgetting") or 0.0, 50.0),
            "utility": min(j.worst("utility") or 0.0, 50.0),
            "cost": j.cost,
            "verdict": TITLES[j.finding],
        }
        for j in judged[: 2 * MAX_LINES]
    ]
    if not points:
        return None
    x_top, y_top = (max(1.5 * _USUAL, *(p[axis] * 1.15 for p in points)) for axis in ("forgetting", "utility"))
    costs_known = any(p["cost"] is not None for p in points)
    marks = {TITLES[j.finding]: VERDICT_MARKS[j.finding] for j in judged}
    verdict_scale = {"domain": list(marks), "range": [COLOURS[colour] for colour, _ in marks.values()]}
    shape_scale = {"domain": list(marks), "range": [shape for _, shape in marks.values()]}
    x, y = (
        {
            "field": field,
            "type": "quantitative",
            "title": f"largest {field} difference, in sd of retraining",
            "scale": {"type": "sqrt", "domain": [0, top], "nice": False},
            "axis": {"values": [0, 0.5, 1, 2, 3, 5, 10, 20, 50], "format": "~r", "offset": 12, "grid": False},
        }
        for field, top in (("forgetting", x_top), ("utility", y_top))
    )
    lx, ly = {**x, "field": "x"}, {**y, "field": "y"}
    size: dict[str, Any] = {"value": 110}
    if costs_known:
        size = {
            "field": "cost",
            "type": "quantitative",
            "title": "time, as a share of retraining's",
            "scale": {"type": "sqrt", "range": [70, 420], "zero": True},
            "legend": {
                "format": ".0%",
                "values": _size_ticks(points),
                "symbolFillColor": COLOURS["none"],
                "symbolType": "circle",
                "orient": "bottom",
                "direction": "horizontal",
            },
        }

    def arranged(width: int, height: int, labels: Sequence[Mapping[str, Any]], **legend: Any) -> dict[str, Any]:
        layers = [
            {
                "data": {"values": [{"x": 0, "y": 0, "x1": _USUAL, "y1": _USUAL}]},
                "mark": {"type": "rect", "color": COLOURS["gold"], "opacity": 0.16},
                "encoding": {"x": lx, "y": ly, "x2": {"field": "x1"}, "y2": {"field": "y1"}},
            },
            {
                "data": {"values": [label for label in labels if label["is_far"]]},
                "mark": {"type": "rule", "color": COLOURS["muted"], "opacity": 0.45, "strokeWidth": 0.8},
                "encoding": {"x": {**x, "field": "x0"}, "y": {**y, "field": "y0"}, "x2": {"field": "x"}, "y2": {"field": "y"}},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.9, "stroke": COLOURS["surface"], "strokeWidth": 0.8},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": size,
                    "color": {"field": "verdict", "type": "nominal", "scale": verdict_scale, "title": None},
                    "shape": {"field": "verdict", "type": "nominal", "scale": shape_scale, "title": None},
                },
            },
            {
                "data": {"values": [{"x": 0, "y": _USUAL, "text": "retrained models"}]},
                "mark": {"type": "text", "align": "left", "dx": 6, "dy": 9, "color": COLOURS["muted"], "fontStyle": "italic"},
                "encoding": {"x": lx, "y": ly, "text": {"field": "text"}},
            },
            {
                "data": {"values": labels},
                "mark": {"type": "text", "baseline": "middle", "align": "center"},
                "encoding": {"x": lx, "y": ly, "text": {"field": "method"}},
            },
            {
                "data": {"values": [{"x": 0, "y": 0, "text": "retraining"}]},
                "mark": {
                    "type": "point",
                    "shape": "diamond",
                    "filled": True,
                    "size": 240,
                    "color": COLOURS["gold"],
                    "opacity": 1,
                },
                "encoding": {"x": lx, "y": ly},
            },
            {
                "data": {"values": [{"x": 0, "y": 0, "text": "retraining"}]},
                "mark": {"type": "text", "align": "left", "dx": 14, "dy": -9, "fontWeight": 600},
                "encoding": {"x": lx, "y": ly, "text": {"field": "text"}},
            },
        ]
        spec = base(points, width=width, height=height, layer=layers)
        spec["config"] = {**CONFIG, "legend": {**CONFIG["legend"], **legend}}
        return spec

    named, named_narrow = (_names(points, x_top, y_top, *size) for size in (_WIDE, _NARROW))
    n_unnamed = len(points) - len(named)
    best = judged[0]
    return Figure(
        "tradeoff",
        "Forgetting against utility",
        "The mean of the retrained models is at the origin; the nearer, the better. Each axis shows the largest difference by any value, "
        "in standard deviations of a retrained model. The shaded square ends at two of them; by which values a method really differs is "
        "decided by the test. "
        + ("Larger marks cost more time. " if costs_known else "")
        + (
            f"{n_unnamed} without room for {'its name is' if n_unnamed == 1 else 'their names are'} in the data. "
            if n_unnamed
            else ""
        )
        + counted(len(points), len(judged)).strip(),
        f"Scatter plot of {len(points)} methods. The nearest to retraining is {best.label}.",
        arranged(*_WIDE, named),
        points,
        section="overview",
        in_notebooks=True,
        narrow=arranged(*_NARROW, named_narrow, columns=2, direction="horizontal"),
    )


def _names(points: Sequence[Mapping[str, Any]], x_top: float, y_top: float, width: int, height: int) -> list[dict[str, Any]]:
    """Where the names of points stand, those for which there is room."""
    labelled = points[:MAX_LINES]
    spots = [(width * math.sqrt(p["forgetting"] / x_top), height * (1 - math.sqrt(p["utility"] / y_top))) for p in labelled]
    places = place_labels(
        spots,
        [p["method"][:LONGEST] for p in labelled],
        width,
        height,
        taken=[(0.0, float(height), 110.0, 18.0), (0.0, height * (1 - math.sqrt(_USUAL / y_top)) + 16.0, 75.0, 16.0)],
    )
    return [
        {
            "method": p["method"],
            "x": x_top * (place.x / width) ** 2,
            "y": y_top * max(0.0, 1 - place.y / height) ** 2,
            "x0": p["forgetting"],
            "y0": p["utility"],
            "is_far": place.is_far,
        }
        for p, place in zip(labelled, places, strict=True)
        if place.is_clear
    ]


def _size_ticks(points: Iterable[Mapping[str, Any]]) -> list[float]:
    top = max(p["cost"] or 0.0 for p in points)
    return [tick for tick in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if tick <= max(top * 1.1, 0.01)][-3:]


def _dot(measure: str, row: Row) -> dict[str, Any]:
    return {"measure": measure, "method": row.label, "seed": row.seed_train, "value": row.value, "kind": "value"}


def seeds(rows: Sequence[Row], order: Sequence[str]) -> Figure | None:
    """Every value of the headline measures: a dot for each repetition, gold as a line, its noise floor as a band."""
    methods = list(order)[:MAX_LINES]
    kept = set(methods)
    by_measure: dict[str, list[Row]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    alone: dict[str, list[tuple[float, float]]] = {}  # without further golds
    named: dict[tuple[str, str], tuple[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if row.gap is None or row.gold is None or row.value is None or row.partition == "":
            continue
        column = (row.measure, row.partition)
        if column not in named:  # there may be hundreds of thousands of rows
            name = f"{row.measure}, {row.partition}"
            named[column] = name, bands.setdefault(name, [])
        name, band = named[column]
        if row.noise_floor is not None:
            band.append((row.gold, row.noise_floor))
        elif not band:
            alone.setdefault(name, []).append((row.gold, 0.0))
        if row.model_role == "unlearned" and row.label in kept:
            by_measure.setdefault(name, []).append(row)
    names = list(by_measure)[:8]
    if not names:
        return None
    records = {name: [_dot(name, row) for row in by_measure[name]] for name in names}
    data = [record for own in records.values() for record in own]
    most = max(_FEWEST_DOTS, MAX_DOTS // (len(names) * len(methods)))
    is_thinned = False
    drawn: list[dict[str, Any]] = []
    for name in names:
        low, high = -math.inf, math.inf
        golds = bands[name] or alone.get(name)
        if golds:
            gold, floor = (math.fsum(part) / len(part) for part in zip(*golds, strict=True))
            low, high = _reach([record["value"] for record in records[name]], gold, floor)
            drawn.append({"measure": name, "kind": "gold", "value": gold, "low": gold - floor, "high": gold + floor})
        dots = spread(records[name], "value", lambda record: record["method"], most)
        is_thinned = is_thinned or len(dots) < len(records[name])
        for dot in dots:
            side = "below" if dot["value"] < low else "above" if dot["value"] > high else "within"
            drawn.append({**dot, "value": min(max(dot["value"], low), high), "side": side})
    heights = {name: at for at, name in Axis.of_names("at", methods).ticks.items()}
    has_outside = any(record.get("side") in {"below", "above"} for record in drawn)
    references = [record for record in drawn if record["kind"] == "gold"]
    dots = [{**record, "panel": record["measure"], "at": heights[record["method"]]} for record in drawn if "method" in record]
    axes = {
        name: Axis.around(
            "value", (r[end] for r in drawn for end in ("value", "low", "high") if r["measure"] == name and end in r)
        )
        for name in names
    }
    shape: dict[str, Any] = {"field": "side", "type": "nominal", "legend": None}
    shape["scale"] = {"domain": ["within", "below", "above"], "range": ["circle", "triangle-left", "triangle-right"]}
    layers = [
        {
            "values": [
                {"panel": record["measure"], "value": record[end], "at": at}
                for record in references
                for end, at in (("low", 0), ("low", len(methods)), ("high", len(methods)), ("high", 0))
            ],
            "mark": filled("gold", 0.18),
        },
        {
            "values": [{"panel": r["measure"], "value": r["value"], "at": at} for r in references for at in (0, len(methods))],
            "mark": {"type": "line", "color": COLOURS["gold"], "strokeWidth": 2},
        },
        {
            "values": dots,
            "mark": {"type": "point", "filled": True, "size": 46, "color": COLOURS["retain"], "opacity": 0.75},
            "encoding": {"shape": shape},
        },
    ]

    def arranged(columns: int, width: int) -> dict[str, Any]:
        return Panels(names, axes, Axis.of_names("at", methods), columns, (width, STEP * len(methods)), AT_COMMA).spec(layers)

    columns = min(len(names), 4)
    repetitions = len({row.seed_train for row in rows})
    said = f"one dot for each of {repetitions} repetitions" if repetitions > 1 else "one repetition"
    if is_thinned:
        said = f"{most} dots for each method, evenly from its smallest to its largest value in {repetitions} repetitions"
    band_said = ", the band how far further ones are from it at most" if any(bands[name] for name in names) else ""
    return Figure(
        "values",
        "Every value beside retraining",
        f"The line is the retrained model shown{band_said}; {said}. Whether a method differs is decided by the test and not by "
        f"the {'band' if band_said else 'distance'}."
        + (" A triangle is a value farther off than the axis reaches." if has_outside else "")
        + counted(len(methods), len(order)),
        f"Dot plot of {len(methods)} methods by {len(names)} measures; the same values are in the table of results.",
        arranged(columns, max(110, (560 - 8 * columns) // columns)),
        data,
        section="overview",
        in_notebooks=True,
        narrow=arranged(1, 190),
    )


def _reach(values: Sequence[float], gold: float, floor: float) -> tuple[float, float]:
    """How far an axis goes, so that a few values far off do not press all others into a line."""
    distances = sorted(abs(value - gold) for value in values)
    usual = distances[(3 * (len(distances) - 1)) // 4]
    reach = max(2.5 * usual, 4 * floor)
    return (gold - reach, gold + reach) if reach > 0 else (-math.inf, math.inf)
