"""Figures of cost, sensitivity to hyper-parameters, and the trace of unlearning. Pure functions, as in ``figures``."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from erasure.analysis.verdicts import Question, Verdict
from erasure.records.evidence import ModelRecord
from erasure.records.rows import Row
from erasure.records.run_folder import TracePoint
from erasure.reports.figures.figure import MAX_DOTS, MAX_LINES, MAX_PANELS, STEP, Figure, base, counted, spread
from erasure.reports.figures.theme import COLOURS

__all__ = ["costs", "sensitivity", "trace"]

_ROOM = 1.22
"""Length of an axis of bars over its longest bar, for the number behind it."""
_WIDE = 8.0
"""Ratio of the ends of a parameter from which its axis is logarithmic."""


def costs(models: Sequence[ModelRecord], rows: Sequence[Row], order: Sequence[str]) -> Figure | None:
    """Time, one-off work apart, memory, and operations if they were counted; the mean over repetitions."""
    shown = ["original", "gold", *list(order)[:MAX_LINES]]
    found: dict[tuple[str, str, str], list[float]] = {}
    parts = (("elapsed_s", "time [s]", "each request"), ("precompute_s", "time [s]", "once, in advance"))
    for model in models:
        for field, quantity, part in (*parts, ("peak_memory_mib", "peak memory [MiB]", "each request")):
            if (value := getattr(model, field)) is not None:
                name = model.role if model.role != "unlearned" else model.label
                found.setdefault((name, quantity, part), []).append(value)
    counted_ones = {name for name in {row.measure for row in rows} if "flop" in name.lower()}
    for row in rows if counted_ones else ():
        if row.measure in counted_ones and row.value is not None:
            name = row.label if row.model_role == "unlearned" else row.model_role
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

    def arranged(columns: int, width: int) -> dict[str, Any]:
        return base(
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

    columns = min(2, len(quantities))
    return Figure(
        "costs",
        "What it costs",
        "Time of making each model, work that is done once in advance apart, and the largest memory of the process meanwhile. "
        "Times compare only on one machine." + counted(len(shown) - 2, len(order)),
        "Bars of time and memory for each model; the numbers are in the data table.",
        arranged(columns, 560 // columns - 30),
        data,
        section="cost",
        narrow=arranged(1, 200),
    )


def sensitivity(
    models: Sequence[ModelRecord],
    judgements: Sequence[Verdict],
    *,
    only: Collection[str] | None = None,
    name: str = "",
) -> Figure | None:
    """Gaps to gold over every numeric parameter in which settings of one method differ.

    Args:
        models: What a run kept of its models.
        judgements: Verdict on each setting.
        only: Parameters to show; all by default.
        name: What to add to the figure's title.
    """
    by_label = {j.label: j for j in judgements}
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for model in models:
        if (
            model.role == "unlearned"
            and not model.exact
            and math.isfinite(by_label[model.label].distance if model.label in by_label else math.inf)
        ):
            settings.setdefault(model.key, {})[model.label] = model.parameters or {}
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
                record: dict[str, Any] = {"panel": panel, "method": label, "parameter": parameters[parameter]}
                data += [record | each for each in _gaps(by_label[label])]
    panels = list(dict.fromkeys(record["panel"] for record in data))[:12]
    data = [record for record in data if record["panel"] in set(panels)]
    if not data:
        return None
    colours = {"domain": ["forgetting", "utility"], "range": [COLOURS["forget"], COLOURS["retain"]]}
    panel_specs = []
    n_cells = len({(record["panel"], record["method"], record["question"]) for record in data})
    dots = spread(
        (record for record in data if record["kind"] == "repetition"),
        "gap",
        lambda record: (record["panel"], record["method"], record["question"]),
        max(2, MAX_DOTS // n_cells),
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
        y: dict[str, Any] = {"field": "gap", "type": "quantitative", "title": "difference, in sd of retraining"}
        y["scale"] = {"type": "sqrt", "nice": False, "domain": [0, max(1.6, *(1.1 * record["gap"] for record in own))]}
        y["axis"] = {"values": [0, 1, 3, 10, 30, 50], "format": "~r", "labelOverlap": False}
        colour = {"field": "question", "type": "nominal", "scale": colours, "title": None, "legend": {"symbolOpacity": 1}}
        panel_specs.append(
            {
                "data": {"values": own},
                "width": 240,
                "height": 150,
                "layer": [
                    {
                        "data": {"values": [{}]},
                        "mark": {"type": "rule", "color": COLOURS["gold"], "strokeWidth": 2, "strokeDash": [4, 3]},
                        "encoding": {"y": {"datum": 2}},
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

    def arranged(columns: int) -> dict[str, Any]:
        spec = base([], concat=panel_specs, columns=columns, spacing={"column": 36, "row": 26})
        del spec["data"]
        return spec

    n_repetitions = sum(record["kind"] == "repetition" for record in data)
    said = " Small dots are single repetitions" + (", not all of them." if len(dots) < n_repetitions else ".") if dots else ""
    return Figure(
        "sensitivity",
        f"Sensitivity to hyper-parameters{f' {name}' if name else ''}",
        "Largest difference from retrained models of each setting, in standard deviations of one; the dashed line is at two."
        + said
        + " Where several parameters vary at once, a line shows the mean.",
        f"Line plots of the gap over {len(panels)} parameters.",
        arranged(2),
        data,
        section="cost",
        in_notebooks=True,
        narrow=arranged(1) if len(panels) > 1 else None,
    )


def _gaps(verdict: Verdict) -> list[dict[str, Any]]:
    """The largest differences of a setting, and those of each original where there are several."""
    found: list[dict[str, Any]] = []
    questions: tuple[Question, ...] = ("forgetting", "utility")
    for question in questions:
        mean, each = verdict.worst(question), verdict.by_original(question)
        kinds = ([("mean", mean)] if mean is not None else []) + [("repetition", gap) for gap in (each if len(each) > 1 else ())]
        found += [{"question": question, "kind": kind, "gap": min(gap, 50.0)} for kind, gap in kinds]
    return found


def _last_words(path: str, others: Iterable[str]) -> str:
    """The end of a parameter's path, with as many words as tell it from the others."""
    words = path.split(".")
    for n in range(1, len(words)):
        end = "." + ".".join(words[-n:])
        if not any(other != path and f".{other}".endswith(end) for other in others):
            return end[1:]
    return path


