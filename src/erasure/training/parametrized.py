"""Weights that are computed from other tensors: weight norm, spectral norm, pruning, and what ``torch.nn.utils.parametrize`` registers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_weight_norm, weight_norm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from erasure.errors import RequirementNotMet

__all__ = [
    "draw_anew",
    "drawn_anew",
    "effective_weights",
    "may_be_trained",
    "plain_weights",
    "require_assignable",
    "unassignable",
]

_TOLERANCE = 1e-4
_REMEDY = "use a method that trains, or fold the weight with torch.nn.utils.parametrize.remove_parametrizations first"


def unassignable(model: nn.Module) -> str | None:
    """Why a weight of ``model`` does not take what is assigned to it, or None: its norm is divided away, say.

    A method that changes weights in one step would then do something else than it says, or nothing.
    """
    for name, module in model.named_modules():
        if _hook(module, SpectralNorm) is not None:
            return _refusal(name, module, "torch.nn.utils.spectral_norm")
        if not parametrize.is_parametrized(module):
            continue
        kept = copy.deepcopy(module).eval()
        for weight, rules in _rules(kept).items():
            generator = torch.Generator().manual_seed(0)
            before = getattr(kept, weight).detach()
            factors = 0.5 + torch.rand(before.shape, generator=generator, dtype=torch.float64)
            if not _assigned(kept, weight, before * factors.to(before)):
                return _refusal(name, module, ", ".join(type(rule).__name__.strip("_") for rule in rules))
    return None


def require_assignable(model: nn.Module, method: str) -> None:
    """Every weight takes what is assigned to it.

    Raises:
        RequirementNotMet: If one does not; names the layer.
    """
    reason = unassignable(model)
    if reason is not None:
        raise RequirementNotMet(f"{method} changes weights by assignment, but {reason}")


@contextmanager
def plain_weights(model: nn.Module, *, pruned: bool = False) -> Iterator[None]:
    """Every computed weight of ``model`` as a parameter of its own; what becomes of it is assigned to the tensors it is computed from.

    Args:
        model: The network.
        pruned: Also weights that ``torch.nn.utils.prune`` masks, for methods that change a layer's ``weight``. What is pruned stays 0.
            Methods that go through the parameters find the ones behind the mask.

    Raises:
        RequirementNotMet: If a weight does not take what is assigned to it.
    """
    require_assignable(model, "the method")
    undo: list[Callable[[], None]] = []
    for module in model.modules():
        if parametrize.is_parametrized(module):
            undo += [_plain(module, weight) for weight in list(_rules(module))]
        old = _hook(module, WeightNorm)
        if old is not None:
            undo.append(_plain_of_old(module, old))
        undo += [_plain_of_pruned(module, rule) for rule in _prunings(module) if pruned]
    try:
        yield
    finally:
        for put_back in reversed(undo):
            put_back()


def effective_weights(model: nn.Module) -> list[Tensor]:
    """The weights that the network computes with: its parameters, and in place of those that others are computed from, the others."""
    found: list[Tensor] = []
    inner = {
        id(parameter)
        for module in model.modules()
        if parametrize.is_parametrized(module)
        for parameter in _rules(module).parameters()
    }
    for module in model.modules():
        found += [p for p in module.parameters(recurse=False) if id(p) not in inner]
        if parametrize.is_parametrized(module):
            found += [getattr(module, weight) for weight in _rules(module)]
    return list({id(tensor): tensor for tensor in found}.values())


def may_be_trained(layer: nn.Module) -> bool:
    """Whether the weight of a layer, or what is behind its pruning, requires a gradient."""
    behind: Any = layer._parameters.get("weight_orig")
    weight: Any = layer.weight if behind is None else behind
    return bool(weight.requires_grad)


def drawn_anew(module: nn.Module) -> bool:
    """Draw the weights of one module by its own initialisation; whether it has one.

    Where a weight is computed, what the initialisation writes to it would be lost: it is drawn as a plain one and assigned.
    """
    renew = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if not callable(renew):
        return False
    computed = list(_rules(module)) if parametrize.is_parametrized(module) else []
    old = _hook(module, WeightNorm) or _hook(module, SpectralNorm)
    if not computed and old is None:
        undo = [_plain_of_pruned(module, rule) for rule in _prunings(module)]
        renew()
        for put_back in undo:
            put_back()
        return True
    plain = copy.deepcopy(module)
    if old is not None:
        raise RequirementNotMet(
            f"{type(module).__name__} has a weight of torch.nn.utils.{type(old).__name__}, which cannot be reinitialised; use the one of "
            "torch.nn.utils.parametrizations"
        )
    for weight in computed:
        _remove(plain, weight)
    again: Any = getattr(plain, "reset_parameters", None) or getattr(plain, "_reset_parameters", None)
    again()
    with torch.no_grad():
        for name, parameter in plain.named_parameters(recurse=False):
            if name in computed:
                setattr(module, name, parameter.detach())
            else:
                getattr(module, name).copy_(parameter)
        for name, buffer in plain.named_buffers(recurse=False):
            getattr(module, name).copy_(buffer)
    return True


def draw_anew(model: nn.Module) -> None:
    """Reinitialise all weights of a network from torch's global generator.

    Each layer by its own initialisation. Weights of a module that has none (a class token, positions, a scale) come from the normal
    distribution with the mean and the standard deviation that they have; the row of padding of an embedding stays 0 either way.
    """
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList) or drawn_anew(module):
            continue
        with torch.no_grad():
            for parameter in module.parameters(recurse=False):
                if parameter.is_floating_point() and parameter.numel():
                    spread = parameter.std(correction=0)
                    parameter.copy_(parameter.mean() + spread * torch.randn_like(parameter))


def _rules(module: nn.Module) -> Any:
    """The module's computed weights by name, each with its rules (a ParametrizationList)."""
    return module.parametrizations


