"""Any metric of scikit-learn, on any partition and model."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from erasure.component import Call
from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet, nearest
from erasure.functional.losses import probabilities
from erasure.measures.contract import Evaluation, Measure, ModelRole, Outputs, Value
from erasure.training.predictor import ModelInput
from erasure.types import Partition, Source, Statistic

__all__ = ["Accuracy", "Metric", "SklearnMetric"]

_TRUTH = frozenset({"y_true", "labels_true", "y1"})
"""Names under which scikit-learn's comparisons of predictions take the true labels, always first."""

_PROBABILITIES = frozenset({"y_score", "y_prob", "y_proba"})
_TAKE_PROBABILITIES = frozenset({"log_loss", "d2_log_loss_score"})
"""Take probabilities under the name ``y_pred`` in older releases."""

_ONE_HOT = frozenset({"coverage_error", "dcg_score", "label_ranking_average_precision_score", "label_ranking_loss", "ndcg_score"})
"""Ranking metrics: defined on a matrix of labels; classes become one-hot rows."""

_NOT_MULTILABEL = frozenset({"brier_score_loss", "d2_brier_score", "d2_log_loss_score", "log_loss"})
"""Read a matrix of labels as one-hot classes, which independent labels are not; they would answer, wrongly."""

_BETWEEN_CLASSES = frozenset(
    {"average_precision_score", "cohen_kappa_score", "matthews_corrcoef"}
    | {"adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "homogeneity_score", "mutual_info_score"}
    | {"normalized_mutual_info_score", "v_measure_score", "explained_variance_score", "r2_score"}
    | {"d2_absolute_error_score", "d2_brier_score", "d2_log_loss_score", "d2_pinball_score", "d2_tweedie_score"}
)
"""Say how well classes are told apart, or compare with the best constant, which is perfect where there is one class only: there they are
0 or 1 for every model, or numbers without bounds (scikit-learn 1.9)."""

_OF_EACH_CLASS = frozenset({"f1_score", "fbeta_score", "jaccard_score", "precision_score", "recall_score"})
"""Count hits of a class, and are 0 for every model where no sample is of that class."""

_LOWER_IS_BETTER = ("_loss", "_error", "_deviance")
"""scikit-learn's convention: functions with these endings are to be minimised."""

_UNITS = {"log_loss": "nats"}


@dataclass(frozen=True, kw_only=True)
class Metric(Call):
    """A function of ``sklearn.metrics`` that compares predictions with labels, such as ``f1_score`` with ``average="macro"``."""

    kind: ClassVar[str] = "metric"
    namespaces: ClassVar[tuple[str, ...]] = ("sklearn.metrics",)

    def check(self) -> None:
        """The function must compare predictions with labels and know its parameters."""
        try:
            accepted = inspect.signature(self.target()).parameters
        except (TypeError, ValueError):
            return
        names = list(accepted)
        if self.is_sklearn and (len(names) < 2 or names[0] not in _TRUTH):
            shown = ", ".join(names[:2])
            problem = Diagnostic(f"{self.path}({shown}, …) does not compare predictions with labels", path=self.name)
            raise InvalidParameters([problem])
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
            return
        unknown = [name for name in self.parameters if name not in names[2:]]
        if unknown:
            allowed = names[2:]
            listed = ", ".join(allowed) or "no parameters"
            raise InvalidParameters(
                [
                    Diagnostic(f'{self.name} has no parameter "{n}"; it has {listed}', self.name, hint=nearest(n, allowed))
                    for n in unknown
                ]
            )

    @property
    def is_sklearn(self) -> bool:
        """Whether it is one of scikit-learn's own, whose naming conventions hold."""
        return self.path.startswith("sklearn.")

    @property
    def higher_is_better(self) -> bool | None:
        """Direction by scikit-learn's naming convention; None for another library's function."""
        if self.name.endswith(_LOWER_IS_BETTER):
            return False
        return True if self.is_sklearn else None

    @property
    def unit(self) -> str:
        """``nats``, ``samples`` where the metric counts them, or empty."""
        if self.name not in _UNITS and self.parameters.get("normalize") is False:
            return "samples"
        return _UNITS.get(self.name, "")

    def accepts(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters."""
        try:
            return inspect.signature(self.target()).parameters
        except (TypeError, ValueError):
            return {}


def _accuracy() -> Metric:
    return Metric.of("accuracy_score")


@dataclass(frozen=True, kw_only=True)
class SklearnMetric(Measure):
    """A metric of scikit-learn on one partition.

    Answers: how well does the model predict this partition? What a good value is depends on the partition: on forgotten data it is
    gold's value, not zero.

    The metric gets what its signature asks for: predicted labels (``y_pred``), probabilities (``y_score``, ``y_prob``,
    ``y_proba``) or logits (``pred_decision``); of the positive class alone where there are two classes. A binary logit counts as
    class 1 above 0, each label of a multilabel task above 0 of its own logit, and ``accuracy`` is there the share of samples with
    every label right. ``multi_class`` is ``ovr`` unless given, ``labels`` is every class wherever probabilities are compared, and
    ``average="binary"`` (scikit-learn's default) becomes ``macro`` where there are more than two classes or several labels: the mean
    over the classes that occur among labels or predictions. Precision or recall without a single case counts as 0. A metric that the
    labels of the partition leave undefined is refused: one that tells classes apart where all samples are of one class, and one that
    counts hits of the positive class, or the mean of such over labels, where no sample has it.

    The macro mean is over the classes that occur among labels or predictions, as scikit-learn has it and as papers report it. A class
    without a sample in the partition counts as 0 where it is predicted, and is left out where it is not: on a forgotten class, the value
    falls with the number of classes that its samples are taken for, and lies between 0 and 1 all the same. A run says so once for each
    such partition. ``micro`` and ``weighted`` means, and accuracy, do not depend on it.

    Args:
        function: The metric; a short name is looked up in ``sklearn.metrics``.
        partition: Where it is measured.
        name: Its name in results; by default the function's without ``_score``.
        target: Measure this kind of model only, and gold, without which its value says nothing; None measures the original, gold and every
            unlearned model.
    """

    source: ClassVar[Source | None] = Source(
        paper="Pedregosa et al., JMLR 2011 (scikit-learn)",
        code="aiim-research/ERASURE at d5bbbe5 (TorchSKLearn)",
        tested="values worked out by hand (tests/unit/measures/test_sklearn_metric.py)",
        deviations=(
            "A binary logit is thresholded at 0, i.e. at a probability of one half (upstream thresholds the logit at 0.5).",
            "Probabilities are given to the metrics that ask for them (upstream gives predicted labels to all).",
            "The whole partition is used (upstream drops the last incomplete batch).",
        ),
    )

    function: Metric = field(default_factory=_accuracy)
    partition: Partition = "test"
    name: str | None = None
    target: ModelRole | None = None

    @property
    def title(self) -> str:
        """The given name, or the function's without ``_score``."""
        return self.name or self.function.name.removesuffix("_score")

    @property
    def statistic(self) -> Statistic:
        """An accuracy, if the function is scikit-learn's ``accuracy_score``."""
        return "accuracy" if self.function.is_sklearn and self.function.name == "accuracy_score" else ""

    def targets(self) -> frozenset[ModelRole]:
        """The one kind that was asked for and gold, which it is compared with; or all."""
        return self.applies_to if self.target is None else frozenset({self.target, "gold"})

    def remark(self, labels: Mapping[str, torch.Tensor], data: ModelInput) -> str | None:
        """That classes without a sample enter a macro mean, where there are such classes."""
        function, n_classes = self.function, data.n_classes
        if not (function.is_sklearn and function.name in _OF_EACH_CLASS and self.partition in labels):
            return None
        given = function.parameters.get("average", "binary")
        if given != "macro" and (given != "binary" or (data.task != "multilabel" and n_classes <= 2)):
            return None
        y = labels[self.partition]
        n_present = int((y != 0).any(0).sum()) if data.task == "multilabel" else len(torch.unique(y))
        if n_present >= n_classes or not len(y):
            return None
        what = "labels without a positive sample" if data.task == "multilabel" else "classes without a sample"
        there = f"{n_present} of {n_classes} {'labels' if data.task == 'multilabel' else 'classes'}"
        return (
            f'{self.title} on "{self.partition}", which has {there}, is a macro mean: {what} there count as 0 where they are predicted, '
            "and are left out where they are not"
        )

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The metric's value, named as the title says."""
        outputs = evaluation.outputs(self.partition)
        number = self._number(outputs)
        function = self.function
        return [
            Value(
                value=number,
                name=self.title,
                partition=self.partition,
                unit=function.unit,
                higher_is_better=function.higher_is_better,
            )
        ]

    def _number(self, outputs: Outputs) -> float:
        function = self.function
        if outputs.task == "multilabel" and function.is_sklearn and function.name in _NOT_MULTILABEL:
            raise RequirementNotMet(f"{function.name} is not defined for multilabel tasks: it takes one class of several")
        y_true, y_pred, extra = self._arguments(outputs)
        reason = _undefined(function, extra, outputs) if function.is_sklearn else None
        if reason is not None:
            raise RequirementNotMet(f'{function.name} is not defined on "{self.partition}": {reason}')
        with warnings.catch_warnings(record=True) as caught:
            # What a metric warns of is undefined for the partition: it shows in the value, or becomes the reason below.
            warnings.simplefilter("always")
            try:
                result = function(y_true, y_pred, **extra)
            except (ValueError, TypeError, ArithmeticError) as error:
                raise RequirementNotMet(
                    f'{function.name} is not defined on "{self.partition}": {_why(error, outputs)}'
                ) from error
        if np.ndim(result) != 0 or not isinstance(result, int | float | np.number):
            raise RequirementNotMet(f"{function.name} gives {_described(result)}; a measure is one number")
        number = float(result)
        undefined = [each for each in caught if each.category.__name__ == "UndefinedMetricWarning"]
        if undefined or not math.isfinite(number):
            why = _why((undefined or caught)[-1].message if caught else f"it gives {number}", outputs)
            raise RequirementNotMet(f'{function.name} is not defined on "{self.partition}": {why}')
        return number

    def _arguments(self, outputs: Outputs) -> tuple[Any, Any, dict[str, Any]]:
        """Labels, predictions as the function wants them, and what it needs to be told."""
        function, accepted = self.function, self.function.accepts()
        given, name = function.parameters, function.name
        y_true = outputs.labels.numpy()
        n_classes = 2 if outputs.task == "binary" else outputs.logits.shape[1]
        several = outputs.task == "multilabel" or n_classes > 2
        extra: dict[str, Any] = {}
        if several and "average" in accepted and given.get("average", accepted["average"].default) == "binary":
            extra["average"] = "macro"
        if "zero_division" in accepted and given.get("zero_division", "warn") == "warn":
            extra["zero_division"] = 0.0
        second = list(accepted)[1] if len(accepted) > 1 else "y_pred"
        takes_probabilities = second in _PROBABILITIES or (function.is_sklearn and name in _TAKE_PROBABILITIES)
        if not takes_probabilities and second != "pred_decision":
            return y_true, outputs.predictions.numpy(), extra
        scores = _decisions(outputs) if second == "pred_decision" else _probabilities(outputs)
        if function.is_sklearn and name in _ONE_HOT and outputs.task != "multilabel":
            y_true = np.eye(n_classes, dtype=np.int64)[y_true]
        elif not several:
            scores = scores[:, 1]
        if outputs.task != "multilabel":
            if "labels" in accepted and given.get("labels") is None:
                extra["labels"] = np.arange(n_classes)
            if "multi_class" in accepted and given.get("multi_class", "raise") == "raise":
                extra["multi_class"] = "ovr"
        return y_true, scores, extra


@dataclass(frozen=True, kw_only=True)
class Accuracy(Measure):
    """Share of a partition that is predicted correctly, in [0, 1]; the same as :class:`SklearnMetric` with ``accuracy_score``.

    For multilabel tasks, the share of samples with every label right.

    Args:
        partition: Where it is measured.
        target: Measure this kind of model only, and gold; None measures all.
    """

    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    source: ClassVar[Source | None] = SklearnMetric.source

    partition: Partition = "test"
    target: ModelRole | None = None

    @property
    def title(self) -> str:
        """``accuracy``."""
        return "accuracy"

    @property
    def statistic(self) -> Statistic:
        """An accuracy."""
        return "accuracy"

    def targets(self) -> frozenset[ModelRole]:
        """The one kind that was asked for and gold, which it is compared with; or all."""
        return self.applies_to if self.target is None else frozenset({self.target, "gold"})

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        outputs = evaluation.outputs(self.partition)
        if outputs.task == "generation" or not len(outputs):
            return SklearnMetric(partition=self.partition).measure(evaluation)
        is_right = outputs.predictions == outputs.labels  # importing scikit-learn takes longer than a small model's training
        share = float((is_right.all(1) if outputs.task == "multilabel" else is_right).double().mean())
        return [Value(value=share, name=self.title, partition=self.partition, unit="", higher_is_better=True)]


def _probabilities(outputs: Outputs) -> Any:
    """Probabilities in double precision, where a saturated softmax still has finite logarithms."""
    values = probabilities(outputs.task, outputs.logits.double()).numpy()
    return values if outputs.task == "multilabel" else values / values.sum(axis=1, keepdims=True)


def _decisions(outputs: Outputs) -> Any:
    """Decision values of each class or label; with two classes the second column is the margin of class 1."""
    logits = outputs.logits.double()
    if outputs.task == "binary":
        margin = logits.reshape(-1)
        return torch.stack([-margin, margin], dim=1).numpy()
    if outputs.task == "classification" and logits.shape[1] == 2:
        margin = logits[:, 1] - logits[:, 0]
        return torch.stack([-margin, margin], dim=1).numpy()
    return logits.numpy()


def _undefined(function: Metric, extra: Mapping[str, Any], outputs: Outputs) -> str | None:
    """Why the labels of a partition leave a metric undefined for every model, or None."""
    labels = outputs.labels.reshape(len(outputs), -1)
    is_constant = (labels == labels[0]).all(0)
    if function.name in _BETWEEN_CLASSES and bool(is_constant.any()):
        return _one_class(is_constant, outputs)
    if function.name not in _OF_EACH_CLASS:
        return None
    average = extra.get("average", function.parameters.get("average", "binary"))
    if average == "binary":
        positive = function.parameters.get("pos_label", 1)
        return None if bool((labels == positive).any()) else f"no sample is of class {positive}"
    if average != "macro" or outputs.task != "multilabel":
        return None
    nowhere = ~(labels != 0).any(0)
    return _one_class(nowhere, outputs) if bool(nowhere.all()) else None


def _one_class(is_constant: torch.Tensor, outputs: Outputs) -> str:
    if outputs.task == "multilabel":
        number = int(is_constant.nonzero()[0])
        value = int(outputs.labels[0, number])
        return f"label {number} is {value} for all {len(outputs)} samples"
    return f"all {len(outputs)} samples are of class {int(outputs.labels.reshape(-1)[0])}"


def _why(reason: object, outputs: Outputs) -> str:
    """A library's complaint in one sentence, with the classes that are missing from the partition."""
    text = " ".join(str(reason).split()).rstrip(".")
    if outputs.task == "multilabel":
        return text
    n_classes = 2 if outputs.task == "binary" else outputs.logits.shape[1]
    present = set(outputs.labels.tolist())
    missing = [str(c) for c in range(n_classes) if c not in present]
    if not missing:
        return text
    shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    return f"{text} (no sample of class {shown})"


def _described(result: Any) -> str:
    if isinstance(result, np.ndarray):
        return f"an array of shape {result.shape}"
    return f"a {type(result).__name__}"
