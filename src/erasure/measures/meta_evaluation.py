"""What measures of language models are worth: whether they tell knowledge from ignorance, and whether they see through hiding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval, MinLen
from torch import nn

from erasure.errors import Diagnostic, Diverged, InvalidParameters, RequirementNotMet
from erasure.functional.membership import auc
from erasure.functional.rounding import with_rounded_weights
from erasure.measures.answers import AnswerProbability, ExactMemorisation, ExtractionStrength
from erasure.measures.contract import Evaluation, Measure, ModelRole, ModelUnderTest, Outputs, Reference, Value, forward_pass
from erasure.measures.generated_answers import harmonic_mean
from erasure.measures.requested_models import FIRST_FITTED, ModelRequest, Original, Retrained
from erasure.measures.requirements import require_defined
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.loop import Trainer
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated
from erasure.training.trial import inputs_kept
from erasure.types import Indication, Partition, PositiveInt, Source, Task

__all__ = ["MetaEvaluation"]

_DIRECTIONS: Mapping[Indication, int] = {"knowledge": 1, "attack": 1, "trace": 1, "ignorance": -1, "": 0}


@dataclass(frozen=True, kw_only=True)
class MetaEvaluation(Measure):
    r"""How far measures of language models can be trusted: their faithfulness and their robustness.

    Answers: which of these measures tells models that know the forgotten answers from models that do not, and is not fooled by knowledge
    that is only hidden? For each measure :math:`m`, turned so that it grows with knowledge:

    * ``faithfulness``: the area under the ROC curve between :math:`m` of ``n_models`` models trained on everything and of as many trained
      without the forgotten samples, all of seeds of their own;
    * ``relearning``: :math:`\min\bigl(\frac{m_g^a - m_g^b}{m_u^a - m_u^b}, 1\bigr)`, before and after training gold and the subject on the
      forgotten samples: small where the subject comes back faster than gold; 1 where the subject does not come back;
    * ``quantisation``: :math:`\min(m_u^b / m_u^a, 1)`, before and after the weights are rounded;
    * ``robustness``: the harmonic mean of these two, and ``overall`` that of faithfulness and robustness.

    Each in [0, 1], a row for each measure. Robustness is of the measure on this subject: look at several methods.

    **Cost**: ``n_models`` retrainings and as many originals, shared by all methods; the measures on each of them; for each subject two
    copies that are trained for ``relearn_epochs`` on the forget set, and a rounded one.

    Args:
        metrics: The measures; the first value of each counts. They may compare with gold, and with no other model.
        forget: The forgotten samples.
        n_models: Models that know, and as many that do not.
        relearn_epochs: Passes over the forgotten samples.
        optimizer: That of relearning.
        batch_size: That of relearning.
        bits: Bits of a rounded weight.
        group: Inputs that share a scale where there are fewer than 8 bits.
    """

    source: ClassVar[Source | None] = Source(
        paper="Dorna et al., 2025, arXiv:2506.12618",
        code="gnueaj/unlearning-depth-score at 8faceaf",
        tested="plain formulas (tests/unit/language/test_meta_evaluation.py)",
        deviations=(
            "Models that know are originals of other seeds, those that do not are retrained; the paper's differ in the wording that they "
            "were taught.",
            "Weights are rounded to nearest, not to the uneven steps of NF4.",
            "Where gold's measure falls by relearning the ratio is 0; where the subject's does not rise it is 1.",
        ),
    )
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"unlearned"})
    on_jury: ClassVar[bool] = False
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    metrics: Annotated[tuple[Measure, ...], MinLen(1)] = field(
        default_factory=lambda: (ExtractionStrength(), ExactMemorisation(), AnswerProbability())
    )
    forget: Partition = "forget"
    n_models: PositiveInt = 5
    relearn_epochs: PositiveInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=2e-5))
    batch_size: PositiveInt = 10
    bits: Annotated[int, Interval(ge=2, le=8)] = 4
    group: PositiveInt = 64

    def check(self) -> None:
        """Measures are told apart by name, and need no model but gold."""
        titles = [metric.title for metric in self.metrics]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise InvalidParameters([Diagnostic(f"{twice} stands there twice", path="MetaEvaluation.metrics")])
        for metric in self.metrics:
            if metric.references - self.references or metric.requests("gold"):
                message = f"{metric.title} needs other models than the one it looks at and gold"
                raise InvalidParameters([Diagnostic(message, path="MetaEvaluation.metrics")])

    def partitions(self) -> tuple[str, ...]:
        """Those of the measures too."""
        return tuple(dict.fromkeys((self.forget, *(name for metric in self.metrics for name in metric.partitions()))))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The measures must be defined."""
        return super().unsupported_reason(data) or next(
            (reason for metric in self.metrics if (reason := metric.unsupported_reason(data))), None
        )

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """Models that know, and models that do not."""
        return [(request, self.partitions()) for request in (*self._knowing, *self._ignorant)]

    @property
    def _knowing(self) -> list[ModelRequest]:
        return [Original(number=FIRST_FITTED + k) for k in range(self.n_models)]

    @property
    def _ignorant(self) -> list[ModelRequest]:
        return [Retrained(number=FIRST_FITTED + k) for k in range(self.n_models)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Five rows for each measure."""
        require_defined(self, evaluation)
        evaluation.outputs(self.forget)
        gold = evaluation.model("gold")
        again = {candidate.role: self._relearned(evaluation, candidate) for candidate in (evaluation.subject, gold)}
        network = with_rounded_weights(evaluation.subject.load(), self.bits, None if self.bits == 8 else self.group)
        rounded = _changed(evaluation, evaluation.subject, network)
        values: list[Value] = []
        for metric in self.metrics:
            of = _knowledge(metric, evaluation)
            faithful = self._faithfulness(metric, evaluation)
            before, gold_before = of(evaluation.subject), of(gold)
            relearning = _ratio(of(again["gold"]) - gold_before, of(again[evaluation.subject.role]) - before)
            quantisation = _ratio(before, of(rounded))
            robust = harmonic_mean([relearning, quantisation])
            found = {
                "faithfulness": faithful,
                "relearning": relearning,
                "quantisation": quantisation,
                "robustness": robust,
                "overall": harmonic_mean([faithful, robust]),
            }
            values += [
                Value(value=value, name=f"{metric.title} {name}", partition=self.forget, ideal=1.0)
                for name, value in found.items()
            ]
        return values

    def _faithfulness(self, metric: Measure, evaluation: Evaluation) -> float:
        models = evaluation.models()

        def values(requests: Sequence[ModelRequest]) -> torch.Tensor:
            found = []
            for request in requests:
                candidate = ModelUnderTest(
                    role="gold",
                    load=lambda request=request: models.load(request),  # type: ignore[misc]
                    outputs=lambda partition, request=request: models.outputs(request, partition),  # type: ignore[misc]
                    elapsed_s=0.0,
                )
                found.append(_knowledge(metric, evaluation)(candidate))
            return torch.tensor(found, dtype=torch.float64)

        area = auc(values(self._knowing), values(self._ignorant))
        return area if _direction(metric) else max(area, 1 - area)

    def _relearned(self, evaluation: Evaluation, candidate: ModelUnderTest) -> ModelUnderTest:
        network = copy.deepcopy(candidate.load()).requires_grad_(True)
        trainer = Trainer(network, self.optimizer, epochs=self.relearn_epochs)
        ids = evaluation.ids(self.forget).sort().values
        batches = Batches(evaluation.x, evaluation.y, ids, self.batch_size, evaluation.streams.torch("shuffle"))

        def loss(batch: Batch) -> torch.Tensor:
            with inputs_kept(network):
                return evaluation.criterion.of(network, batch.x, batch.y)

        try:
            with isolated(evaluation.streams.child("dropout").seed, ids.device), torch.enable_grad():
                for _ in trainer.epochs():
                    trainer.train_on(batches, loss)
        except Diverged as error:
            raise RequirementNotMet(f"relearning diverged ({error}); lower the learning rate") from error
        return _changed(evaluation, candidate, network.eval())


def _changed(evaluation: Evaluation, candidate: ModelUnderTest, network: nn.Module) -> ModelUnderTest:
    """The candidate with another network."""
    known: dict[str, Outputs] = {}

    def outputs(partition: str) -> Outputs:
        if partition not in known:
            known[partition] = forward_pass(
                network,
                x=evaluation.x,
                y=evaluation.y,
                ids=evaluation.ids(partition),
                criterion=evaluation.criterion,
                task=evaluation.task,
            )
        return known[partition]

    return replace(candidate, load=lambda: network, outputs=outputs)


def _direction(metric: Measure) -> int:
    """1 if a measure grows with knowledge, -1 if it falls, 0 if neither is known."""
    if metric.indicates is not None:
        return _DIRECTIONS[metric.indicates]
    if metric.ideal != "gold":  # it is a distance, as of retrained models
        return 0
    return 0 if metric.higher_is_better is None else 1 if metric.higher_is_better else -1


def _knowledge(metric: Measure, evaluation: Evaluation) -> Callable[[ModelUnderTest], float]:
    """A measure's first value of a model, turned so that it grows with knowledge."""

    def of(candidate: ModelUnderTest) -> float:
        value = metric.measure(replace(evaluation, subject=candidate, notes={}))[0].value
        return value if _direction(metric) >= 0 else 1 - value

    return of


def _ratio(numerator: float, denominator: float) -> float:
    """A ratio in [0, 1]; 1 where nothing is divided by."""
    return min(1.0, max(0.0, numerator / denominator)) if denominator > 0 else 1.0
