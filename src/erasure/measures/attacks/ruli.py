"""RULI: likelihood-ratio attacks on unlearned models, apart for samples that models remember and for those they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from erasure.functional.membership_scores import kernel_log_density, most_separated
from erasure.measures.attacks.shadow_game import ShadowGame, Sides, least_models, margins, outcome
from erasure.measures.bank import Request, UnlearnedShadow
from erasure.measures.contract import Evaluation, ModelKind, Reference, Value
from erasure.measures.requirements import require_defined
from erasure.types import PositiveInt, Source

__all__ = ["RULI", "RULIEfficacy"]


@dataclass(frozen=True, kw_only=True)
class RULI(ShadowGame):
    r"""Does unlearning leak what it forgot? RULI's privacy game, for vulnerable and for protected samples.

    .. math:: \log \hat p(\phi(x) \mid \text{unlearned}) - \log \hat p(\phi(x) \mid \text{never seen})

    with kernel densities of the log-odds of the right label under shadow models that went through the method: those that unlearned x, and
    those that never saw it. Each shadow model keeps a third of the samples, unlearns a third and never sees a third. Rows are those of
    LiRA (chance: AUC and balanced accuracy 0.5, rates their bounds), for all samples, for the ``vulnerable`` ones, which shadow models
    remember most before unlearning, and for the ``protected`` ones, which they remember least. An average over all hides the former.
    Compare with gold's values.

    **Cost**: trains ``n_shadows`` models of its own (other attacks use halves, not thirds) and unlearns each once by each method.

    Args:
        forget: The forgotten samples.
        test: Samples that were never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, a third for each role; the paper uses 90.
        vulnerable: Share of either side that counts as vulnerable, and as protected, in (0, 0.5].
    """

    source: ClassVar[Source | None] = Source(
        paper="Naderloui et al., USENIX Security 2025, arXiv:2506.13009",
        code="datasec-lab/Ruli at cb3967e (read; not run against it)",
        deviations=(
            "Kernel bandwidths follow Scott's rule for each sample (the authors' code: 1, whatever the spread).",
            "The true positive rate at a bound is the largest within it (the authors' code: the nearest, and of ties the smallest).",
            "Vulnerable samples are found by the same shadow models, on both sides alike (the authors fix them beforehand).",
            "Members and non-members are the forget set and held-out samples, not thirds of one target set.",
            "Log-odds are not clipped (the authors' code clips probabilities at 1e-6).",
        ),
    )
    attack: ClassVar[str] = "RULI"
    seen_share: ClassVar[float] = 2 / 3

    n_shadows: PositiveInt = 36
    vulnerable: Annotated[float, Interval(gt=0, le=0.5)] = 0.25

    @property
    def unlearned(self) -> tuple[UnlearnedShadow, ...]:
        """The shadow models after they have unlearned half of what they saw of both sides."""
        return tuple(UnlearnedShadow(number=each.number, shadow=self.shadows[0], share=0.5) for each in self.shadows)

    def requests(self, subject: ModelKind) -> Sequence[tuple[Request, tuple[str, ...]]]:
        """Every shadow model before and after unlearning."""
        return [(request, self.partitions()) for request in (*self.shadows, *self.unlearned)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The rows for all, for vulnerable and for protected samples."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        seen, gone = sides.seen(evaluation, self.shadows), sides.forgotten(evaluation, self.unlearned)
        least_models("kept", seen & ~gone)
        least_models("forgotten", gone)
        least_models("left out", ~seen)
        trained, after = sides.shadow_margins(evaluation, self.shadows), sides.shadow_margins(evaluation, self.unlearned)
        observed = self._observed(evaluation, sides)
        scores = kernel_log_density(observed, after, gone) - kernel_log_density(observed, self._unseen(trained, after), ~seen)
        values = outcome(self.title, scores[sides.members], scores[sides.others], self.forget)
        for group, sign in (("vulnerable", 1), ("protected", -1)):
            members, others = (
                side[most_separated(sign * trained[:, side], seen[:, side], ~seen[:, side], self.vulnerable)]
                for side in (sides.members, sides.others)
            )
            values += outcome(f"{self.title} {group}", scores[members], scores[others], self.forget)
        return values

    def _observed(self, evaluation: Evaluation, sides: Sides) -> Tensor:
        """Log-odds under the model that either side is played with."""
        return sides.margins()

    def _unseen(self, trained: Tensor, after: Tensor) -> Tensor:
        """Log-odds under the models that say what never having seen a sample looks like."""
        return after


@dataclass(frozen=True, kw_only=True)
class RULIEfficacy(RULI):
    r"""Did unlearning forget? RULI's efficacy game: what a model forgot against what a model that unlearned nothing never saw.

    .. math:: \log \hat p(\phi(x) \mid \text{unlearned}) - \log \hat p(\phi(x) \mid \text{never trained on})

    As :class:`RULI`, but never having seen a sample is what shadow models say that did not go through the method; and non-members are
    held-out samples under the original. What unlearning does to samples it should not touch counts as a trace here. Rows are those of
    :class:`RULI`; compare with gold's values.

    **Cost**: none beside :class:`RULI`, with which it shares all models.

    Args:
        forget: The forgotten samples.
        test: Samples that were never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, a third for each role; the paper uses 90.
        vulnerable: Share of either side that counts as vulnerable, and as protected, in (0, 0.5].
    """

    attack: ClassVar[str] = "RULI efficacy"
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})

    def _observed(self, evaluation: Evaluation, sides: Sides) -> Tensor:
        never = evaluation.outputs(self.test, "original")
        return torch.cat([margins(sides.attacked[0], "the model under attack"), margins(never, "the original")])

    def _unseen(self, trained: Tensor, after: Tensor) -> Tensor:
        return trained
