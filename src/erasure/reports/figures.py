"""What a figure is, and the figures about verdicts: trade-off, values by seed, cost, sensitivity, trace.

Every function is pure: numbers in, a figure out. A figure carries its data, which is also what is exported as CSV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erasure.reports.folder import TracePoint
from erasure.reports.labels import LONGEST, place_labels
from erasure.reports.theme import COLOURS, CONFIG, VERDICT_MARKS
from erasure.reports.verdicts import TITLES, Judgement
from erasure.store.rows import Row

__all__ = ["MOST_PANELS", "STEP", "TWO_LINES", "Figure", "base", "costs", "seeds", "sensitivity", "trace", "tradeoff"]

MOST_PANELS = 24
"""Methods that get a panel of their own."""
_MOST_LINES = 40
TWO_LINES: Mapping[str, Any] = {"labelExpr": "split(datum.label, ', ')", "labelFontSize": 11.5, "labelLimit": 165}
"""A header of a measure above its partition."""
_MOST_DOTS = 3000
"""Repetitions that a figure draws as dots; of more, some of each method."""
_FEWEST_DOTS = 5
_ROOM = 1.22
"""Length of an axis of bars over its longest bar, for the number behind it."""
_WIDE = 8.0
"""Ratio of the ends of a parameter from which its axis is logarithmic."""
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
STEP = 19
"""Height of a line in pixels."""


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
    """

    key: str
    title: str
    caption: str
    alt: str
    spec: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"application/vnd.vegalite.v5+json": dict(self.spec), "text/plain": f"{self.title}: {self.alt}"}


def base(data: Sequence[Mapping[str, Any]], **spec: Any) -> dict[str, Any]:
    """A specification with our theme and its data."""
    return {"$schema": _SCHEMA, "config": dict(CONFIG), "data": {"values": [dict(record) for record in data]}, **spec}


def _counted(shown: int, total: int, what: str = "methods") -> str:
    return f" The {shown} best of {total} {what} are shown." if shown < total else ""


