"""Likelihood-ratio attacks: LiRA, calibrated on shadow models, and U-LiRA, calibrated on shadow models that have unlearned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters
from erasure.functional.membership import auc
from erasure.functional.membership_scores import gaussian_fits, offline_score, online_score
from erasure.measures.attacks.shadow_game import RememberedGame, Share, Sides, least_models, outcome
from erasure.measures.contract import Evaluation, ModelRole, Value
from erasure.measures.requested_models import ModelRequest, UnlearnedShadow
from erasure.measures.requirements import require_defined
from erasure.types import Source

__all__ = ["LiRA", "ULiRA"]

Variant: TypeAlias = Literal["online", "offline", "fixed-variance"]

_MANY = 64
"""With at least this many models, a sample's own variance is used."""
_FEW = 16
_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class LiRA(RememberedGame):
    r"""Likelihood-ratio attack: can what was forgotten be distinguished from what was never seen, sample by sample?

    .. math:: \Lambda(x) = \log \frac{\mathcal N(\phi(x); \mu_\mathrm{in}, \sigma_\mathrm{in}^2)}
              {\mathcal N(\phi(x); \mu_\mathrm{out}, \sigma_\mathrm{out}^2)}, \qquad \phi = \log \frac{p_y}{1 - p_y}

    with both normal distributions fitted to shadow models that have, and have not, seen x. ``offline`` compares with the latter alone. The
    rows are the AUC (0.5 is chance; 95 % interval over samples, or over shadow models), the balanced accuracy at the attack's own
    threshold (0.5 is chance) and the true positive rates at 1 % and 0.1 % false positives (the bound itself is chance; Clopper-Pearson
    intervals, the threshold being given). A rate at FPR f needs some 10 / f non-members; with fewer than 1 / f it is the rate without any
    false positive. Compare with gold's values: that is what retraining leaves.

    It is calibrated on models that have unlearned nothing. On an unlearned model :class:`ULiRA` is the stronger attack; LiRA says how
    much of the original's behaviour is left.

    **Cost**: trains ``n_shadows`` models on about the original's training set, shared by all attacks that ask for them.

    Args:
        forget: The forgotten samples, members of the original's training set.
        test: Samples that were never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, even and at least 4; the paper uses 256.
        top: Play with this share of the samples only, in (0, 1]: those with the largest difference of mean log-odds between shadow models
            that have seen them and that have not, by one threshold for both sides. Memorised samples show what averages hide.
        variant: ``online`` (each sample has variances of its own), ``fixed-variance`` (all samples share the two), or ``offline`` (the
            one-sided test; the variance is shared below 64 models). By default ``fixed-variance`` below 64 models, otherwise ``online``.
        interval: What the interval of the AUC is over: ``samples`` (DeLong, this attack being given) or ``models`` (bootstrap over
            complementary pairs of at least 16 shadow models, these samples being given).
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini, Chien, Nasr, Song, Terzis, Tramer, IEEE S&P 2022, arXiv:2112.03570",
        tested="a loop over samples and models, on real shadow models (tests/unit/measures/test_shadow_attacks.py)",
        deviations=(
            "One query a sample, without augmentation.",
            "The shared variance is the mean variance within samples; the authors' code takes that of all values together.",
            "Means are means (the authors' code takes medians).",
            "Shadow models see all of the retain set and half of the pool, so that they resemble the original (the paper: half of all).",
            "32 shadow models by default (the paper: 256).",
            "Upstream's measure of this name is a mean of ratios of kernel densities of the raw loss, and another quantity.",
        ),
    )
    attack: ClassVar[str] = "LiRA"

    variant: Variant | None = None
    interval: Literal["samples", "models"] = "samples"

    def check(self) -> None:
        """A bootstrap needs some models to draw from."""
        super().check()
        if self.interval == "models" and self.n_shadows < _FEW:
            message = f'an interval over models needs at least {_FEW} of them, found {self.n_shadows}; use more, or "samples"'
            raise InvalidParameters([Diagnostic(message, path="interval")])

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The shadow models, on both sides of the game."""
        return [(request, self.partitions()) for request in self.shadows]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """AUC, balanced accuracy and true positive rates at small false positive rates."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        said, inside, outside = self._calibration(evaluation, sides)
        members, others = self._players(evaluation, sides, said, inside)
        score = self._scorer(sides.margins(), said, inside, outside)
        scores = score(torch.ones(len(said), dtype=torch.float64))
        values = outcome(self.title, scores[members], scores[others], self.forget)
        if self.interval == "models":
            values[0] = self._over_models(values[0], score, len(said), members, others, evaluation)
        return values

    def _calibration(self, evaluation: Evaluation, sides: Sides) -> tuple[Tensor, Tensor, Tensor]:
        """Log-odds under the models to calibrate on, and which of them count as having seen, and not seen, each sample."""
        seen = sides.seen(evaluation, self.shadows)
        least_models("seen", seen)
        least_models("left out", ~seen)
        return sides.shadow_margins(evaluation, self.shadows), seen, ~seen

    def _players(self, evaluation: Evaluation, sides: Sides, said: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        return self.players(sides, said, inside)

    def _scorer(self, observed: Tensor, said: Tensor, inside: Tensor, outside: Tensor) -> Callable[[Tensor], Tensor]:
        """Gives the scores when each model counts as often as its weight says."""
        variant = self.variant or ("online" if len(said) >= _MANY else "fixed-variance")
        pooled = variant == "fixed-variance" or (variant == "offline" and len(said) < _MANY)

        def score(weights: Tensor) -> Tensor:
            without = gaussian_fits(said, outside * weights.unsqueeze(1), pooled=pooled)
            if variant == "offline":
                return offline_score(observed, without)
            return online_score(observed, gaussian_fits(said, inside * weights.unsqueeze(1), pooled=pooled), without)

        return score

    def _over_models(
        self,
        value: Value,
        score: Callable[[Tensor], Tensor],
        n_models: int,
        members: Tensor,
        others: Tensor,
        evaluation: Evaluation,
    ) -> Value:
        """The AUC with a percentile interval; pairs are drawn, so that every sample keeps as many models on either side."""
        generator = evaluation.streams.torch("models")
        n_pairs = n_models // 2
        areas = []
        for _ in range(_DRAWS):
            drawn = torch.randint(n_pairs, (n_pairs,), generator=generator)
            scores = score(torch.bincount(drawn, minlength=n_pairs).repeat_interleave(2).double())
            areas.append(auc(scores[members], scores[others]))
        low, high = torch.tensor(areas, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return replace(value, low=min(low, value.value), high=max(high, value.value))


@dataclass(frozen=True, kw_only=True)
class ULiRA(LiRA):
    r"""LiRA calibrated on unlearned shadow models: can what a method forgot be distinguished from what the model never saw?

    .. math:: \Lambda(x) = \log \frac{\mathcal N(\phi(x); Q_\mathrm{u})}{\mathcal N(\phi(x); Q_\mathrm{o})}

    :math:`Q_\mathrm{u}` is fitted to shadow models that have seen x and then unlearned it by the very method under test,
    :math:`Q_\mathrm{o}` to models that never saw x and went through the method too. For gold, "unlearning" is retraining, so that its
    value is chance within its interval; for the original and for a method that does nothing it equals LiRA. Rows and intervals are
    those of :class:`LiRA`; balanced accuracy at :math:`\Lambda > 0` is the paper's own.

    **Cost**: LiRA's shadow models, and ``n_shadows`` unlearnings by each method under test (retrainings for gold).

    Args:
        forget: The forgotten samples.
        test: Samples that were never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, even and at least 4; each is unlearned once.
        top: Play with this share of the samples only, in (0, 1]: those that the shadow models remember best before they unlearn.
        variant: As for LiRA.
        interval: As for LiRA; over ``models`` with ``share`` 1 only.
        share: Share of what a shadow model has seen of the two sides that it forgets, in (0, 1]. 1 forgets all of it, which calibrates
            best but may be more than the model under test had to forget.
    """

    source: ClassVar[Source | None] = Source(
        paper="Hayes, Shumailov, Triantafillou, Khalifa, Papernot, SaTML 2025, arXiv:2403.01218",
        tested="a loop over what was forgotten and never seen, on real shadow models "
        "(tests/unit/measures/test_shadow_attacks.py)",
        deviations=(
            "Never-seen samples are scored under models that went through the method with other forget sets, not under originals.",
            "Each shadow model forgets one set (the paper and its port: several sets of a tenth).",
            "The variance is shared by all samples below 64 shadow models.",
            "32 shadow models by default, which see all of the retain set (the port: 64 random halves).",
        ),
    )
    attack: ClassVar[str] = "U-LiRA"

    share: Share = 1.0

    def check(self) -> None:
        """Redrawing pairs leaves every sample its models only where one of each pair has forgotten it."""
        super().check()
        if self.interval == "models" and self.share < 1:
            message = 'an interval over models needs shadow models that forget all they have seen of both sides: use share 1, or "samples"'
            raise InvalidParameters([Diagnostic(message, path="interval")])

    @property
    def unlearned(self) -> tuple[UnlearnedShadow, ...]:
        """The shadow models after unlearning."""
        return tuple(UnlearnedShadow(number=each.number, shadow=self.shadows[0], share=self.share) for each in self.shadows)

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The unlearned shadow models; what they were before, if the most remembered samples are asked for."""
        wanted: list[ModelRequest] = [*self.unlearned, *(self.shadows if self.top < 1 else ())]
        return [(request, self.partitions()) for request in wanted]

    def _calibration(self, evaluation: Evaluation, sides: Sides) -> tuple[Tensor, Tensor, Tensor]:
        gone, never = sides.forgotten(evaluation, self.unlearned), ~sides.seen(evaluation, self.unlearned)
        least_models("forgotten", gone)
        least_models("left out", never)
        return sides.shadow_margins(evaluation, self.unlearned), gone, never

    def _players(self, evaluation: Evaluation, sides: Sides, said: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Those that are remembered before they are unlearned."""
        if self.top == 1:
            return self.players(sides, said, inside)
        return self.players(sides, sides.shadow_margins(evaluation, self.shadows), sides.seen(evaluation, self.shadows))
