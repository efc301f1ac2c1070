"""Projector: the weights of a linear model are projected on what the features of kept nodes span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.estimators import Estimator, rows_of
from erasure.training.graph_requests import RequestedGraph
from erasure.types import PartitionRole, PositiveFloat, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["Projector"]


@dataclass(frozen=True, kw_only=True)
class Projector(Unlearner):
    r"""Takes out of the weights of a linear model all directions that only forgotten samples span.

    With the features X of what is left,

    .. math:: w_u = X^\top (X X^\top)^{+} X \, w = P\, w

    Weights that gradient descent has reached from zero, and those of ridge and logistic regression, are combinations of the rows that were
    learned from; rows of propagated features are combinations of the features of nodes. After the projection no direction is left in which
    the kept ones have nothing to say. No label is read, and the intercept stays. Of a request on a graph X are the features of all nodes
    that are there after it; otherwise the rows of the retain set. Where those span everything, as they do when there are many more than
    features, it changes nothing: it removes directions, and not what forgotten samples have done in the others.

    **Cost**: the eigenvectors of a matrix of features by features.

    Args:
        tolerance: Directions whose share of the largest eigenvalue of :math:`X^\top X` is below this count as not spanned.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cong, Mahdavi, AISTATS 2023 (Efficiently Forgetting What You Have Learned in Graph Representation Learning via Projection)",
        tested="the projection by a plain pseudo-inverse, and a direction that only forgotten nodes span "
        "(tests/unit/unlearners/test_projector.py)",
        deviations=(
            "Written from a description of the projection, not from the authors' code.",
            "Any linear model is taken: a network of one linear layer, Ridge or LogisticRegression.",
        ),
    )
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "the eigenvectors of a matrix of features by features"
    search_space: ClassVar[SearchSpace] = {"tolerance": Range(1e-12, 1e-4, log=True)}

    tolerance: PositiveFloat = 1e-10

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Project."""
        if not context.n_samples("forget"):
            return model
        weight = _input_weights(model)
        features = self._features(context)
        if features.shape[1] != weight.shape[1]:
            raise RequirementNotMet(
                f"Projector takes a model that is linear in the {features.shape[1]} features, and this one reads {weight.shape[1]} numbers"
            )
        values, vectors = torch.linalg.eigh(features.T @ features)
        spanned = vectors[:, values > self.tolerance * values[-1].clamp(min=1e-300)]
        projected = weight.to(features) @ spanned @ spanned.T
        with torch.no_grad():
            weight.copy_(projected)
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The model must be linear."""
        _input_weights(model)

    def _features(self, context: UnlearningContext) -> Tensor:
        """What is left, one row each, float64."""
        if not isinstance(context.x, RequestedGraph):
            return torch.cat([rows_of(batch.x) for batch in context.batches("retain", shuffle=False)])
        return context.x.features_after().double()


def _input_weights(model: nn.Module) -> Tensor:
    """The weights of a linear model, a row for each output and a column for each feature; a view of the model's own."""
    if isinstance(model, Estimator) and isinstance(weight := getattr(model, "weight", None), Tensor):
        # LogisticRegression has a row for each head, Ridge a column; the intercept is last.
        return weight[:, :-1] if hasattr(model, "largest_row") else weight[:-1].T
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if len(layers) == 1 and {id(p) for p in layers[0].parameters()} == {id(p) for p in model.parameters()}:
        return layers[0].weight.data
    raise RequirementNotMet(
        f"Projector is for linear models, and this is {type(model).__name__.strip('_')}; take Ridge, LogisticRegression or an MLP without "
        "hidden layers"
    )
