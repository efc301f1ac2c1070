"""Convolutions of pictures of a few pixels, with a quarter to a half of the multiplications.

Winograd's way of multiplying polynomials (*Arithmetic Complexity of Computations*, 1980; Lavin and Gray, CVPR 2016): picture and kernel are
evaluated at as many points as the padded side has pixels, multiplied there, and the result is read off. The points 0, ±3/4, ±3/2 and
infinity keep the rounding to about twice that of the sum itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SmallConvolution"]

MAX_SIDE = 6
"""Pixels of a side, with padding; more need points that round too coarsely."""

MIN_CHANNELS = 8
"""Of input and output: with fewer the evaluation costs more than it saves."""

_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


class SmallConvolution:
    """A convolution of many models at once; everything but the product at each point is one product for all.

    Args:
        layer: The convolution.
        height: Pixels of the picture, without padding.
        width: The same.
    """

    def __init__(self, layer: nn.Conv2d, height: int, width: int) -> None:
        padding: Any = layer.padding
        axes = zip((height, width), layer.kernel_size, padding, strict=True)
        parts = [_transforms(side, kernel, pad) for side, kernel, pad in axes]
        self.shape: tuple[int, int] = (len(parts[0][2]), len(parts[1][2]))
        self.sides: tuple[int, int] = (height, width)
        self._double = [torch.kron(_exact(a), _exact(b)) for a, b in zip(*parts, strict=True)]
        self._cast: dict[torch.dtype, list[Tensor]] = {}

    @classmethod
    def of(cls, layer: nn.Conv2d, x: Tensor) -> SmallConvolution | None:
        """The layer for pictures like ``x``, ``(M, B, C, H, W)``, or None where it is not one of these."""
        padding: Any = layer.padding
        is_plain = layer.groups == 1 and layer.stride == layer.dilation == (1, 1) and x.device.type == "cpu"
        sides = [side + 2 * pad for side, pad in zip(x.shape[3:], padding, strict=True)]
        fits = all(kernel < side <= MAX_SIDE for kernel, side in zip(layer.kernel_size, sides, strict=True))
        if not is_plain or not fits or 1 in layer.kernel_size or min(layer.in_channels, layer.out_channels) < MIN_CHANNELS:
            return None
        return cls(layer, x.shape[3], x.shape[4])

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output, ``(M, B, O, H, W)``, of inputs ``(M, B, C, H, W)`` and weights ``(M, O, C, k, k)``."""
        pictures, kernels, outputs = self._matrices(x.dtype)
        n_models, n_samples, n_in = self.sizes = x.shape[:3]
        n_points, n_out = len(kernels), weight.shape[1]
        at = torch.mm(pictures, x.permute(3, 4, 0, 1, 2).reshape(pictures.shape[1], -1))
        self.x = at.view(n_points * n_models, n_samples, n_in)
        at = torch.mm(kernels, weight.permute(3, 4, 0, 2, 1).reshape(kernels.shape[1], -1))
        self.weight = at.view(n_points * n_models, n_in, n_out)
        y = torch.mm(outputs, torch.bmm(self.x, self.weight).view(n_points, -1)).view(*self.shape, n_models, n_samples, n_out)
        if bias is not None:
            y += bias.unsqueeze(1)
        return y.permute(2, 3, 4, 0, 1)

    def backward(self, gradient: Tensor, into: Mapping[str, Tensor], needs_input: bool) -> Tensor | None:
        """Writes the gradients of the weights into ``into``; returns that of the input if it is needed."""
        pictures, kernels, outputs = self._matrices(gradient.dtype)
        n_models, n_samples, n_in = self.sizes
        rows = gradient.permute(3, 4, 0, 1, 2).reshape(outputs.shape[0], -1)
        at = torch.mm(outputs.t(), rows).view(len(self.x), n_samples, -1)
        if "weight" in into:
            found = torch.mm(kernels.t(), torch.bmm(self.x.transpose(1, 2), at).view(len(kernels), -1))
            to = into["weight"]
            to.copy_(found.view(*to.shape[3:], n_models, n_in, -1).permute(2, 4, 3, 0, 1))
        if "bias" in into:
            torch.sum(rows.view(outputs.shape[0], n_models, n_samples, -1), (0, 2), out=into["bias"])
        if not needs_input:
            return None
        found = torch.mm(pictures.t(), torch.bmm(at, self.weight.transpose(1, 2)).view(len(kernels), -1))
        return found.view(*self.sides, n_models, n_samples, n_in).permute(2, 3, 4, 0, 1)

    def _matrices(self, dtype: torch.dtype) -> list[Tensor]:
        if dtype not in self._cast:
            self._cast[dtype] = [each.to(dtype).contiguous() for each in self._double]
        return self._cast[dtype]


@cache
def _transforms(side: int, kernel: int, padding: int) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Matrices that evaluate a row of pixels and one of a kernel at every point, and read the row of the output off."""
    n_points = side + 2 * padding
    n_out = n_points - kernel + 1
    points = _POINTS[: n_points - 1]
    # Coefficients of the polynomials that are 1 at one of the points and 0 at the others; the last one is 0 at all of them.
    rows = [[*_product([other for other in points if other != point]), 0.0] for point in points] + [_product(points)]
    for point, row in zip(points, rows, strict=False):
        scale = math.prod(point - other for other in points if other != point)
        row[:] = [value / scale for value in row]
    kernels = [[point**power for power in range(kernel)] for point in points] + [[0.0] * (kernel - 1) + [1.0]]
    for row, twin in zip(rows, kernels, strict=True):  # of one size, so that neither rounds more than the other
        scale = math.sqrt(math.hypot(*row) / math.hypot(*twin))
        row[:], twin[:] = [value / scale for value in row], [value * scale for value in twin]
    outputs = [[point**power for point in points] + [float(power == n_out - 1)] for power in range(n_out)]
    return [row[padding : padding + side] for row in rows], kernels, outputs


def _exact(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _product(roots: tuple[float, ...] | list[float]) -> list[float]:
    """Coefficients of the polynomial with these roots, the constant first."""
    found = [1.0]
    for root in roots:
        found = [a - root * b for a, b in zip([0.0, *found], [*found, 0.0], strict=True)]
    return found
