"""Choosing samples: by fraction, by class, by name, with errors that say what there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.data.fields import Label
from erasure.errors import PartitionError, nearest

__all__ = ["class_code", "code_of", "divided", "of_class", "ordered", "portion", "shown"]

_SHOWN = 20
"""How many names an error message lists."""


def ordered(ids: Tensor, generator: np.random.Generator | None) -> Tensor:
    """The ids in a drawn order, or as they are without a generator."""
    return ids if generator is None else ids[torch.from_numpy(generator.permutation(len(ids)))]


def portion(n_samples: int, fraction: float) -> int:
    """The largest whole number of samples that is not more than the fraction.

    Example:
        >>> portion(100, 0.29)
        29
    """
    # 0.29 * 100 is 28.999…: the floor must not lose a sample to rounding.
    return math.floor(n_samples * fraction + 1e-9)


def divided(ids: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen ids and the others, both in the order they came in."""
    return ids[chosen], ids[~chosen]


def shown(values: Sequence[object]) -> str:
    """The first values of a list, for a message."""
    return ", ".join(str(value) for value in values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")


def code_of(label: Label, names: Sequence[str], what: str, owner: str) -> int:
    """Number of something that is given by number or name; a number is not checked.

    Args:
        label: The number or name.
        names: All names, by number.
        what: What it is, for the message.
        owner: Whose names they are, for the message.

    Raises:
        PartitionError: If there is no such name; lists those there are.
    """
    if isinstance(label, int):
        return label
    if label in names:
        return names.index(label)
    if not names:
        raise PartitionError(f'{what} {label!r} asked for, but "{owner}" does not name its {what} values; give a number')
    hint = nearest(label, names)
    raise PartitionError(f'"{owner}" has no {what} {label!r}; it has {shown(names)}{f"; {hint}" if hint else ""}')


def class_code(label: Label, data: Dataset) -> int:
    """Number of a class that is given by number or name.

    Raises:
        PartitionError: If the data set has no such class; lists those it has.
    """
    code = code_of(label, data.class_names, "class", data.name)
    if not 0 <= code < data.n_classes:
        named = f" ({shown(data.class_names)})" if data.class_names else ""
        raise PartitionError(
            f'"{data.name}" has no class {label}; it has {data.n_classes} classes, 0 to {data.n_classes - 1}{named}'
        )
    return code


def of_class(label: Label, data: Dataset, ids: Tensor, ref_data: str) -> Tensor:
    """Which of ``ids`` have the class; at least one does.

    Raises:
        PartitionError: If none does; says which classes there are.
    """
    code = class_code(label, data)
    labels = data.y[ids]
    chosen = labels[:, code] > 0.5 if data.task == "multilabel" else labels == code
    if not chosen.any():
        present = (labels > 0.5).any(dim=0).nonzero().flatten() if data.task == "multilabel" else torch.unique(labels)
        there = shown([data.class_names[k] if data.class_names else k for k in present.tolist()]) or "none"
        raise PartitionError(f'"{ref_data}" has no sample of class {label!r}; it has samples of {there}')
    return chosen
