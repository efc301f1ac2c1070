"""The membership game with shadow models: who plays it, what the shadows say, and how the outcome is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

import torch
from annotated_types import Interval
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters, PartitionError, RequirementNotMet
from erasure.functional.counts import are_among
from erasure.functional.membership import (
    auc,
    auc_interval,
    balanced_accuracy,
    roc,
    thinned_roc,
    tpr_at_fpr,
    tpr_interval,
)
from erasure.functional.membership_scores import most_separated
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.measures.requested_models import ModelRequest, Shadow
from erasure.types import Indication, Partition, PositiveInt

__all__ = ["RememberedGame", "ShadowGame", "Share", "Sides", "least_models", "margins", "outcome"]

Share: TypeAlias = Annotated[float, Interval(gt=0, le=1)]
"""A share that may be all, but not nothing."""


@dataclass(frozen=True, kw_only=True)
class ShadowGame(Measure):
    """Base of the attacks that calibrate themselves on shadow models.

    The game: told the outputs of a model, say of each sample whether it was forgotten (a member of its training set) or never seen.
    Members are the forget set, non-members held-out samples. Shadow models are trained by the predictor's recipe on ``retain`` and a
    random half of both sides, so that every sample was seen by one half of them and never by the other. The model that is attacked is
    never one of them.

    Args:
        forget: The forgotten samples.
        test: Samples that neither the model nor gold has seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, at least 4; even where they see halves, so that every sample was seen by half of them.

    Class data:
        attack: Name of the attack in results, if not the class's.
        seen_share: Share of both sides that a shadow model has seen.
    """

    version: ClassVar[int] = 2
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "attack"
    attack: ClassVar[str] = ""
    seen_share: ClassVar[float] = 0.5

    forget: Partition = "forget"
    test: Partition = "test"
    retain: Partition = "retain"
    n_shadows: PositiveInt = 32

    def check(self) -> None:
        """Half of the models must be enough to fit a distribution to, and halves come in pairs."""
        n = self.n_shadows
        if n < 4:
            raise InvalidParameters([Diagnostic(f"found {n} shadow models; at least 4 are needed", path="n_shadows")])
        if self.seen_share == 0.5 and n % 2:
            message = f"found {n} shadow models; they see complementary halves in pairs: ask for {n - 1} or {n + 1}"
            raise InvalidParameters([Diagnostic(message, path="n_shadows")])

    @property
    def title(self) -> str:
        """The attack's name."""
        return self.attack or type(self).__name__

    def partitions(self) -> tuple[str, ...]:
        """The two sides; shadow models are trained on ``retain``, but no outputs on it are looked at."""
        return tuple(dict.fromkeys((self.forget, self.test)))

    @property
    def shadows(self) -> tuple[Shadow, ...]:
        """The shadow models, by number."""
        pool, always = (self.forget, self.test), (self.retain,)
        return tuple(Shadow(number=k, pool=pool, always=always, share=self.seen_share) for k in range(self.n_shadows))

    def sides(self, evaluation: Evaluation) -> Sides:
        """Who plays.

        Raises:
            PartitionError: If a side is empty or a sample is on both.
        """
        members, others = evaluation.outputs(self.forget), evaluation.outputs(self.test)
        both = int(torch.isin(members.ids, others.ids).sum())
        if both:
            raise PartitionError(f'"{self.forget}" and "{self.test}" share {both} samples; members must not be non-members too')
        return Sides(names=(self.forget, self.test), attacked=(members, others))


