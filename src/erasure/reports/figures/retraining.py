"""Figures of the retraining distribution: memory left, the test of each method among its relabellings, and what the test would miss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from erasure.analysis.findings import MEMORY_MARGIN, Tested, TestedReport
from erasure.analysis.power import POWER, Detection
from erasure.analysis.verdicts import TITLES, Verdict
from erasure.reports.figures.figure import MAX_LINES, MAX_PANELS, STEP, Figure, base, counted
from erasure.reports.figures.theme import COLOURS, VERDICT_MARKS

__all__ = ["memory_left", "power_curve", "relabelled"]

_BINS = 24
_CURVE_POINTS = 41
_REACH = 1.6
"""Right end of the power curve, in shifts that are found in 80 % of cases."""
_MAX_SHIFT = 100.0
_FARTHEST = 1.5
"""Memory left beyond which an interval is cut off, in units of the original's."""


def memory_left(judgements: Sequence[Verdict]) -> Figure | None:
    """Memory left of every method with its interval, from retrained models (0) to the original (1).

    Args:
        judgements: Verdicts, those nearest to retraining first.

    Returns:
        None if no method has an interval: it takes two originals and a value that tells originals from golds.
    """
    known = [j for j in judgements if j.tested is not None and j.tested.memory is not None and not j.is_exact]
    if not known:
        return None
    records = [_memory_record(j.label, j.tested, TITLES[j.finding], j.finding) for j in known[:MAX_LINES] if j.tested is not None]
    order = [record["method"] for record in records]
    low = max(-_FARTHEST, min(-0.3, *(record["low"] for record in records)))
    high = min(_FARTHEST, max(1.1, *(record["high"] for record in records)))
    y = {"field": "method", "type": "nominal", "sort": order, "title": None, "axis": {"labelLimit": 150}}
    x = {
        "field": "low",
        "type": "quantitative",
        "title": "memory left (0 % retrained, 100 % original)",
        "scale": {"domain": [low, high], "clamp": True, "nice": False},
        "axis": {"format": ".0%", "grid": False},
    }
    verdicts = {record["verdict"]: VERDICT_MARKS[record["finding"]] for record in records}
    colour = {
        "field": "verdict",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(verdicts), "range": [COLOURS[name] for name, _ in verdicts.values()]},
    }
    shape = {
        "field": "verdict",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(verdicts), "range": [s for _, s in verdicts.values()]},
    }
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [{"low": -MEMORY_MARGIN, "high": MEMORY_MARGIN}]},
            "mark": {"type": "rect", "color": COLOURS["gold"], "opacity": 0.16},
            "encoding": {"x": x, "x2": {"field": "high"}},
        },
        {
            "data": {"values": [{"low": 0.0}, {"low": 1.0}]},
            "mark": {"type": "rule", "color": COLOURS["muted"], "strokeDash": [3, 3]},
            "encoding": {"x": x},
        },
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"y": y, "x": x, "x2": {"field": "high"}, "color": colour}},
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"y": y, "x": {**x, "field": "mean"}, "color": colour, "shape": shape},
        },
    ]
    spec = base(records, width=230, height=STEP * len(records), layer=layers)
    n_within = sum(
        j.tested.memory.is_within(MEMORY_MARGIN) for j in known if j.tested is not None and j.tested.memory is not None
    )
    return Figure(
        "memory",
        "Memory left",
        "What a method's models still know of the forgotten samples, as a share of what the original knows more than retrained "
        "models: the mean over originals, and both limits at 5 %. Within the band, a fifth of the original's memory either way, "
        "it counts as none. An interval that reaches beyond says that more models are needed."
        + counted(min(len(known), MAX_LINES), len(known)),
        f"Intervals of {len(known)} methods on one axis; {n_within} {'lies' if n_within == 1 else 'lie'} within the band around 0.",
        spec,
        records,
        section="certainty",
    )


def _memory_record(label: str, tested: Tested, verdict: str, finding: str) -> dict[str, Any]:
    assert tested.memory is not None  # noqa: S101 - the caller has looked
    found = tested.memory
    return {"method": label, "mean": found.mean, "low": found.low, "high": found.high, "verdict": verdict, "finding": finding}


