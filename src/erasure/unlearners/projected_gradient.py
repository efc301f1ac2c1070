"""Projected-gradient unlearning: change weights only where the layers' inputs on the retain set do not reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import class_logits
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.training.layer_inputs import WeightedLayer, input_grams, weight_matrix, weighted_layers
from erasure.training.parametrized import may_be_trained, plain_weights, require_assignable
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ProjectedGradientUnlearning", "kept_basis"]


def kept_basis(gram: Tensor, variance: float) -> Tensor:
    r"""Directions that a layer's inputs take, the strongest first, until their singular values make up a share of the sum.

    .. math:: k = \#\bigl\{j : \textstyle\sum_{i \le j} s_i / \sum_i s_i \le v\bigr\} + 1

    Args:
        gram: Sum of outer products of the inputs, ``(d, d)``: its eigenvalues are the squared singular values ``s**2``.
        variance: ``v`` in [0, 1]; 1 takes all directions.

    Returns:
        Orthonormal columns, ``(d, k)`` with ``k >= 1``.

    Example:
        >>> kept_basis(torch.diag(torch.tensor([9.0, 4.0, 1.0])), 0.5).abs()
        tensor([[1., 0.],
                [0., 1.],
                [0., 0.]])
    """
    squares, found = torch.linalg.eigh(gram)
    sizes: Tensor = squares.clamp(min=0).sqrt().flip(0)
    vectors: Tensor = found.flip(1)
    total = sizes.sum()
    if variance >= 1 or total == 0:
        return vectors
    n_kept = int((sizes.cumsum(0) / total <= variance).sum()) + 1
    return vectors[:, :n_kept]


@dataclass(frozen=True, kw_only=True)
class ProjectedGradientUnlearning(IterativeUnlearner):
    r"""Lowers the true class on the forget set along gradients from which the retain inputs of each layer are taken out.

    .. math::
        L = \mathbb{E}_{D_f}\bigl[-\log\bigl(1 - (p_y - b)\bigr)\bigr] - \beta\, \mathbb{E}_{D_f} H(p), \qquad
        W \leftarrow W - \eta\, (\nabla_W L + \lambda W)(I - P), \quad P = U_k U_k^\top

    where the columns of ``U`` are the directions of what the layer reads on the retain set (patches, for a convolution), measured
    once on the original in eval mode. The part of ``W`` within them stays as it is: with ``P`` of all retain inputs their outputs would
    not change at all. ``variance = 1`` changes nothing. Biases, normalisation and other layers are frozen, and so are layers that are
    frozen already. Training ends when the retain accuracy has fallen by more than ``max_drop``. Use SGD: with the optimizer's own
    weight decay, or with scaled gradients, weights leave the allowed directions. An empty forget or retain set leaves the model
    unchanged.

    **Cost**: one pass over the retain set and an eigenvalue decomposition for each layer, then ``epochs`` passes over the forget set,
    each with an evaluation of the retain set.

    Args:
        variance: Share of the sum of singular values of a layer's retain inputs that is protected.
        offset: ``b``: keeps the loss finite for a true class of probability 1, at ``-log b``.
        entropy_weight: ``beta``: weight of the entropy of the prediction, which is raised.
        weight_decay: ``lambda``, within the allowed directions.
        max_drop: Loss of retain accuracy that ends the training.
    """

    source: ClassVar[Source | None] = Source(
        paper="Hoang, Rana, Gupta, Venkatesh, WACV 2024, arXiv:2312.04095",
        code="hnanhtuan/projected_gradient_unlearning at b3275c3 (unlearn_class)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_gradient_geometry.py)",
        deviations=(
            "Inputs are measured on the retain set; the code subtracts those of the forget set from those of the training set, which is "
            "the same for equal pixels, but not for the images that it augments again.",
            "Convolutions are measured with their own stride, dilation and groups; the code takes 1 for all.",
            "The first epoch trains; in the code it only lowers the rate.",
            "Layers are known by their modules; the code's map of names fails above nine layers of a kind.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = (
        "one pass over the retain set, epochs passes over the forget set with an evaluation of the retain set each"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(5, 200),
        "variance": Range(0.7, 0.999),
        "entropy_weight": Range(0.0, 1.0),
        "optimizer.lr": Range(1e-3, 1.0, log=True),
    }

    epochs: NonNegativeInt = 100
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.1))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("ExponentialLR", gamma=0.1**0.01))
    batch_norm: Literal["train", "frozen"] = "frozen"
    batch_size: PositiveInt | None = 100
    variance: Fraction = 0.95
    offset: Fraction = 0.1
    entropy_weight: NonNegativeFloat = 0.2
    weight_decay: NonNegativeFloat = 0.0
    max_drop: Fraction = 0.05

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be layers whose inputs can be measured, and they must take what is assigned to them."""
        require_assignable(model, self.registered_name())
        _trained_layers(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Measure the layers, then descend across what they read."""
        if not context.n_samples("forget") or not context.n_samples("retain") or not self.epochs:
            return model
        with plain_weights(model, pruned=True):
            self._descend(model, context)
        return model

    def _descend(self, model: nn.Module, context: UnlearningContext) -> None:
        layers = _trained_layers(model)
        grams = input_grams(model, context.batches("retain", shuffle=False), layers)
        bases = {
            id(layers[name].weight): (layers[name], [kept_basis(part, self.variance) for part in gram])
            for name, gram in grams.items()
        }
        context = context.masked({name: torch.zeros_like(p) for name, p in model.named_parameters() if id(p) not in bases})
        trainer, forget = self.trainer(model, context), context.batches("forget")
        lowest = context.accuracy(model, "retain") - self.max_drop

        def across(batch: Batch) -> Tensor:
            loss, gradients = trainer.gradient(batch, lambda part: self._loss(model, part, context))
            steps = []
            for parameter, gradient in zip(trainer.parameters, gradients, strict=True):
                if id(parameter) in bases:
                    gradient = gradient + self.weight_decay * parameter.detach()
                    gradient = _across(gradient, *bases[id(parameter)])
                steps.append(gradient)
            trainer.set_gradients(steps)
            return loss

        for _ in trainer.epochs():
            trainer.step_on(forget, across)
            if context.accuracy(model, "retain") < lowest:
                break

    def _loss(self, model: nn.Module, batch: Batch, context: UnlearningContext) -> Tensor:
        log_p = class_logits(context.task, logits_of(model(batch.x))).log_softmax(1)
        p = log_p.exp()
        true = p.gather(1, batch.y.reshape(-1, 1).long())
        return -(1 - (true - self.offset)).log().mean() + self.entropy_weight * (p * log_p).sum(1).mean()


def _trained_layers(model: nn.Module) -> dict[str, WeightedLayer]:
    found = {name: layer for name, layer in weighted_layers(model).items() if may_be_trained(layer)}
    if not found:
        raise RequirementNotMet(
            f"PGU needs linear maps or two-dimensional convolutions that may be trained; {type(model).__name__} has none"
        )
    return found


def _across(gradient: Tensor, layer: WeightedLayer, bases: list[Tensor]) -> Tensor:
    """What is left of a gradient of a layer's weight when the directions of ``bases``, one for each group, are taken out."""
    rows = gradient.reshape(weight_matrix(layer).shape)
    left = [part - (part.to(basis.dtype) @ basis @ basis.T).to(part.dtype) for part, basis in zip(rows, bases, strict=True)]
    return torch.stack(left).reshape(gradient.shape)
