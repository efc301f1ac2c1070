"""How each kind of layer computes for many models at once.

A stacked value has the models in front: ``(M, B, …)`` where one model has ``(B, …)``. A stacked weight has them in front as well.
Layers of images work on ``(B, M * C, H, W)``, a view of the same memory, so that the models become groups of one convolution; what
they return is a view again, and layers in between (activations, pooling) keep it that way without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FLATTENS", "FUNCTIONS", "METHODS", "OWN_WAYS", "RELUS", "RULES", "SampleRows", "images", "refuse_layer", "stacked"]


@dataclass(frozen=True, eq=False)
class SampleRows:
    """Which rows of a stacked batch are samples.

    Args:
        real: ``(M, B)``, 1 for a sample and 0 for padding; None if every row is a sample and there are at least two.
        counts: ``(M,)``, samples of each model; None where ``real`` is.
    """

    real: Tensor | None = None
    counts: Tensor | None = None


Rule = Callable[[Any, Mapping[str, Tensor], Tensor, SampleRows], Tensor]
"""``rule(module, stacked tensors by their local name, input, samples)``."""


def images(x: Tensor) -> Tensor:
    """``(M, B, C, …)`` as ``(B, M * C, …)``, channels last in memory; a view if the layer before made it."""
    return x.movedim((0, 2), (-2, -1)).flatten(-2).contiguous().movedim(-1, 1)


def stacked(x: Tensor, n_models: int) -> Tensor:
    """``(B, M * C, …)`` as ``(M, B, C, …)``, a view."""
    return x.view(len(x), n_models, -1, *x.shape[2:]).transpose(0, 1)


def _along(value: Tensor, like: Tensor) -> Tensor:
    """A value per model and channel, ``(M, C)``, ready to meet ``(M, B, C, …)``."""
    return value.reshape(value.shape[0], 1, value.shape[1], *(1,) * (like.dim() - 3))


def _conv2d(module: nn.Conv2d, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    bias = own["bias"].flatten() if "bias" in own else None
    weight, groups = own["weight"].flatten(0, 1), len(x) * module.groups
    return stacked(F.conv2d(images(x), weight, bias, module.stride, module.padding, module.dilation, groups), len(x))


def _pool(module: nn.Module, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    return stacked(module(images(x)), x.shape[0])


def _alone(module: nn.Module, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    """Layers that treat every element, or every sample's last dimension, by itself and have no weights."""
    # Autograd lets nobody write into what it starts from.
    out: Tensor = module(x.clone() if getattr(module, "inplace", False) else x)
    return out


