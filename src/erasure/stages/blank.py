"""Networks whose weights are about to be replaced, without the time to draw weights or the memory to keep them."""

from __future__ import annotations

import torch
from torch import nn

from erasure.training.trial import deep_copy

__all__ = ["Blank"]


class Blank:
    """Gives copies of a network for a state to be loaded into; their weights have any values.

    The memory of the weights is not kept where a state brings all of them back: each is in the network's ``state_dict`` and has memory
    of its own, which copies do not share. Otherwise copies have the network's weights.

    Args:
        network: The network; it is not changed.
    """

    def __init__(self, network: nn.Module) -> None:
        self._kept: nn.Module = deep_copy(network)
        weights = list(self._kept.parameters())
        self._shapes: list[tuple[torch.Size, tuple[int, ...]]] = []
        if _come_back(self._kept, weights) and not _places(self._kept) & _places(network):
            self._shapes = [(weight.shape, weight.stride()) for weight in weights]
            for weight in weights:
                weight.data = weight.data.new_empty(0)

    def copy(self) -> nn.Module:
        """A network like it."""
        copied = deep_copy(self._kept)
        for weight, (shape, stride) in zip(copied.parameters(), self._shapes, strict=False):
            weight.data = torch.empty_strided(shape, stride, dtype=weight.dtype, device=weight.device)
        return copied


def _come_back(network: nn.Module, weights: list[nn.Parameter]) -> bool:
    names, state = {name for name, _ in network.named_parameters()}, network.state_dict()
    if not names <= state.keys() or any(
        type(weight) is not nn.Parameter or weight.layout is not torch.strided for weight in weights
    ):
        return False
    return len(_places(network)) == len(weights) + len(list(network.buffers()))


def _places(network: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
