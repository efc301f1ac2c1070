"""How far a model's confidence can be taken at its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F

from erasure.functional.calibration import brier_score, expected_calibration_error
from erasure.functional.losses import correctness, per_sample_loss, probabilities
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.types import Indication, Partition, PositiveInt, Source, Task

__all__ = ["ECE", "NLL", "Brier"]


@dataclass(frozen=True, kw_only=True)
class ECE(Measure):
    r"""Expected calibration error: how far confidence and accuracy lie apart.

    Answers: when the model is 80 % sure, is it right four times out of five?

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \bigl| \mathrm{acc}_b - \mathrm{conf}_b \bigr|

    over bins of the largest predicted probability. In [0, 1]; lower is better calibrated. After whole classes were forgotten it means
    nothing on the forget set, where no prediction can be right.

    Args:
        partition: Where it is measured.
        n_bins: Number of bins.
        bins: ``equal-width``: bins (k/n, (k+1)/n]. ``equal-mass``: equally many samples in each (adaptive ECE).
    """

    source: ClassVar[Source | None] = Source(
        paper="Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv:1706.04599; equal mass: Nixon et al., 2019, arXiv:1904.01685",
    )
    higher_is_better: ClassVar[bool | None] = False
    indicates: ClassVar[Indication | None] = ""
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "test"
    n_bins: PositiveInt = 15
    bins: Literal["equal-width", "equal-mass"] = "equal-width"

    @property
    def title(self) -> str:
        """``ECE``, or ``adaptive ECE`` with bins of equal mass."""
        return "ECE" if self.bins == "equal-width" else "adaptive ECE"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The error."""
        require_defined(self, evaluation)
        outputs = evaluation.outputs(self.partition)
        confidence = probabilities(outputs.task, outputs.logits.double()).amax(1)
        right = correctness(outputs.task, outputs.logits, outputs.labels)
        error = expected_calibration_error(confidence, right, n_bins=self.n_bins, equal_mass=self.bins == "equal-mass")
        return [Value(value=error, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class Brier(Measure):
    r"""Brier score: squared error of the predicted probabilities.

    Answers: how good are the probabilities, sharpness and calibration together?

    .. math:: \frac1n \sum_i \sum_k (p_{ik} - y_{ik})^2

    Lower is better. In [0, 2] for several classes, of which all are summed; in [0, 1] for a single probability: that of class 1 of a
    binary task, or the mean over the labels of a multilabel one.

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(paper="Brier, Monthly Weather Review 78 (1950)")
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, 2.0)

    partition: Partition = "test"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score."""
        outputs = evaluation.outputs(self.partition)
        p = probabilities(outputs.task, outputs.logits.double())
        if outputs.task == "classification":
            score = brier_score(p, F.one_hot(outputs.labels, p.shape[1]))
        elif outputs.task == "binary":
            score = brier_score(p[:, 1:], outputs.labels.reshape(-1, 1))
        else:
            score = brier_score(p, outputs.labels) / p.shape[1]
        return [Value(value=score, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class NLL(Measure):
    r"""Negative log-likelihood: the surprise of the true labels.

    Answers: how probable does the model find what is true?

    .. math:: -\frac1n \sum_i \ln p_\theta(y_i \mid x_i)

    in nats; 0 is best and there is no upper end. For multilabel tasks the mean over the labels. This is the cross-entropy whatever loss
    the model was trained with.

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(paper="Good, Journal of the Royal Statistical Society B 14 (1952)")
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "nats"

    partition: Partition = "test"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        outputs = evaluation.outputs(self.partition)
        losses = per_sample_loss(outputs.task, outputs.logits.double(), outputs.labels)
        return [Value(value=float(losses.mean()), partition=self.partition)]