@dataclass(frozen=True, kw_only=True)
class RememberedGame(ShadowGame):
    """A game that can be restricted to the samples which models remember best.

    Args:
        forget: The forgotten samples.
        test: Samples that neither the model nor gold has seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models.
        top: Play with this share of the samples only, in (0, 1]: those with the largest difference of mean log-odds between shadow models
            that have seen them and that have not. One threshold holds for both sides.
    """

    top: Share = 1.0

    @property
    def title(self) -> str:
        """The attack, and the share of samples it is restricted to."""
        return super().title if self.top == 1 else f"{super().title} top {self.top:.3g}"

    def players(self, sides: Sides, statistics: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the members and of the non-members to play with."""
        return sides.most_remembered(statistics, inside, self.top)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sides:
    """The samples of a game, members first.

    Args:
        names: Partitions of members and of non-members.
        attacked: What the attacked model says about either of them.
    """

    names: tuple[str, str]
    attacked: tuple[Outputs, Outputs]

    @property
    def ids(self) -> Tensor:
        """``(n,)`` int64."""
        return torch.cat([side.ids for side in self.attacked]).cpu()

    @property
    def members(self) -> Tensor:
        """Positions of the members."""
        return torch.arange(len(self.attacked[0]))

    @property
    def others(self) -> Tensor:
        """Positions of the non-members."""
        return torch.arange(len(self.attacked[1])) + len(self.attacked[0])

    def most_remembered(self, statistics: Tensor, inside: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Positions of the members and of the non-members that having been seen changes shadow models most.

        One threshold holds for both sides, and the shadow models alone decide, so that the choice tells nothing of the model under attack.

        Args:
            statistics: Log-odds under the shadow models, ``(S, n)``; negated, the choice is of those that are remembered least.
            inside: Which model has seen which sample, ``(S, n)`` booleans.
            share: Share of all samples that is kept, in (0, 1].

        Raises:
            RequirementNotMet: If none of one side is among them.
        """
        kept = most_separated(statistics, inside, ~inside, share) if share < 1 else torch.arange(len(self.ids))
        n_members = len(self.attacked[0])
        members, others = kept[kept < n_members], kept[kept >= n_members]
        for name, side in zip(self.names, (members, others), strict=True):
            if not len(side):
                raise RequirementNotMet(
                    f'the {share:.3g} of the samples that shadow models remember best (or least) has none of "{name}": take a larger share'
                )
        return members, others

    def margins(self) -> Tensor:
        """Log-odds of the right labels under the attacked model, ``(n,)``."""
        return torch.cat([margins(outputs, "the model under attack") for outputs in self.attacked])

    def shadow_outputs(self, evaluation: Evaluation, request: ModelRequest) -> tuple[Outputs, Outputs]:
        """What one of the shadow models says about either side."""
        first, second = (evaluation.models().outputs(request, name) for name in self.names)
        return first, second

    def shadow_margins(self, evaluation: Evaluation, requests: Sequence[ModelRequest]) -> Tensor:
        """Log-odds of the right labels under shadow models, ``(S, n)``."""
        rows = []
        for request in requests:
            said = self.shadow_outputs(evaluation, request)
            rows.append(torch.cat([margins(outputs, f"shadow model {request.number}") for outputs in said]))
        return torch.stack(rows)

    def seen(self, evaluation: Evaluation, requests: Sequence[ModelRequest]) -> Tensor:
        """Which shadow model was trained on which sample, ``(S, n)`` booleans."""
        ids = self.ids
        return torch.stack([are_among(ids, evaluation.models().seen(request)) for request in requests])

    def forgotten(self, evaluation: Evaluation, requests: Sequence[ModelRequest]) -> Tensor:
        """Which shadow model has seen and then unlearned which sample, ``(S, n)`` booleans.

        A shadow model that has unlearned nothing, as those of an original have, counts for all it has seen.
        """
        ids = self.ids
        gone = torch.stack([are_among(ids, evaluation.models().forgotten(request)) for request in requests])
        return torch.where(gone.any(1, keepdim=True), gone, self.seen(evaluation, requests))


def margins(outputs: Outputs, who: str) -> Tensor:
    """Log-odds of the right labels.

    Raises:
        RequirementNotMet: If some are not finite, or the logits run away.
    """
    if not outputs.has_log_odds:
        raise RequirementNotMet(
            f"the attack compares log-odds, and some of {who} are not finite or run away: its training or unlearning diverged"
        )
    return outputs.log_odds


def least_models(role: str, mask: Tensor, wanted: int = 2) -> None:
    """Refuse samples that too few shadow models can speak for.

    Raises:
        RequirementNotMet: If fewer than ``wanted`` models count for a sample.
    """
    least = int(mask.sum(0).min())
    if least < wanted:
        raise RequirementNotMet(
            f"some sample was {role} by {least} of the {len(mask)} shadow models only, and {wanted} are needed: "
            "ask for more shadow models, and keep both sides of the game apart from what every shadow is trained on"
        )


def outcome(title: str, members: Tensor, others: Tensor, partition: str, *, threshold: float = 0.0) -> list[Value]:
    """AUC, balanced accuracy at the attack's own threshold, and true positive rates at small false positive rates.

    A rate at a false positive rate f is, with fewer than 1 / f non-members, the rate without any false positive.

    Args:
        title: Name of the attack.
        members: Scores of members, larger for "member".
        others: Scores of non-members.
        partition: Where the members come from.
        threshold: Above it, the attack says "member".
    """
    curve = roc(members, others)
    fpr, tpr = thinned_roc(curve, len(others))
    low, high = auc_interval(members, others)
    evidence = {"kind": "roc", "fpr": fpr, "tpr": tpr, "n_members": len(members), "n_others": len(others)}
    area = Value(
        value=auc(members, others), name=f"{title} AUC", partition=partition, low=low, high=high, chance_level=0.5, curve=evidence
    )
    right = balanced_accuracy(members, others, threshold)
    values = [area, Value(value=right, name=f"{title} balanced accuracy", partition=partition, chance_level=0.5)]
    for percent, bound in (("1%", 0.01), ("0.1%", 0.001)):
        rate = tpr_at_fpr(curve, bound)
        low, high = tpr_interval(rate, len(members))
        values.append(
            Value(value=rate, name=f"{title} TPR at {percent} FPR", partition=partition, low=low, high=high, chance_level=bound)
        )
    return values
