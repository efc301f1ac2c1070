"""What surrounds every computation: evaluation mode, gradients on, and everything put back as it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet, nearest

__all__ = ["evaluation", "head", "map_tensors", "sample", "selected_parameters"]


def selected_parameters(model: nn.Module, names: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The floating-point parameters called ``names``, by name in the model's order; for None those that are trained.

    What is trained requires gradients; of a model that is frozen as a whole, all parameters count as trained.

    Raises:
        RequirementNotMet: If a name is not a floating-point parameter of the model, with the nearest one.
    """
    floating = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    if names is None:
        return {name: p for name, p in floating.items() if p.requires_grad} or floating
    for name in names:
        if name not in floating:
            hint = nearest(name, floating)
            raise RequirementNotMet(f'the model has no floating-point parameter "{name}"' + (f"; {hint}" if hint else ""))
    return {name: p for name, p in floating.items() if name in set(names)}


@contextmanager
def evaluation(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with gradients for ``parameters`` only; modes, ``requires_grad`` and global generators are restored.

    Flags are set module by module: a model that overrides ``train`` (to keep some layers in a mode, or to merge adapters) comes
    back as it was. ``.grad`` is never touched, for gradients are taken by ``torch.autograd.grad``.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(parameter) for parameter in parameters.values()}
    device_types = {p.device.type for p in parameters.values()}
    cuda = {p.device.index or 0 for p in parameters.values() if p.device.type == "cuda"}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=sorted(cuda)))
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            for device_type in sorted(device_types):
                stack.enter_context(torch.autocast(device_type, enabled=False))
            for module, _ in modes:
                module.training = False
            for parameter, _ in flags:
                parameter.requires_grad_(id(parameter) in wanted)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def sample(x: Any, i: int, n: int) -> Any:
    """Sample ``i`` of ``n`` as a batch of one: rows of tensors, items of lists, each field of a mapping or tuple."""
    if n == 1:
        return x
    if isinstance(x, Tensor):
        return x[i : i + 1]
    if isinstance(x, Mapping):
        return type(x)({key: sample(value, i, n) for key, value in x.items()})  # type: ignore[call-arg]
    if isinstance(x, tuple):
        fields = [sample(value, i, n) for value in x]
        return type(x)(*fields) if hasattr(x, "_fields") else tuple(fields)
    if x is None or isinstance(x, bool | int | float | str):
        return x
    try:
        return x[i : i + 1]
    except (TypeError, KeyError, IndexError) as error:
        raise RequirementNotMet(
            f"a batch of type {type(x).__name__} cannot be cut into single samples; give batches of one sample"
        ) from error


def head(x: Any, n: int) -> Any:
    """The first ``n`` samples of a tensor, or of a mapping or tuple of them; TypeError for anything else."""
    return map_tensors(x, lambda t: t[:n])


def map_tensors(x: Any, function: Callable[[Tensor], Any]) -> Any:
    """``function`` of every tensor of a tensor, mapping or tuple."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, Mapping):
        return {key: map_tensors(value, function) for key, value in x.items()}
    if isinstance(x, tuple):
        fields = [map_tensors(value, function) for value in x]
        return type(x)(*fields) if hasattr(x, "_fields") else tuple(fields)
    raise TypeError(f"{type(x).__name__} cannot be vectorised over")