def _remove(module: nn.Module, weight: str) -> None:
    """Make ``weight`` a plain parameter.

    ``torch.nn.utils.parametrize`` puts a property on a class that it makes for the module. A deep copy shares that class, and removing
    the property from the copy would take the weight from the module it was copied from: the class is copied first.
    """
    shared = type(module)
    own = {name: value for name, value in vars(shared).items() if name not in {"__dict__", "__weakref__"}}
    module.__class__ = type(shared.__name__, shared.__bases__, own)
    parametrize.remove_parametrizations(module, weight)


def _hook(module: nn.Module, kind: type) -> Any:
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kind)), None)


def _prunings(module: nn.Module) -> list[BasePruningMethod]:
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, BasePruningMethod)]


def _refusal(name: str, module: nn.Module, rules: str) -> str:
    kind = type(module).__name__.removeprefix("Parametrized")
    return (
        f'the layer "{name or "model"}" ({kind}) computes its weight by {rules}, which undoes what is assigned to it; {_REMEDY}'
    )


def _assigned(module: nn.Module, weight: str, value: Tensor) -> bool:
    """Assign ``value``; whether the weight is that afterwards."""
    try:
        with torch.no_grad():
            setattr(module, weight, value)
            found = getattr(module, weight)
    except (NotImplementedError, RuntimeError, ValueError):  # the rule has no inverse, or not for this value
        return False
    scale = float(value.abs().max()) if value.numel() else 1.0
    return found.shape == value.shape and bool(torch.allclose(found, value, rtol=_TOLERANCE, atol=_TOLERANCE * scale))


def _plain(module: nn.Module, weight: str) -> Callable[[], None]:
    rules = _rules(module)[weight]
    functions, flags = list(rules), [p.requires_grad for p in rules.parameters(recurse=False)]
    _remove(module, weight)
    getattr(module, weight).requires_grad_(any(flags))

    def put_back() -> None:
        value = getattr(module, weight).detach().clone()
        for function in functions:
            parametrize.register_parametrization(module, weight, function, unsafe=True)
        if not _assigned(module, weight, value):
            raise RequirementNotMet(f"a weight of {type(module).__name__} cannot be assigned to; {_REMEDY}")
        for parameter, flag in zip(_rules(module)[weight].parameters(recurse=False), flags, strict=True):
            parameter.requires_grad_(flag)

    return put_back


def _plain_of_old(module: nn.Module, rule: WeightNorm) -> Callable[[], None]:
    flags = [getattr(module, f"{rule.name}_{part}").requires_grad for part in "gv"]
    remove_weight_norm(module, rule.name)
    getattr(module, rule.name).requires_grad_(any(flags))

    def put_back() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            weight_norm(module, rule.name, rule.dim)
        for part, flag in zip("gv", flags, strict=True):
            getattr(module, f"{rule.name}_{part}").requires_grad_(flag)

    return put_back


def _plain_of_pruned(module: nn.Module, rule: BasePruningMethod) -> Callable[[], None]:
    """Make the weight that ``rule`` masks a parameter; entries that are pruned are 0 in every pass, and nothing trains them."""
    name = rule._tensor_name
    original, mask = module._parameters[f"{name}_orig"], module._buffers[f"{name}_mask"]
    if original is None or mask is None:
        raise RequirementNotMet(f"{type(module).__name__} is pruned, but has no {name}_orig and {name}_mask")
    number = next(key for key, hook in module._forward_pre_hooks.items() if hook is rule)
    weight = nn.Parameter((original * mask).detach().clone(), requires_grad=original.requires_grad)
    kept = mask != 0

    def prune(*_: object) -> None:
        weight.data.mul_(kept)

    delattr(module, name)
    del module._parameters[f"{name}_orig"]
    setattr(module, name, weight)
    module._forward_pre_hooks[number] = prune
    if weight.requires_grad:
        weight.register_hook(lambda gradient: gradient * kept)  # type: ignore[no-untyped-call]

    def put_back() -> None:
        with torch.no_grad():
            original.copy_(torch.where(kept, weight / mask, original))
        delattr(module, name)
        module.register_parameter(f"{name}_orig", original)
        setattr(module, name, original * mask)
        module._forward_pre_hooks[number] = rule

    return put_back
