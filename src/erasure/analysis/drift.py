"""Whether a model drifts away from retraining while requests to forget are answered one after another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from erasure.analysis.verdict_words import number
from erasure.records.rows import Row

__all__ = ["drift_warnings"]

_MIN = 0.02
"""Two percentage points: as much as counts as damage."""


def drift_warnings(trace: Iterable[tuple[int, Row]], streams: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each accuracy on samples to keep that falls from request to request, away from retraining.

    Both must be more than two percentage points: the fall from the first request to the last, and what a retrained model has more at the
    end. Repetitions are averaged.

    Args:
        trace: Number of the request (0 is the original) and row of everything that was measured after it.
        streams: The forget sets of each label that answers several requests.
    """
    found: dict[tuple[str, str, str], dict[int, list[tuple[float, float]]]] = {}
    for request, row in trace:
        is_kept = row.label in streams and row.partition not in streams[row.label]
        is_accuracy = row.unit == "" and row.statistic == "accuracy"
        if is_kept and is_accuracy and request > 0 and row.value is not None and row.gold is not None:
            of_request = found.setdefault((row.label, row.measure, row.partition), {}).setdefault(request, [])
            of_request.append((row.value, row.gold))
    said = []
    for (label, measure, partition), values in found.items():
        first, last = (_means(values[request]) for request in (min(values), max(values)))
        if len(values) > 1 and first[0] - last[0] > _MIN and last[1] - last[0] > _MIN:
            said.append(
                f"{label} drifts: after request {min(values)} its {measure} on {partition} is {number(first[0])}, after request "
                f"{max(values)} {number(last[0])}, and a retrained model has {number(last[1])}. Retrain before the next request."
            )
    return said


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean value, and mean of gold's."""
    return math.fsum(value for value, _ in pairs) / len(pairs), math.fsum(gold for _, gold in pairs) / len(pairs)
