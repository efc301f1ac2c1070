"""Any method on the last layers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.parametrized import drawn_anew
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated
from erasure.types import NonNegativeInt, PartitionRole, Source
from erasure.unlearners.contract import PlainTraining, Unlearner, UnlearningContext, plain_training
from erasure.unlearners.frozen_prefix import behind_frozen

__all__ = ["LastLayers", "on_last_layers", "reset_layers", "split_layers", "trained_behind"]

_NOT_COUNTED = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, kw_only=True)
class LastLayers(Unlearner):
    """Applies a method to the last layers and freezes everything before them.

    A layer is a convolution or a linear map (any leaf module with a weight matrix that is no normalisation and no embedding), however
    deeply it is nested; the normalisation that follows it belongs to it. Layers are counted from the end in the order in which the
    model defines them, which for the usual networks is the order of computation, but need not be.

    What is frozen keeps its weights, its buffers and eval mode, so BatchNorm before the last layers normalises by the original's
    statistics and they do not drift; dropout stays as in training. ``n_layers = 0`` leaves the model unchanged, and a number beyond
    the model's layers takes all of it, together with what comes before the first layer.

    **Cost**: the inner method, with backward passes through the last layers only, and a copy of what is frozen. Of a chain of layers, what
    the frozen ones give is computed once where the inner method is plain training, and kept.

    Args:
        inner: The method; it uses the partitions that it names itself.
        n_layers: How many layers may change.
        reset: Reinitialise these layers first, normalisation and running statistics included, by each module's own ``reset_parameters``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, 2022, arXiv:2201.06640",
        code="shash42/Evaluating-Inexact-Unlearning at a45fe02",
        tested="EU-k and CF-k, whose steps are held to plain formulas (tests/unit/unlearners/test_last_layers.py)",
        deviations=(
            "Normalisation layers are reset with the layer they follow; the reference code resets convolutions and linear maps only.",
            "Frozen BatchNorm keeps its running statistics; in the reference code they follow the batches.",
        ),
    )
    version: ClassVar[int] = 2
    cost: ClassVar[str] = "the inner method, backward through the last layers only"

    inner: Unlearner
    n_layers: NonNegativeInt = 1
    reset: bool = False

    def partitions(self) -> dict[PartitionRole, str]:
        """Those of the inner method."""
        return self.inner.partitions()

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The inner method's reason."""
        return self.inner.unsupported_reason(data)

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """What the inner method needs, of the last layers."""
        frozen, trained = split_layers(model, self.n_layers)
        if trained:
            with _held(frozen, trained):
                self.inner.try_on(model, batch, criterion)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Freeze, reset if asked, apply the inner method."""
        plain = plain_training(self.inner)
        return on_last_layers(
            model,
            context,
            lambda student, within: self.inner.unlearn(student, within.seen_by(self.inner).handed(self, self.inner)),
            n_layers=self.n_layers,
            reset=self.reset,
            trains_on=self.inner.partitions()[plain.role] if plain and plain.prepare is None and plain.epochs > 1 else None,
        )


def on_last_layers(
    model: nn.Module,
    context: UnlearningContext,
    unlearn: Callable[[nn.Module, UnlearningContext], nn.Module],
    *,
    n_layers: int,
    reset: bool = False,
    trains_on: str | None = None,
) -> nn.Module:
    """What ``unlearn`` makes of ``model`` when only its last ``n_layers`` layers may change.

    Args:
        model: Its ``requires_grad`` flags are as before afterwards.
        context: The inner method's task, given on with the frozen modules.
        unlearn: The inner method.
        n_layers: How many layers may change.
        reset: Reinitialise them first, from the task's stream ``reset``.
        trains_on: The partition that the inner method passes through the model, if it does nothing else with it and does so several
            times; what frozen layers give of it is then computed once where that is possible.

    Raises:
        RequirementNotMet: If the model has no layers, or one of them cannot be reset.
    """
    frozen, trained = split_layers(model, n_layers)
    if not trained:
        return model
    free = {id(p) for module in trained for p in module.parameters(recurse=False)}
    kept = {id(b) for module in frozen for b in module.buffers(recurse=False)}
    before = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) not in free}
    before |= {name: b.detach().clone() for name, b in model.named_buffers() if id(b) in kept}
    if reset:
        reset_layers(trained, context)
        context.confine(model)
    within = context.with_frozen(module for module in frozen if _is_leaf(module))
    with _held(frozen, trained):
        behind = None if trains_on is None else behind_frozen(model, within, context.partitions[trains_on])
        unlearned = unlearn(model, within) if behind is None else model
        if behind is not None:
            unlearn(*behind)
    _restore(unlearned, before)
    return unlearned


def trained_behind(plain: PlainTraining | None, n_layers: int, *, reset: bool = False) -> PlainTraining | None:
    """Plain training of the last ``n_layers`` layers, as :func:`on_last_layers` has it; None where there are none to train."""

    def prepare(model: nn.Module, context: UnlearningContext) -> None:
        frozen, trained = split_layers(model, n_layers)
        if any(True for module in frozen for _ in module.buffers(recurse=False)):
            raise RequirementNotMet("frozen layers with buffers stay in eval mode")
        if reset:
            reset_layers(trained, context)
        for parameter in _only_in(frozen, trained):
            parameter.requires_grad_(False)

    return replace(plain, prepare=prepare) if plain is not None and n_layers else None


@contextmanager
def _held(frozen: list[nn.Module], trained: list[nn.Module]) -> Iterator[None]:
    """Weights that are in ``frozen`` modules alone take no gradients."""
    held = [parameter for parameter in _only_in(frozen, trained) if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def _only_in(frozen: list[nn.Module], trained: list[nn.Module]) -> list[nn.Parameter]:
    free = {id(p) for module in trained for p in module.parameters(recurse=False)}
    return [p for module in frozen for p in module.parameters(recurse=False) if id(p) not in free]


def split_layers(model: nn.Module, n_layers: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """The modules with weights or buffers of their own, as those before the last ``n_layers`` layers and those in them.

    Weights that a container holds itself (an attention block's input projection, a class token) belong to the first layer inside it.

    Raises:
        RequirementNotMet: If the model has no layers.
    """
    numbered = list(_numbered(model))
    n_total = 1 + max((number for _, number in numbered), default=-1)
    if not any(_is_layer(module) for module, _ in numbered):
        raise RequirementNotMet(f"{type(model).__name__} has no convolution or linear map, so it has no last layers")
    first = max(0, n_total - n_layers)
    frozen = [module for module, number in numbered if number < first]
    return frozen, [module for module, number in numbered if number >= first]


def _numbered(model: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Modules with state of their own and the number of the layer they belong to, in the order of definition."""
    n_seen = 0
    for module in model.modules():
        if _is_layer(module):
            n_seen += 1
            yield module, n_seen - 1
        elif _has_state(module):
            holds_layers = any(_is_layer(part) for part in module.modules())
            yield module, n_seen if holds_layers else max(0, n_seen - 1)


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear | _ConvNd):
        return True
    counted = _is_leaf(module) and not isinstance(module, _NOT_COUNTED)
    return counted and any(p.ndim >= 2 for p in module.parameters(recurse=False))


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _has_state(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))


def reset_layers(modules: list[nn.Module], context: UnlearningContext) -> None:
    """Reinitialise the weights of ``modules``, on the CPU, so that a seed gives the same weights on every device.

    Raises:
        RequirementNotMet: If one of them has weights but no initialisation of its own.
    """
    with isolated(context.streams.child("reset").seed):
        for module in modules:
            if isinstance(module, parametrize.ParametrizationList):
                continue  # drawn with the layer whose weight it computes
            module.to("cpu")
            if not drawn_anew(module) and any(True for _ in module.parameters(recurse=False)):
                raise RequirementNotMet(
                    f"{type(module).__name__} has weights but no reset_parameters, so it cannot be reinitialised"
                )
            module.to(context.device)


@torch.no_grad()
def _restore(model: nn.Module, before: dict[str, Tensor]) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in before:
            tensor.copy_(before[name])
