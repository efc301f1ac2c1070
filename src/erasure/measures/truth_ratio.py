"""TOFU's truth ratio: how a model tells true answers from wrong ones, and how its distribution compares with gold's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.diverged import outputs_diverged
from erasure.functional.tokens import (
    LEARNED,
    PARAPHRASE,
    WRONG,
    answer_losses,
    labelled,
    n_versions,
    version_of,
    versions_missing,
)
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference, Value
from erasure.measures.requirements import require_defined
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.types import Json, NonNegativeInt, Partition, Source, Task

__all__ = ["ForgetQuality", "TruthRatio", "log_truth_ratios", "ratios_of_losses", "version_losses"]

_BATCH = 32
_FLOOR = 1e-10
"""What open-unlearning adds to a probability that it divides by."""
_CODE = "locuslab/tofu at bdc209e; locuslab/open-unlearning at d3d7cf9"
_TESTED = "plain formulas and scipy (tests/unit/language/test_answer_measures.py)"


@dataclass(frozen=True, kw_only=True)
class TruthRatio(Measure):
    r"""How much more probable true answers are than wrong ones.

    Answers: does the model still tell what is true of the forgotten samples?

    .. math:: \log R = \overline{l}_{\mathrm{true}} - \frac1K \sum_k \overline{l}_{\mathrm{wrong},k}

    with the mean loss per token :math:`\overline{l}` of the paraphrased answer (of the answer itself where there is no paraphrase) and
    of each wrong one. ``TruthRatio`` is the mean of :math:`\min(R, 1/R)`, TOFU's form for the forget set: 1 for a model that cannot tell
    them apart, a ruined one too, so that nearer to gold is better, not higher. ``truth known`` is the mean of :math:`\max(0, 1 - R)`,
    TOFU's form for what should be kept. Both in [0, 1]; everything is computed from logarithms, without a floor under probabilities.

    Samples without wrong answers are left out. **Cost**: a pass over the partition for each of these answers.

    Args:
        partition: Where it is measured.
        legacy: Whether 1e-10 is added to the probability of the true answer, as in open-unlearning: below it every ratio becomes 0.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121",
        code=_CODE,
        tested=_TESTED,
        deviations=(
            "In log space; open-unlearning adds 1e-10 to a probability, below which the ratio of every model becomes 0 (``legacy``).",
            "Wrong answers enter by their geometric mean, as in the evaluation code of TOFU; another of its files has the arithmetic one.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    legacy: bool = field(default=False, metadata={"address": "changed"})

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Both means."""
        require_defined(self, evaluation)
        log_r, _ = log_truth_ratios(evaluation, self.partition, legacy=self.legacy)
        indistinct = (-log_r.abs()).exp()
        known = -torch.expm1(log_r.clamp_max(0))
        return [
            Value(value=float(indistinct.mean()), partition=self.partition),
            Value(value=float(known.mean()), name="truth known", partition=self.partition, higher_is_better=True),
        ]


@dataclass(frozen=True, kw_only=True)
class ForgetQuality(Measure):
    r"""TOFU's forget quality: whether truth ratios on forgotten samples are distributed as gold's.

    Answers: could these truth ratios come from a model that was retrained?

    ``ForgetQuality`` is the p-value of the two-sided Kolmogorov-Smirnov test of the two samples of :math:`R`; TOFU calls forgetting a
    success above 0.05. ``KS distance`` is its statistic, the largest distance of the two distributions, in [0, 1]; its interval is the
    middle 95 % of resamples of whole groups (authors), or of samples where there is only one, widened to hold the statistic. Few samples
    always pass, and the samples of one author are not independent, so that p is no calibrated probability: look at the distance and its
    interval. A ruined model can pass too.

    **Cost**: that of :class:`TruthRatio` for the model and for gold, once for all measures that need it.

    Args:
        partition: The forgotten samples.
        resamples: Resamples for the interval; 0 gives none.
        legacy: As in :class:`TruthRatio`.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121",
        code=_CODE,
        tested=_TESTED,
        deviations=("All samples of the partition count; TOFU's script looks at the first 300.",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool | None] = True
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"original", "gold", "unlearned"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    resamples: NonNegativeInt = 500
    legacy: bool = field(default=False, metadata={"address": "changed"})

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """p-value and statistic."""
        from scipy.stats import ks_2samp

        require_defined(self, evaluation)
        own, ids = log_truth_ratios(evaluation, self.partition, legacy=self.legacy)
        gold, _ = log_truth_ratios(evaluation, self.partition, "gold", legacy=self.legacy)
        first, second = own.numpy(), gold.numpy()
        found = ks_2samp(first, second)
        low = high = None
        if self.resamples and len(first) > 1:
            low, high = self._interval(evaluation, ids, first, second, float(found.statistic))
        distance = Value(
            value=float(found.statistic),
            name="KS distance",
            partition=self.partition,
            low=low,
            high=high,
            higher_is_better=False,
            ideal=0.0,
        )
        return [Value(value=float(found.pvalue), partition=self.partition), distance]

    def _interval(
        self, evaluation: Evaluation, ids: Tensor, first: np.ndarray, second: np.ndarray, statistic: float
    ) -> tuple[float, float]:
        z = evaluation.z
        groups = np.arange(len(ids)) if z is None else z.reshape(len(z), -1)[:, 0].cpu()[ids].numpy()
        # In the order of ids, so that it does not depend on the order of the partition.
        order = np.argsort(ids.numpy(), kind="stable")
        members = [order[groups[order] == group] for group in np.unique(groups)]
        if len(members) == 1:
            members = [order[i : i + 1] for i in range(len(order))]
        generator = evaluation.streams.numpy("bootstrap")
        found = []
        for _ in range(self.resamples):
            chosen = np.concatenate([members[k] for k in generator.integers(0, len(members), len(members))])
            found.append(_distance(first[chosen], second[chosen]))
        low, high = np.quantile(found, [0.025, 0.975])
        return min(float(low), statistic), max(float(high), statistic)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance of two empirical distribution functions."""
    first, second = np.sort(first), np.sort(second)
    places = np.concatenate([first, second])
    shares = np.searchsorted(first, places, side="right") / len(first) - np.searchsorted(second, places, side="right") / len(
        second
    )
    return float(np.abs(shares).max())


def log_truth_ratios(
    evaluation: Evaluation, partition: str, model: Literal["subject", "original", "gold"] = "subject", *, legacy: bool = False
) -> tuple[Tensor, Tensor]:
    """Logarithm of the truth ratio of each sample that has wrong answers, ``(n,)`` float64, and their ids.

    With ``legacy`` the probability of the true answer has a floor of 1e-10 under it.

    Raises:
        RequirementNotMet: If no sample has any, or a loss is not finite.
        PartitionError: If the partition is empty.
    """
    ids = evaluation.ids(partition)
    if not len(ids):
        raise PartitionError(f'the partition "{partition}" is empty')
    versions = n_versions(evaluation.x.gather(ids[:1]))
    if versions <= WRONG:
        raise RequirementNotMet("the data has no wrong answers; name their column in the source")
    wrong = torch.stack([version_losses(evaluation, partition, version, model) for version in range(WRONG, versions)])
    true = version_losses(evaluation, partition, PARAPHRASE, model)
    if bool(true.isnan().any()):
        true = torch.where(true.isnan(), version_losses(evaluation, partition, LEARNED, model), true)
    is_asked = ~wrong.isnan().all(0)
    if not bool(is_asked.any()):
        raise RequirementNotMet(f'no sample of "{partition}" has wrong answers; name their column in the source')
    log_r = ratios_of_losses(true, wrong.nanmean(0), legacy=legacy)[is_asked]
    if outputs_diverged(log_r):
        raise RequirementNotMet(_diverged(partition))
    return log_r, ids.cpu()[is_asked]


def _diverged(partition: str) -> str:
    return f'losses of answers on "{partition}" are not finite or run away: the model has diverged'


def ratios_of_losses(true: Tensor, wrong: Tensor, *, legacy: bool = False) -> Tensor:
    r"""Logarithm of :math:`R = e^{-l_{\mathrm{wrong}}} / (e^{-l_{\mathrm{true}}} + \varepsilon)`; with ``legacy`` 1e-10, else 0."""
    return -wrong - (torch.logaddexp(-true, torch.full_like(true, math.log(_FLOOR))) if legacy else -true)


@torch.no_grad()
def version_losses(
    evaluation: Evaluation, partition: str, version: int, model: Literal["subject", "original", "gold"] = "subject"
) -> Tensor:
    """Mean loss per token of one version of each answer, ``(n,)`` float64 on the CPU; not a number where there is none.

    Raises:
        RequirementNotMet: If a loss is not finite.
    """
    if version == LEARNED:
        return evaluation.outputs(partition, model).tokens.losses
    network = evaluation.model(model).load()

    def compute() -> Json:
        return [None if math.isnan(each) else each for each in _passes(network, evaluation, partition, version).tolist()]

    # Of a model, once, whichever measures ask: gold's are asked for beside those of every model.
    found: Any = evaluation.shared("answer losses", network, [partition], compute, draws=False, version=version)
    return torch.tensor([math.nan if each is None else each for each in found], dtype=torch.float64)


def _passes(network: nn.Module, evaluation: Evaluation, partition: str, version: int) -> Tensor:
    """Mean loss per token of one version of each answer, by passes of the network; not a number where there is none.

    Raises:
        RequirementNotMet: If a loss is not finite.
    """
    found: list[Tensor] = []
    for ids in torch.split(evaluation.ids(partition), _BATCH):
        x, y = version_of(evaluation.x.gather(ids), version)
        is_there = labelled(y).any(1) if y.shape[1] else torch.zeros(len(ids), dtype=torch.bool, device=y.device)
        losses = torch.full((len(ids),), math.nan, dtype=torch.float64, device=y.device)
        if bool(is_there.any()):
            logits = logits_of(network(x[is_there]))
            losses[is_there] = answer_losses(logits, y[is_there]).double()
            if not bool(losses[is_there].isfinite().all()):
                raise RequirementNotMet(_diverged(partition))
        found.append(losses.cpu())
    return torch.cat(found)