def relabelled(judgements: Sequence[Verdict]) -> Figure | None:
    """The largest difference of each method among those that relabelling it with retrained models gives.

    Args:
        judgements: Verdicts, those nearest to retraining first.

    Returns:
        None if no method was tested by labellings.
    """
    known = [j for j in judgements if j.tested is not None and j.tested.maxima and not j.is_exact][:MAX_PANELS]
    if not known:
        return None
    tests = [(j, j.tested) for j in known if j.tested is not None]
    low = min(tested.maxima[0] for _, tested in tests)
    high = max(max(tested.maxima[-1], tested.maximum) for _, tested in tests)
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    records: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for verdict, tested in tests:
        counts, _ = np.histogram(tested.maxima, edges)
        shares = counts / counts.sum()
        records += [
            {
                "method": verdict.label,
                "start": float(edges[i]),
                "end": float(edges[i + 1]),
                "share": float(share),
                "kind": "retrained",
            }
            for i, share in enumerate(shares)
            if share
        ]
        p = tested.adjusted if tested.adjusted is not None else tested.p
        words = "" if p is None or math.isnan(p) else f"p = {p:.2g}"
        marks.append(
            {
                "method": verdict.label,
                "start": tested.maximum,
                "p": words,
                "kind": "observed",
                "verdict": TITLES[verdict.finding],
            }
        )
    x = {"field": "start", "type": "quantitative", "title": "largest difference", "axis": {"grid": False}}
    panel = {
        "layer": [
            {
                "transform": [{"filter": "datum.kind == 'retrained'"}],
                "mark": {"type": "bar", "color": COLOURS["gold"], "opacity": 0.55},
                "encoding": {
                    "x": {**x, "bin": {"binned": True}},
                    "x2": {"field": "end"},
                    "y": {
                        "field": "share",
                        "type": "quantitative",
                        "title": "share of labellings",
                        "axis": {"format": ".0%", "grid": False},
                    },
                },
            },
            {
                "transform": [{"filter": "datum.kind == 'observed'"}],
                "mark": {"type": "rule", "color": COLOURS["bad"], "strokeWidth": 2},
                "encoding": {"x": x},
            },
            {
                "transform": [{"filter": "datum.kind == 'observed'"}],
                "mark": {"type": "text", "align": "right", "dx": -4, "dy": 8, "fontSize": 10},
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "p"}},
            },
        ],
        "width": 120,
        "height": 70,
    }
    drawn = records + marks
    panels = {"field": "method", "type": "nominal", "sort": [j.label for j in known], "title": None}
    accused = sum(j.tested.is_accused for j in known if j.tested is not None)
    return Figure(
        "relabelled",
        "Each method among retrained models",
        "Bars: the largest standardised difference of any value when the labels of the method's models and of the retrained ones are "
        "exchanged in every way. Line: the one observed. If the method were retraining, the line could stand anywhere "
        "among the bars; p is the share at its right, corrected for the number of methods."
        + counted(len(known), sum(1 for j in judgements if j.tested is not None and j.tested.maxima and not j.is_exact)),
        f"A histogram for each of {len(known)} methods; {accused} {'is' if accused == 1 else 'are'} told from retraining.",
        base(drawn, facet=panels, columns=min(len(known), 4), spec=panel),
        drawn,
        section="certainty",
        narrow=base(drawn, facet=panels, columns=2, spec=panel),
    )


def power_curve(report: TestedReport) -> Figure | None:
    """How often a run like this one finds a difference of one value, and how often one with twice the originals.

    Args:
        report: The tests.

    Returns:
        None if nobody can be accused.
    """
    found = report.detection
    if found is None or not found.shift < _MAX_SHIFT:
        return None
    more = found.of_originals(2 * found.n_originals)
    names = (_originals(found), _originals(more))
    shifts = np.linspace(0, _REACH * found.shift, _CURVE_POINTS)
    records = [
        {"shift": float(shift), "found": each.power(float(shift)), "run": name}
        for each, name in zip((found, more), names, strict=True)
        for shift in shifts
    ]
    x = {
        "field": "shift",
        "type": "quantitative",
        "title": "difference of one value, in sd of a retrained model",
        "axis": {"grid": False},
        "scale": {"nice": False},
    }
    y = {
        "field": "found",
        "type": "quantitative",
        "title": "found in",
        "axis": {"format": ".0%", "values": [0, 0.2, 0.4, 0.6, POWER, 1]},
        "scale": {"domain": [0, 1]},
    }
    series = {
        "field": "run",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(names), "range": [COLOURS["close"], COLOURS["muted"]]},
    }
    dash = {"field": "run", "type": "nominal", "title": None, "scale": {"domain": list(names), "range": [[1, 0], [5, 4]]}}
    reached = [{"shift": found.shift, "found": POWER, "text": f"{found.shift:.1f} sd in {100 * POWER:.0f} %"}]
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": y, "color": series, "strokeDash": dash}},
        {
            "data": {"values": reached},
            "mark": {"type": "point", "filled": True, "size": 70, "color": COLOURS["close"], "opacity": 1},
            "encoding": {"x": x, "y": y},
        },
        {
            "data": {"values": reached},
            "mark": {"type": "text", "align": "left", "dx": 8, "dy": 10},
            "encoding": {"x": x, "y": y, "text": {"field": "text"}},
        },
    ]
    spec = base(records, width=250, height=160, layer=layers)
    methods = f"{report.n_tested} {'method' if report.n_tested == 1 else 'methods'}"
    return Figure(
        "power",
        "What this run would have found",
        "Share of runs like this one in which a method that differs from retraining by so much, in a single value, is told from it: "
        f"{methods} together, at a level of {100 * report.level:.2g} %. What is not told apart may differ by less. Dashed: with twice "
        "as many originals and as many retrained models for each.",
        f"A difference of {found.shift:.1f} standard deviations of a retrained model is found in {100 * POWER:.0f} % of runs; with twice "
        f"as many originals one of {more.shift:.1f}.",
        spec,
        records,
        section="certainty",
    )


def _originals(found: Detection) -> str:
    return f"{found.n_originals} {'original' if found.n_originals == 1 else 'originals'}"
