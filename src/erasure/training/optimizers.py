"""Optimizers of PyTorch as they are fastest on the CPU: in one pass over the weights, and without the hooks of ``torch.compile``.

``torch.optim`` wraps a few methods so that ``torch.compile`` leaves them alone. Each wrapper imports the compiler when it is first called,
about two seconds for a program that compiles nothing. The functions inside them do the arithmetic; these classes call those directly.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled

__all__ = ["fits_one_pass", "is_ordinary", "lay_out_gradients", "lays_out_gradients", "uncompiled"]

_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")

MANY_WEIGHTS = 2**18
"""From here on the update of the weights takes a third of a step of Adam; smaller networks keep the sums they have always had."""


_RATES = {"lr": (0.0, 1e6), "weight_decay": (0.0, 1e6)}
_ORDINARY: dict[str, dict[str, tuple[float, float]]] = {
    "torch.nn.CrossEntropyLoss": {},
    "torch.optim.Adam": _RATES,
    "torch.optim.AdamW": _RATES,
    "torch.optim.SGD": {**_RATES, "momentum": (0.0, 0.9999)},
    "torch.optim.lr_scheduler.CosineAnnealingLR": {"eta_min": (0.0, 1e6)},
    "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts": {"T_0": (1, 10**6), "T_mult": (1, 10**6), "eta_min": (0.0, 1e6)},
    "torch.optim.lr_scheduler.LinearLR": {"start_factor": (1e-6, 1.0), "end_factor": (0.0, 1.0)},
    "torch.optim.lr_scheduler.StepLR": {"step_size": (1, 10**6), "gamma": (0.0, 1.0)},
}
"""Least and largest number of each parameter; whole numbers where these are."""

_NEEDED = {"CosineAnnealingWarmRestarts": {"T_0"}, "StepLR": {"step_size"}}


def is_ordinary(path: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the class at ``path`` surely accepts ``parameters``, so that none has to be made to find out."""
    ranges = _ORDINARY.get(path)
    return (
        ranges is not None
        and _NEEDED.get(path.rpartition(".")[2], set()) <= set(parameters)
        and all(name in ranges and _is_within(value, *ranges[name]) for name, value in parameters.items())
    )


def _is_within(value: Any, least: float, most: float) -> bool:
    kinds = (int,) if isinstance(least, int) else (int, float)
    return type(value) in kinds and least <= value <= most


def fits_one_pass(kind: Callable[..., Any], parameters: Sequence[Tensor], given: Collection[str]) -> bool:
    """Whether Adam's update of ``parameters`` is better done in one pass than in ten: of many weights, on the CPU, where nothing else was
    asked for.

    Args:
        kind: The optimizer's class.
        parameters: The weights.
        given: Names of the arguments that were given.
    """
    if kind not in (torch.optim.Adam, torch.optim.AdamW) or any(name in given for name in _IMPLEMENTATIONS):
        return False
    # Weights of a class of their own, such as shards, bring their own arithmetic.
    plain = all(type(p) is nn.Parameter and p.is_cpu and p.dtype in (torch.float32, torch.float64) for p in parameters)
    return plain and sum(p.numel() for p in parameters) >= MANY_WEIGHTS


def lay_out_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Bring each gradient into the memory layout of its weights: a fused step passes over both as they lie, and mixes them up otherwise."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(parameter.grad)


@functools.cache
def uncompiled(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """A class like ``kind``, with the same arithmetic, that does not import ``torch.compile``.

    Args:
        kind: A class of ``torch.optim``, or any subclass of ``torch.optim.Optimizer``.

    Returns:
        A subclass of ``kind`` with its name; ``kind`` itself where nothing is wrapped.
    """
    methods: dict[str, Callable[..., Any]] = {}
    for name in _WRAPPED:
        method = getattr(kind, name)
        if _wrapper(method) == "inner":
            methods[name] = method.__wrapped__
    if lays_out_gradients(kind):
        methods["step"] = _unrecorded_step(_without_gradients(kind.step.__wrapped__))  # type: ignore[attr-defined]
    if "zero_grad" in methods:
        methods["zero_grad"] = _unrecorded_release(methods["zero_grad"])
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__doc__": kind.__doc__}) if methods else kind


def lays_out_gradients(kind: Any) -> bool:
    """Whether fused steps of ``uncompiled(kind)`` bring gradients into the layout of their weights; others need a hook for it."""
    return _wrapper(kind.step) == "_use_grad"


def _wrapper(method: Any) -> str:
    """Name of the wrapper's code, if ``method`` is wrapped."""
    return str(method.__code__.co_name) if hasattr(method, "__wrapped__") and hasattr(method, "__code__") else ""


def _without_gradients(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` under the gradient mode that the optimizer asks for, as ``torch.optim`` runs it."""

    @functools.wraps(step)
    def quiet(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self.defaults.get("fused"):
            lay_out_gradients(self)
        with torch.set_grad_enabled(bool(self.defaults.get("differentiable", False))):
            return step(self, *args, **kwargs)

    return quiet


def _unrecorded_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` without telling the profiler of it, which takes as long as the step of a small network, where nobody profiles or listens."""
    recorded = torch.optim.Optimizer.profile_hook_step(step)
    home = importlib.import_module("torch.optim.optimizer")
    listeners = [getattr(home, f"_global_optimizer_{when}_hooks", {"unknown": None}) for when in ("pre", "post")]

    @functools.wraps(step)
    def quiet(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        if own or any(listeners) or _profiler_enabled():
            return recorded(self, *args, **kwargs)
        return step(self, *args, **kwargs)

    quiet.hooked = True  # type: ignore[attr-defined] # or the class would have it recorded after all
    return quiet


def _unrecorded_release(zero_grad: Callable[..., None]) -> Callable[..., None]:
    """``zero_grad`` in the same way."""

    @functools.wraps(zero_grad)
    def quiet(self: torch.optim.Optimizer, set_to_none: bool = True) -> None:
        if not set_to_none or _profiler_enabled():
            return zero_grad(self, set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None

    return quiet
