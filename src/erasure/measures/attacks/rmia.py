"""RMIA: a membership attack by likelihood ratios against population samples, strong with few reference models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from erasure.functional.counts import are_among
from erasure.functional.membership_scores import log_mean_probability, offline_prior, pairwise_rank
from erasure.measures.attacks.shadow_game import RememberedGame, least_models, margins, outcome
from erasure.measures.contract import Evaluation, ModelRole, Value
from erasure.measures.requested_models import ModelRequest
from erasure.measures.requirements import require_defined
from erasure.types import Fraction, Partition, PositiveInt, Source

__all__ = ["RMIA"]


@dataclass(frozen=True, kw_only=True)
class RMIA(RememberedGame):
    r"""Robust membership attack: is a sample likelier under the model than population samples are, by a factor?

    .. math:: \Pr_{z} \left[ \frac{\Pr(x \mid \theta) / \Pr(x)}{\Pr(z \mid \theta) / \Pr(z)} \ge \gamma \right]

    where :math:`\Pr(x \mid \theta)` is the probability of the right label and :math:`\Pr(x)` its mean over reference models. A few of them
    are enough. Rows and intervals are those of LiRA (chance: AUC and balanced accuracy 0.5, rates their bounds); balanced accuracy counts
    a sample as a member if it beats more than half of the population. Compare with gold's values.

    It is calibrated on models that have unlearned nothing, as LiRA is.

    **Cost**: trains ``n_shadows`` models on about the original's training set, shared by all attacks that ask for them.

    Args:
        forget: The forgotten samples, members of the original's training set.
        test: Samples that were never seen.
        retain: What every reference model is trained on as well.
        n_shadows: Number of reference models, even and at least 4.
        top: Play with this share of the samples only, in (0, 1]: those that the reference models remember best.
        population: Samples z to compare with, which no model was trained on; by default those of ``test``.
        variant: ``offline`` estimates :math:`\Pr(x)` from models that have not seen x, ``online`` is the mean of both kinds.
        gamma: The factor, at least 1. Where the ratios of most samples lie within it of each other, most scores are 0 and equal, and the
            AUC is near 0.5 whatever is left: 1 ranks all of them.
        a: For ``offline``, how far the probability under models that saw x follows that under models that did not, in [0, 1]:
            :math:`\Pr(x) = \tfrac12 ((1 + a) \Pr(x)_\mathrm{OUT} + 1 - a)`. The paper tunes it per data set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Zarifzadeh, Liu, Shokri, ICML 2024, arXiv:2312.03262",
        code="privacytrustlab/ml_privacy_meter at 0b8cb7a",
        tested="a loop over pairs, on real shadow models (tests/unit/measures/test_shadow_attacks.py)",
        deviations=(
            "By default the population is the held-out side itself.",
            "The factor is 2 as in the paper; the authors' code compares with 1.",
            "All models that did not see a sample are averaged; the authors' code keeps the largest probabilities where there are fewer.",
            "a is a parameter and is not tuned on a paired model.",
            "Right-label probabilities are plain softmax values, without augmentation.",
        ),
    )
    attack: ClassVar[str] = "RMIA"

    n_shadows: PositiveInt = 16
    population: Partition | None = None
    variant: Literal["offline", "online"] = "offline"
    gamma: Annotated[float, Ge(1)] = 2.0
    a: Fraction = 0.3

    def partitions(self) -> tuple[str, ...]:
        """The two sides, and the population if it is another one."""
        return tuple(dict.fromkeys((*super().partitions(), *(() if self.population is None else (self.population,)))))

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The reference models."""
        return [(request, self.partitions()) for request in self.shadows]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """AUC, balanced accuracy and true positive rates at small false positive rates."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        seen, said = sides.seen(evaluation, self.shadows), sides.shadow_margins(evaluation, self.shadows)
        ratios = self._ratios(sides.margins(), said, seen)
        members, others = self.players(sides, said, seen)
        pool = ratios[sides.others] if self.population is None else self._population(evaluation, self.population)
        scores = pairwise_rank(ratios, pool, gamma=self.gamma)
        return outcome(self.title, scores[members], scores[others], self.forget, threshold=0.5)

    def _ratios(self, observed: Tensor, said: Tensor, seen: Tensor) -> Tensor:
        """Logarithms of how much likelier each right label is under the model than on average."""
        least_models("left out", ~seen, 1)
        said = F.logsigmoid(said)
        prior = log_mean_probability(said, ~seen)
        if self.variant == "offline":
            prior = offline_prior(prior, self.a)
        else:
            least_models("seen", seen, 1)
            prior = torch.logaddexp(prior, log_mean_probability(said, seen)) - torch.tensor(2.0, dtype=torch.float64).log()
        return F.logsigmoid(observed) - prior

    def _population(self, evaluation: Evaluation, name: str) -> Tensor:
        """The ratios of the population; no model has seen it, so its prior is a mean over all of them."""
        models, outputs = evaluation.models(), evaluation.outputs(name)
        said = torch.stack([margins(models.outputs(request, name), f"model {request.number}") for request in self.shadows])
        seen = torch.stack([are_among(outputs.ids, models.seen(request)) for request in self.shadows])
        least_models("left out", ~seen, 1)
        prior = log_mean_probability(F.logsigmoid(said), ~seen)
        if self.variant == "offline":
            prior = offline_prior(prior, self.a)
        return F.logsigmoid(margins(outputs, "the model under attack")) - prior
