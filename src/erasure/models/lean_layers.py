"""Layers of language models with low-rank updates that keep less for the backward pass.

A frozen linear map needs nothing for the gradient of its input, and a low-rank update needs its input and a few numbers a token. As
transformers and peft write the steps down, autograd keeps float32 copies of both, the float32 input of each norm and the factors of each
gate. For one call, :func:`lean` puts functions in place that compute the same and keep the least. A layer that is not what they compute
stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as nn_module

from erasure.functional.short_attention import ShortAttention
from erasure.training.devices import mapped_apart
from erasure.training.randomness import isolated

__all__ = ["lean"]


@contextmanager
def lean(network: nn.Module) -> Iterator[None]:
    """Let a network with low-rank updates keep less while gradients are recorded; outside of the block it is what it was.

    Values and gradients are those of the plain layers; over bfloat16 weights, low-rank updates are computed in bfloat16 and not in
    float32. Blocks whose activations are computed again (gradient checkpointing) stay as they are.

    Args:
        network: A language model, perhaps with low-rank updates of peft.
    """
    changed: list[nn.Module] = []
    with ExitStack() as stack:
        try:
            for module in network.modules() if _may_change(network) else ():
                if (forward := _leaner(module)) is not None:
                    vars(module)["forward"] = MethodType(forward, module)  # bound, so that a deep copy runs its own weights
                    changed.append(module)
            if changed:
                stack.enter_context(mapped_apart())
                stack.enter_context(ShortAttention())
            yield
        finally:
            for module in changed:
                vars(module).pop("forward", None)


def _may_change(network: nn.Module) -> bool:
    """Whether gradients are recorded, once, and nobody would miss calls of layers."""
    listeners = (nn_module._global_forward_hooks, nn_module._global_forward_pre_hooks, nn_module._global_backward_hooks)
    return (
        torch.is_grad_enabled()
        and not any(listeners)
        and torch._C._functorch.peek_interpreter_stack() is None
        and not any(getattr(module, "gradient_checkpointing", False) for module in network.modules())
        and any(_is_low_rank(module) for module in network.modules())
    )


def _leaner(module: nn.Module) -> Callable[..., Tensor] | None:
    """What a layer's forward is replaced with, if it is known to compute the same."""
    if "forward" in vars(module):
        return None
    if _is_gated(module):
        return _gated if _computes(module, _gated_plainly) else None
    if _is_low_rank(module):
        return _low_rank
    if _is_norm(module) and _computes(module, _normalised):
        return _normalised
    return None


# Low-rank updates


class _LowRankLinear(torch.autograd.Function):
    """``x W^T + b + s (x A^T) B^T``; keeps ``x A^T``, and ``x`` where it is not made again from what a norm keeps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        made: _Normed | None,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scaling: float,
    ) -> Tensor:
        y, inner = _updated(x, weight, bias, down, up, scaling)
        ctx.save_for_backward(x if made is None else None, inner, weight, down, up)
        ctx.made, ctx.scaling = made, scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, weight, down, up = ctx.saved_tensors
        x = x if ctx.made is None else ctx.made.again()
        to_inner, to_down, to_up = _to_updates(x, inner, up, ctx.scaling, gradient)
        to_x = _to_input(x, weight, down, to_inner, gradient) if ctx.needs_input_grad[0] else None
        return to_x, None, None, None, to_down, to_up, None


class _GatedLowRank(torch.autograd.Function):
    """A low-rank linear map of ``act(gate) * value``, a product that is computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        value: Tensor,
        activation: Callable[[Tensor], Tensor],
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scaling: float,
    ) -> Tensor:
        y, inner = _updated(_gated_product(activation(gate), gate, value), weight, bias, down, up, scaling)
        ctx.save_for_backward(gate, value, inner, weight, down, up)
        ctx.activation, ctx.scaling = activation, scaling
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gate, value, inner, weight, down, up = ctx.saved_tensors
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            active = ctx.activation(leaf)
        x = active.detach() * value
        to_inner, to_down, to_up = _to_updates(x, inner, up, ctx.scaling, gradient)
        to_x = _to_input(x, weight, down, to_inner, gradient)
        (to_gate,) = torch.autograd.grad(active, leaf, to_x * value)
        return to_gate, to_x.mul_(active.detach()), None, None, None, to_down, to_up, None