def tradeoff(judgements: Sequence[Judgement], *, narrow: bool = False) -> Figure | None:
    """How far each method is from gold where it should forget, against how far where it should not."""
    width, height = (330, 330) if narrow else (640, 400)
    judged = sorted((j for j in judgements if math.isfinite(j.distance) and not j.is_exact), key=lambda j: j.rank)
    points: list[dict[str, Any]] = [
        {
            "method": j.label,
            "forgetting": min(j.worst("forgetting") or 0.0, 50.0),
            "utility": min(j.worst("utility") or 0.0, 50.0),
            "cost": j.cost,
            "verdict": TITLES[j.verdict],
        }
        for j in judged[: 2 * _MOST_LINES]
    ]
    if not points:
        return None
    x_top, y_top = (max(1.6, *(p[axis] * 1.15 for p in points)) for axis in ("forgetting", "utility"))
    costs_known = any(p["cost"] is not None for p in points)
    marks = {TITLES[j.verdict]: VERDICT_MARKS[j.verdict] for j in judged}
    verdict_scale = {"domain": list(marks), "range": [COLOURS[colour] for colour, _ in marks.values()]}
    shape_scale = {"domain": list(marks), "range": [shape for _, shape in marks.values()]}
    x, y = (
        {
            "field": field,
            "type": "quantitative",
            "title": f"{field} gap to retraining, in noise floors",
            "scale": {"type": "sqrt", "domain": [0, top], "nice": False},
            "axis": {"values": [0, 0.5, 1, 2, 3, 5, 10, 20, 50], "format": "~r", "offset": 12, "grid": False},
        }
        for field, top in (("forgetting", x_top), ("utility", y_top))
    )
    labelled = points[:_MOST_LINES]
    spots = [(width * math.sqrt(p["forgetting"] / x_top), height * (1 - math.sqrt(p["utility"] / y_top))) for p in labelled]
    places = place_labels(
        spots,
        [p["method"][:LONGEST] for p in labelled],
        width,
        height,
        taken=[(0.0, float(height), 110.0, 18.0), (0.0, height * (1 - math.sqrt(min(1, y_top) / y_top)) + 16.0, 75.0, 16.0)],
    )
    labels = [
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
    n_unnamed = len(points) - len(labels)
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
    layers = [
        {
            "data": {"values": [{"x": 0, "y": 0, "x1": min(1, x_top), "y1": min(1, y_top)}]},
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
            "data": {"values": [{"x": 0, "y": min(1, y_top), "text": "noise floor"}]},
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
            "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 240, "color": COLOURS["gold"], "opacity": 1},
            "encoding": {"x": lx, "y": ly},
        },
        {
            "data": {"values": [{"x": 0, "y": 0, "text": "retraining"}]},
            "mark": {"type": "text", "align": "left", "dx": 14, "dy": -9, "fontWeight": 600},
            "encoding": {"x": lx, "y": ly, "text": {"field": "text"}},
        },
    ]
    best = judged[0]
    legend = {"legend": {**CONFIG["legend"], "columns": 2, "direction": "horizontal"}} if narrow else {}
    spec = base(points, width=width, height=height, layer=layers)
    spec["config"] = {**CONFIG, **legend}
    return Figure(
        "tradeoff",
        "Forgetting against utility",
        "Retraining is at the origin; the nearer, the better. Each axis shows the largest gap to retraining, measured in noise "
        "floors: models that were retrained from other seeds are up to 1 apart, which is the shaded square. "
        + ("Larger marks cost more time. " if costs_known else "")
        + (
            f"{n_unnamed} without room for {'its name is' if n_unnamed == 1 else 'their names are'} in the data. "
            if n_unnamed
            else ""
        )
        + _counted(len(points), len(judged)).strip(),
        f"Scatter plot of {len(points)} methods. The nearest to retraining is {best.label}.",
        spec,
        points,
    )


def _size_ticks(points: Iterable[Mapping[str, Any]]) -> list[float]:
    top = max(p["cost"] or 0.0 for p in points)
    return [tick for tick in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0) if tick <= max(top * 1.1, 0.01)][-3:]


