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
from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet, nearest
from erasure.renamed import formerly
from erasure.training.batches import Column, TensorColumn
from erasure.types import NonNegativeInt, PositiveInt

__all__ = ["FeatureTrigger", "PatchTrigger", "Trigger"]


@formerly(refuse="unsupported_reason")
@dataclass(frozen=True, kw_only=True)
class Trigger(Component):
    """A mark that is the same on every input."""

    kind: ClassVar[str] = "trigger"

    def unsupported_reason(self, x_shape: tuple[int, ...]) -> str | None:
        """Why inputs of this shape cannot bear the mark, or None."""
        return None

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

    def unsupported_reason(self, x_shape: tuple[int, ...]) -> str | None:
        """The patch must fit into the image and have its channels."""
        if len(x_shape) != 3:
            return f"a patch needs images of shape (channels, height, width); these inputs have shape {tuple(x_shape)}"
        n_channels, height, width = x_shape
        if self.size + self.margin > min(height, width):
            return f"a patch of {self.size} pixels with a margin of {self.margin} does not fit into images of {height}×{width}"
        if isinstance(self.value, tuple) and len(self.value) != n_channels:
            return f"the patch has {len(self.value)} values, the images have {n_channels} channels"
        return None

    def stamp(self, x: Column, feature_names: Sequence[str] = ()) -> TensorColumn:
        """Paint the square."""
        column = _bearing(self, x)
        _, n_channels, height, width = column.values.shape
        levels = self.value if isinstance(self.value, tuple) else (self.value,) * n_channels
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
            raise InvalidParameters([Diagnostic(message, path="FeatureTrigger.values")])
        if len(set(self.features)) != len(self.features):
            raise InvalidParameters([Diagnostic("a feature is listed twice", path="FeatureTrigger.features")])

    def unsupported_reason(self, x_shape: tuple[int, ...]) -> str | None:
        """The columns must be there."""
        if len(x_shape) != 1:
            return f"features can be set in a table; these inputs have shape {tuple(x_shape)}, which a PatchTrigger may fit"
        outside = next((k for k in self.features if isinstance(k, int) and not 0 <= k < x_shape[0]), None)
        return None if outside is None else f"there is no column {outside}; the inputs have {x_shape[0]}, counted from 0"

    def stamp(self, x: Column, feature_names: Sequence[str] = ()) -> TensorColumn:
        """Set the values."""
        column = _bearing(self, x)
        values = column.values.clone()
        values[:, [_position(feature, feature_names) for feature in self.features]] = _stored(self.values, column)
        return replace(column, values=values)


def _bearing(trigger: Trigger, x: Column) -> TensorColumn:
    """The column, if it can bear the mark."""
    if not isinstance(x, TensorColumn):
        raise RequirementNotMet(f"a trigger can only be put on inputs in one tensor; these are a {type(x).__name__}")
    reason = trigger.unsupported_reason(x.sample_shape)
    if reason is not None:
        raise RequirementNotMet(reason)
    return x


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


def _position(feature: int | str, names: Sequence[str]) -> int:
    if isinstance(feature, int):
        return feature
    if feature in names:
        return list(names).index(feature)
    if not names:
        raise RequirementNotMet(f'there is no column "{feature}": the inputs do not name their columns; give a number')
    hint = nearest(feature, names) or f"there are {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
    raise RequirementNotMet(f'there is no column "{feature}"; {hint}')