def trace(points: Sequence[TracePoint], order: Sequence[str], models: Sequence[ModelRecord] = ()) -> Figure | None:
    """What was measured after each epoch of unlearning; gold dashed, and a line at the epoch that a rule chose."""
    traced = {point.label for point in points if point.epoch > 0}
    methods = [label for label in order if label in traced][:MAX_PANELS]
    first_seed = next((point.seed for point in points), "")
    chosen = {model.label: model.chosen_epoch for model in models if str(model.seed) == first_seed}
    data: list[dict[str, Any]] = []
    for point in points:
        if point.seed == first_seed and point.label in set(methods) and point.value is not None:
            series = f"{point.measure}, {point.partition}" if point.partition else point.measure
            data.append({"method": point.label, "epoch": point.epoch, "series": series, "value": point.value, "gold": point.gold})
    if not data:
        return None
    is_chosen = any(chosen.get(label) is not None for label in methods)
    if is_chosen:
        data = [{**record, "chosen": record["epoch"] == chosen.get(record["method"])} for record in data]
    stop = {
        "transform": [{"filter": "datum.chosen"}],
        "mark": {"type": "rule", "color": COLOURS["muted"], "strokeWidth": 1.5},
        "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
    }
    names = list(dict.fromkeys(record["series"] for record in data))
    palette = [COLOURS[name] for name in ("forget", "retain", "test", "over", "gold", "fourth", "none")]
    colour = {
        "field": "series",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": [palette[i % len(palette)] for i in range(len(names))]},
    }

    def arranged(columns: int) -> dict[str, Any]:
        return base(
            data,
            facet={"field": "method", "type": "nominal", "sort": methods, "title": None},
            columns=columns,
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
                    *([stop] if is_chosen else []),
                ],
            },
        )

    return Figure(
        "trace",
        "While it unlearns",
        "After each epoch; epoch 0 is the original, the dashed line the retrained model."
        + (" The vertical line stands at the epoch that was kept." if is_chosen else "")
        + counted(len(methods), len(traced)),
        f"Line plots of {len(names)} values over the epochs of {len(methods)} methods.",
        arranged(4),
        data,
        narrow=arranged(2) if len(methods) > 2 else None,
    )
