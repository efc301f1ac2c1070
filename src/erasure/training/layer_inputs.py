"""What linear maps and convolutions read, as rows that their weight matrix multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import DataError

__all__ = ["WeightedLayer", "input_grams", "input_rows", "listening_to_inputs", "weight_matrix", "weighted_layers"]

WeightedLayer: TypeAlias = nn.Linear | nn.Conv2d


def weighted_layers(model: nn.Module) -> dict[str, WeightedLayer]:
    """The linear maps and two-dimensional convolutions of a model by name, in the order of definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}


@contextmanager
def listening_to_inputs(modules: Mapping[str, nn.Module], listener: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell ``listener`` the name and the first input of each of ``modules``, every time before that one runs.

    The modules are as before afterwards.
    """

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, inputs: listener(name, inputs[0])

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_rows(layer: WeightedLayer, x: Tensor) -> Tensor:
    """The rows that a layer's weights multiply: samples (and positions) of a linear map, patches of a convolution.

    Args:
        layer: Stride, dilation, padding and groups of a convolution are its own.
        x: The layer's input.

    Returns:
        ``(G, n, d)`` with ``G`` the groups of a convolution (1 for a linear map): ``rows[g] @ weight_matrix(layer)[g].T``, with the
        bias added, is what the layer puts out.

    Example:
        >>> input_rows(nn.Linear(3, 2), torch.zeros(4, 5, 3)).shape
        torch.Size([1, 20, 3])
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    # Two numbers a side, the last axis first, whatever way the padding was given.
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    size: Any = layer.kernel_size
    patches = F.unfold(padded, size, dilation=layer.dilation, stride=layer.stride)
    grouped = patches.reshape(len(x), layer.groups, -1, patches.shape[-1])
    return grouped.permute(1, 0, 3, 2).reshape(layer.groups, -1, grouped.shape[2])


def weight_matrix(layer: WeightedLayer) -> Tensor:
    """The weights as ``(G, out, d)``, to fit :func:`input_rows`."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)


@torch.no_grad()
def input_grams(model: nn.Module, batches: Iterable[Any], layers: Mapping[str, WeightedLayer]) -> dict[str, Tensor]:
    r"""Sum of outer products of what layers read, over all samples and places.

    .. math:: G = \sum_n a_n a_n^\top

    Its eigenvectors are the singular vectors of the matrix of inputs, its eigenvalues their squared singular values; nothing of the size
    of the data is kept.

    Args:
        model: Runs in the mode it is in; gradients are not followed.
        batches: Their ``x`` is read.
        layers: As :func:`weighted_layers` gives them.

    Returns:
        By layer, ``(G, d, d)``, float64, symmetric and positive semi-definite; a layer that is never called is left out.

    Raises:
        DataError: If there are no samples.
    """
    grams: dict[str, Tensor] = {}

    def add(name: str, x: Tensor) -> None:
        rows = input_rows(layers[name], x).to(torch.float64)
        gram = rows.transpose(1, 2) @ rows
        grams[name] = grams[name] + gram if name in grams else gram

    n_batches = 0
    with listening_to_inputs(layers, add):
        for batch in batches:
            model(batch.x)
            n_batches += 1
    if not n_batches:
        raise DataError("no samples: at least one is needed to see what layers read, and the batches gave none")
    return grams
