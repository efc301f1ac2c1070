"""Rule of convolutions in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.training.per_sample.layer import CHUNK_ELEMENTS, LayerRule, Scratch, register

__all__ = ["ConvolutionRule"]

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@register(nn.Conv1d, nn.Conv2d, nn.Conv3d)
class ConvolutionRule(LayerRule):
    r"""Squares of ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d`` with any stride, padding, padding mode, dilation and groups.

    With the patches :math:`U_i` (one column per output position) that sample i's convolution multiplies, group by group,

    .. math:: \sum_i \bigl(b_i U_i^\top\bigr)^2 .

    Every backward pass costs one batched matrix product. The patches are cut once per batch where they may be kept, else for each pass.

    Source:
        Rochette, Manoel, Tramel, "Efficient per-example gradient computations in convolutional neural networks", arXiv 1912.06015.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        self.module: _Convolution = cast(_Convolution, module)
        self.inputs = inputs
        self.scratch = scratch
        self.weight_total: Tensor | None = None
        self.bias_total: Tensor | None = None
        self.kept: list[Tensor] | None = None
        self.is_to_keep = False

    @staticmethod
    def accepts(module: nn.Module, inputs: Tensor) -> bool:
        """Whether the input has a batch dimension besides channels and space."""
        return inputs.ndim == cast(_Convolution, module).weight.ndim

    def n_repeated(self) -> int:
        """Those of all patches."""
        return len(self.inputs) * self._n_positions() * self.module.weight.shape[1:].numel() * self.module.groups

    def keep(self) -> None:
        """Keep the patches."""
        self.is_to_keep = True

    def add(self, gradient: Tensor) -> None:
        """Adds the squares of one backward pass; see :class:`LayerRule`."""
        groups, shape = self.module.groups, self.module.weight.shape
        b = gradient.reshape(len(gradient), shape[0], -1).to(self.inputs.dtype)
        bias = b.sum(2).square_().sum(0)
        self.bias_total = bias if self.bias_total is None else self.bias_total.add_(bias)
        start = 0
        for patches in self._patches(b.shape[2]):
            n = len(patches) // groups
            rows = b[start : start + n].reshape(n * groups, shape[0] // groups, -1)
            start += n
            # Matrix products run fastest with the fewer rows on the left: a first layer has fewer taps than filters.
            flipped = patches.shape[1] < rows.shape[1]
            pair = (patches, rows.transpose(1, 2)) if flipped else (rows, patches.transpose(1, 2))
            product = self.scratch.of("product", (n * groups, pair[0].shape[1], pair[1].shape[2]), b)
            squares = torch.bmm(*pair, out=product).square_().view(n, groups, pair[0].shape[1], -1)
            weight = squares.sum(0) if n > 1 or self.weight_total is None else squares[0]
            weight = weight.transpose(1, 2) if flipped else weight
            self.weight_total = weight if self.weight_total is None else self.weight_total.add_(weight)

    def squares(self) -> dict[str, Tensor]:
        """Squares of weight and bias."""
        if self.weight_total is None or self.bias_total is None:
            return {}
        return {"weight": self.weight_total.reshape(self.module.weight.shape), "bias": self.bias_total}

    def _n_positions(self) -> int:
        module = self.module
        pads = _paddings(module)
        n = 1
        for axis, (size, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
            padded = self.inputs.shape[2 + axis] + sum(pads[2 * (len(module.kernel_size) - 1 - axis) :][:2])
            n *= (padded - dilation * (size - 1) - 1) // stride + 1
        return n

    def _patches(self, n_positions: int) -> Iterator[Tensor]:
        """Patches of some samples at a time; each shape ``(samples * groups, C / groups * kernel, positions)``."""
        if self.kept is not None:
            yield from self.kept
            return
        shape = self.module.weight.shape
        per_sample = shape[1:].numel() * self.module.groups * n_positions
        step = max(1, CHUNK_ELEMENTS // max(per_sample, shape.numel()))
        parts = (self._unfold(self.inputs[start : start + step]) for start in range(0, len(self.inputs), step))
        if self.is_to_keep:
            self.kept = list(parts)
            yield from self.kept
        else:
            yield from parts

    def _unfold(self, x: Tensor) -> Tensor:
        module, n = self.module, len(x)
        pads = _paddings(module)
        if any(pads):
            x = F.pad(x, pads, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
        n_spatial = len(module.kernel_size)
        for axis, (size, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
            x = x.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
        positions, kernel = range(2, 2 + n_spatial), range(2 + n_spatial, 2 + 2 * n_spatial)
        n_positions = x.shape[2 : 2 + n_spatial].numel()
        taps = x.permute(0, 1, *kernel, *positions)
        if not taps.is_contiguous():
            taps = taps.contiguous() if self.is_to_keep else self.scratch.of("patches", taps.shape, taps).copy_(taps)
        return taps.view(n * module.groups, -1, n_positions)


def _paddings(module: _Convolution) -> list[int]:
    """Padding on both sides of each spatial axis, last axis first, as ``F.pad`` takes it."""
    pads: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        elif module.padding == "valid":
            pads += [0, 0]
        else:
            pads += [int(module.padding[axis])] * 2
    return pads
