"""Figures of what models do: distributions, membership curves, classes, layers. Pure functions, as in ``figures``."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from erasure.records.figure_records import Curve, Histograms, Layers, Roc, RocRange, Rocs, ValuesByName
from erasure.reports.figures.figure import MAX_PANELS, Figure, base
from erasure.reports.figures.panels import LEGEND_OFFSET, Axis, Panels, filled
from erasure.reports.figures.theme import COLOURS

__all__ = ["by_class", "distributions", "layers", "measured_rocs", "rocs"]

_MAX_LINES = 40
_GRID = 40
_FEW_CLASSES, _FEW_LAYERS = 3, 5
"""So many columns that a phone has room for their numbers."""


_ODDS = {-6.907: "0.1%", 0.0: "50%", 6.907: "99.9%"}
"""Log-odds that the axis of confidences names."""
_LOSSES = {1e-6: "10⁻⁶", 1e-4: "10⁻⁴", 1e-2: "0.01", 1.0: "1", 100.0: "100"}
"""Losses that their axis names."""
_RATES = {1e-4: "0.01%", 1e-3: "0.1%", 1e-2: "1%", 1e-1: "10%", 1.0: "100%"}
"""Shares that logarithmic axes name."""
_FLAT = 1e-9
_TWO_WORDS: Mapping[str, Any] = {"labelExpr": "split(datum.label, ' ')"}


def _panels(present: Sequence[str], order: Sequence[str], fixed: Sequence[str]) -> list[str]:
    known = set(present)
    first = [label for label in present if label in set(fixed)]
    return [*first, *[label for label in order if label in known and label not in set(first)]][: MAX_PANELS + len(first)]


def _left_out(shown: int, total: int) -> str:
    return f" The {shown} best of {total} models are shown." if shown < total else ""


def _steps(outline: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """The left ends of a histogram's bars, with their heights, where these change, and its right end."""
    changes = [point for i, point in enumerate(outline) if i == 0 or point[1] != outline[i - 1][1]]
    return [*changes, (end, outline[-1][1])] if outline else []


def _shares(top: float) -> dict[float, str]:
    """Two or more ticks of an axis of shares."""
    step = next((each for each in (0.5, 0.2, 0.1, 0.05, 0.02) if 2 * each <= top), 0.01)
    return {i * step: f"{100 * i * step:.0f}%" for i in range(int(top / step) + 1)}


def _bends(records: Sequence[Mapping[str, Any]], field: str) -> list[tuple[float, float]]:
    """Points of a curve on logarithmic axes, without those on the way between their neighbours."""
    points = [(record["fpr"], record[field]) for record in records]
    at = [(math.log(x), math.log(y)) for x, y in points]

    def is_bend(i: int) -> bool:
        (x0, y0), (x1, y1), (x2, y2) = at[i - 1 : i + 2]
        return abs((y1 - y0) * (x2 - x1) - (y2 - y1) * (x1 - x0)) > _FLAT

    return [point for i, point in enumerate(points) if i in {0, len(points) - 1} or is_bend(i)]


def _path(panel: str, points: Iterable[tuple[float, float]]) -> list[dict[str, Any]]:
    return [{"panel": panel, "fpr": x, "tpr": y} for x, y in points]


