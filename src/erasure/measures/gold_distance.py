"""How far a model's predictions are from another's, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from erasure.errors import DataError, RequirementNotMet
from erasure.functional.confusion import confusion_matrix
from erasure.functional.divergences import (
    hellinger,
    jensen_shannon,
    kullback_leibler,
    log_probabilities,
    total_variation,
)
from erasure.functional.groups import cohens_kappa
from erasure.measures.contract import Evaluation, Value
from erasure.measures.referenced import Referenced
from erasure.training.predictor import ModelInput
from erasure.types import Partition, Source

__all__ = ["Agreement", "Churn", "Completeness", "Hellinger", "JSDivergence", "KLDivergence", "TotalVariation"]


def _shared(model: Referenced, evaluation: Evaluation, partition: str) -> Tensor:
    """Whether both models predict the same, ``(n,)``; for multilabel tasks the share of labels."""
    mine = evaluation.outputs(partition).predictions
    others = evaluation.outputs(partition, model.reference).predictions
    return (mine == others).double().reshape(len(mine), -1).mean(1)


@dataclass(frozen=True, kw_only=True)
class Churn(Referenced):
    r"""Share of a partition that is predicted otherwise than by a reference model.

    .. math:: 1 - \frac1n \sum_i 1[\hat y_u(x_i) = \hat y_{\text{ref}}(x_i)]

    In [0, 1]; 0 is full agreement. Two golds of different seeds disagree too: read it next to the noise floor. For multilabel tasks,
    the share of labels.

    Args:
        partition: Where predictions are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(paper="Milani Fard, Cormier, Canini, Gupta, NeurIPS 2016 (churn)")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    partition: Partition = "test"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        shared = _shared(self, evaluation, self.partition)
        return [self.value(1 - float(shared.mean()), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class Agreement(Referenced):
    r"""Share of a partition that is predicted as by a reference model, one less :class:`Churn`.

    In [0, 1]; 1 is full agreement. With ``chance_corrected`` Cohen's kappa :math:`(p_o - p_e) / (1 - p_e)`, in [-1, 1], where 0 is what
    two models that predict independently of the samples reach.

    Args:
        partition: Where predictions are compared.
        reference: The other model: ``gold`` or ``original``.
        chance_corrected: Whether to give Cohen's kappa.
    """

    source: ClassVar[Source | None] = Source(paper="Cohen, Educational and Psychological Measurement 20 (1960) for kappa")
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    closer_is_higher: ClassVar[bool] = True

    partition: Partition = "test"
    chance_corrected: bool = False

    @property
    def title(self) -> str:
        """``Agreement``, or ``kappa``."""
        return self.named("kappa" if self.chance_corrected else "Agreement")

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Kappa compares one class of several."""
        if self.chance_corrected and data.task == "multilabel":
            return "kappa is not defined for multilabel tasks; leave chance_corrected out"
        return super().unsupported_reason(data)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share, or kappa."""
        reason = self.unsupported_reason(evaluation.model_input)
        if reason is not None:
            raise RequirementNotMet(reason)
        if not self.chance_corrected:
            return [self.value(float(_shared(self, evaluation, self.partition).mean()), partition=self.partition)]
        mine = evaluation.outputs(self.partition).predictions
        others = evaluation.outputs(self.partition, self.reference).predictions
        try:
            kappa = cohens_kappa(confusion_matrix(mine, others, int(max(mine.max(), others.max())) + 1))
        except DataError as error:
            raise RequirementNotMet(f'kappa is not defined on "{self.partition}": {error}') from error
        return [self.value(kappa, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class Completeness(Referenced):
    """Share of the forget set that is predicted as by gold.

    Answers: does the model treat what it forgot as one that never saw it? In [0, 1]; 1 is complete. Two golds of different seeds agree
    in less than all, which is the noise floor.

    Args:
        forget: The forgotten samples.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(paper="Cao & Yang, IEEE S&P 2015 (completeness)")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    closer_is_higher: ClassVar[bool] = True

    forget: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        return [self.value(float(_shared(self, evaluation, self.forget).mean()), partition=self.forget)]


@dataclass(frozen=True, kw_only=True)
class _Divergence(Referenced):
    """What divergences of outputs have in common.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    partition: Partition = "forget"

    def _mean(self, evaluation: Evaluation, divergence: Callable[[Tensor, Tensor], Tensor]) -> list[Value]:
        """Mean over the samples of a divergence of the reference from the model, and over labels where there are several."""
        mine, other = evaluation.outputs(self.partition), evaluation.outputs(self.partition, self.reference)
        each = divergence(log_probabilities(mine.task, other.logits), log_probabilities(mine.task, mine.logits))
        return [self.value(float(each.mean()), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class JSDivergence(_Divergence):
    r"""Jensen-Shannon divergence between the outputs of a model and gold's, per sample.

    .. math:: \frac1n \sum_i \tfrac12 \mathrm{KL}(p_i \,\|\, m_i) + \tfrac12 \mathrm{KL}(q_i \,\|\, m_i), \qquad m_i = (p_i + q_i) / 2

    in nats, in [0, ln 2]; 0 for equal outputs. For multilabel tasks the mean over the labels. Read it next to the noise floor.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(paper="Lin, IEEE Transactions on Information Theory 37 (1991)")
    value_range: ClassVar[tuple[float, float]] = (0.0, math.log(2))
    unit: ClassVar[str] = "nats"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        return self._mean(evaluation, jensen_shannon)


@dataclass(frozen=True, kw_only=True)
class KLDivergence(_Divergence):
    r"""Kullback-Leibler divergence of gold's outputs from a model's, per sample.

    .. math:: \frac1n \sum_i \mathrm{KL}(p_{\text{gold}}(x_i) \,\|\, p_u(x_i))

    in nats, at least 0; 0 for equal outputs. It is not symmetric, and a single sample that the model is wrongly sure of can dominate
    it. For multilabel tasks the mean over the labels.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kullback & Leibler, 1951; in unlearning Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933",
        deviations=("Computed from log-probabilities, so nothing is clamped (circulating code clamps at 1e-12).",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "nats"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        return self._mean(evaluation, kullback_leibler)


@dataclass(frozen=True, kw_only=True)
class TotalVariation(_Divergence):
    r"""Total variation distance between the outputs of a model and gold's, per sample.

    .. math:: \frac1n \sum_i \tfrac12 \lVert p_u(x_i) - p_{\text{gold}}(x_i) \rVert_1

    In [0, 1]; 0 for equal outputs. The largest difference of probability that the two give to any set of classes. For multilabel tasks
    the mean over the labels.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(paper="Levin & Peres, Markov Chains and Mixing Times, 2017, chapter 4")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        return self._mean(evaluation, total_variation)


@dataclass(frozen=True, kw_only=True)
class Hellinger(_Divergence):
    r"""Hellinger distance between the outputs of a model and gold's, per sample.

    .. math:: \frac1n \sum_i \tfrac{1}{\sqrt 2} \bigl\lVert \sqrt{p_u(x_i)} - \sqrt{p_{\text{gold}}(x_i)} \bigr\rVert_2

    In [0, 1]; 0 for equal outputs. For multilabel tasks the mean over the labels.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
    """

    source: ClassVar[Source | None] = Source(paper="Hellinger, Journal fuer die reine und angewandte Mathematik 136 (1909)")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        return self._mean(evaluation, hellinger)
