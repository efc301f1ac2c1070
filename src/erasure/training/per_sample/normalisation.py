"""Rules of normalisation layers, whose parameters scale and shift a normalised input."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.training.per_sample.layer import LayerRule, Scratch, register

__all__ = ["BatchNormRule", "GroupNormRule", "InstanceNormRule", "LayerNormRule"]


class _AffineRule(LayerRule):
    r"""Squares of :math:`y = \gamma \hat x + \beta`, with :math:`s` running over the positions that share one scale.

    .. math:: \sum_i \Bigl(\sum_s b_{is} \hat x_{is}\Bigr)^2 \;\text{for}\;\gamma,\qquad
              \sum_i \Bigl(\sum_s b_{is}\Bigr)^2 \;\text{for}\;\beta .

    Args:
        normalised: The normalised input, shape ``(B, P, Q)``.
        shared: The axis, 1 or 2, over which a scale is shared.
        module: The layer.
    """

    def _start(self, module: nn.Module, normalised: Tensor, shared: int) -> None:
        self.module: nn.Module = module
        self.normalised: Tensor = normalised
        self.shared: int = shared
        self.weight_total: Tensor | None = None
        self.bias_total: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        """Adds the squares of one backward pass; see :class:`LayerRule`."""
        b = gradient.reshape(self.normalised.shape).to(self.normalised.dtype)
        weight = (b * self.normalised).sum(self.shared).square_().sum(0)
        self.weight_total = weight if self.weight_total is None else self.weight_total.add_(weight)
        if self.module._parameters.get("bias") is not None:
            bias = b.sum(self.shared).square_().sum(0)
            self.bias_total = bias if self.bias_total is None else self.bias_total.add_(bias)

    def squares(self) -> dict[str, Tensor]:
        """Squares of scale and shift."""
        totals = {"weight": self.weight_total, "bias": self.bias_total}
        weight = cast(Tensor, self.module.weight)
        return {name: total.view_as(weight) for name, total in totals.items() if total is not None}


@register(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
class BatchNormRule(_AffineRule):
    """Squares of batch normalisation in evaluation mode, where the running statistics are constants."""

    has_twin = True

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        scale, shift = _running_affine(module, inputs, unit=True)
        self._start(module, torch.addcmul(shift, inputs, scale).reshape(*inputs.shape[:2], -1), shared=2)

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Only with running statistics: otherwise the samples of a batch influence one another."""
        return not module.training and module.running_mean is not None and module.running_var is not None

    @staticmethod
    def twin(module: nn.Module, inputs: Tensor) -> Tensor | None:
        """The affine map that batch normalisation is in evaluation mode; None where no gradient would reach its output."""
        if not inputs.requires_grad or inputs.ndim < 2:
            return None
        # torch's own backward of batch normalisation takes a third of a small network's time; this one is a product.
        scale, shift = _running_affine(module, inputs, unit=False)
        return torch.addcmul(shift, inputs, scale)


def _running_affine(module: Any, inputs: Tensor, *, unit: bool) -> tuple[Tensor, Tensor]:
    """Scale and shift that normalise by the running statistics, with the layer's own affine map unless ``unit``."""
    with torch.no_grad():
        scale = torch.rsqrt(module.running_var + module.eps)
        if not unit:
            scale = scale * module.weight
        shift = -module.running_mean * scale
        if not unit:
            shift = shift + module.bias
        shape = (1, -1, *(1,) * (inputs.ndim - 2))
        return scale.to(inputs.dtype).view(shape), shift.to(inputs.dtype).view(shape)


@register(nn.GroupNorm)
class GroupNormRule(_AffineRule):
    """Squares of group normalisation."""

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        group_norm = cast(nn.GroupNorm, module)
        normalised = F.group_norm(inputs, group_norm.num_groups, eps=group_norm.eps)
        self._start(module, normalised.reshape(*inputs.shape[:2], -1), shared=2)


@register(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
class InstanceNormRule(_AffineRule):
    """Squares of instance normalisation, by the instance's own or by running statistics."""

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        norm: Any = module
        normalised = F.instance_norm(
            inputs, norm.running_mean, norm.running_var, use_input_stats=norm.running_mean is None, eps=norm.eps
        )
        self._start(module, normalised.reshape(*inputs.shape[:2], -1), shared=2)

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Evaluation mode: training would update the running statistics."""
        return not module.training

    @staticmethod
    def accepts(module: nn.Module, inputs: Tensor) -> bool:
        """Whether the input has a batch dimension besides channels and space."""
        n_spatial = 1 if isinstance(module, nn.InstanceNorm1d) else 2 if isinstance(module, nn.InstanceNorm2d) else 3
        return inputs.ndim == n_spatial + 2


@register(nn.LayerNorm, nn.RMSNorm)
class LayerNormRule(_AffineRule):
    """Squares of layer normalisation and of its root-mean-square form, on vectors or on sequences of them."""

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        norm = cast(nn.LayerNorm | nn.RMSNorm, module)
        shape = list(norm.normalized_shape)
        if isinstance(norm, nn.LayerNorm):
            normalised = F.layer_norm(inputs, shape, eps=norm.eps)
        else:
            normalised = F.rms_norm(inputs, shape, eps=norm.eps)
        self._start(module, normalised.reshape(len(inputs), -1, torch.Size(shape).numel()), shared=1)

    @staticmethod
    def accepts(module: nn.Module, inputs: Tensor) -> bool:
        """Whether anything lies in front of the normalised axes."""
        return inputs.ndim > len(cast(nn.LayerNorm, module).normalized_shape)
