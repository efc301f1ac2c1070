"""The registry of layer rules: how a layer's own parameters get their squared per-sample gradients in closed form.

A rule sees what one call of a layer got (its input) and, once for every backward pass, the gradient at what it gave (its output);
that determines the gradient of every sample without ever forming a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["LayerRule", "Scratch", "register", "rule_for", "share_keeping"]

CHUNK_ELEMENTS = 1 << 22
"""Elements of per-sample gradients held at once: 16 MiB of float32."""

_KEPT_ELEMENTS = CHUNK_ELEMENTS
"""Elements that the layers of a network may keep from one backward pass of a batch to the next."""


class Scratch:
    """Memory for what layers need in passing, one after the other: what each asks for itself leaves holes that the next does not fit in."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def of(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor with any values, of the type and device of ``like``; good until the same name is asked for again."""
        key, n = (name, like.dtype, like.device), torch.Size(shape).numel()
        if key not in self._held or self._held[key].numel() < n:
            self._held.pop(key, None)
            self._held[key] = like.new_empty(n)
        return self._held[key][:n].view(tuple(shape))


class LayerRule:
    """Closed form of one layer type for one recorded call.

    Args:
        module: The layer.
        inputs: What it was called with; shape ``(B, …)``.
        scratch: Memory for what it needs in passing, shared with the other layers.
    """

    has_twin: ClassVar[bool] = False
    """Whether :meth:`twin` does anything."""

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        raise NotImplementedError

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Whether the closed form holds for this layer's settings."""
        return True

    @staticmethod
    def accepts(module: nn.Module, inputs: Tensor) -> bool:
        """Whether ``inputs`` has a batch dimension in front, by the layer's own conventions."""
        return inputs.ndim >= 2

    @staticmethod
    def twin(module: nn.Module, inputs: Tensor) -> Tensor | None:
        """The layer's output through cheaper nodes that keep its parameters out of the graph; None to leave it to the layer."""
        return None

    def n_repeated(self) -> int:
        """Elements that every backward pass needs alike."""
        return 0

    def keep(self) -> None:
        """Keep them from the next pass on."""

    def add(self, gradient: Tensor) -> None:
        """Adds the squares of one backward pass.

        Args:
            gradient: Of sample i's scalar with respect to row i of the output; shape of the output.
        """
        raise NotImplementedError

    def squares(self) -> dict[str, Tensor]:
        """Sum over passes and samples of the squared gradient of each own parameter, in that parameter's shape."""
        raise NotImplementedError


def share_keeping(rules: Iterable[LayerRule]) -> None:
    """Let the rules of a batch that has several backward passes keep what they need in each, if all of it is at most 16 MiB of float32.

    To keep some of more would take the memory and save little.
    """
    chosen = list(rules)
    if sum(rule.n_repeated() for rule in chosen) <= _KEPT_ELEMENTS:
        for rule in chosen:
            rule.keep()


RuleType = TypeVar("RuleType", bound=type[LayerRule])

_RULES: dict[type[nn.Module], type[LayerRule]] = {}


def register(*layer_types: type[nn.Module]) -> Callable[[RuleType], RuleType]:
    """Declares the rule of some layer types; subclasses are not covered, for their ``forward`` may differ."""

    def add(rule: RuleType) -> RuleType:
        _RULES.update(dict.fromkeys(layer_types, rule))
        return rule

    return add


def rule_for(module: nn.Module) -> type[LayerRule] | None:
    """The rule that covers ``module`` as it stands, or None.

    None for a type without a rule or a subclass of one, a replaced ``forward``, parameters besides ``weight`` and ``bias``
    (weight normalisation, pruning, parametrisations), hooks of the user's, and settings that the rule does not cover.
    """
    rule = _RULES.get(type(module))
    own = {name for name, parameter in module._parameters.items() if parameter is not None}
    if rule is None or not own or not own <= {"weight", "bias"} or "forward" in vars(module):
        return None
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    if any(hooks):
        return None
    return rule if rule.supports(module) else None