def seeds(rows: Sequence[Row], order: Sequence[str], *, narrow: bool = False) -> Figure | None:
    """Every value of the headline measures: a dot for each repetition, gold as a line, its noise floor as a band."""
    methods = list(order)[:_MOST_LINES]
    kept = set(methods)
    by_measure: dict[str, list[dict[str, Any]]] = {}
    bands: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.gap is None or row.gold is None or row.value is None or row.partition == "":
            continue
        name = f"{row.measure}, {row.partition}"
        if row.floor is not None:
            bands.setdefault(name, []).append((row.gold, row.floor))
        if row.model == "unlearned" and row.label in kept:
            record: dict[str, Any] = {
                "measure": name,
                "method": row.label,
                "seed": row.seed_train,
                "value": row.value,
                "kind": "value",
            }
            by_measure.setdefault(name, []).append(record)
    names = list(by_measure)[:8]
    if not names:
        return None
    data = [record for name in names for record in by_measure[name]]
    most = max(_FEWEST_DOTS, _MOST_DOTS // (len(names) * len(methods)))
    is_thinned = False
    drawn: list[dict[str, Any]] = []
    for name in names:
        low, high = -math.inf, math.inf
        if bands.get(name):
            gold, floor = (math.fsum(part) / len(part) for part in zip(*bands[name], strict=True))
            low, high = _reach([record["value"] for record in by_measure[name]], gold, floor)
            drawn.append({"measure": name, "kind": "gold", "value": gold, "low": gold - floor, "high": gold + floor})
        dots = _spread(by_measure[name], "value", lambda record: record["method"], most)
        is_thinned = is_thinned or len(dots) < len(by_measure[name])
        for dot in dots:
            side = "below" if dot["value"] < low else "above" if dot["value"] > high else "within"
            drawn.append({**dot, "value": min(max(dot["value"], low), high), "side": side})
    has_outside = any(record.get("side") in {"below", "above"} for record in drawn)
    columns = 1 if narrow else min(len(names), 4)
    width = 190 if narrow else max(110, (560 - 8 * columns) // columns)
    of_kind = [{"transform": [{"filter": f"datum.kind == '{kind}'"}]} for kind in ("gold", "gold", "value")]
    method = {"field": "method", "type": "nominal", "sort": methods, "title": None, "scale": {"domain": methods}}
    value = {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False, "padding": 8}}
    value["axis"] = {"tickCount": 3, "labelOverlap": True, "labelSeparation": 8}
    shape: dict[str, Any] = {"field": "side", "type": "nominal", "legend": None}
    shape["scale"] = {"domain": ["within", "below", "above"], "range": ["circle", "triangle-left", "triangle-right"]}
    spec = base(
        drawn,
        facet={"field": "measure", "type": "nominal", "sort": names, "title": None, "header": TWO_LINES},
        columns=columns,
        spacing={"column": 14, "row": 24},
        resolve={"scale": {"x": "independent"}},
        spec={
            "width": width,
            "height": {"step": STEP},
            "layer": [
                {
                    **of_kind[0],
                    "mark": {"type": "rect", "color": COLOURS["gold"], "opacity": 0.18},
                    "encoding": {"x": {**value, "field": "low"}, "x2": {"field": "high"}},
                },
                {
                    **of_kind[1],
                    "mark": {"type": "rule", "color": COLOURS["gold"], "strokeWidth": 2},
                    "encoding": {"x": value},
                },
                {
                    **of_kind[2],
                    "mark": {"type": "point", "filled": True, "size": 46, "color": COLOURS["retain"], "opacity": 0.75},
                    "encoding": {"x": value, "y": method, "shape": shape},
                },
            ],
        },
    )
    repetitions = len({row.seed_train for row in rows})
    said = f"one dot for each of {repetitions} repetitions" if repetitions > 1 else "one repetition; run more with --seeds"
    if is_thinned:
        said = f"{most} dots for each method, evenly from its smallest to its largest value in {repetitions} repetitions"
    return Figure(
        "values",
        "Every value beside retraining",
        f"The line is the retrained model, the band how far apart retrained models are by chance; {said}."
        + (" A triangle is a value farther off than the axis reaches." if has_outside else "")
        + _counted(len(methods), len(order)),
        f"Dot plot of {len(methods)} methods by {len(names)} measures; the same values are in the table of results.",
        spec,
        data,
    )


def _spread(
    records: Iterable[Mapping[str, Any]], value: str, cell: Callable[[Mapping[str, Any]], Hashable], most: int
) -> list[Mapping[str, Any]]:
    """At most so many records of each cell, evenly from its smallest value to its largest."""
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


def _reach(values: Sequence[float], gold: float, floor: float) -> tuple[float, float]:
    """How far an axis goes, so that a few values far off do not press all others into a line."""
    distances = sorted(abs(value - gold) for value in values)
    usual = distances[(3 * (len(distances) - 1)) // 4]
    reach = max(2.5 * usual, 4 * floor)
    return (gold - reach, gold + reach) if reach > 0 else (-math.inf, math.inf)


def costs(
    models: Sequence[Mapping[str, Any]], rows: Sequence[Row], order: Sequence[str], *, narrow: bool = False
) -> Figure | None:
    """Time, one-off work apart, memory, and operations if they were counted; the mean over repetitions."""
    shown = ["original", "gold", *list(order)[:_MOST_LINES]]
    found: dict[tuple[str, str, str], list[float]] = {}
    parts = (("elapsed_s", "time [s]", "each request"), ("precompute_s", "time [s]", "once, in advance"))
    for model in models:
        for field, quantity, part in (*parts, ("peak_memory_mib", "peak memory [MiB]", "each request")):
            if model.get(field) is not None:
                name = model["role"] if model["role"] != "unlearned" else model["label"]
                found.setdefault((name, quantity, part), []).append(model[field])
    for row in rows:
        if "flop" in row.measure.lower() and row.value is not None:
            name = row.label if row.model == "unlearned" else row.model
            found.setdefault((name, f"{row.measure} [{row.unit or 'operations'}]", "each request"), []).append(row.value)
    data: list[dict[str, Any]] = [
        {"model": name, "quantity": quantity, "part": part, "value": math.fsum(values) / len(values)}
        for (name, quantity, part), values in found.items()
        if name in set(shown)
    ]
    if not data:
        return None
    totals: dict[tuple[str, str], float] = {}
    for record in data:
        key = (record["model"], record["quantity"])
        totals[key] = totals.get(key, 0.0) + record["value"]
    data = [{**record, "total": totals[record["model"], record["quantity"]]} for record in data]
    quantities = list(dict.fromkeys(record["quantity"] for record in data))
    columns = 1 if narrow else min(2, len(quantities))
    width = 200 if narrow else 560 // columns - 30
    brief = "datum.value >= 10000 ? format(datum.value, '~s') : datum.label"
    axis = {
        "axis": {"tickCount": 3, "labelOverlap": True, "labelSeparation": 8, "labelExpr": brief},
        "scale": {"nice": False, "zero": True},
        "title": None,
    }
    y = {"field": "model", "type": "nominal", "sort": shown, "title": None}
    colour = {
        "field": "part",
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["each request", "once, in advance"], "range": [COLOURS["retain"], COLOURS["gold"]]},
    }
    spec = base(
        data,
        facet={"field": "quantity", "type": "nominal", "sort": quantities, "title": None},
        columns=columns,
        spacing={"column": 20, "row": 24},
        resolve={"scale": {"x": "independent"}},
        spec={
            "width": width,
            "height": {"step": STEP},
            "layer": [
                {
                    "mark": {"type": "bar", "height": 12, "cornerRadiusEnd": 2},
                    "encoding": {
                        "x": {"field": "value", "type": "quantitative", "stack": "zero", **axis},
                        "y": y,
                        "color": colour,
                        "order": {"field": "part", "sort": "ascending"},
                    },
                },
                {
                    "transform": [{"calculate": f"{_ROOM} * datum.total", "as": "room"}],
                    "mark": {"type": "point", "opacity": 0, "color": COLOURS["muted"]},
                    "encoding": {"x": {"field": "room", "type": "quantitative", **axis}, "y": y},
                },
                {
                    "transform": [
                        {"filter": "datum.part == 'each request'"},
                        {"calculate": "format(datum.total, datum.total >= 10000 ? '.3~s' : '.3~g')", "as": "said"},
                    ],
                    "mark": {"type": "text", "align": "left", "dx": 4, "color": COLOURS["muted"]},
                    "encoding": {
                        "x": {"field": "total", "type": "quantitative", **axis},
                        "y": y,
                        "text": {"field": "said", "type": "nominal"},
                    },
                },
            ],
        },
    )
    return Figure(
        "costs",
        "What it costs",
        "Time of making each model, work that is done once in advance apart, and the largest memory of the process meanwhile. "
        "Times compare only on one machine." + _counted(len(shown) - 2, len(order)),
        "Bars of time and memory for each model; the numbers are in the data table.",
        spec,
        data,
    )


def sensitivity(
    models: Sequence[Mapping[str, Any]],
    judgements: Sequence[Judgement],
    repeated: Mapping[str, Sequence[Judgement]] | None = None,
    *,
    only: Collection[str] | None = None,
    name: str = "",
    narrow: bool = False,
) -> Figure | None:
    """Gaps to gold over every numeric parameter in which settings of one method differ.

    Args:
        models: What a run kept of its models.
        judgements: Verdict on each setting.
        repeated: The same of each repetition alone, by label; a dot for each.
        only: Parameters to show; all by default.
        name: What to add to the figure's title.
        narrow: For a phone.
    """
    by_label = {j.label: j for j in judgements}
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for model in models:
        if (
            model["role"] == "unlearned"
            and not model.get("exact")
            and math.isfinite(by_label[model["label"]].distance if model["label"] in by_label else math.inf)
        ):
            settings.setdefault(model["key"], {})[model["label"]] = model["parameters"]
    data: list[dict[str, Any]] = []
    scales: dict[str, str] = {}
    for key, labels in settings.items():
        names = dict.fromkeys(each for parameters in labels.values() for each in parameters)
        for parameter in names:
            if only is not None and parameter not in only:
                continue
            values = [parameters.get(parameter) for parameters in labels.values()]
            numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            if len(labels) < 2 or not numeric or len(set(values)) < 2:
                continue
            panel = f"{key}: {_last_words(parameter, names)}"
            numbers = [float(v) for v in values if v is not None]
            scales[panel] = "log" if min(numbers) > 0 and max(numbers) / min(numbers) >= _WIDE else "linear"
            for label, parameters in labels.items():
                each = [(None, by_label[label]), *enumerate((repeated or {}).get(label, ()))]
                for repetition, judgement in each:
                    for question in ("forgetting", "utility"):
                        gap = judgement.worst("forgetting" if question == "forgetting" else "utility")
                        if gap is not None:
                            record = {"panel": panel, "method": label, "parameter": parameters[parameter]}
                            kind = "mean" if repetition is None else "repetition"
                            data.append(record | {"question": question, "kind": kind, "gap": min(gap, 50.0)})
    panels = list(dict.fromkeys(record["panel"] for record in data))[:12]
    data = [record for record in data if record["panel"] in set(panels)]
    if not data:
        return None
    colours = {"domain": ["forgetting", "utility"], "range": [COLOURS["forget"], COLOURS["retain"]]}
    panel_specs = []
    n_cells = len({(record["panel"], record["method"], record["question"]) for record in data})
    dots = _spread(
        (record for record in data if record["kind"] == "repetition"),
        "gap",
        lambda record: (record["panel"], record["method"], record["question"]),
        max(2, _MOST_DOTS // n_cells),
    )
    for panel in panels:
        own: list[Mapping[str, Any]] = [r for r in data if r["panel"] == panel and r["kind"] == "mean"]
        own += [record for record in dots if record["panel"] == panel]
        ticks = sorted({record["parameter"] for record in own})
        x: dict[str, Any] = {
            "field": "parameter",
            "type": "quantitative",
            "title": panel,
            "scale": {"type": scales[panel], "zero": False, "padding": 12, "nice": False},
            "axis": {"values": ticks, "format": "~g", "grid": False, "labelOverlap": True, "labelSeparation": 8}
            if len(ticks) <= 8
            else {"tickCount": 4},
        }
        y: dict[str, Any] = {"field": "gap", "type": "quantitative", "title": "gap, in noise floors"}
        y["scale"] = {"type": "sqrt", "nice": False, "domain": [0, max(1.6, *(1.1 * record["gap"] for record in own))]}
        y["axis"] = {"values": [0, 1, 3, 10, 30, 50], "format": "~r", "labelOverlap": False}
        colour = {"field": "question", "type": "nominal", "scale": colours, "title": None, "legend": {"symbolOpacity": 1}}
        panel_specs.append(
            {
                "data": {"values": own},
                "width": 250 if narrow else 240,
                "height": 150,
                "layer": [
                    {
                        "data": {"values": [{}]},
                        "mark": {"type": "rule", "color": COLOURS["gold"], "strokeWidth": 2, "strokeDash": [4, 3]},
                        "encoding": {"y": {"datum": 1}},
                    },
                    {
                        "transform": [{"filter": "datum.kind == 'repetition'"}],
                        "mark": {"type": "point", "filled": True, "size": 22, "opacity": 0.45},
                        "encoding": {"x": x, "y": y, "color": colour},
                    },
                    {
                        "transform": [{"filter": "datum.kind == 'mean'"}],
                        "mark": {"type": "line", "point": {"filled": True, "size": 55}, "strokeWidth": 1.8},
                        "encoding": {
                            "x": x,
                            "y": {**y, "aggregate": "mean"},
                            "color": colour,
                            "strokeDash": {"field": "question", "type": "nominal", "legend": None},
                        },
                    },
                ],
            }
        )
    spec = base([], concat=panel_specs, columns=1 if narrow else 2, spacing={"column": 36, "row": 26})
    del spec["data"]
    n_repetitions = sum(record["kind"] == "repetition" for record in data)
    said = " Small dots are single repetitions" + (", not all of them." if len(dots) < n_repetitions else ".") if dots else ""
    return Figure(
        "sensitivity",
        f"Sensitivity to hyper-parameters{f' {name}' if name else ''}",
        "Largest gap to retraining of each setting; below the dashed line a gap is within the noise floor."
        + said
        + " Where several parameters vary at once, a line shows the mean.",
        f"Line plots of the gap over {len(panels)} parameters.",
        spec,
        data,
    )


def _last_words(path: str, others: Iterable[str]) -> str:
    """The end of a parameter's path, with as many words as tell it from the others."""
    words = path.split(".")
    for n in range(1, len(words)):
        end = "." + ".".join(words[-n:])
        if not any(other != path and f".{other}".endswith(end) for other in others):
            return end[1:]
    return path


def trace(points: Sequence[TracePoint], order: Sequence[str], *, narrow: bool = False) -> Figure | None:
    """What was measured after each epoch of unlearning; gold dashed."""
    traced = {point.label for point in points if point.epoch > 0}
    methods = [label for label in order if label in traced][:MOST_PANELS]
    first_seed = next((point.seed for point in points), "")
    data = []
    for point in points:
        if point.seed == first_seed and point.label in set(methods) and point.value is not None:
            series = f"{point.measure}, {point.partition}" if point.partition else point.measure
            data.append({"method": point.label, "epoch": point.epoch, "series": series, "value": point.value, "gold": point.gold})
    if not data:
        return None
    names = list(dict.fromkeys(record["series"] for record in data))
    palette = [COLOURS[name] for name in ("forget", "retain", "test", "over", "gold", "fourth", "none")]
    colour = {
        "field": "series",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": [palette[i % len(palette)] for i in range(len(names))]},
    }
    spec = base(
        data,
        facet={"field": "method", "type": "nominal", "sort": methods, "title": None},
        columns=2 if narrow else 4,
        spec={
            "width": 125,
            "height": 100,
            "layer": [
                {
                    "mark": {"type": "line", "strokeDash": [4, 3], "opacity": 0.7, "strokeWidth": 1.3},
                    "encoding": {
                        "x": {
                            "field": "epoch",
                            "type": "quantitative",
                            "title": "epoch",
                            "axis": {"tickMinStep": 1, "tickCount": 4},
                        },
                        "y": {"field": "gold", "type": "quantitative", "title": None, "scale": {"zero": False}},
                        "color": colour,
                    },
                },
                {
                    "mark": {"type": "line", "point": {"filled": True, "size": 22}, "strokeWidth": 1.8},
                    "encoding": {
                        "x": {"field": "epoch", "type": "quantitative"},
                        "y": {"field": "value", "type": "quantitative"},
                        "color": colour,
                    },
                },
            ],
        },
    )
    return Figure(
        "trace",
        "While it unlearns",
        "After each epoch; epoch 0 is the original, the dashed line the retrained model." + _counted(len(methods), len(traced)),
        f"Line plots of {len(names)} values over the epochs of {len(methods)} methods.",
        spec,
        data,
    )
