"""Blocks of convolution, ReLU and pooling with channels last in memory, as they stand in ``nn.Sequential``.

PyTorch's pooling is vectorised on the CPU for that layout alone, forward and backward, and its convolutions lose nothing by it. A ReLU
before a pooling is taken after it, of the values that are left, which gives the same. Outputs and gradients stay what they are up to the
rounding of convolutions, and what follows a block gets its output in the layout that it would get otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.training.trial import has_foreign_hooks
from erasure.training.twins import Twin

__all__ = ["channels_last_twins"]

MIN_PIXELS = 256
"""Of an image; smaller ones stay as they are."""

_KINDS = frozenset({nn.Conv2d, nn.ReLU, nn.MaxPool2d})
"""No BatchNorm: for this layout torch adds up all values of a channel one after the other, and loses three digits of its statistics."""


def channels_last_twins(model: nn.Module) -> dict[nn.Module, Twin]:
    """Twins of every ``nn.Sequential`` of ``model`` with a block, which begins with a convolution and ends with a pooling.

    Args:
        model: As it is; layers count by their exact class.
    """
    stacks = (module for module in model.modules() if type(module) is nn.Sequential and "forward" not in vars(module))
    return {stack: _through for stack in stacks if any(_blocks(list(stack)))}


def _blocks(layers: Sequence[nn.Module]) -> Iterator[slice]:
    places = range(len(layers))
    for are_known, group in itertools.groupby(places, lambda at: type(layers[at]) in _KINDS):
        own = list(group) if are_known else []
        first = next((at for at in own if isinstance(layers[at], nn.Conv2d)), len(layers))
        last = max((at for at in own if _is_pool(layers[at])), default=-1)
        if first < last:
            yield slice(first, last + 1)


def _is_pool(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.MaxPool2d) and not layer.return_indices


def _through(module: nn.Module, inputs: Tensor) -> Tensor | None:
    stack: Any = module
    if inputs.device.type != "cpu" or _is_small(inputs):
        return None
    layers, done = list(stack), 0
    for block in _blocks(layers):
        for layer in layers[done : block.start]:
            inputs = layer(inputs)
        inputs, done = _through_block(layers[block], inputs), block.stop
    for layer in layers[done:]:
        inputs = layer(inputs)
    return inputs


def _through_block(layers: Sequence[nn.Module], images: Tensor) -> Tensor:
    if _is_small(images):
        for layer in layers:
            images = layer(images)
        return images
    by_pixel = images.permute(0, 2, 3, 1).contiguous()
    if images.shape[1] == 1:  # of one channel every layout is contiguous, and the strides tell which is meant
        by_pixel = by_pixel.view(by_pixel.shape[:3]).unsqueeze(3)
    found, waits = by_pixel.permute(0, 3, 1, 2), False
    for layer, after in itertools.zip_longest(layers, layers[1:]):
        if isinstance(layer, nn.ReLU) and _is_pool(after) and not (has_foreign_hooks(layer) or has_foreign_hooks(after)):
            waits = True
            continue
        found = layer(found)
        if waits:
            found, waits = F.relu(found), False
    return found.contiguous(memory_format=torch.contiguous_format)


def _is_small(images: Tensor) -> bool:
    return images.ndim != 4 or images.shape[2] * images.shape[3] < MIN_PIXELS
