"""SVD class forgetting: take out of every layer what it reads for the forgotten class and not for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.layer_inputs import input_grams, weight_matrix, weighted_layers
from erasure.training.parametrized import plain_weights, require_assignable
from erasure.types import NonNegativeFloat, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SVDClassForgetting", "scaled_subspace"]


def scaled_subspace(gram: Tensor, scale: float) -> Tensor:
    r"""The directions that a layer's inputs take, each with a weight between 0 and 1.

    .. math::
        M = U \Lambda U^\top, \qquad \lambda_i = \frac{a\, r_i}{(a - 1)\, r_i + 1}, \quad r_i = \frac{s_i^2}{\sum_j s_j^2}

    Args:
        gram: Sum of outer products of the inputs, ``(..., d, d)``: its eigenvalues are the squared singular values ``s**2``.
        scale: ``a >= 0``; 1 gives the shares ``r`` themselves, larger values draw all of them towards 1.

    Returns:
        Shape of ``gram``, symmetric, with eigenvalues in [0, 1]; 0 where all inputs are 0.

    Example:
        >>> scaled_subspace(torch.diag(torch.tensor([3.0, 1.0])), 1.0).diagonal()
        tensor([0.7500, 0.2500])
    """
    squares, vectors = torch.linalg.eigh(gram)
    squares = squares.clamp(min=0)
    total = squares.sum(-1, keepdim=True)
    shares = squares / torch.where(total > 0, total, 1.0)
    weights = scale * shares / ((scale - 1) * shares + 1)
    subspace: Tensor = (vectors * weights.unsqueeze(-2)) @ vectors.transpose(-1, -2)
    return subspace


@dataclass(frozen=True, kw_only=True)
class SVDClassForgetting(Unlearner):
    r"""Projects the weights of every layer off the directions that its inputs take for the forget set only; nothing is trained.

    .. math::
        W \leftarrow W\, \bigl(I - (M_f - M_f M_r)\bigr)^\top, \qquad M = U \Lambda U^\top, \quad
        \lambda_i = \frac{a\, r_i}{(a - 1)\, r_i + 1}, \quad r_i = \frac{s_i^2}{\sum_j s_j^2}

    from the singular values ``s`` and vectors ``U`` of the inputs of linear maps and two-dimensional convolutions (patches), all of them
    measured on the original in eval mode before any is changed. Made for whole classes; random samples lie in the same directions as
    the rest. Biases, normalisation and other layers stay. ``forget_scale = 0`` changes nothing, and so do forget inputs in directions
    that the retain inputs fill. Labels serve only to draw the same number of
    retain samples from each class. An empty forget or retain set leaves the
    model as it is. Frozen layers are left alone, unless the whole model is frozen.

    **Cost**: a forward pass over ``max_samples`` samples of either set, an eigenvalue decomposition for each layer.

    Args:
        retain_scale: ``a`` of the retain set; large: nearly every direction in use is kept.
        forget_scale: ``a`` of the forget set; small: only the strongest directions go.
        max_samples: Samples of either set, drawn at random; of the retain set equally many of each class, as far as there are.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kodge, Saha, Roy, TMLR 2024, arXiv:2312.00761",
        code="sangamesh-kodge/class_forgetting at e27aeb2 (CIFAR-10)",
        tested="the projections by plain formulas in float64 (tests/unit/unlearners/test_weight_edits.py)",
        deviations=(
            "All patches of the samples count, by sums of outer products; the code keeps at most 10,000 of a random crop per layer.",
            "The forget samples are drawn from the whole set; the code takes one shuffled batch.",
            "Grouped convolutions have a subspace for each group.",
            "The scales are fixed; the scripts tune them for each class on validation data.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "a forward pass over max_samples samples of either set, an eigenvalue decomposition for each layer"
    search_space: ClassVar[SearchSpace] = {
        "retain_scale": Range(1.0, 10000.0, log=True),
        "forget_scale": Range(0.1, 1000.0, log=True),
    }

    retain_scale: PositiveFloat = 100.0
    forget_scale: NonNegativeFloat = 3.0
    max_samples: PositiveInt = 900

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Weights must take what is assigned to them."""
        require_assignable(model, self.registered_name())

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Measure all layers, then project."""
        if not context.n_samples("forget") or not context.n_samples("retain"):
            return model
        with plain_weights(model, pruned=True):
            self._project(model, context)
        return model

    def _project(self, model: nn.Module, context: UnlearningContext) -> None:
        layers = weighted_layers(model)
        if any(p.requires_grad for p in model.parameters()):
            layers = {name: layer for name, layer in layers.items() if layer.weight.requires_grad}
        forget = context.batches("forget", shuffle=False, ids=self._forget_ids(context))
        retain = context.batches("retain", shuffle=False, ids=self._retain_ids(context))
        forgotten, kept = input_grams(model, forget, layers), input_grams(model, retain, layers)
        with torch.no_grad():
            for name in forgotten:
                away = scaled_subspace(forgotten[name], self.forget_scale)
                taken = away - away @ scaled_subspace(kept[name], self.retain_scale)
                change = weight_matrix(layers[name]).to(taken.dtype) @ taken.transpose(1, 2)
                weight = layers[name].weight
                weight.sub_(change.reshape(weight.shape).to(weight.dtype))

    def _forget_ids(self, context: UnlearningContext) -> Tensor:
        ids = context.ids("forget")
        order = torch.randperm(len(ids), generator=context.generator("forget samples")).to(ids.device)
        return ids[order[: self.max_samples].sort().values]

    def _retain_ids(self, context: UnlearningContext) -> Tensor:
        """Retain samples, equally many of each class as far as there are; any, where labels are no classes."""
        ids = context.ids("retain")
        ids = ids[torch.randperm(len(ids), generator=context.generator("retain samples")).to(ids.device)]
        if context.task == "multilabel":
            return ids[: self.max_samples].sort().values
        labels = context.y[ids]
        # Number of each sample within its class, in the drawn order; the lowest numbers of all classes come first.
        by_class = labels.argsort(stable=True)
        counts = torch.bincount(labels)
        firsts = counts.cumsum(0) - counts
        number = torch.empty_like(by_class)
        number[by_class] = torch.arange(len(ids), device=ids.device) - firsts[labels[by_class]]
        return ids[number.argsort(stable=True)[: self.max_samples]].sort().values
