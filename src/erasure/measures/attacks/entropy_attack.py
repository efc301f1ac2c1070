"""The membership attack on prediction entropies that is common in studies of class unlearning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from erasure.deferred import for_scikit_learn
from erasure.measures.attacks.mia_efficacy import attack_features, drawn
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.types import Indication, Partition, PositiveInt, Source, Task

__all__ = ["EntropyAttack"]


@dataclass(frozen=True, kw_only=True)
class EntropyAttack(Measure):
    r"""Share of the forget set that an attack on prediction entropies takes for members.

    Answers: is the model as sure of forgotten samples as of those it was to keep? A classifier learns to tell retain from test samples by
    the entropy :math:`-\sum_j p_j \ln p_j` of what the model predicts, and is then asked about the forget set.

    In [0, 1]; the ideal is gold's value. Papers report that lower is better, but a value below gold's means that the forgotten samples
    stand out. The two variants are different attacks, whose values do not compare.

    Args:
        forget: The forgotten samples.
        retain: Members that the attack learns from.
        test: Non-members that it learns from.
        variant: ``svc``: a support vector machine (C = 3, radial kernel of width ``auto``), which leans to the larger partition.
            ``logistic``: a logistic regression in which both partitions weigh the same.
        max_samples: Learn from at most this many samples, drawn at random, in which the two partitions keep their proportion.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, AAAI 2023, arXiv:2205.08096 (svc); "
        "Foster, Schoepf, Brintrup, AAAI 2024, arXiv:2308.07707 (logistic)",
        code="vikram2000b/bad-teaching-unlearning and if-loops/selective-synaptic-dampening",
        tested="scikit-learn and scipy (tests/unit/measures/test_entropy_attack.py)",
        deviations=(
            "The model is in eval mode (the authors' code leaves the mode as it is).",
            "At most 4000 samples are learned from (the authors' code: all).",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "attack"
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    variant: Literal["svc", "logistic"] = "svc"
    max_samples: PositiveInt = 4000

    @property
    def title(self) -> str:
        """``EntropyAttack``, or ``EntropyAttack logistic``."""
        return "EntropyAttack" if self.variant == "svc" else f"EntropyAttack {self.variant}"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        require_defined(self, evaluation)
        asked, members, others = (
            attack_features(evaluation.outputs(name), "entropy") for name in (self.forget, self.retain, self.test)
        )
        share = min(1.0, self.max_samples / (len(members) + len(others)))
        members = drawn(members, max(1, round(share * len(members))), evaluation.streams, "retain")
        others = drawn(others, max(1, round(share * len(others))), evaluation.streams, "test")
        membership = np.repeat([1, 0], [len(members), len(others)])
        attack = self._attack().fit(np.concatenate([members, others]), membership)
        return [Value(value=float(attack.predict(asked).mean()), partition=self.forget)]

    def _attack(self) -> Any:
        if self.variant == "svc":
            with for_scikit_learn():
                from sklearn.svm import SVC

            return SVC(C=3.0, gamma="auto", kernel="rbf", random_state=0)
        with for_scikit_learn():
            from sklearn.linear_model import LogisticRegression

        return LogisticRegression(class_weight="balanced", max_iter=1000)
