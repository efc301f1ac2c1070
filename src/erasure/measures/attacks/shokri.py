"""The shadow-model attack of Shokri et al., and the forgetting rate it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from erasure.deferred import for_scikit_learn
from erasure.errors import RequirementNotMet
from erasure.measures.attacks.shadow_game import ShadowGame, Sides, least_models, outcome
from erasure.measures.contract import Evaluation, ModelRole, Outputs, Reference, Value
from erasure.measures.requested_models import ModelRequest
from erasure.measures.requirements import require_defined
from erasure.types import Indication, PositiveInt, Source, Task

__all__ = ["ForgettingRate", "ShokriAttack"]

_DEVIATIONS = (
    "Attack models are logistic regressions on standardised posteriors (the paper: networks of 64 hidden units).",
    "Shadow models see halves of the samples under audit, of which each is a member for half of them, and all of the retain set "
    "(the paper: data disjoint from the target's).",
    "Posteriors, not raw logits (upstream's measure takes logits).",
)


@dataclass(frozen=True, kw_only=True)
class ShokriAttack(ShadowGame):
    """Shadow-model attack: do attack models that learned membership from shadow models find what was forgotten?

    One attack model for each class learns, from the posteriors of the shadow models, which samples they were trained on. It is then shown
    the posteriors of the model under attack on forgotten and on held-out samples. Rows are those of LiRA (chance: AUC and balanced
    accuracy 0.5, rates their bounds). It has no view of single samples, so LiRA and RMIA are stronger; compare with gold's values.

    **Cost**: trains ``n_shadows`` models on about the original's training set, shared by all attacks that ask for them.

    Args:
        forget: The forgotten samples, members of the original's training set.
        test: Samples that were never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, even and at least 4.
    """

    source: ClassVar[Source | None] = Source(
        paper="Shokri, Stronati, Song, Shmatikov, IEEE S&P 2017, arXiv:1610.05820", deviations=_DEVIATIONS
    )
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    attack: ClassVar[str] = "Shokri"

    n_shadows: PositiveInt = 16

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The shadow models."""
        return [(request, self.partitions()) for request in self.shadows]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """AUC, balanced accuracy and true positive rates at small false positive rates."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        attack = _Attack(self, evaluation, sides)
        members, others = (attack.scores(outputs) for outputs in sides.attacked)
        return outcome(self.title, members, others, self.forget)


@dataclass(frozen=True, kw_only=True)
class ForgettingRate(ShokriAttack):
    r"""Share of the forget set that a shadow-model attack finds in the original and no longer in the model.

    .. math:: \frac{n_\mathrm{non}(\theta) - n_\mathrm{non}(\theta_o)}{n_\mathrm{mem}(\theta_o)}

    with :math:`n_\mathrm{mem}` and :math:`n_\mathrm{non}` the forgotten samples that :class:`ShokriAttack` calls members and non-members.
    1 if all former members have become non-members, 0 for the original, negative if more members are found than before. An attack also
    calls never-seen samples members, so gold's value is below 1: it is the ideal.

    **Cost**: that of :class:`ShokriAttack`, with which it shares all models.

    Args:
        forget: The forgotten samples, members of the original's training set.
        test: Samples that were never seen; shadow models learn from them too.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, even and at least 4.
    """

    source: ClassVar[Source | None] = Source(
        paper="Ma, Liu, Liu, Liu, Ma, Ren, IEEE TDSC 2022 (forgetting rate); Shokri et al., IEEE S&P 2017, arXiv:1610.05820",
        deviations=(
            *_DEVIATIONS,
            "The denominator is the number of members found; where there is none, the rate is not defined (upstream adds 0.01).",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (float("-inf"), 1.0)
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})
    attack: ClassVar[str] = "Forgetting rate"
    indicates: ClassVar[Indication | None] = "ignorance"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The rate."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        attack = _Attack(self, evaluation, sides)
        before, after = (
            int((attack.scores(outputs) > 0).sum())
            for outputs in (evaluation.outputs(self.forget, "original"), sides.attacked[0])
        )
        if not before:
            raise RequirementNotMet(
                f'the forgetting rate is not defined: the attack finds no member of "{self.forget}" in the original model, '
                "so there is nothing that could be forgotten"
            )
        return [Value(value=(before - after) / before, partition=self.forget)]


class _Attack:
    """One attack model for each class, trained on the posteriors of shadow models."""

    def __init__(self, measure: ShadowGame, evaluation: Evaluation, sides: Sides) -> None:
        seen = sides.seen(evaluation, measure.shadows)
        least_models("seen", seen, 1)
        least_models("left out", ~seen, 1)
        # By id, so that the order of a partition does not matter.
        order = torch.argsort(sides.ids)
        labels = torch.cat([outputs.labels for outputs in sides.attacked])[order]
        posteriors = torch.stack([self._of(sides.shadow_outputs(evaluation, request), order) for request in measure.shadows])
        self.models = {
            label: _fitted(posteriors[:, chosen].flatten(0, 1), seen[:, order][:, chosen].flatten())
            for label in torch.unique(labels).tolist()
            for chosen in [labels == label]
        }

    @staticmethod
    def _of(both: tuple[Outputs, Outputs], order: Tensor) -> Tensor:
        return torch.cat([_posteriors(outputs) for outputs in both])[order]

    def scores(self, outputs: Outputs) -> Tensor:
        """Log-odds of membership, ``(n,)``."""
        found = torch.empty(len(outputs), dtype=torch.float64)
        posteriors = _posteriors(outputs)
        for label, model in self.models.items():
            chosen = outputs.labels == label
            if bool(chosen.any()):
                found[chosen] = torch.as_tensor(model.decision_function(posteriors[chosen].numpy()))
        return found


def _posteriors(outputs: Outputs) -> Tensor:
    if outputs.diverged:
        raise RequirementNotMet(
            "the attack learns from posteriors, and some logits are not finite or run away: a training or unlearning diverged"
        )
    return outputs.probabilities.double()


def _fitted(posteriors: Tensor, membership: Tensor) -> Any:
    with for_scikit_learn():
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    return model.fit(posteriors.numpy(), membership.numpy())