def distributions(
    histograms: Histograms,
    *,
    quantity: str,
    order: Sequence[str],
    roles: Mapping[str, str],
    gold: str | None,
) -> Figure | None:
    """Losses or confidences of forgotten, retained and held-out samples, a panel for each model, gold's forgotten ones behind.

    Args:
        histograms: Counts of each model's samples.
        quantity: ``loss`` or ``confidence``.
        order: Methods, best first.
        roles: ``forget``, ``retain`` or ``test`` for each partition.
        gold: Label of gold, if there is one.
    """
    edges, merged = histograms.edges, 2
    lefts = edges[:-1:merged]
    records: list[dict[str, Any]] = []
    reference: list[dict[str, Any]] = []
    for series in histograms.series:
        role = roles.get(series.partition)
        if role is None or not series.n:
            continue
        counts = [sum(series.counts[i : i + merged]) for i in range(0, len(series.counts), merged)]
        for left, count in zip(lefts, counts, strict=False):
            records.append({"model": series.label, "samples": role, "x": left, "share": count / series.n})
        if series.label == gold and role == "forget":
            reference = [{"x": left, "share": count / series.n} for left, count in zip(lefts, counts, strict=False)]
    present = list(dict.fromkeys(record["model"] for record in records))
    judged = set(order)
    panels = _panels(present, order, [label for label in present if label not in judged])
    kept = set(panels)
    shown = [record for record in records if record["model"] in kept]
    if not shown:
        return None
    names = {"forget": "forgotten", "retain": "retained", "test": "held out"}
    shown = [{**record, "samples": names[record["samples"]]} for record in shown]
    # One model that is sure of everything would flatten all others: higher bars are cut off.
    top = max(0.2, 3 * max((point["share"] for point in reference), default=0.0))
    top = min(top, max(record["share"] for record in shown) * 1.05)
    outlines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in shown:
        outlines.setdefault((record["model"], record["samples"]), []).append((record["x"], record["share"]))
    lines = [
        {"panel": model, "samples": samples, "x": x, "share": min(share, top)}
        for (model, samples), outline in outlines.items()
        for x, share in _steps(outline, edges[-1])
    ]
    shape = _steps([(point["x"], point["share"]) for point in reference], edges[-1])
    closed = [(edges[0], 0.0), *shape, (edges[-1], 0.0)] if shape else []
    shaded = [{"panel": panel, "x": x, "share": min(share, top)} for panel in panels for x, share in closed]
    along = _LOSSES if quantity == "loss" else _ODDS
    axes = (
        Axis(
            "x",
            {"type": "log" if quantity == "loss" else "linear", "domain": [edges[0], edges[-1]], "nice": False},
            {at: words for at, words in along.items() if edges[0] * 0.999 <= at <= edges[-1] * 1.001},
            is_ruled=False,
        ),
        Axis("share", {"domain": [0, top], "nice": False}, _shares(top)),
    )
    of_samples = {"field": "samples", "type": "nominal", "title": None}
    listed = list(names.values())
    spec = Panels.small(panels, *axes, height=0.62).spec(
        [
            {
                "values": shaded,
                "mark": {**filled("gold", 0.35), "interpolate": "step-after"},
            },
            {
                "values": lines,
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5},
                "encoding": {
                    "color": {
                        **of_samples,
                        "scale": {"domain": listed, "range": [COLOURS[role] for role in names]},
                        "legend": {"symbolType": "stroke", "offset": LEGEND_OFFSET},
                    },
                    "strokeDash": {**of_samples, "scale": {"domain": listed, "range": [[1, 0], [5, 2], [2, 2]]}},
                },
            },
        ]
    )
    what = {
        "loss": "Loss of each sample, on a logarithmic axis",
        "confidence": "Probability that the model gives to the right label (per token of the true answer, where answers are learned)",
    }
    return Figure(
        quantity,
        {"loss": "Losses", "confidence": "Confidence"}[quantity],
        f"{what[quantity]}. The shaded area is the retrained model on the forgotten samples: where the line of the forgotten "
        "samples follows it, the method treats them as retraining does. Very high bars are cut off."
        + _left_out(len(panels), len(present)),
        f"Histograms for {len(panels)} models of forgotten, retained and held-out samples.",
        spec,
        shown,
    )


