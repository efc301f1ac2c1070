"""Scores that weigh utility, a membership attack and time against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.composites import (
    corrected_global_unlearning_metric,
    global_unlearning_metric,
    indiscernibility,
    no_mus,
)
from erasure.functional.confusion import macro_f1
from erasure.measures.attacks.umia import UMIA
from erasure.measures.contract import Evaluation, Measure, ModelRole, Outputs, Reference, Value
from erasure.training.predictor import ModelInput
from erasure.types import Fraction, Partition, PositiveFloat, Source, Statistic

__all__ = ["CGUM", "GUM", "Indiscernibility", "NoMUS"]


def _choi_na() -> Measure:
    return UMIA(protocol="choi-na")


@dataclass(frozen=True, kw_only=True)
class _Attacked(Measure):
    """What scores with a membership attack inside have in common.

    Args:
        membership: The attack, whose value is an accuracy in [0, 1].
    """

    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    membership: Measure = field(default_factory=_choi_na)

    def check(self) -> None:
        """The attack must be a share that needs no other model."""
        low, high = self.membership.value_range
        is_alone = self.membership.references <= self.references and not self.membership.requests("unlearned")
        if low < 0 or high > 1 or not is_alone:
            message = (
                f"membership takes a measure with values in [0, 1] that needs no other model; {self.membership.title} is not"
            )
            raise InvalidParameters([Diagnostic(message, path=f"{type(self).__name__}.membership")])

    def partitions(self) -> tuple[str, ...]:
        """Its own, and the attack's."""
        return tuple(dict.fromkeys((*super().partitions(), *self.membership.partitions())))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """What the attack refuses is refused."""
        return self.membership.unsupported_reason(data) or super().unsupported_reason(data)

    def _attack(self, evaluation: Evaluation, model: Literal["subject", "original", "gold"] = "subject") -> float:
        """The attack's value on a model, with the same splits for all."""
        return self.membership.measure(replace(evaluation, subject=evaluation.model(model)))[0].value


@dataclass(frozen=True, kw_only=True)
class Indiscernibility(_Attacked):
    r"""Closeness of a membership attack's accuracy to chance.

    Answers: can forgotten samples be distinguished from unseen ones?

    .. math:: 1 - \frac{|m - 0.5|}{0.5}

    In [0, 1]; 1 is chance. A model that predicts nothing well also has 1, and gold has less where forgotten and unseen samples are of
    different kinds; the ideal is therefore gold's value, and there is no better direction.

    Args:
        membership: The attack, by default U-MIA by the protocol of Choi & Na.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cadet, Borovykh, Malekzadeh, Ahmadi-Abhari, Haddadi, 2024, arXiv:2410.01276 (Deep Unlearn)",
        code="xcadet/deepunlearn at 6830ff6",
        tested="the formula on a trained model (tests/unit/measures/test_composite_measures.py)",
        deviations=("Compared with gold's value, not with 1.",),
    )

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The closeness."""
        return [Value(value=indiscernibility(self._attack(evaluation)))]


