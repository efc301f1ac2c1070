"""Rows as trackers name them: one metric for each measure, partition and model, one step for each repetition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from erasure.types import Json

__all__ = ["Steps", "metric_name", "settings"]

_UNUSUAL = re.compile(r"[^\w .:/-]")
_FIGURES = ("value", "gap")


class Steps:
    """Numbers the repetitions of each metric from 0."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def metrics(self, row: Mapping[str, Json]) -> Iterator[tuple[str, float, int]]:
        """Name, value and step of what a row has: its value and its gap to gold."""
        for figure in _FIGURES:
            number = row.get(figure)
            if isinstance(number, int | float) and not isinstance(number, bool):
                name = metric_name(row, figure)
                step = self._next.get(name, 0)
                self._next[name] = step + 1
                yield name, float(number), step


def metric_name(row: Mapping[str, Json], figure: str = "value") -> str:
    """``label/measure partition``, and ``… gap`` for the gap; characters that MLflow refuses become ``_``.

    Example:
        >>> metric_name({"label": "SCRUB (2)", "measure": "UMIA", "partition": "forget"}, "gap")
        'SCRUB _2_/UMIA forget gap'
    """
    parts = [str(row.get(name) or "") for name in ("measure", "partition")] + ([] if figure == "value" else [figure])
    label = str(row.get("label") or row.get("model") or "")
    return _UNUSUAL.sub("_", f"{label.replace('/', '_')}/{' '.join(part for part in parts if part)}")


def settings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A configuration as flat names and texts.

    Example:
        >>> dict(settings({"predictor": {"epochs": 5, "layers": [4, 2]}}))
        {'predictor.epochs': '5', 'predictor.layers.0': '4', 'predictor.layers.1': '2'}
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from settings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from settings(item, f"{path}.{index}" if path else str(index))
    elif path:
        yield path, str(value)
