"""What a first convolution sees of each sample, cut once: data stay the same from step to step and from model to model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.training.batches import Column, TensorColumn

__all__ = ["Patches"]

MAX_BYTES = 1 << 26
"""Of patches that are kept; of more samples they are cut anew for each batch by the convolution itself."""

MAX_VALUES = 32
"""Of one patch; a convolution of more has enough to do."""

MAX_PATCHES = 256
"""Of one picture; those of larger ones are more memory than they are work."""

MIN_OUTPUTS = 16
"""Channels that the convolution makes; fewer are too little work for the memory."""


class Patches:
    """The patches of samples, by their ids.

    Args:
        rows: ``(n, H, W, C * k * k)``.
        places: Row of each sample of the data set, ``(N,)``.
    """

    def __init__(self, rows: Tensor, places: Tensor) -> None:
        self.rows, self.places = rows, places

    @classmethod
    def of(cls, x: Column, ids: Sequence[Tensor], layer: nn.Conv2d) -> Patches | None:
        """The patches of all that is in ``ids``, or None where it does not pay.

        Args:
            x: Inputs of the whole data set.
            ids: Samples of each model.
            layer: The convolution.
        """
        if not isinstance(x, TensorColumn) or x.values.dim() != 4 or x.values.device.type != "cpu":
            return None
        n_values = x.values.shape[1] * layer.kernel_size[0] * layer.kernel_size[1]
        height, width = (_size(layer, axis, x.values.shape[2 + axis]) for axis in (0, 1))
        is_small = n_values <= MAX_VALUES and 1 <= height * width <= MAX_PATCHES and min(height, width) >= 1
        if not is_small or layer.out_channels < MIN_OUTPUTS:
            return None
        used = torch.unique(torch.cat(list(ids)))
        images: Any = x.gather(used[:1])
        if not images.is_floating_point() or images.element_size() * len(used) * height * width * n_values > MAX_BYTES:
            return None
        places = torch.zeros(len(x), dtype=torch.int64)
        places[used] = torch.arange(len(used))
        return cls(_cut(x.gather(used), layer, height, width), places)

    def gather(self, ids: Tensor) -> Tensor:
        """Patches of the samples ``ids``, ``(B, H, W, C * k * k)``."""
        return self.rows.index_select(0, self.places.index_select(0, ids))


def _size(layer: nn.Conv2d, axis: int, side: int) -> int:
    padding: Any = layer.padding
    return int((side + 2 * padding[axis] - layer.kernel_size[axis]) // layer.stride[axis] + 1)


def _cut(images: Tensor, layer: nn.Conv2d, height: int, width: int) -> Tensor:
    padding: Any = layer.padding
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    down, right = layer.stride
    spots = list(itertools.product(range(images.shape[1]), *(range(side) for side in layer.kernel_size)))
    rows = torch.empty(len(images), height, width, len(spots), dtype=images.dtype)
    for number, (channel, i, j) in enumerate(spots):
        rows[..., number] = padded[:, channel, i : i + height * down : down, j : j + width * right : right]
    return rows
