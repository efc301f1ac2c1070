"""Fisher Forgetting: noise where the retain set does not notice it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.parametrized import plain_weights, require_assignable
from erasure.training.per_sample import true_fisher
from erasure.training.trial import require_gradients
from erasure.types import NonNegativeFloat, PartitionRole, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["FisherForgetting"]

_LARGEST, _LARGEST_OF_CLASSIFIER = 1e3, 1e2
_CLASS_ROW_VARIANCE = 1e-4
_LAST_LAYER_FACTOR = 10.0
_LABELLED: tuple[PartitionRole, PartitionRole] = ("forget", "retain")


@dataclass(frozen=True, kw_only=True)
class FisherForgetting(Unlearner):
    r"""Adds Gaussian noise whose variance is the inverse of the retain set's Fisher information.

    .. math:: \theta_u = \theta_o + \varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, \alpha F_r^{-1})

    ``F_r`` is the diagonal of the true Fisher information (labels distributed as the model predicts), at the original, in eval mode.
    As in the authors' code the inverse is capped (at 1e3, at 1e2 in the classifier), averaged over input channels, and multiplied by
    10 in the classifier and in one-dimensional tensors. The padding row of an embedding, which nothing learns, gets no noise. Where
    whole classes are forgotten, their rows of the classifier start from 0 with a variance of 1e-3. The noise depends on the forget
    set through the classes alone. Buffers and frozen weights are left alone.

    **Cost**: one pass over the retain set with as many backward passes as classes.

    Args:
        alpha: Scale of the variance; 0 adds no noise.
        class_rule: Whether rows of forgotten classes are reset: ``auto`` does it for classes of the forget set that the retain set has
            no sample of.
        classifier: What counts as the classifier: ``last`` is the last layer with one row per class, ``size`` every tensor with one row
            per class, as in the authors' code, which also hits hidden layers of that width.
        max_samples: Samples of the retain set to look at, drawn at random; by default all.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933",
        code="AdityaGolatkar/SelectiveForgetting at 4c02825",
        tested="the variance of the noise, by the exact Fisher information (tests/unit/unlearners/test_second_order.py)",
        deviations=(
            "The variance is alpha / F as in the authors' code; the paper's exponent is one quarter of the curvature.",
            "The classifier is found by its place in the network, not by its width, unless classifier=size.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    cost: ClassVar[str] = "one pass over the retain set with a backward pass per class"
    search_space: ClassVar[SearchSpace] = {"alpha": Range(1e-9, 1e-4, log=True)}

    alpha: NonNegativeFloat = 1e-6
    class_rule: Literal["auto", "never"] = "auto"
    classifier: Literal["last", "size"] = "last"
    max_samples: PositiveInt | None = None

    def partitions(self) -> dict[PartitionRole, str]:
        """The retain set and, for the class rule, the forget set, of which only labels are read."""
        return {"forget": self.forget, "retain": self.retain} if self.class_rule == "auto" else {"retain": self.retain}

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Estimate the information, add the noise."""
        with plain_weights(model):
            self._add_noise(model, context)
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Weights must take what is assigned to them, and all have gradients."""
        require_assignable(model, self.registered_name())
        require_gradients(model, logits_of(model(batch.x)))

    def _add_noise(self, model: nn.Module, context: UnlearningContext) -> None:
        fisher = self._fisher(model, context)
        rows = self._forgotten_classes(context)
        generator = context.generator("noise")
        classifier, padding = self._classifier(model, context.model_input.n_outputs), _padding_rows(model)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
                if name not in fisher:
                    continue
                if name in padding:
                    noise[padding[name]] = 0.0
                mean, variance = self._distribution(weight, fisher[name], rows if name in classifier else [], name in classifier)
                weight.copy_(mean + (variance.sqrt() * noise).to(weight.dtype))

    def _distribution(self, weight: Tensor, fisher: Tensor, rows: list[int], is_classifier: bool) -> tuple[Tensor, Tensor]:
        """Mean and variance that a tensor is drawn from."""
        mean, cap = weight.clone(), _LARGEST_OF_CLASSIFIER if is_classifier else _LARGEST
        variance = self.alpha * (1 / (fisher + 1e-8)).clamp(max=cap)
        if variance.ndim > 1:
            variance = variance.mean(1, keepdim=True).expand_as(weight).clone()
        if rows:
            mean[rows], variance[rows] = 0.0, _CLASS_ROW_VARIANCE
        if is_classifier or weight.ndim == 1:
            variance = variance * _LAST_LAYER_FACTOR
        return mean, variance

    def _fisher(self, model: nn.Module, context: UnlearningContext) -> dict[str, Tensor]:
        ids = context.ids("retain")
        if self.max_samples is not None and len(ids) > self.max_samples:
            chosen = torch.randperm(len(ids), generator=context.generator("samples"))[: self.max_samples]
            ids = ids[chosen.to(ids.device)]

        def compute() -> dict[str, Tensor]:
            return true_fisher(model, context.batches("retain", shuffle=False, ids=ids), context.n_classes, task=context.task)

        return context.precomputed("true_fisher", model, ["retain"], compute, samples=self.max_samples, seed=self._seed(context))

    def _seed(self, context: UnlearningContext) -> int | None:
        return context.streams.seed if self.max_samples is not None else None

    def _forgotten_classes(self, context: UnlearningContext) -> list[int]:
        """Classes of the forget set of which nothing is retained."""
        if self.class_rule == "never" or context.task != "classification":
            return []
        forgotten, retained = (set(torch.unique(context.y[context.ids(role)]).tolist()) for role in _LABELLED)
        return sorted(int(label) for label in forgotten - retained)

    def _classifier(self, model: nn.Module, n_outputs: int) -> frozenset[str]:
        """Names of the tensors that hold one row per class."""
        named = {name: weight for name, weight in model.named_parameters() if weight.ndim and weight.shape[0] == n_outputs}
        if self.classifier == "size":
            return frozenset(named)
        weights = [name for name, weight in named.items() if weight.ndim > 1]
        if not weights:
            return frozenset()
        layer = weights[-1].rpartition(".")[0]
        return frozenset(name for name in named if name.rpartition(".")[0] == layer)


def _padding_rows(model: nn.Module) -> dict[str, int]:
    """The row that stands for padding in each embedding that has one, by the name of its weight."""
    rows = {
        id(module.weight): module.padding_idx
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None
    }
    return {name: rows[id(weight)] for name, weight in model.named_parameters() if id(weight) in rows}
