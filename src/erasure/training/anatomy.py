"""What a network consists of, in one walk over its modules: those of PyTorch take several, which is most of what small networks cost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Anatomy", "first_factors", "is_on", "load_state", "tensors_of"]

_PLAIN = (bool, int, float, str, tuple, list, type(None))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers, by their names; what has several names is there once for each."""
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    for name, module in _modules(model):
        start = f"{name}." if name else ""
        for found, own in ((parameters, module._parameters), (buffers, module._buffers)):
            for local, tensor in own.items():
                if tensor is not None:
                    found[start + local] = tensor
    return parameters | buffers


def load_state(model: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Copy a state of this kind of model into it, as :meth:`torch.nn.Module.load_state_dict` does.

    A plain mapping does not say which version of each layer it is from, and layers that ask refuse it or take it for an old one (MNASNet
    of torchvision); it is taken for one of the present version.
    """
    state = OrderedDict(tensors)
    state._metadata = getattr(tensors, "_metadata", None) or model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=strict)


def first_factors(model: nn.Module) -> list[nn.Parameter]:
    """Weights of peft's low-rank updates that the input meets first; in the others the weights of the model are linear."""
    return [parameter for name, parameter in model.named_parameters() if ".lora_A." in name]


def is_on(model: nn.Module, device: torch.device) -> bool:
    """Whether all parameters and buffers are on a device."""
    return all(tensor.device == device for tensor in tensors_of(model).values())


class Anatomy:
    """A network that others are compared with.

    Args:
        model: The network; only read.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(name, module, _options(module)) for name, module in _modules(model)]
        self._tensors = {name: _form(tensor) for name, tensor in tensors_of(model).items()}

    def difference(self, other: nn.Module) -> str | None:
        """Where ``other`` differs beyond the values of its weights, or None: the name of a module or tensor, or ``itself``."""
        there = list(_modules(other))
        for (name, module, options), (other_name, twin) in zip(self._modules, there, strict=False):
            if name != other_name or type(module) is not type(twin) or not _has(twin, module, options):
                return name or "itself"
        if len(there) != len(self._modules):
            longer: Sequence[tuple[Any, ...]] = max(self._modules, there, key=len)
            return str(longer[min(len(there), len(self._modules))][0])
        forms = {name: _form(tensor) for name, tensor in tensors_of(other).items()}
        return next((name for name in {**self._tensors, **forms} if self._tensors.get(name) != forms.get(name)), None)


def _options(module: nn.Module) -> list[tuple[str, Any, bool]]:
    """Name, value and whether it is a plain one, of all that is neither private nor a state."""
    public = [(name, value) for name, value in vars(module).items() if not name.startswith("_") and name != "training"]
    return [(name, value, isinstance(value, _PLAIN)) for name, value in public]


def _has(twin: nn.Module, module: nn.Module, options: Sequence[tuple[str, Any, bool]]) -> bool:
    """Whether another layer has equal options, as far as they are plain values."""
    there = vars(twin)
    if there.keys() != vars(module).keys():
        return False
    for name, value, is_plain in options:
        other = there[name]
        if other is not value and (isinstance(other, _PLAIN) != is_plain or (is_plain and other != value)):
            return False
    return True


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _modules(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    yield name, model
    for local, child in model._modules.items():
        if child is not None:
            yield from _modules(child, f"{name}.{local}" if name else local)
