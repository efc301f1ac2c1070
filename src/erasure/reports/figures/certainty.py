"""Figures of how sure numbers are: differences from retraining with their intervals, and mean ranks. Pure functions, as in ``figures``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from erasure.analysis.certainty import Certainty
from erasure.analysis.statistics import student_interval
from erasure.reports.figures.figure import STEP, Figure, base
from erasure.reports.figures.panels import AT_COMMA, LEGEND_OFFSET, Axis, Panels, filled
from erasure.reports.figures.theme import COLOURS

__all__ = ["differences", "ranks"]

_MAX_PANELS = 8
_MAX_LINES = 40


def differences(certainty: Certainty, order: Sequence[str]) -> Figure | None:
    """Mean difference of each method from retrained models, with its interval, beside the spread of those."""
    tested = {each.label for each in certainty.estimates if each.difference is not None}
    methods = [label for label in order if label in tested][:_MAX_LINES]
    data: list[dict[str, Any]] = []
    spreads: dict[str, float] = {}
    for each in certainty.estimates:
        found = each.difference
        if found is None or each.label not in set(methods) or not each.partition:
            continue
        name = f"{each.measure}, {each.partition}"
        spreads.setdefault(name, found.gold_sd)
        student, bootstrap, interval = each.student, each.bootstrap, student_interval(list(found.apart))
        data.append(
            {
                "measure": name,
                "method": each.label,
                "difference": math.fsum(found.apart) / len(found.apart),
                "low": interval.low if interval is not None else None,
                "high": interval.high if interval is not None else None,
                "gold_sd": found.gold_sd,
                "p": found.p,
                "telling_rate": found.telling_rate,
                "originals": len(found.apart),
                "mean": each.mean,
                "mean_low": student.low if student is not None else None,
                "mean_high": student.high if student is not None else None,
                "bootstrap_low": bootstrap.low if bootstrap is not None else None,
                "bootstrap_high": bootstrap.high if bootstrap is not None else None,
                "kind": "value",
                "is_apart": "differs" if each.is_apart else "not told apart",
            }
        )
    names = list(dict.fromkeys(record["measure"] for record in data))[:_MAX_PANELS]
    data = [record for record in data if record["measure"] in set(names)]
    if not data:
        return None
    shown: list[dict[str, Any]] = []
    for name in names:
        own = [record for record in data if record["measure"] == name]
        reach = _reach(own, spreads.get(name))
        shown += [_cut(record, reach) for record in own]
        if name in spreads:
            shown.append({"measure": name, "kind": "spread", "low": -spreads[name], "high": spreads[name]})
    up = Axis.of_names("at", methods)
    heights = {name: at for at, name in up.ticks.items()}
    values = [{**record, "panel": record["measure"], "at": heights[record["method"]]} for record in shown if "method" in record]
    axes = {name: Axis.around("x", [0.0, *_ends(r for r in shown if r["measure"] == name)], is_ruled=False) for name in names}
    colour = {
        "field": "is_apart",
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["not told apart", "differs"], "range": [COLOURS["good"], COLOURS["under"]]},
        "legend": {"offset": LEGEND_OFFSET},
    }
    shape = {
        "field": "status",
        "type": "nominal",
        "legend": None,
        "scale": {
            "domain": ["not told apart", "differs", "below", "above"],
            "range": ["circle", "diamond", "triangle-left", "triangle-right"],
        },
    }
    one_each = [{"field": "column"}, {"field": "line"}, {"field": "at"}]
    layers: list[dict[str, Any]] = [
        {
            "values": [
                {"panel": name, "x": side * spread, "at": at}
                for name, spread in spreads.items()
                if name in axes
                for side, at in ((-1, 0), (-1, len(methods)), (1, len(methods)), (1, 0))
            ],
            "mark": filled("gold", 0.18),
        },
        {
            "values": [{"panel": name, "x": 0.0, "at": at} for name in names for at in (0, len(methods))],
            "mark": {"type": "line", "color": COLOURS["gold"], "strokeWidth": 2},
        },
        {
            "values": [{**r, "x": r[end]} for r in values if r["low"] is not None for end in ("low", "high")],
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"color": colour, "detail": one_each},
        },
        {
            "values": [{**record, "x": record["difference"]} for record in values],
            "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
            "encoding": {"color": colour, "shape": shape},
        },
    ]

    def arranged(columns: int, width: int) -> dict[str, Any]:
        return Panels(names, axes, up, columns, (width, STEP * len(methods)), AT_COMMA).spec(layers)

    columns = min(len(names), 4)
    n = certainty.n_originals
    return Figure(
        "differences",
        "Differences from retraining",
        f"Mean difference from retrained models over {n} {'originals' if n > 1 else 'original'}"
        + (", with its 95 % Student-t interval" if n > 1 else "")
        + "; the band is one standard deviation of a retrained model to either side. Which values differ is decided by the test over all "
        "values and methods together, not by the intervals. What is beyond the axis is cut off; a triangle stands for a difference beyond "
        "it.",
        f"Dot plot with intervals of {len(methods)} methods by {len(names)} measures; the numbers are in the table below.",
        arranged(columns, max(110, (560 - 8 * columns) // columns)),
        [{name: value for name, value in record.items() if name not in {"kind", "is_apart"}} for record in data],
        section="certainty",
        in_notebooks=True,
        narrow=arranged(1, 190),
    )


def _ends(records: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    """What an axis has to reach."""
    for record in records:
        yield from (record[name] for name in ("difference", "low", "high") if record.get(name) is not None)


def _reach(records: Sequence[Mapping[str, Any]], spread: float | None) -> float:
    """How far the axis goes to either side, so that a few values far off do not press all others into a line."""
    distances = sorted(abs(record["difference"]) for record in records)
    widths = sorted(record["high"] - record["low"] for record in records if record["low"] is not None)
    usual = distances[(3 * (len(distances) - 1)) // 4] + (widths[len(widths) // 2] if widths else 0.0)
    return max(2.0 * usual, 4 * (spread or 0.0)) or math.inf


def _cut(record: Mapping[str, Any], reach: float) -> dict[str, Any]:
    """A record that stays on its axis; what is beyond is marked by a triangle at the end."""
    value = record["difference"]
    side = "below" if value < -reach else "above" if value > reach else "within"
    status = record["is_apart"] if side == "within" else side
    cut = {
        name: None if record[name] is None else min(max(record[name], -reach), reach) for name in ("difference", "low", "high")
    }
    return {**record, **cut, "status": status}


def ranks(certainty: Certainty) -> Figure | None:
    """Mean rank of each method; those in the band behind the best are not told apart from it."""
    ranking = certainty.ranking
    if ranking is None:
        return None
    test = ranking.test
    best, cd = min(test.ranks), test.critical_difference
    is_alike = test.p > 1 - test.level
    data = [
        {
            "method": label,
            "rank": rank,
            "told_apart_from_best": not is_alike and rank - best >= cd,
            "status": "told apart from the best" if not is_alike and rank - best >= cd else "not told apart from the best",
        }
        for label, rank in zip(ranking.labels, test.ranks, strict=True)
    ][:_MAX_LINES]
    end = float(len(ranking.labels))
    x: dict[str, Any] = {"type": "quantitative", "scale": {"domain": [1, end], "nice": False}}
    x |= {"title": "mean rank; 1 is best", "axis": {"tickCount": 6, "tickMinStep": 1}}
    y = {"field": "method", "type": "nominal", "sort": list(ranking.labels), "title": None}
    statuses = ["not told apart from the best", "told apart from the best"]
    spec = base(
        data,
        width=220,
        height={"step": STEP},
        layer=[
            {
                "data": {"values": [{"low": best, "high": end if is_alike else min(end, best + cd)}]},
                "mark": {"type": "rect", "color": COLOURS["gold"], "opacity": 0.18},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": {**x, "field": "rank"},
                    "y": y,
                    "color": {
                        "field": "status",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": statuses, "range": [COLOURS["good"], COLOURS["under"]]},
                    },
                    "shape": {
                        "field": "status",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": statuses, "range": ["circle", "diamond"]},
                    },
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8, "color": COLOURS["muted"]},
                "encoding": {
                    "x": {**x, "field": "rank"},
                    "y": y,
                    "text": {"field": "rank", "type": "quantitative", "format": ".1f"},
                },
            },
        ],
    )
    p = f"p = {test.p:.2g}" if test.p >= 0.001 else "p < 0.001"
    alike = " It sees no difference between the methods at all, so none are told apart." if is_alike else ""
    return Figure(
        "ranks",
        "Mean ranks",
        f"Methods are ranked by their gap to retraining in each measure and training seed; gaps within the noise floor tie. Friedman’s "
        f"test over {test.n} training seeds: {p}.{alike} Ranks closer than {cd:.1f} (Nemenyi’s critical difference, the band) are not "
        "told apart. Retraining does not compete.",
        f"Mean ranks of {len(ranking.labels)} methods, {ranking.labels[0]} first.",
        spec,
        [{name: value for name, value in record.items() if name != "status"} for record in data],
        section="certainty",
    )
