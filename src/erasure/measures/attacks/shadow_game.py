"""The membership game with shadow models: who plays it, what the shadows say, and how the outcome is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from erasure.errors import InvalidParameters, PartitionError, Problem, RequirementNotMet
from erasure.functional.membership import (
    auc,
    auc_interval,
    balanced_accuracy,
    confidence_margin,
    thinned_roc,
    tpr_at_fpr,
    tpr_interval,
)
from erasure.functional.membership_scores import most_separated
from erasure.measures.bank import Request, Shadow
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.types import OpenFraction, Partition, PositiveInt

__all__ = ["RememberedGame", "ShadowGame", "Sides", "least_models", "margins", "outcome"]


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
        n_shadows: Number of shadow models.

    Class data:
        attack: Name of the attack in results, if not the class's.
        seen_share: Share of both sides that a shadow model has seen.
    """

    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    attack: ClassVar[str] = ""
    seen_share: ClassVar[float] = 0.5

    forget: Partition = "forget"
    test: Partition = "test"
    retain: Partition = "retain"
    n_shadows: PositiveInt = 32

    def check(self) -> None:
        """Half of the models must be enough to fit a distribution to."""
        if self.n_shadows < 4:
            raise InvalidParameters([Problem(f"found {self.n_shadows} shadow models; at least 4 are needed", path="n_shadows")])

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
        top: Play with this share of either side only: those with the largest difference of mean log-odds between shadow models that
            have seen them and that have not.
    """

    top: OpenFraction | None = None

    @property
    def title(self) -> str:
        """The attack, and the share of samples it is restricted to."""
        return super().title if self.top is None else f"{super().title} top {self.top:.3g}"

    def players(self, sides: Sides, statistics: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the members and of the non-members to play with.

        Both sides are chosen by one rule and from the shadow models alone, so that the choice tells nothing of the model under attack.
        """
        if self.top is None:
            return sides.members, sides.others
        members, others = (
            side[most_separated(statistics[:, side], inside[:, side], ~inside[:, side], self.top)]
            for side in (sides.members, sides.others)
        )
        return members, others


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

    def margins(self) -> Tensor:
        """Log-odds of the right labels under the attacked model, ``(n,)``."""
        return torch.cat([margins(outputs, "the model under attack") for outputs in self.attacked])

    def shadow_outputs(self, evaluation: Evaluation, request: Request) -> tuple[Outputs, Outputs]:
        """What one of the shadow models says about either side."""
        first, second = (evaluation.bank().outputs(request, name) for name in self.names)
        return first, second

    def shadow_margins(self, evaluation: Evaluation, requests: Sequence[Request]) -> Tensor:
        """Log-odds of the right labels under shadow models, ``(S, n)``."""
        rows = []
        for request in requests:
            said = self.shadow_outputs(evaluation, request)
            rows.append(torch.cat([margins(outputs, f"shadow model {request.number}") for outputs in said]))
        return torch.stack(rows)

    def seen(self, evaluation: Evaluation, requests: Sequence[Request]) -> Tensor:
        """Which shadow model was trained on which sample, ``(S, n)`` booleans."""
        return torch.stack([torch.isin(self.ids, evaluation.bank().seen(request)) for request in requests])

    def forgotten(self, evaluation: Evaluation, requests: Sequence[Request]) -> Tensor:
        """Which shadow model has forgotten which sample, ``(S, n)`` booleans."""
        return torch.stack([torch.isin(self.ids, evaluation.bank().forgotten(request)) for request in requests])


def margins(outputs: Outputs, who: str) -> Tensor:
    """Log-odds of the right labels.

    Raises:
        RequirementNotMet: If some are not finite.
    """
    found = confidence_margin(outputs.task, outputs.logits, outputs.labels)
    if not bool(found.isfinite().all()):
        raise RequirementNotMet(
            f"the attack compares log-odds, and some of {who} are not finite: its training or unlearning diverged"
        )
    return found


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

    Args:
        title: Name of the attack.
        members: Scores of members, larger for "member".
        others: Scores of non-members.
        partition: Where the members come from.
        threshold: Above it, the attack says "member".
    """
    fpr, tpr = thinned_roc(members, others)
    low, high = auc_interval(members, others)
    evidence = {"kind": "roc", "fpr": fpr, "tpr": tpr, "n_members": len(members), "n_nonmembers": len(others)}
    area = Value(value=auc(members, others), name=f"{title} AUC", partition=partition, low=low, high=high, evidence=evidence)
    right = balanced_accuracy(members, others, threshold)
    values = [area, Value(value=right, name=f"{title} balanced accuracy", partition=partition)]
    for percent, bound in (("1%", 0.01), ("0.1%", 0.001)):
        rate = tpr_at_fpr(members, others, bound)
        low, high = tpr_interval(rate, len(members))
        values.append(Value(value=rate, name=f"{title} TPR@{percent}FPR", partition=partition, low=low, high=high))
    return values