@dataclass(frozen=True, kw_only=True)
class NoMUS(_Attacked):
    r"""Normalised machine unlearning score: accuracy on unseen data and indiscernibility, averaged.

    .. math:: \lambda A_t + (1 - \lambda) (1 - 2 |m - \tfrac12|)

    In [0, 1]; higher is better. It assumes that the attack is at chance on a retrained model, which may not be so, and rewards accuracy
    above gold's; the ideal is therefore gold's value.

    Args:
        membership: The attack, by default U-MIA by the protocol of Choi & Na.
        test: Samples that no model was trained on.
        utility_weight: :math:`\lambda`, in [0, 1].
    """

    source: ClassVar[Source | None] = Source(
        paper="Choi & Na, 2023, arXiv:2311.02240",
        code="ndb796/MachineUnlearning at 9813cd7",
        tested="the formula on a trained model (tests/unit/measures/test_composite_measures.py)",
        deviations=("Upstream fixes the attack's partitions; here the attack brings its own.",),
    )
    higher_is_better: ClassVar[bool | None] = True

    test: Partition = "test"
    utility_weight: Fraction = 0.5

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score."""
        accuracy = evaluation.outputs(self.test).accuracy
        return [Value(value=no_mus(accuracy, self._attack(evaluation), utility_weight=self.utility_weight))]


@dataclass(frozen=True, kw_only=True)
class _GlobalMetric(_Attacked):
    """What both global unlearning metrics have in common.

    Args:
        membership: The attack.
        test: Samples that no model was trained on, for utility.
        alpha: Weight of utility.
        beta: Weight of efficacy.
    """

    higher_is_better: ClassVar[bool | None] = True
    ideal: ClassVar[Literal["gold"] | float | None] = None
    references: ClassVar[frozenset[Reference]] = frozenset({"original", "gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"unlearned"})

    test: Partition = "test"
    alpha: PositiveFloat = 1.0
    beta: PositiveFloat = 1.0

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    def _factors(self, evaluation: Evaluation) -> dict[str, Any]:
        """Utility, attack values and times."""
        subject, gold = evaluation.model("subject"), evaluation.model("gold")
        if gold.elapsed_s <= 0:
            raise RequirementNotMet("the time of gold is zero: too short for this clock to compare")
        factors = {
            "utility": _macro_f1(evaluation.outputs(self.test)),
            "gold_utility": _macro_f1(evaluation.outputs(self.test, "gold")),
            "membership": self._attack(evaluation),
            "gold_membership": self._attack(evaluation, "gold"),
            "original_membership": self._attack(evaluation, "original"),
            "elapsed_s": subject.elapsed_s,
            "gold_elapsed_s": gold.elapsed_s,
        }
        if factors["gold_membership"] == factors["original_membership"]:
            raise RequirementNotMet(
                f"{self.membership.title} finds the original as easy as gold ({factors['gold_membership']:.3f}), so that there is "
                "nothing to gain by forgetting; take a stronger attack"
            )
        return {**factors, "alpha": self.alpha, "beta": self.beta}


@dataclass(frozen=True, kw_only=True)
class GUM(_GlobalMetric):
    r"""Global unlearning metric: harmonic mean of utility, efficacy and efficiency.

    .. math:: \frac{(1 + \alpha + \beta)\, U E T}{\alpha E T + \beta U T + U E + 10^{-6}}

    with, for macro F1 scores :math:`F` on unseen data, attack accuracies :math:`m` and seconds :math:`t` of the model, gold and the
    original,

    .. math:: U = 1 - |F_u - F_g|, \quad E = 1 - \Bigl(\frac{\tilde m_u - \tilde m_g}{\max(m_o, \tilde m_u) - \tilde m_g}\Bigr)^2, \quad
        T = 1 - \frac{\ln(t_u + 1)}{\ln(t_g + 1)}

    and :math:`\tilde m_u = \min(m_u, m_o)`, :math:`\tilde m_g = \min((\tilde m_u + m_o) / 2, m_g)`. In [0, 1]; higher is better. One
    factor of 0 makes it 0: gold itself has 0 by its time and the original by its efficacy, so there is no ideal. It depends on the
    unit of time and on the machine. The authors recommend :class:`CGUM`.

    Args:
        membership: The attack, by default U-MIA by the protocol of Choi & Na.
        test: Samples that no model was trained on, for utility.
        alpha: Weight of utility.
        beta: Weight of efficacy.
    """

    source: ClassVar[Source | None] = Source(
        paper="Koudounas, Savelli, Giobergia, Baralis, Interspeech 2025, arXiv:2505.15700",
        code="koudounasalkis/UnSLU-BENCH at cf1ad18",
        tested="the notebook's formula on drawn values (tests/unit/measures/test_composite_measures.py)",
        deviations=(
            "A method slower than gold has T = 0; the notebook's T is then negative, of which there is no harmonic mean.",
            "Refused where the attack does no better on the original than on gold; the notebook's E is then 0 or 0 / 0.",
        ),
    )

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score."""
        try:
            return [Value(value=global_unlearning_metric(**self._factors(evaluation)))]
        except DataError as error:
            raise RequirementNotMet(f"{self.membership.title}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CGUM(_GlobalMetric):
    r"""Corrected global unlearning metric: harmonic mean of utility, efficacy and efficiency, each cut to [0, 1].

    The mean is that of :class:`GUM`, over

    .. math:: U = \frac{F_u - 1/K}{F_g - 1/K + \epsilon}, \quad E = 1 - \frac{|\tilde m_u - m_g|}{|m_o - m_g| + \epsilon}, \quad
        T = 1 - \frac{\ln(t_u + 1)}{\ln(t_g + 1) + \epsilon}

    with :math:`\epsilon = 10^{-6}` and :math:`\tilde m_u` never further from gold than the original on the original's side. Utility
    above gold's counts no more than gold's. In [0, 1]; higher is better; 0 for gold and for the original, so there is no ideal. It
    depends on the unit of time and on the machine.

    Args:
        membership: The attack, by default U-MIA by the protocol of Choi & Na.
        test: Samples that no model was trained on, for utility.
        alpha: Weight of utility.
        beta: Weight of efficacy.
    """

    source: ClassVar[Source | None] = Source(
        paper="Koudounas, Savelli, Giobergia, Baralis, journal version of Interspeech 2025, arXiv:2505.15700",
        code="koudounasalkis/UnSLU-BENCH at cf1ad18 (CGUM.ipynb)",
        tested="the notebook's formula on drawn values and its example (tests/unit/measures/test_composite_measures.py)",
        deviations=(
            "Refused where the attack finds the original exactly as easy as gold; the notebook then gives 0 or 1 by chance.",
        ),
    )

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score."""
        n_classes = evaluation.model_input.n_classes
        score = corrected_global_unlearning_metric(**self._factors(evaluation), n_classes=n_classes)
        return [Value(value=score)]


def _macro_f1(outputs: Outputs) -> float:
    """F1 score of each class, or label, averaged."""
    if outputs.task == "multilabel":
        labels, predictions = outputs.labels.long(), outputs.predictions
        return macro_f1((labels * predictions).sum(0), predictions.sum(0), labels.sum(0))
    labels, predictions = outputs.labels.reshape(-1), outputs.predictions
    width = int(max(labels.max(), predictions.max())) + 1
    right = labels[labels == predictions]
    return macro_f1(*(each.bincount(minlength=width) for each in (right, predictions, labels)))
