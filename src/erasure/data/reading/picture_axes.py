"""Which axes of an array of pictures are channels, height and width."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

from torch import Tensor

from erasure.errors import DataError

__all__ = ["Axes", "channels_first"]

Axes: TypeAlias = Literal["channels_first", "channels_last", "as_they_are"]

_CHANNELS = (1, 3, 4)
"""Numbers of channels that pictures have: grey, colour, and colour with transparency."""


def channels_first(pictures: Tensor, axes: Axes | None) -> Tensor:
    """Pictures as ``(N, C, H, W)``.

    Arrays that are no pictures, with fewer than three axes or more than four, stay as they are.

    Args:
        pictures: ``(N, C, H, W)``, ``(N, H, W, C)`` or, grey, ``(N, H, W)``.
        axes: Which of them; by default as the numbers of channels say, with a warning where anything is moved or added.

    Raises:
        DataError: If the shape can be read in two ways.
    """
    if axes == "as_they_are" or pictures.ndim not in {3, 4}:
        return pictures
    shape = tuple(pictures.shape[1:])
    if pictures.ndim == 3:
        if axes is None:
            remedy = 'give axes = "as_they_are" if they are no pictures'
            _say(f"samples of {_x(shape)} are taken for grey pictures of 1 channel; {remedy}")
        return pictures.unsqueeze(1)
    if axes is None:
        axes = _recognised(shape)
    return pictures.permute(0, 3, 1, 2) if axes == "channels_last" else pictures


def _recognised(shape: tuple[int, ...]) -> Axes:
    first, middle, last = shape
    may_be_first, may_be_last = first in _CHANNELS, last in _CHANNELS
    if may_be_first and may_be_last:
        # Most pictures are squares.
        may_be_first, may_be_last = middle == last != first, first == middle != last
    if may_be_first and not may_be_last:
        return "channels_first"
    remedy = 'give axes = "channels_first" or "channels_last"'
    if may_be_last and not may_be_first:
        _say(f"samples of {_x(shape)} are taken for pictures of {last} channels and {first}x{middle} pixels, channels last")
        return "channels_last"
    if first not in _CHANNELS and last not in _CHANNELS and middle == last:
        return "channels_first"
    if first not in _CHANNELS and last not in _CHANNELS and first != middle:
        _say(
            f"samples of {_x(shape)} are taken for pictures of {first} channels and {middle}x{last} pixels; {remedy} to settle it"
        )
        return "channels_first"
    readings = f"{first} channels of {middle}x{last} pixels, or {last} channels of {first}x{middle}"
    raise DataError(f"pictures of shape {shape} can be read in two ways, as {readings}; {remedy}")


def _say(message: str) -> None:
    warnings.warn(message, stacklevel=5)


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