def _updated(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """What an updated linear map gives, and what is between the parts of the update."""
    flat = x.reshape(-1, x.shape[-1])
    inner = flat @ down.to(x.dtype).t()
    y = F.linear(flat, weight, bias).addmm_(inner, up.to(x.dtype).t(), alpha=scaling)
    return y.reshape(*x.shape[:-1], len(weight)), inner


def _gated_product(active: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    """``act(gate) * value``, written over the first factor where nothing else needs it."""
    is_own = active.data_ptr() != gate.data_ptr() and active.dtype == value.dtype
    return active.mul_(value) if is_own else active.mul(value)


def _to_updates(x: Tensor, inner: Tensor, up: Tensor, scaling: float, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for what is between the parts of an update, and for both."""
    flat = gradient.reshape(-1, gradient.shape[-1])
    to_inner = (flat @ up.to(flat.dtype)).mul_(scaling)
    to_down = (to_inner.t() @ x.reshape(-1, x.shape[-1])).to(up.dtype)
    return to_inner, to_down, (inner.t() @ flat).t().to(up.dtype).mul_(scaling)


def _to_input(x: Tensor, weight: Tensor, down: Tensor, to_inner: Tensor, gradient: Tensor) -> Tensor:
    """Gradient for the input of an updated linear map."""
    flat = gradient.reshape(-1, gradient.shape[-1])
    return (flat @ weight).addmm_(to_inner, down.to(flat.dtype)).reshape(x.shape)


def _low_rank(self: Any, x: Tensor) -> Tensor:
    made = getattr(x, _MADE, None)
    made = made if made is not None and made.is_of(x) else None
    return _LowRankLinear.apply(x, made, *_parts(self))  # type: ignore[no-untyped-call,no-any-return]


def _gated(self: Any, x: Tensor) -> Tensor:
    gate, value = self.gate_proj(x), self.up_proj(x)
    return _GatedLowRank.apply(gate, value, self.act_fn, *_parts(self.down_proj))  # type: ignore[no-untyped-call,no-any-return]


def _gated_plainly(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


def _parts(layer: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor, float]:
    """Weight and bias of the frozen map, both parts of the update and its factor."""
    base, name = layer.base_layer, layer.active_adapters[0]
    return base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _is_low_rank(module: Any) -> bool:
    """Whether a layer is peft's plain update of a frozen linear map, and nothing else."""
    if type(module).__name__ != "Linear" or not type(module).__module__.startswith("peft.tuners.lora."):
        return False
    names = module.active_adapters
    if module.disable_adapters or module.merged or len(names) != 1 or names[0] not in module.lora_A or module.lora_variant:
        return False
    base, down, up = module.base_layer, module.lora_A[names[0]], module.lora_B[names[0]]
    return (
        all(type(each) is nn.Linear and not _is_listened_to(each) for each in (base, down, up))
        and type(module.lora_dropout[names[0]]) is nn.Identity
        and down.bias is None
        and up.bias is None
        and not any(parameter.requires_grad for parameter in base.parameters())
    )


def _is_gated(module: nn.Module) -> bool:
    """Whether a layer may be a gated perceptron that ends in a low-rank update."""
    parts = dict(module.named_children())
    return (
        set(parts) == {"gate_proj", "up_proj", "down_proj", "act_fn"}
        and _is_low_rank(parts["down_proj"])
        and not any(_is_listened_to(parts[name]) or "forward" in vars(parts[name]) for name in ("down_proj", "act_fn"))
        and not list(parts["act_fn"].parameters())
    )


# Norms


_MADE = "_erasure_made_from"
"""Attribute of a norm's output that says how it is made again."""


class _Normed:
    """What a norm's output is made of, for the layers that read it: none of them has to keep it.

    Args:
        y: The output.
        x: What the norm was given.
        scale: One number a token.
        weight: The norm's.
    """

    def __init__(self, y: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> None:
        self.version, self.parts, self.n_readers = y._version, (x.detach(), scale, weight.detach()), 0
        self.kept: Tensor | None = None

    def is_of(self, y: Tensor) -> bool:
        """Whether the output is still what it was; if so, another layer reads it."""
        is_same = y._version == self.version
        self.n_readers += is_same
        return is_same

    def again(self) -> Tensor:
        """The output, computed once for all readers of a backward pass."""
        x, scale, weight = self.parts
        self.n_readers -= 1
        y = weight * (x.to(torch.float32) * scale).to(x.dtype) if self.kept is None else self.kept
        self.kept = y if self.n_readers > 0 else None
        return y


class _RootMeanSquareNorm(torch.autograd.Function):
    """``weight * x / rms(x)`` with float32 inside, and the factor of each token; keeps ``x`` and that factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, scale, weight)
        ctx.mark_non_differentiable(scale)
        unit = wide * scale if wide is x else wide.mul_(scale)
        return weight * unit.to(x.dtype), scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        unit = x.to(scale.dtype) * scale
        along = (gradient * weight).to(scale.dtype)
        to_x = along.sub(unit.mul_((along * unit).mean(-1, keepdim=True))).mul_(scale)
        return to_x.to(x.dtype), None, None


def _normalised(self: Any, hidden_states: Tensor) -> Tensor:
    y, scale = _RootMeanSquareNorm.apply(hidden_states, self.weight, _epsilon(self))  # type: ignore[no-untyped-call]
    vars(y)[_MADE] = _Normed(y, hidden_states, scale, self.weight)
    return y  # type: ignore[no-any-return]


def _epsilon(norm: Any) -> Any:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def _is_norm(module: nn.Module) -> bool:
    """Whether a layer may be a norm by the root of the mean square, with a frozen weight."""
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(_epsilon(module), float):
        return False
    parameters = dict(module.named_parameters())
    return set(parameters) == {"weight"} and not parameters["weight"].requires_grad


def _is_listened_to(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


# Trying

_TRIED: dict[tuple[type[nn.Module], torch.dtype], bool] = {}


def _computes(module: Any, formula: Callable[..., Tensor]) -> bool:
    """Whether layers of a class compute what is taken for their formula, tried once for each class and type of numbers."""
    dtype = next(module.parameters()).dtype
    key = (type(module), dtype)
    if key not in _TRIED:
        with torch.no_grad(), isolated(0):
            expected, found = _compared(module, formula, dtype)
        _TRIED[key] = found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    return _TRIED[key]


def _compared(module: Any, formula: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What a layer and its formula give for numbers between -1 and 1."""
    device = next(module.parameters()).device
    width = len(module.weight) if formula is _normalised else module.gate_proj.in_features
    x = torch.linspace(-9.0, 9.0, 2 * width, device=device).sin().to(dtype).reshape(1, 2, width)
    if formula is not _normalised:
        return module(x), formula(module, x)
    # A weight of ones would not tell where it is applied.
    weight = torch.linspace(0.5, 1.5, width, device=device).to(dtype)
    expected = torch.func.functional_call(module, {"weight": weight}, (x,))
    return expected, _RootMeanSquareNorm.apply(x, weight, _epsilon(module))[0]  # type: ignore[no-untyped-call]
