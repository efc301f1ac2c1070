"""Random forests and gradient boosting of scikit-learn, as baselines that can only be retrained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import PositiveFloat, PositiveInt, Source

__all__ = ["GradientBoosting", "RandomForest"]

_MIN = 1e-6
"""Least share of a class, so that its logarithm is finite."""


@dataclass(frozen=True, kw_only=True)
class RandomForest(Model):
    """scikit-learn's random forest. Nothing can be deleted from it: a baseline for what retraining gives and costs.

    Args:
        trees: How many.
        max_depth: Of a tree; None grows until leaves are pure.
    """

    source: ClassVar[Source | None] = Source(
        paper="Breiman, Machine Learning 2001",
        code="scikit-learn",
        tested="its predictions (tests/unit/models/test_tree_ensembles.py)",
    )

    trees: PositiveInt = 100
    max_depth: PositiveInt | None = None

    def build(self, data: ModelInput) -> nn.Module:
        """The forest before it is fitted."""
        return _Forest(data, self)


@dataclass(frozen=True, kw_only=True)
class GradientBoosting(Model):
    """scikit-learn's gradient-boosted trees. Nothing can be deleted from them: a baseline for what retraining gives and costs.

    Args:
        rounds: How many, each with a tree (of several classes, a tree for each).
        rate: By which each tree counts.
        max_depth: Of a tree.
    """

    source: ClassVar[Source | None] = Source(
        paper="Friedman, Annals of Statistics 2001",
        code="scikit-learn",
        tested="its predictions (tests/unit/models/test_tree_ensembles.py)",
    )

    rounds: PositiveInt = 100
    rate: PositiveFloat = 0.1
    max_depth: PositiveInt = 3

    def build(self, data: ModelInput) -> nn.Module:
        """The trees before they are fitted."""
        return _Boosted(data, self)


class _Trees(Estimator):
    """Fitted trees as tensors: children, thresholds and values of every node, padded to the largest tree."""

    feature: Tensor
    threshold: Tensor
    branches: Tensor
    value: Tensor
    depth: Tensor

    def __init__(self, data: ModelInput) -> None:
        super().__init__()
        if data.task == "multilabel":
            raise RequirementNotMet("trees of scikit-learn take one class a sample here, and the task is multilabel")
        self.n_inputs, self.n_classes, self.is_binary = math.prod(data.x_shape), data.n_classes, data.task == "binary"
        self.register_buffer("feature", torch.full((1, 1), -1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(1, 1, dtype=torch.float64))
        self.register_buffer("branches", torch.zeros(1, 1, 2, dtype=torch.int64))
        self.register_buffer("value", torch.zeros(1, 1, data.n_classes, dtype=torch.float64))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

    def _keep(self, trees: list[Any], values: list[np.ndarray]) -> None:
        """Keep trees of scikit-learn with the value of each node, ``(nodes, K)``."""
        most = max((tree.node_count for tree in trees), default=1)
        shape = (max(1, len(trees)), most)
        feature, threshold = np.full(shape, -1), np.zeros(shape)
        children, value = np.zeros((*shape, 2), dtype=np.int64), np.zeros((*shape, self.n_classes))
        for number, (tree, own) in enumerate(zip(trees, values, strict=True)):
            n = tree.node_count
            feature[number, :n], threshold[number, :n] = np.maximum(tree.feature, -1), tree.threshold
            children[number, :n] = np.stack([tree.children_left, tree.children_right], 1)
            value[number, :n] = own
        self.feature, self.threshold = torch.from_numpy(feature), torch.from_numpy(threshold)
        self.branches, self.value = torch.from_numpy(children), torch.from_numpy(value)
        self.depth.fill_(max((tree.max_depth for tree in trees), default=0))

    def _summed(self, x: Tensor) -> Tensor:
        """Sum of the trees' values of each row, ``(B, K)``."""
        rows = rows_of(x, torch.float32).to(torch.float64)  # scikit-learn compares single-precision inputs
        trees = torch.arange(len(self.feature), device=rows.device)
        node = torch.zeros(len(rows), len(trees), dtype=torch.int64, device=rows.device)
        for _ in range(int(self.depth)):
            feature = self.feature[trees, node]
            goes_right = rows.gather(1, feature.clamp(min=0)) > self.threshold[trees, node]
            node = torch.where(feature < 0, node, self.branches[trees, node, goes_right.long()])
        return self.value[trees, node].sum(1)

    def _shaped(self, logits: Tensor) -> Tensor:
        logits = logits.to(torch.float32)
        return logits[:, 1:] - logits[:, :1] if self.is_binary else logits


class _Forest(_Trees):
    def __init__(self, data: ModelInput, options: RandomForest) -> None:
        super().__init__(data)
        self.options = options

    def fit(self, samples: Batch, seed: int) -> None:
        """Let scikit-learn fit it."""
        if not len(samples.y):
            self._keep([], [])
            return
        forest = RandomForestClassifier(
            self.options.trees, max_depth=self.options.max_depth, random_state=seed % 2**32, n_jobs=1
        ).fit(rows_of(samples.x, torch.float32).numpy(), samples.y.numpy())
        values = []
        for each in forest.estimators_:
            own = each.tree_.value[:, 0]
            shares = np.zeros((len(own), self.n_classes))
            shares[:, forest.classes_.astype(int)] = own / own.sum(1, keepdims=True) / self.options.trees
            values.append(shares)
        self._keep([each.tree_ for each in forest.estimators_], values)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithm of the classes' mean shares in the leaves of a row."""
        return self._shaped(self._summed(x).clamp(min=_MIN).log())


class _Boosted(_Trees):
    start: Tensor

    def __init__(self, data: ModelInput, options: GradientBoosting) -> None:
        super().__init__(data)
        self.options = options
        self.register_buffer("start", torch.zeros(data.n_classes, dtype=torch.float64))

    def fit(self, samples: Batch, seed: int) -> None:
        """Let scikit-learn fit them."""
        classes = torch.unique(samples.y).long()
        self.start.fill_(math.log(_MIN))
        self.start[classes] = 0.0
        if len(classes) < 2:
            self._keep([], [])
            return
        options, rows = self.options, rows_of(samples.x, torch.float32)
        boosted = GradientBoostingClassifier(
            n_estimators=options.rounds, learning_rate=options.rate, max_depth=options.max_depth, random_state=seed % 2**32
        ).fit(rows.numpy(), samples.y.numpy())
        trees, values = [], []
        places = classes[1:] if len(classes) == 2 else classes  # of two classes one has the trees
        for of_round in boosted.estimators_:
            for place, each in zip(places.tolist(), of_round, strict=True):
                own = np.zeros((each.tree_.node_count, self.n_classes))
                own[:, place] = options.rate * each.tree_.value[:, 0, 0]
                trees.append(each.tree_)
                values.append(own)
        self._keep(trees, values)
        first = torch.from_numpy(np.atleast_1d(boosted.decision_function(rows[:1].numpy())).reshape(-1))
        self.start[places] = first - self._summed(rows[:1])[0, places]

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the trees for each class."""
        return self._shaped(self.start + self._summed(x))