def _unchanged(module: nn.Module, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    return x


def _layer_norm(module: nn.LayerNorm, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    out = F.layer_norm(x, module.normalized_shape, eps=module.eps)
    spread = (-1, *(1,) * (x.dim() - 1 - len(module.normalized_shape)), *module.normalized_shape)
    if "weight" in own:
        out = out * own["weight"].reshape(spread)
    return out + own["bias"].reshape(spread) if "bias" in own else out


def _batch_norm(module: Any, own: Mapping[str, Tensor], x: Tensor, samples: SampleRows) -> Tensor:
    if samples.real is not None and samples.counts is not None:
        return _masked_batch_norm(module, own, x, samples.real, samples.counts)
    y, mean, var = _Standardised.apply(x, module.eps)  # type: ignore[no-untyped-call]
    n_values = x.shape[1] * x[0, 0, 0].numel()
    with torch.no_grad():
        for name, now in (("running_mean", mean), ("running_var", var * (n_values / (n_values - 1)))):
            own[name].lerp_(now, module.momentum)
        own["num_batches_tracked"].add_(1)
    return torch.addcmul(_along(own["bias"], y), y, _along(own["weight"], y)) if "weight" in own else y


class _Standardised(torch.autograd.Function):
    """A batch by the mean and the standard deviation of each model's channels, and the mean and the variance.

    Where channels lie last, ``F.batch_norm`` adds up all values of a channel one after the other: for pictures it loses three digits, of
    which Adam makes whole steps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        ctx.dims = (1, *range(3, x.dim()))
        mean = x.mean(ctx.dims)
        y = x - _along(mean, x)
        var = y.square().mean(ctx.dims)
        scale = (var + eps).rsqrt()
        y.mul_(_along(scale, x))
        ctx.save_for_backward(y, scale)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        gradient, (y, scale) = gradients[0], ctx.saved_tensors
        slope = _along((gradient * y).mean(ctx.dims), y)
        found = torch.addcmul(gradient - _along(gradient.mean(ctx.dims), y), y, slope, value=-1)
        return found.mul_(_along(scale, y)), None


def _affine(own: Mapping[str, Tensor], centred: Tensor, var: Tensor) -> Tensor:
    scale = var.rsqrt()
    if "weight" in own:
        return centred * _along(scale * own["weight"], centred) + _along(own["bias"], centred)
    return centred * _along(scale, centred)


def _masked_batch_norm(module: Any, own: Mapping[str, Tensor], x: Tensor, real: Tensor, counts: Tensor) -> Tensor:
    """BatchNorm in training over the real samples; a model with one value a channel uses its running statistics, as the loop does."""
    dims = (1, *range(3, x.dim()))
    weight = real.reshape(*real.shape, *(1,) * (x.dim() - 2))
    n_values = (counts * (x[0, 0, 0].numel())).unsqueeze(1)
    single = n_values == 1
    mean = (x * weight).sum(dims) / n_values
    var = ((x - _along(mean, x)).square() * weight).sum(dims) / n_values
    before_mean, before_var = own["running_mean"].clone(), own["running_var"].clone()
    with torch.no_grad():
        unbiased = var * (n_values / (n_values - 1).clamp(min=1))
        for name, now in (("running_mean", mean), ("running_var", unbiased)):
            own[name].lerp_(torch.where(single, own[name], now), module.momentum)
        own["num_batches_tracked"].add_(~single.squeeze(1))
    mean, var = torch.where(single, before_mean, mean), torch.where(single, before_var, var)
    return _affine(own, x - _along(mean, x), var + module.eps)


_ELEMENTWISE = (
    nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Softsign, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink,
)  # fmt: skip

RULES: Mapping[type[nn.Module], Rule] = {
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _pool,
    nn.Identity: _unchanged,
    nn.Dropout: _unchanged,
    nn.Dropout2d: _unchanged,
    **dict.fromkeys(_ELEMENTWISE, _alone),
}
"""Exact classes only: a subclass may compute something else."""

RELUS = frozenset({nn.ReLU, torch.relu, F.relu, "relu"})
FLATTENS = frozenset({nn.Flatten, torch.flatten, "flatten"})
OWN_WAYS: frozenset[object] = RELUS | FLATTENS | {nn.Linear, nn.MaxPool2d}
"""Layers, functions and methods that have a backward pass of their own."""


def refuse_layer(module: nn.Module) -> str | None:
    """Why a layer cannot be computed for many models at once, or None."""
    name = type(module).__name__
    if type(module) not in RULES.keys() | OWN_WAYS:
        return f"there is no rule for {name}"
    if isinstance(module, nn.Dropout | nn.Dropout2d) and module.p:
        return "dropout draws from a stream of its own in every model"
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        return "a Flatten does not keep exactly the batch dimension"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"a convolution pads with {module.padding_mode}"
    if isinstance(module, nn.MaxPool2d) and module.return_indices:
        return "a MaxPool2d returns indices"
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and (not module.track_running_stats or module.momentum is None):
        return f"a {name} keeps no exponential running statistics"
    return None


def _function(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(input: Tensor, *args: Any, **options: Any) -> Tensor:  # noqa: A002
        in_place = options.get("inplace") or any(each is True for each in args)
        return function(input.clone() if in_place else input, *args, **options)

    return apply


_FUNCTIONS = (torch.tanh, torch.sigmoid, F.gelu, F.silu, F.leaky_relu, F.elu, F.tanh, F.sigmoid)

FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Tensor]] = {function: _function(function) for function in _FUNCTIONS}
"""Functions that may stand between layers, with what is called in their place."""

METHODS: Mapping[str, Callable[..., Tensor]] = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}
"""The same for methods of tensors."""
