"""Rows as trackers name them: one metric for each measure, partition and model, one step for each repetition."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from erasure.types import Json

__all__ = ["Names", "Steps", "metric_name", "settings"]

_UNUSUAL = re.compile(r"[^\w .:/-]")
_FIGURES = ("value", "gap")


class Names:
    """Names that a tracker takes, one for each thing: where two would read alike, the later ones end in ``-2``, ``-3`` and so on.

    Args:
        longest: Characters a name may have; None for any number.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._given: dict[Hashable, str] = {}
        self._taken: set[str] = set()

    def of(self, thing: Hashable, called: str) -> str:
        """The name of a thing, always the same.

        Args:
            thing: What it is, told apart by equality.
            called: What it is called; characters that MLflow refuses become ``_``.
        """
        if thing not in self._given:
            plain = _UNUSUAL.sub("_", called)
            name, number = plain[: self._longest], 1
            while name.casefold() in self._taken:  # some databases and file systems do not tell upper case from lower
                number += 1
                ending = f"-{number}"
                name = plain[: None if self._longest is None else self._longest - len(ending)] + ending
            self._taken.add(name.casefold())
            self._given[thing] = name
        return self._given[thing]


class Steps:
    """Numbers the repetitions of each metric from 0.

    Args:
        longest: Characters that the name of a metric may have; None for any number.
    """

    def __init__(self, longest: int | None = None) -> None:
        self._names = Names(longest)
        self._next: dict[str, int] = {}

    def metrics(self, row: Mapping[str, Json]) -> Iterator[tuple[str, float, int]]:
        """Name, value and step of what a row has: its value and its gap to gold."""
        for figure in _FIGURES:
            number = row.get(figure)
            if isinstance(number, int | float) and not isinstance(number, bool):
                label, rest = _parts(row, figure)
                name = self._names.of((label, rest), metric_name(row, figure))
                step = self._next.get(name, 0)
                self._next[name] = step + 1
                yield name, float(number), step


def metric_name(row: Mapping[str, Json], figure: str = "value") -> str:
    """``label/measure partition``, and ``… gap`` for the gap; characters that MLflow refuses become ``_``.

    Example:
        >>> metric_name({"label": "SCRUB (2)", "measure": "UMIA", "partition": "forget"}, "gap")
        'SCRUB _2_/UMIA forget gap'
    """
    label, rest = _parts(row, figure)
    return _UNUSUAL.sub("_", f"{label.replace('/', '_')}/{rest}")


def _parts(row: Mapping[str, Json], figure: str) -> tuple[str, str]:
    """The model that a row is about, and what was measured."""
    parts = [str(row.get(name) or "") for name in ("measure", "partition")] + ([] if figure == "value" else [figure])
    return str(row.get("label") or row.get("model_role") or ""), " ".join(part for part in parts if part)


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
