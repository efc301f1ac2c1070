"""Panels of what models do, for a page: histograms of their samples, and curves of attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erasure.reports.figures.panels import Panels, Scale, Trace, percent_ticks
from erasure.reports.figures.theme import COLOURS

__all__ = ["distribution_panels", "roc_panels"]

_DASHES = ("1,0", "5,2", "2,2")


def distribution_panels(
    records: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    colours: Mapping[str, str],
    *,
    labels: Mapping[float, str],
    is_log: bool,
    top: float,
    columns: int,
    width: int,
) -> Panels:
    """Histograms of each model's samples as steps, before those of gold's forgotten ones.

    Args:
        records: ``model``, ``samples``, ``x`` and ``share`` of each bar.
        reference: ``x`` and ``share`` of what stands behind all.
        names: The models, in their order.
        colours: Colour of each kind of samples, in their order.
        labels: What stands at which ``x``.
        is_log: Whether ``x`` is logarithmic.
        top: The highest share that is shown.
        columns: Panels in a row.
        width: Of each panel, in pixels.
    """
    dashes = dict(zip(colours, _DASHES, strict=False))
    bars: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        bars.setdefault((record["model"], record["samples"]), []).append(record)
    xs = [record["x"] for record in reference]
    behind = Trace(
        xs=xs,
        ys=[record["share"] for record in reference],
        bases=[0.0] * len(xs),
        colour=COLOURS["gold"],
        opacity=0.35,
        is_stepped=True,
    )
    traces = {
        name: [
            behind,
            *(
                Trace(
                    xs=[bar["x"] for bar in own],
                    ys=[bar["share"] for bar in own],
                    colour=colour,
                    dash=dashes[kind],
                    is_stepped=True,
                )
                for kind, colour in colours.items()
                for own in (bars.get((name, kind), ()),)
            ),
        ]
        for name in names
    }
    ends = [record["x"] for record in (*records, *reference)] + ([] if is_log else [0.0])
    return Panels(
        traces=traces,
        columns=columns,
        width=width,
        height=72,
        x=Scale(low=min(ends), high=max(ends), is_log=is_log, labels=labels, has_grid=False),
        y=Scale(low=0.0, high=top, labels=percent_ticks(top)),
        legend=[(kind, colour, dashes[kind]) for kind, colour in colours.items()],
        is_clipped=True,
    )


def roc_panels(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], ticks: Sequence[float], least: float, *, columns: int, width: int
) -> Panels:
    """Curves of an attack on logarithmic axes, before chance, their own range and that of golds.

    Args:
        records: ``model``, ``fpr`` and ``tpr`` of each point, and ``low``, ``high``, ``gold_low`` and ``gold_high`` where there are ranges.
        names: The models, in their order.
        ticks: Shares that both axes name.
        least: The smallest share.
        columns: Panels in a row.
        width: Of each panel, in pixels.
    """
    points: dict[str, list[Mapping[str, Any]]] = {name: [] for name in names}
    for record in records:
        points[record["model"]].append(record)
    scale = Scale(low=least, high=1.0, is_log=True, labels={tick: f"{100 * tick:g}%" for tick in ticks})
    return Panels(
        traces={name: _roc_traces(own) for name, own in points.items()},
        columns=columns,
        width=width,
        height=100,
        x=scale,
        y=scale,
    )


def _roc_traces(points: Sequence[Mapping[str, Any]]) -> list[Trace]:
    xs = [point["fpr"] for point in points]
    traces = []
    for low, high, colour, opacity in (("gold_low", "gold_high", "gold", 0.4), ("low", "high", "forget", 0.14)):
        if all(low in point for point in points):
            ends = ([point[name] for point in points] for name in (low, high))
            traces.append(Trace(xs=xs, ys=next(ends), bases=next(ends), colour=COLOURS[colour], opacity=opacity))
    traces.append(Trace(xs=xs, ys=xs, colour=COLOURS["muted"], width=1.0, dash="3,3"))
    return [*traces, Trace(xs=xs, ys=[point["tpr"] for point in points], colour=COLOURS["forget"], width=1.8)]
