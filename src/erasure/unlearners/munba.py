"""MUNBa: keeping and forgetting bargain over each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["MUNBa", "nash_weights"]


def nash_weights(gram: Tensor) -> Tensor:
    r"""The weights of two gradients at which neither of two players can gain more, in proportion, than the other loses.

    .. math::
        (G^\top G)\, a = 1 / a, \qquad
        a_1 = \Bigl(A + B \sqrt{A / C}\Bigr)^{-1/2}, \quad a_2 = a_1 \sqrt{A / C}, \qquad
        G^\top G = \begin{pmatrix} A & B \\ B & C \end{pmatrix}

    Args:
        gram: Inner products of the two gradients, ``(2, 2)``; computed in float64 where the device has it.

    Returns:
        ``(a_1, a_2)``, both above 0, so that both weighted gradients have the same length. Where there is no bargain, because a
        gradient is 0 or both are opposite, ``(1, 0.1)``.

    Example:
        >>> a = nash_weights(torch.tensor([[4.0, 1.0], [1.0, 9.0]]))
        >>> torch.allclose(torch.tensor([[4.0, 1.0], [1.0, 9.0]]) @ a, 1 / a)
        True
    """
    (first, between), (_, second) = gram
    length = (first / second).sqrt()
    inverse_square = first + between * length
    possible = (first > 0) & (second > 0) & (inverse_square > 1e-12 * first)
    weight = torch.where(possible, inverse_square, 1.0).rsqrt()
    fallback = gram.new_tensor([1.0, 0.1])
    return torch.where(possible, torch.stack([weight, weight * length]), fallback)


@dataclass(frozen=True, kw_only=True)
class MUNBa(IterativeUnlearner):
    r"""Steps along the Nash bargaining solution of the retain gradient and the gradient of random labels for the forget set.

    .. math::
        \theta \leftarrow \theta - \eta\, (a_r g_r + a_f g_f), \qquad (G^\top G)\, a = 1 / a, \quad G = (g_r, g_f)

    ``g_f`` is the gradient of the loss with labels drawn for each batch from all classes. Both weighted gradients have the same length,
    so the step goes down both losses, however they are scaled. An epoch passes over the longer of both sets: what is left of the retain
    set takes plain steps, and a smaller retain set starts over, newly shuffled. The retain batch goes through the network first;
    BatchNorm's running statistics follow both. One optimizer serves all steps, so its momentum mixes them. An empty forget set leaves
    fine-tuning, an empty retain set nothing to bargain with: the model stays.

    **Cost**: ``epochs`` passes over the retain and the forget set.

    Args:
        bargain_norm: Bargained gradients are clipped to this norm; those of plain retain steps are not.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wu, Harandi, ICCV 2025, arXiv:2411.15537",
        code="JingWu321/MUNBa at 2fe6294 (Classification/unlearn/MUNBa.py)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_gradient_geometry.py)",
        deviations=(
            "The weights are computed in float64 by a form that divides by no inner product; the code's float32 form is 5 % off in a "
            "first real step and fails for orthogonal, equal or tiny gradients.",
            "A forget set with more batches than the retain set is used in full; the code stops with an error.",
            "The optional l1 penalty is left out.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the retain and the forget set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 15), "optimizer.lr": Range(1e-4, 1e-1, log=True)}

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
    bargain_norm: PositiveFloat = 1.0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Bargain, batch by batch."""
        trainer = self.trainer(model, context)
        retain, forget = context.batches("retain"), context.batches("forget")
        labels = context.generator("labels")
        n_labels = context.n_classes if context.task == "classification" else 2

        def loss(batch: Batch) -> Tensor:
            return context.loss(model, batch)

        def bargain(pair: tuple[Batch, Batch | None]) -> Tensor:
            kept, forgotten = pair
            value, keeping = trainer.gradient(kept, loss)
            if forgotten is None:
                trainer.set_gradients(keeping)
                return value
            drawn = torch.randint(0, n_labels, forgotten.y.shape, generator=labels).to(forgotten.y)
            other, forgetting = trainer.gradient(forgotten._replace(y=drawn), loss)
            for_retain, for_forget = nash_weights(_gram(keeping, forgetting)).to(keeping[0].dtype)
            trainer.set_gradients([for_retain * r + for_forget * f for r, f in zip(keeping, forgetting, strict=True)])
            torch.nn.utils.clip_grad_norm_(trainer.parameters, self.bargain_norm, foreach=True)
            bargained: Tensor = for_retain * value + for_forget * other
            return bargained

        for _ in trainer.epochs():
            trainer.step_on(_pairs(retain, forget), bargain)
        return model


def _pairs(retain: Batches, forget: Batches) -> Iterator[tuple[Batch, Batch | None]]:
    """A retain batch for every forget batch, then what is left of the retain set."""
    forgotten = iter(forget)
    for kept in retain.cycled(max(len(retain), len(forget))):
        yield kept, next(forgotten, None)


def _gram(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """Inner products of two gradients, ``(2, 2)``, in float64 where the device has it."""
    dtype = torch.float32 if one[0].device.type == "mps" else torch.float64
    both = torch.stack([torch.cat([part.flatten() for part in gradient]) for gradient in (one, other)]).to(dtype)
    return both @ both.T
