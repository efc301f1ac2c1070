"""Forgetting quality of the NeurIPS 2023 challenge: an estimate of ε for each forgotten sample, over many models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.margins import epsilons, forgetting_scores
from erasure.functional.membership import confidence_margin
from erasure.functional.population_test import epsilon_by_labelling, labellings_of, p_value
from erasure.measures.contract import Evaluation, Measure, ModelRole, Value
from erasure.measures.requested_models import FIRST_FITTED, ModelRequest, Repeated, Retrained
from erasure.measures.requirements import require_defined, require_sound
from erasure.types import Indication, NonNegativeInt, Partition, PositiveInt, Source, Statistic, Task

__all__ = ["ForgettingQuality"]


@dataclass(frozen=True, kw_only=True)
class ForgettingQuality(Measure):
    r"""Forgetting quality and final score of the NeurIPS 2023 unlearning challenge.

    Answers: can an attacker who sees how sure a model is of a forgotten sample say whether the model has unlearned it or never saw it?
    For each sample, the best threshold that tells ``n_models`` runs of the method on one original from ``n_models`` golds gives an ε
    (:func:`~erasure.functional.margins.epsilons`), which scores :math:`H(\varepsilon) = 2^{-\lfloor 2 \varepsilon \rfloor}`.

    .. math:: F = \frac1n \sum_i H(\varepsilon_i), \qquad
              \mathrm{score} = F \cdot \frac{\mathrm{RA}_u}{\mathrm{RA}_r} \cdot \frac{\mathrm{TA}_u}{\mathrm{TA}_r}

    with mean accuracies of the two populations on the retain and test set. F is in [0, 1], larger is better, but 1 is out of reach: ε is
    the largest of many estimates. A method that is exactly retraining has F of about 0.18 with both families of thresholds (0.33 with
    ``single`` ones) for 32 to 512 models. Compare with gold's value, which is retraining against retraining. ``mean epsilon`` is the mean
    over the samples, and ``p`` tests whether the two populations are one: which of all the models are called unlearned is drawn
    ``relabellings`` times, and that mean, by single thresholds, is computed again. No ε above :math:`\ln(N - 1)` can be resolved by N
    models, so that none is a certificate of privacy.

    It judges a method over its random seeds, not one model: the subject itself is not looked at, and a method without randomness makes
    equal models, which are easily distinguished from golds.

    **Cost**: ``n_models`` retrainings, shared by all methods, and ``n_models`` runs of each method; then time and memory grow with the
    square of ``n_models`` for each forgotten sample.

    Args:
        forget: The forgotten samples.
        retain: Where the retain accuracy is taken.
        test: Where the test accuracy is taken.
        n_models: Number of models on either side, at least 3; the challenge had 512, and 64 to 128 keep its ranking.
        thresholds: ``both``: single thresholds and pairs of them, as in the challenge. ``single``: single thresholds alone.
        relabellings: Drawn for the p-value; 0 leaves it out.
    """

    source: ClassVar[Source | None] = Source(
        paper="Triantafillou et al., Are we making progress in unlearning?, 2024, arXiv:2406.09073",
        code="google-deepmind/unlearning_evaluation at ffae0ff",
        tested="the definition on trained models (tests/unit/measures/test_forgetting_quality.py)",
        deviations=(
            "All thresholds that make a difference are tried (the authors' code: a grid of step 0.01).",
            "Log-odds are computed from logits, without adding 1e-45 to probabilities.",
            "Where no threshold can be judged the sample has ε 0 if none tells anything, otherwise 50 (the authors' code stops).",
            "32 models a side by default (the challenge: 512).",
        ),
    )
    higher_is_better: ClassVar[bool | None] = True
    indicates: ClassVar[Indication | None] = ""
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    n_models: PositiveInt = 32
    thresholds: Literal["both", "single"] = "both"
    relabellings: NonNegativeInt = 999

    @property
    def statistic(self) -> Statistic:
        """One number of many models, which brings a test of its own."""
        return "population"

    def check(self) -> None:
        """Two models resolve no ε at all."""
        if self.n_models < 3:
            message = f"found {self.n_models} models on either side; at least 3 are needed"
            raise InvalidParameters([Diagnostic(message, path="n_models")])

    @property
    def title(self) -> str:
        """``ForgettingQuality``, with ``by single thresholds`` where that was chosen."""
        return "ForgettingQuality" if self.thresholds == "both" else "ForgettingQuality by single thresholds"

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The subject made again, and golds."""
        return [(request, self.partitions()) for request in (*self._mine, *self._golds)]

    @property
    def _mine(self) -> list[ModelRequest]:
        return [Repeated(number=k) for k in range(1, self.n_models + 1)]

    @property
    def _golds(self) -> list[ModelRequest]:
        return [Retrained(number=FIRST_FITTED + k) for k in range(self.n_models)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """F, the final score and the mean ε."""
        require_defined(self, evaluation)
        for partition in self.partitions():
            if not len(evaluation.ids(partition)):
                raise RequirementNotMet(f'ForgettingQuality looks at "{partition}", which is empty')
        mine, golds = self._margins(evaluation, self._mine), self._margins(evaluation, self._golds)
        try:
            found = epsilons(mine, golds, families=self.thresholds)
        except DataError as error:
            raise RequirementNotMet(f'ForgettingQuality is not defined on "{self.forget}": {error}') from error
        quality = float(forgetting_scores(found, self.n_models).mean())
        score = quality * self._kept(evaluation, self.retain) * self._kept(evaluation, self.test)
        values = [
            Value(value=quality, partition=self.forget),
            Value(value=score, name=f"{self.title} score", partition=self.forget),
            Value(value=float(found.mean()), name=f"{self.title} mean epsilon", partition=self.forget, higher_is_better=False),
        ]
        if self.relabellings:
            players = labellings_of(self.n_models, self.n_models, self.relabellings, evaluation.streams.numpy("relabellings"))
            p = p_value([epsilon_by_labelling(mine, golds, players, families="single")])  # pairs would take ten times as long
            values.append(Value(value=p, name=f"{self.title} p", partition=self.forget, unit="p", higher_is_better=True))
        return values

    def _margins(self, evaluation: Evaluation, requests: Sequence[ModelRequest]) -> Tensor:
        """``(n_models, n)``."""
        said = [evaluation.models().outputs(request, self.forget) for request in requests]
        require_sound(self, self.forget, said)
        return torch.stack([confidence_margin(outputs.task, outputs.logits, outputs.labels) for outputs in said]).cpu()

    def _kept(self, evaluation: Evaluation, partition: str) -> float:
        """Mean accuracy on a partition, relative to gold's."""
        mine, golds = (self._accuracy(evaluation, requests, partition) for requests in (self._mine, self._golds))
        if golds == 0:
            raise RequirementNotMet(f'the final score divides by the accuracy of gold on "{partition}", which is 0')
        return mine / golds

    def _accuracy(self, evaluation: Evaluation, requests: Sequence[ModelRequest], partition: str) -> float:
        said = [evaluation.models().outputs(request, partition) for request in requests]
        require_sound(self, partition, said)
        return sum(outputs.accuracy for outputs in said) / len(said)
