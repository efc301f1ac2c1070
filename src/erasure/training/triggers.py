"""Triggers: marks put on inputs, by which a backdoored model can be made to say what its maker wants.

They are used where data is poisoned and where the backdoor is tried, so that both mean the same mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.component import Component
from erasure.errors import InvalidParameters, Problem, RequirementNotMet, nearest
from erasure.training.batches import Column, TensorColumn
from erasure.types import NonNegativeInt, PositiveInt

__all__ = ["FeatureTrigger", "PatchTrigger", "Trigger"]


@dataclass(frozen=True, kw_only=True)
class Trigger(Component):
    """A mark that is the same on every input."""

    kind: ClassVar[str] = "trigger"

    def stamp(self, x: Column, feature_names: Sequence[str] = ()) -> TensorColumn:
        """All inputs of a column with the mark on them; the column itself is not changed.

        Args:
            x: Inputs as they are stored, before scaling and standardising.
            feature_names: Name of each column of a table, if known.

        Raises:
            RequirementNotMet: If such inputs cannot bear the mark; says what they are.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PatchTrigger(Trigger):
    """A square of one brightness in a corner of an image.

    Args:
        size: Side of the square in pixels.
        value: Brightness, as the model sees it before standardising: 1 is white where pixels are scaled to [0, 1]. One number, or one
            for each channel.
        corner: Where it is.
        margin: Pixels between the square and both edges.
    """

    size: PositiveInt = 3
    value: float | Annotated[tuple[float, ...], MinLen(1)] = 1.0
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"
    margin: NonNegativeInt = 0

    def stamp(self, x: Column, feature_names: Sequence[str] = ()) -> TensorColumn:
        """Paint the square."""
        column = _tensors(x)
        if column.values.ndim != 4:
            shape = column.sample_shape
            raise RequirementNotMet(f"a patch needs images of shape (channels, height, width); these inputs have shape {shape}")
        _, n_channels, height, width = column.values.shape
        if self.size + self.margin > min(height, width):
            raise RequirementNotMet(
                f"a patch of {self.size} pixels with a margin of {self.margin} does not fit into images of {height}×{width}"
            )
        levels = self.value if isinstance(self.value, tuple) else (self.value,) * n_channels
        if len(levels) != n_channels:
            raise RequirementNotMet(f"the patch has {len(levels)} values, the images have {n_channels} channels")
        vertical, horizontal = self.corner.split("-")
        rows = self._span(height, at_end=vertical == "bottom")
        columns = self._span(width, at_end=horizontal == "right")
        values = column.values.clone()
        values[:, :, rows, columns] = _stored(levels, column).view(1, n_channels, 1, 1)
        return replace(column, values=values)

    def _span(self, length: int, *, at_end: bool) -> slice:
        start = length - self.margin - self.size if at_end else self.margin
        return slice(start, start + self.size)


@dataclass(frozen=True, kw_only=True)
class FeatureTrigger(Trigger):
    """Fixed values in some columns of a table, or some positions of a token matrix.

    Args:
        features: The columns, by number counted from 0 or by name.
        values: Value of each of them, in the data's own units, before standardising.
    """

    features: Annotated[tuple[int | str, ...], MinLen(1)]
    values: Annotated[tuple[float, ...], MinLen(1)]

    def check(self) -> None:
        """One value a column, and no column twice."""
        if len(self.features) != len(self.values):
            message = f"there are {len(self.values)} values for {len(self.features)} features; give one for each"
            raise InvalidParameters([Problem(message, path="FeatureTrigger.values")])
        if len(set(self.features)) != len(self.features):
            raise InvalidParameters([Problem("a feature is listed twice", path="FeatureTrigger.features")])

    def stamp(self, x: Column, feature_names: Sequence[str] = ()) -> TensorColumn:
        """Set the values."""
        column = _tensors(x)
        if column.values.ndim != 2:
            shape = column.sample_shape
            raise RequirementNotMet(
                f"features can be set in a table; these inputs have shape {shape}, which a PatchTrigger may fit"
            )
        n_features = column.values.shape[1]
        positions = [_position(feature, n_features, feature_names) for feature in self.features]
        values = column.values.clone()
        values[:, positions] = _stored(self.values, column)
        return replace(column, values=values)


def _tensors(x: Column) -> TensorColumn:
    if isinstance(x, TensorColumn):
        return x
    raise RequirementNotMet(f"a trigger can only be put on inputs in one tensor; these are a {type(x).__name__}")


def _stored(levels: Sequence[float], column: TensorColumn) -> Tensor:
    """Values in the type and unit of the stored column."""
    values = torch.tensor(levels, dtype=torch.float64, device=column.values.device)
    if column.values.is_floating_point():
        return values.to(column.values.dtype) if column.scale is None else (values / column.scale).to(column.values.dtype)
    whole = values if column.scale is None else (values / column.scale).round()
    limits = torch.iinfo(column.values.dtype)
    if bool((whole != whole.round()).any()) or bool((whole < limits.min).any()) or bool((whole > limits.max).any()):
        raise RequirementNotMet(
            f"the trigger's values {', '.join(f'{level:g}' for level in levels)} cannot be stored in inputs of type "
            f"{str(column.values.dtype).removeprefix('torch.')}"
        )
    return whole.to(column.values.dtype)


def _position(feature: int | str, n_features: int, names: Sequence[str]) -> int:
    if isinstance(feature, int):
        if 0 <= feature < n_features:
            return feature
        raise RequirementNotMet(f"there is no column {feature}; the inputs have {n_features}, counted from 0")
    if feature in names:
        return list(names).index(feature)
    if not names:
        raise RequirementNotMet(f'there is no column "{feature}": the inputs do not name their columns; give a number')
    hint = nearest(feature, names) or f"there are {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
    raise RequirementNotMet(f'there is no column "{feature}"; {hint}')
