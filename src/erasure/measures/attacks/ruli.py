"""RULI: likelihood-ratio attacks on unlearned models, apart for samples that models remember and for those they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor

from erasure.functional.membership_scores import kernel_log_density, most_separated
from erasure.measures.attacks.shadow_game import ShadowGame, Sides, least_models, margins, outcome
from erasure.measures.contract import Evaluation, ModelRole, Outputs, Reference, Value
from erasure.measures.requested_models import ModelRequest, Shadow, UnlearnedShadow
from erasure.measures.requirements import require_defined
from erasure.types import PositiveInt, Source

__all__ = ["RULI", "RULIEfficacy"]

_PAPER = "Naderloui et al., USENIX Security 2025, arXiv:2506.13009"
_CODE = "datasec-lab/Ruli at cb3967e"
_DEVIATIONS = (
    "Kernel bandwidths follow Scott's rule for each sample (the authors' code: 1, whatever the spread).",
    "The true positive rate at a bound is the largest within it (the authors' code: the nearest, and of ties the smallest).",
    "Vulnerable samples are found by the same shadow models, on both sides alike (the authors fix them beforehand).",
    "Log-odds are not clipped (the authors' code clips probabilities at 1e-6).",
    "48 shadow models by default (the paper: 90).",
)


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
        n_shadows: Number of shadow models, at random a third for each role of a sample; the paper uses 90. With few of them, some sample
            of a large set has none to speak for it, which is refused.
        vulnerable: Share of the samples that counts as vulnerable, and as protected, in (0, 0.5]; one threshold holds for both sides.
    """

    source: ClassVar[Source | None] = Source(
        paper=_PAPER,
        code=_CODE,
        tested="scipy's kernel densities, on real shadow models (tests/unit/measures/test_shadow_attacks.py)",
        deviations=(
            *_DEVIATIONS,
            "Members and non-members are the forget set and held-out samples, not thirds of one target set.",
        ),
    )
    attack: ClassVar[str] = "RULI"
    seen_share: ClassVar[float] = 2 / 3

    n_shadows: PositiveInt = 48
    vulnerable: Annotated[float, Interval(gt=0, le=0.5)] = 0.25

    @property
    def unlearned(self) -> tuple[UnlearnedShadow, ...]:
        """The shadow models after they have unlearned half of what they saw of both sides."""
        return tuple(UnlearnedShadow(number=each.number, shadow=self.shadows[0], share=0.5) for each in self.shadows)

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """Every shadow model before and after unlearning."""
        return [(request, self.partitions()) for request in (*self.shadows, *self.unlearned)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The rows for all, for vulnerable and for protected samples."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        seen, gone = sides.seen(evaluation, self.shadows), sides.forgotten(evaluation, self.unlearned)
        least_models("forgotten", gone)
        least_models("left out", ~seen)
        trained, after = sides.shadow_margins(evaluation, self.shadows), sides.shadow_margins(evaluation, self.unlearned)
        members, others = self._scores(evaluation, sides, after, gone, ~seen)
        values = outcome(self.title, members, others, self.forget)
        for group, sign in (("vulnerable", 1), ("protected", -1)):
            first, second = self._group(sides, sign * trained, seen)
            values += outcome(f"{self.title} {group}", members[first], others[second], self.forget)
        return values

    def _scores(self, evaluation: Evaluation, sides: Sides, after: Tensor, gone: Tensor, never: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of members and of non-members."""
        observed = sides.margins()
        scores = kernel_log_density(observed, after, gone) - kernel_log_density(observed, after, never)
        return scores[sides.members], scores[sides.others]

    def _group(self, sides: Sides, statistics: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the members and of the non-members are remembered most by these statistics."""
        members, others = sides.most_remembered(statistics, seen, self.vulnerable)
        return members, others - len(sides.members)


@dataclass(frozen=True, kw_only=True)
class RULIEfficacy(RULI):
    r"""Did unlearning forget? RULI's efficacy game: can the forget set tell the model from one retrained without it?

    .. math:: \log \hat p(\phi(x) \mid \text{unlearned}) - \log \hat p(\phi(x) \mid \text{retrained})

    As :class:`RULI`, but never having seen a sample is what models say that unlearned nothing, trained on as many samples as the shadow
    models keep. Members are the forgotten samples under the model, non-members the same samples under gold, for which the AUC is 0.5 by
    definition. What a method does to a model as a whole is found here too, not only what is left of the samples. Rows are those of
    :class:`RULI`; the interval of an AUC takes the two sides for different samples, which makes it wider than it need be.

    **Cost**: the models of :class:`RULI`, and half as many that are only trained.

    Args:
        forget: The forgotten samples.
        test: Samples that were never seen; shadow models learn from them too.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, at random a third for each role of a sample; the paper uses 90. With few of them, some sample
            of a large set has none to speak for it, which is refused.
        vulnerable: Share of the forget set that counts as vulnerable, and as protected, in (0, 0.5].
    """

    source: ClassVar[Source | None] = Source(
        paper=_PAPER,
        code=_CODE,
        tested="gold against itself, on real shadow models (tests/unit/measures/test_shadow_attacks.py)",
        deviations=(
            *_DEVIATIONS,
            "The other side are the same samples under gold, and models retrained at the size of the unlearned ones (the authors' entry "
            "script asks for other samples under the original, and for shadow models before unlearning, which differ in size; what it "
            "calls was not read).",
        ),
    )
    attack: ClassVar[str] = "RULI efficacy"
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})

    @property
    def retrained(self) -> tuple[Shadow, ...]:
        """Models trained on as many samples as the shadow models keep; two thirds of the samples are new to each."""
        kind = self.shadows[0]
        return tuple(Shadow(number=k, pool=kind.pool, always=kind.always, share=1 / 3) for k in range(self.n_shadows // 2))

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The shadow models before and after unlearning, and the retrained ones."""
        return [*super().requests(subject), *((request, self.partitions()) for request in self.retrained)]

    def _scores(self, evaluation: Evaluation, sides: Sides, after: Tensor, gone: Tensor, never: Tensor) -> tuple[Tensor, Tensor]:
        members = sides.members
        unseen = ~sides.seen(evaluation, self.retrained)[:, members]
        least_models("left out", unseen)
        retrained = sides.shadow_margins(evaluation, self.retrained)[:, members]

        def scores(outputs: Outputs, who: str) -> Tensor:
            observed = margins(outputs, who)
            forgot = kernel_log_density(observed, after[:, members], gone[:, members])
            return forgot - kernel_log_density(observed, retrained, unseen)

        gold = evaluation.outputs(self.forget, "gold")
        return scores(sides.attacked[0], "the model under attack"), scores(gold, "gold")

    def _group(self, sides: Sides, statistics: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        seen = seen[:, sides.members]
        chosen = most_separated(statistics[:, sides.members], seen, ~seen, self.vulnerable)
        return chosen, chosen
