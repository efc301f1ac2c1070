"""Choosing samples: by fraction, by class, by name, with errors that say what there is."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.data.fields import Label
from erasure.errors import PartitionError, nearest

__all__ = ["class_code", "code_of", "divided", "number_of", "of_class", "ordered", "portion", "shown"]

_SHOWN = 20
"""How many names an error message lists."""

_TRUTH = {"false": 0, "true": 1}
"""Truth values of a column are read as numbers."""

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?", re.ASCII)


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


def code_of(label: Label, names: Sequence[str], what: str, owner: str, *, n_codes: int | None = None) -> int:
    """Number of something that is given by number or name.

    Where the names are numbers, as of classes 1 to 4 or of years, a number is the name that is written in the data, never a code; if the
    same number is the code of another one too, a warning says so. Otherwise a number is a code and is not checked.

    Args:
        label: The number or name.
        names: All names, by number.
        what: What it is, for the message.
        owner: Whose names they are, for the message.
        n_codes: How many codes there are, if more than names.

    Raises:
        PartitionError: If there is no such name; lists those there are.
    """
    if isinstance(label, int) and not isinstance(label, bool):
        return _of_number(label, names, what, owner, n_codes or len(names))
    text = str(label)
    if text in names:
        return names.index(text)
    if not names and text.casefold() in _TRUTH and n_codes in {None, 2}:
        return _TRUTH[text.casefold()]
    if not names:
        raise PartitionError(f'{what} {label!r} asked for, but "{owner}" does not name its {what} values; give a number')
    alike = [code for code, name in enumerate(names) if _is_alike(text, name)]
    if len(alike) == 1:
        return alike[0]
    hint = nearest(text, names)
    raise PartitionError(f'"{owner}" has no {what} {label!r}; it has {shown(names)}{f"; {hint}" if hint else ""}')


def _of_number(number: int, names: Sequence[str], what: str, owner: str, n_codes: int) -> int:
    """The code of what is called by a number, or the number itself where names are words."""
    alike = [code for code, name in enumerate(names) if number_of(name) == number]
    if len(alike) > 1:
        called = shown([names[code] for code in alike])
        raise PartitionError(f'"{owner}" has several {what} values that read {number}: {called}; give one as text')
    if alike:
        (code,) = alike
        if code != number and 0 <= number < n_codes:
            other = f'; the {what} with the code {number} is "{names[number]}"' if number < len(names) else ""
            warnings.warn(
                f'"{owner}": {what} {number} is taken for the one that the data call "{names[code]}"{other}', stacklevel=3
            )
        return code
    if names and all(number_of(name) is not None for name in names):
        raise PartitionError(f'"{owner}" has no {what} {number}; it has {shown(names)}')
    return number


def number_of(name: str) -> Decimal | None:
    """The number that a name is, such as 7 for ``"7"``; None for words."""
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def _is_alike(text: str, name: str) -> bool:
    """Whether two spellings are one value: a number (``7.0`` and ``7``), or a truth value (``true`` and ``True``)."""
    number = number_of(text)
    if number is not None:
        return number_of(name) == number
    return text.casefold() in {"true", "false"} and text.casefold() == name.casefold()


def class_code(label: Label, data: Dataset) -> int:
    """Number of a class that is given by number or name; see :func:`code_of`.

    Raises:
        PartitionError: If the data set has no such class; lists those it has.
    """
    code = code_of(label, data.class_names, "class", data.name, n_codes=data.n_classes)
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


def group_column(data: Dataset, column: int) -> Tensor:
    """One column of z, ``(n,)``.

    Args:
        data: The data set.
        column: Which one, counted from 0.

    Raises:
        PartitionError: If there is no z, or no such column.
    """
    if data.z is None:
        raise PartitionError(f'"{data.name}" has no z column (group, identity or attribute) to split by')
    columns = data.z.reshape(len(data.z), -1)
    if column >= columns.shape[1]:
        raise PartitionError(f'z of "{data.name}" has no column {column}; it has {columns.shape[1]}, counted from 0')
    return columns[:, column]
