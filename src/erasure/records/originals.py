"""Values over repetitions: those of one original are not independent of one another, and count as one by their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from erasure.records.rows import Row

__all__ = ["Original", "by_original", "mean_by_original", "original_of"]

Original: TypeAlias = tuple[int | None, int | None]
"""Seeds of split and training, which an original is known by."""


def original_of(row: Row) -> Original:
    """The original that a row's model goes back to."""
    return row.seed_split, row.seed_train


def by_original(rows: Iterable[Row], value: Callable[[Row], float | None] = lambda row: row.value) -> dict[Original, list[float]]:
    """Values of the repetitions of each original, in the order of the rows; missing ones are left out.

    Args:
        rows: Rows of one model, measure and partition.
        value: What is taken of a row.
    """
    found: dict[Original, list[float]] = {}
    for row in rows:
        number = value(row)
        if number is not None:
            found.setdefault(original_of(row), []).append(number)
    return found


def mean_by_original(values: Mapping[Original, list[float]]) -> dict[Original, float]:
    """The mean of each original's repetitions."""
    return {original: math.fsum(own) / len(own) for original, own in values.items()}