def rocs(curves: Rocs, order: Sequence[str], *, key: str = "roc", name: str = "Loss attack") -> Figure | None:
    """How well an attack finds the forgotten samples, on logarithmic axes, beside what it reaches on retrained models.

    Args:
        curves: The curve of each model, with the range of golds.
        order: Methods, best first.
        key: Name of the figure.
        name: Name of the attack.
    """
    fpr = curves.fpr
    series = {each.label: each for each in curves.series}
    judged = set(order)
    panels = _panels(list(series), order, [label for label in series if label not in judged])
    least = max(min((value for value in fpr if value > 0), default=1e-3), 1e-4)
    records: list[dict[str, Any]] = []
    for panel in panels:
        each, gold = series[panel], curves.gold
        for i, at in enumerate(fpr):
            if at < least:
                continue
            record: dict[str, Any] = {"model": panel, "fpr": at, "tpr": each.tpr[i], "chance": at}
            if each.low:
                record |= {"low": max(each.low[i], least), "high": max(each.high[i], least)}
            if gold:
                record |= {"gold_low": max(gold.low[i], least), "gold_high": max(gold.high[i], least)}
            records.append(record)
    if not records:
        return None
    scale = {"type": "log", "domain": [least, 1], "nice": False}
    ticks = {at: words for at, words in _RATES.items() if at >= least * 0.99}
    by_panel: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_panel.setdefault(record["model"], []).append({**record, "tpr": max(record["tpr"], least)})
    gold_band: list[dict[str, Any]] = []
    own_band: list[dict[str, Any]] = []
    chance, line = [], []
    for panel, own in by_panel.items():
        for band, low, high in ((gold_band, "gold_low", "gold_high"), (own_band, "low", "high")):
            if low in own[0]:
                band += _path(panel, [*_bends(own, high), *reversed(_bends(own, low))])
        chance += _path(panel, [(least, least), (1.0, 1.0)])
        line += _path(panel, _bends(own, "tpr"))
    drawn = (
        (gold_band, filled("gold", 0.4)),
        (own_band, filled("forget", 0.14)),
        (chance, {"type": "line", "color": COLOURS["muted"], "strokeDash": [3, 3], "strokeWidth": 1}),
        (line, {"type": "line", "color": COLOURS["forget"], "strokeWidth": 1.8}),
    )
    spec = Panels.small(panels, Axis("fpr", scale, ticks), Axis("tpr", scale, ticks), height=0.9).spec(
        {"values": values, "mark": mark} for values, mark in drawn if values
    )
    return Figure(
        key,
        f"Membership: {name.removesuffix(' AUC')}",
        "Share of the forgotten samples that the attack finds (upwards) at each share of false alarms (to the right), both on "
        "logarithmic axes. Dashed: guessing. Light band: 95 % interval over samples, or the range over repetitions. Yellow band: "
        "what the attack reaches on retrained models; forgetting is complete where the line stays within."
        + _left_out(len(panels), len(series)),
        f"ROC curves of {len(panels)} models.",
        spec,
        records,
    )


