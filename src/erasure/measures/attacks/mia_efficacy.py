"""MIA-efficacy: the share of the forget set that an attack trained on a model's own outputs takes for never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from erasure.deferred import for_scikit_learn
from erasure.functional.divergences import log_probabilities
from erasure.kernels import predicted
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.measures.requirements import require_defined
from erasure.training.randomness import Streams
from erasure.types import Indication, Partition, PositiveInt, Source, Task

__all__ = ["Feature", "MIAEfficacy", "attack_features", "drawn", "entropy", "modified_entropy"]

Feature: TypeAlias = Literal["correctness", "confidence", "entropy", "modified entropy", "probabilities"]
"""What an attack sees of a sample."""

_AT_ONCE = 32
"""Samples whose distances to all support vectors are in memory at a time."""
_CLOSE = 1e-6
"""Sums of a few thousand terms are good to 1e-11."""


@dataclass(frozen=True, kw_only=True)
class MIAEfficacy(Measure):
    r"""Share of the forget set that a membership attack takes for never seen (MIA-efficacy).

    Answers: do forgotten samples look to the model like samples it never saw, or like those it was to keep? A support vector machine
    (C = 3, radial kernel of width ``auto``) learns to distinguish equally many retain and test samples by the model's outputs, and is
    then asked about the forget set.

    In [0, 1]. More is not better: the ideal is gold's value. Where the model says the same about both partitions, as a model without any
    overfitting does, the attack has nothing to learn and its value is arbitrary.

    Args:
        forget: The forgotten samples.
        retain: Members that the attack learns from.
        test: Non-members that it learns from.
        feature: What it sees: ``confidence``, the probability of the right class, as usually reported; ``correctness`` of the prediction;
            ``entropy`` of the predicted distribution; ``modified entropy``, which is small only if the prediction is right too; or all
            ``probabilities``.
        max_samples: Learn from at most this many samples of either kind, drawn at random; time grows with their square.
    """

    source: ClassVar[Source | None] = Source(
        paper="Jia et al., NeurIPS 2023, arXiv:2304.04934; Fan et al. (SalUn), ICLR 2024, arXiv:2310.12508; "
        "Song & Mittal, USENIX Security 2021, for the features",
        code="OPTML-Group/Unlearn-Saliency",
        tested="scikit-learn, and the modified entropy by its formula (tests/unit/measures/test_mia_efficacy.py)",
        deviations=(
            "The modified entropy is Song & Mittal's (the authors' code takes log p for log(1 - p) and other samples' labels).",
            "Retain samples are drawn at random (the authors' code takes the first ones), and both sides are cut to 2000.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "ignorance"
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    feature: Feature = "confidence"
    max_samples: PositiveInt = 2000

    @property
    def title(self) -> str:
        """``MIAEfficacy``, with the feature where another than confidence was chosen."""
        return "MIAEfficacy" if self.feature == "confidence" else f"MIAEfficacy by {self.feature}"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        require_defined(self, evaluation)
        asked, members, others = (
            attack_features(evaluation.outputs(name), self.feature) for name in (self.forget, self.retain, self.test)
        )
        n = min(len(members), len(others), self.max_samples)
        members, others = drawn(members, n, evaluation.streams, "retain"), drawn(others, n, evaluation.streams, "test")
        said_member = _answers(_support_vectors(members, others), asked)
        return [Value(value=float((said_member == 0).mean()), partition=self.forget)]


def _support_vectors(members: Any, others: Any) -> Any:
    with for_scikit_learn():
        from scipy.sparse import csr_matrix
        from sklearn.svm import SVC

    membership, features = np.repeat([1, 0], [len(members), len(others)]), np.concatenate([members, others])
    megabytes = 200
    if members.shape[1] == 1:
        # A row of the kernel on single numbers is computed in less time than a page of memory for it takes to be found, and libsvm
        # multiplies two numbers itself only where they are entries of a sparse matrix.
        features, megabytes = csr_matrix(features.astype(np.float64)), 4
    return SVC(C=3.0, gamma="auto", kernel="rbf", random_state=0, cache_size=megabytes).fit(features, membership)


def _answers(machine: Any, asked: Any) -> Any:
    """What ``machine.predict`` says, in a fraction of its time: libsvm takes one exponential after the other.

    Where the decision is so close that the order of a sum could turn it, libsvm is asked.
    """
    asked, positions = np.unique(np.asarray(asked, dtype=np.float64), axis=0, return_inverse=True)
    support, weights = _dense(machine.support_vectors_), _dense(machine.dual_coef_)[0]
    decided = np.empty(len(asked))
    for first in range(0, len(asked), _AT_ONCE):
        part = asked[first : first + _AT_ONCE]
        squares = sum(np.subtract.outer(part[:, k], support[:, k]) ** 2 for k in range(part.shape[1]))
        kernel = torch.from_numpy(squares).mul_(-machine._gamma).exp_().numpy()
        decided[first : first + _AT_ONCE] = kernel @ weights + machine.intercept_[0]
    said = machine.classes_[(decided > 0).astype(np.int64)]
    close = ~(np.abs(decided) > _CLOSE)
    if close.any():
        said[close] = machine.predict(asked[close])
    return said[positions.reshape(-1)]


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def drawn(features: Any, n: int, streams: Streams, name: str) -> Any:
    """``n`` of the samples by the stream ``name``, or all if there are no more."""
    if len(features) <= n:
        return features
    return features[np.sort(streams.numpy("subsample", name).permutation(len(features))[:n])]


def attack_features(outputs: Outputs, feature: Feature) -> Any:
    """What an attack sees of each sample, ``(n, d)`` by ascending id, so that the order of the partition does not matter."""
    order = outputs.ids.argsort()
    log_p = log_probabilities(outputs.task, outputs.logits[order])
    values = _FEATURES[feature](log_p, outputs.labels[order].long())
    return values.reshape(len(values), -1).cpu().numpy()


def entropy(log_p: Tensor) -> Tensor:
    r"""Entropy of predicted distributions, :math:`-\sum_j p_j \ln p_j`.

    Args:
        log_p: Log-probabilities, ``(n, K)``.

    Returns:
        ``(n,)``, in [0, ln K], in nats.

    Example:
        >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log())
        tensor([0.6931, 0.0000])
    """
    p = log_p.exp()
    # What is not a number stays so.
    return torch.where(p == 0, 0.0, -p * log_p).sum(1)


def modified_entropy(log_p: Tensor, labels: Tensor) -> Tensor:
    r"""Modified entropy: small for a sure and right prediction, large for a sure and wrong one.

    .. math:: -(1 - p_y) \ln p_y - \sum_{j \ne y} p_j \ln (1 - p_j)

    Args:
        log_p: Log-probabilities, ``(n, K)``, ``K >= 2``.
        labels: ``(n,)`` int64.

    Returns:
        ``(n,)``, at least 0, in nats.

    Source:
        Song & Mittal, USENIX Security 2021, arXiv:2003.10595, equation 7.

    Example:
        >>> modified_entropy(torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log(), torch.tensor([0, 0]))
        tensor([0.0211, 4.1447])
    """
    p, right = log_p.exp(), labels.unsqueeze(1)
    log_rest = torch.log1p(-p.clamp(max=0.5))
    # Only of the likeliest class can the rest be too small for 1 - p: it is the sum of the others.
    likeliest = log_p.argmax(1, keepdim=True)
    log_rest = log_rest.scatter(1, likeliest, log_p.scatter(1, likeliest, -torch.inf).logsumexp(1, keepdim=True))
    of_right = log_rest.gather(1, right).exp() * log_p.gather(1, right)
    of_others = torch.where(p == 0, 0.0, p * log_rest).scatter(1, right, 0.0).sum(1, keepdim=True)
    return -(of_right + of_others).squeeze(1)


def _correctness(log_p: Tensor, labels: Tensor) -> Tensor:
    return (predicted("classification", log_p) == labels).double()


def _confidence(log_p: Tensor, labels: Tensor) -> Tensor:
    return log_p.gather(1, labels.unsqueeze(1)).exp()


_FEATURES: dict[Feature, Callable[[Tensor, Tensor], Tensor]] = {
    "correctness": _correctness,
    "confidence": _confidence,
    "entropy": lambda log_p, labels: entropy(log_p),
    "modified entropy": modified_entropy,
    "probabilities": lambda log_p, labels: log_p.exp(),
}