def measured_rocs(curves: Sequence[Curve], golds: Sequence[Curve] = ()) -> dict[str, Rocs]:
    """ROC curves that measures brought, by measure: the mean over repetitions, with a band, and the range that golds have apart.

    The band is the range over repetitions; of a single one, the 95 % interval over its samples.

    Args:
        curves: Those of all models.
        golds: Those of further golds, which widen the range of golds.
    """
    by_measure: dict[str, dict[tuple[str, str], list[list[float]]]] = {}
    sizes: dict[tuple[str, str], int] = {}
    every = [curve for curve in (*curves, *golds) if curve.kind == "roc" and len(curve.fpr) == len(curve.tpr) > 1]
    positive = [x for curve in every for x in curve.fpr if x > 0]
    grid = _log_grid(max(min(positive, default=1e-3), 1e-4))
    for curve in every:
        models = by_measure.setdefault(curve.measure, {})
        models.setdefault((curve.label, curve.role), []).append(_on_grid(curve.fpr, curve.tpr, grid))
        sizes[curve.measure, curve.label] = curve.n_members or 0
    found: dict[str, Rocs] = {}
    for measure, models in by_measure.items():
        series = []
        retrained = [each for (_, role), repeated in models.items() if role in {"gold", "further gold"} for each in repeated]
        for (label, role), repeated in models.items():
            if role == "further gold":
                continue
            columns = list(zip(*repeated, strict=True))
            mean, n = tuple(math.fsum(c) / len(c) for c in columns), sizes[measure, label]
            band: dict[str, Any] = {}
            if len(repeated) > 1:
                band = {"low": tuple(map(min, columns)), "high": tuple(map(max, columns))}
            elif n:
                ends = [_wilson(share, n) for share in mean]
                band = {"low": tuple(low for low, _ in ends), "high": tuple(high for _, high in ends)}
            series.append(Roc(label=label, tpr=mean, **band))
        ranges = list(zip(*retrained, strict=True))
        gold = RocRange(low=tuple(map(min, ranges)), high=tuple(map(max, ranges))) if retrained else None
        found[measure] = Rocs(fpr=tuple(grid), series=tuple(series), gold=gold)
    return found


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of ``n`` samples."""
    z = 1.959963984540054
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _log_grid(least: float) -> list[float]:
    return [least ** (1 - i / (_GRID - 1)) for i in range(_GRID)]


def _on_grid(fpr: Sequence[float], tpr: Sequence[float], grid: Sequence[float]) -> list[float]:
    """The highest true-positive rate at no more than each false-positive rate."""
    pairs = sorted(zip(fpr, tpr, strict=True))
    xs = [x for x, _ in pairs]
    return [pairs[i - 1][1] if (i := bisect_right(xs, at + 1e-12)) else 0.0 for at in grid]


def by_class(
    classes: ValuesByName,
    *,
    order: Sequence[str],
    gold: str,
    roles: Mapping[str, str],
    what: str = "class",
) -> Figure | None:
    """Accuracy of each class, or group, less gold's, on forgotten and on held-out samples."""
    values = {(row.label, row.partition): row.values for row in classes.rows}
    titles = {"forget": "forgotten samples", "test": "held-out samples", "retain": "retained samples"}
    wanted = [(p, role) for p, role in roles.items() if (gold, p) in values and role in {"forget", "test", "retain"}]
    wanted = sorted(wanted, key=lambda each: list(titles).index(each[1]))[:2]
    methods = [label for label in order if any((label, p) in values for p, _ in wanted)][:_MAX_LINES]
    names = _distinct(classes.names)
    effect = [0.0] * len(names)
    records: list[dict[str, Any]] = []
    for partition, role in wanted:
        reference = values[gold, partition]
        for label in methods:
            for k, (value, base_value) in enumerate(zip(values.get((label, partition), ()), reference, strict=False)):
                if value is None or base_value is None:
                    continue
                change = 100 * (value - base_value)
                effect[k] = max(effect[k], abs(change))
                record = {"model": label, what: names[k], "samples": titles[role], "accuracy": value, "gold": base_value}
                records.append({**record, "difference": change, "side": "more" if change > 0 else "less"})
    kept = sorted(sorted(range(len(names)), key=lambda k: -effect[k])[:30])
    columns = [names[k] for k in kept]
    records = [record for record in records if record[what] in set(columns)]
    if not records:
        return None
    top = max(10.0, *(abs(record["difference"]) for record in records))
    opacity = {"field": "size", "type": "quantitative", "scale": {"domain": [0, top], "range": [0.04, 1]}, "legend": None}
    x = {
        "field": what,
        "type": "nominal",
        "sort": columns,
        "title": what,
        "axis": {"labelAngle": -45 if _is_long(columns) else 0},
    }
    y = {"field": "model", "type": "nominal", "sort": methods, "title": None}
    sides = {"domain": ["more", "less"], "range": [COLOURS["forget"], COLOURS["retain"]]}
    panels = [titles[role] for _, role in wanted]

    def arranged(n_panels: int, *, numbered: bool) -> dict[str, Any]:
        layered: list[dict[str, Any]] = [
            {
                "mark": {"type": "rect", "stroke": COLOURS["grid"], "strokeWidth": 0.5},
                "encoding": {
                    "x": x,
                    "y": y,
                    "opacity": opacity,
                    "color": {"field": "side", "type": "nominal", "scale": sides, "title": "right answers, against retraining"},
                },
            }
        ]
        if numbered:
            layered.append(
                {
                    "transform": [{"filter": "datum.size >= 0.5"}],
                    "mark": {"type": "text", "fontSize": 9.5},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "text": {"field": "difference", "type": "quantitative", "format": "+.0f"},
                        "color": {
                            "condition": {"test": f"datum.size > {0.55 * top}", "value": COLOURS["surface"]},
                            "value": COLOURS["ink"],
                        },
                    },
                }
            )
        cell = 25 if numbered else max(9, min(22, 300 // len(columns)))
        return base(
            [{**record, "size": abs(record["difference"])} for record in records],
            facet={"field": "samples", "type": "nominal", "sort": panels, "title": None, "header": _TWO_WORDS},
            columns=n_panels,
            # Titles of the panels stand beside each other, however narrow these are.
            spacing={"column": max(16, 80 - cell * len(columns)), "row": 26},
            spec={"width": {"step": cell}, "height": {"step": 19}, "layer": layered},
        )

    return Figure(
        f"by_{what}",
        f"Effect on each {what}",
        f"Percentage points by which each model is right more (orange) or less often (blue) than the retrained model; pale means "
        f"equal.{f' The {len(columns)} {what} columns with the largest effect are shown.' if len(columns) < len(names) else ''}",
        f"Heat map of {len(methods)} methods by {len(columns)} {what} columns.",
        arranged(2, numbered=len(columns) <= 12),
        records,
        narrow=arranged(1, numbered=False) if len(columns) > _FEW_CLASSES else None,
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that are each used once; equal ones are numbered."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _is_long(names: Sequence[str]) -> bool:
    return max((len(name) for name in names), default=0) > 3


# Long names begin alike: what tells them apart is at their end.
_LAYERS: Mapping[str, Any] = {
    "labelAngle": -35,
    "labelExpr": "length(datum.label) > 22 ? '…' + slice(datum.label, -21) : datum.label",
}


def layers(changes: Layers, order: Sequence[str], *, gold: str | None) -> Figure | None:
    """Relative change of each layer's weights, method by method, gold first."""
    names = list(changes.names)
    values: Mapping[str, Sequence[float | None]] = {row.label: row.values for row in changes.rows}
    models = [*([gold] if gold in values else []), *[label for label in order if label in values]][:_MAX_LINES]
    records: list[dict[str, Any]] = [
        {"model": str(label), "layer": name, "change": value}
        for label in models
        for name, value in zip(names, values[str(label)], strict=True)
        if value is not None
    ]
    if not records:
        return None
    positive = [record["change"] for record in records if record["change"] > 0]
    low, high = min(positive, default=1e-3), max(positive, default=1.0)
    low = max(low, high * 1e-4)
    drawn = [
        {**record, "depth": (math.log(max(record["change"], low) / low) / math.log(high / low) if high > low else 1.0)}
        for record in records
    ]
    drawn = [{**record, "depth": record["depth"] if record["change"] else 0.0} for record in drawn]
    x = {"field": "layer", "type": "nominal", "sort": names, "title": "layer, input to output", "axis": _LAYERS}
    y = {"field": "model", "type": "nominal", "sort": models, "title": None}
    opacity = {"field": "depth", "type": "quantitative", "scale": {"domain": [0, 1], "range": [0.03, 0.75]}, "legend": None}

    def arranged(cell: int, *, numbered: bool) -> dict[str, Any]:
        layered: list[dict[str, Any]] = [
            {
                "mark": {"type": "rect", "color": COLOURS["over"], "stroke": COLOURS["grid"], "strokeWidth": 0.5},
                "encoding": {"x": x, "y": y, "opacity": opacity},
            }
        ]
        if numbered:
            text = {"field": "change", "type": "quantitative", "format": ".2~g"}
            layered.append({"mark": {"type": "text", "fontSize": 10}, "encoding": {"x": x, "y": y, "text": text}})
        return base(drawn, width={"step": cell}, height={"step": 19}, layer=layered)

    if len(names) <= _FEW_LAYERS:
        wide, narrow = arranged(46, numbered=True), None
    else:
        numbered = len(names) <= 12
        wide = arranged(54 if numbered else max(8, 560 // len(names)), numbered=numbered)
        narrow = arranged(max(8, 230 // len(names)), numbered=False)
    return Figure(
        "layers",
        "Where the weights changed",
        "Length of the change of each layer's weights against the original, as a share of the length of the weights; darker is "
        "more, on a logarithmic scale. A method that changes little, or only the last layer, may hide what it should forget.",
        f"Heat map of {len(models)} models by {len(names)} layers.",
        wide,
        records,
        narrow=narrow,
    )
