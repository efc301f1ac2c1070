"""Membership inference on losses, with one attack model for the whole population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from erasure.deferred import for_scikit_learn
from erasure.errors import RequirementNotMet
from erasure.functional.diverged import outputs_diverged
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.training.randomness import Streams, derive
from erasure.types import Indication, OpenFraction, Partition, PositiveInt, Source

__all__ = ["UMIA"]


class _Protocol(NamedTuple):
    n_splits: int
    test_size: float
    clip: float | None
    same_classes: bool


_PROTOCOLS = {
    "kurmanji": _Protocol(n_splits=5, test_size=0.1, clip=100.0, same_classes=True),
    "choi-na": _Protocol(n_splits=10, test_size=0.1, clip=None, same_classes=False),
}

_MAX_KEPT = 1 << 20
"""Positions of splits that are kept for the next model."""


@dataclass(frozen=True, kw_only=True)
class UMIA(Measure):
    """Accuracy of a membership attack that sees only the loss of each sample (U-MIA).

    Answers: can forgotten samples be distinguished from samples that were never seen, by their loss alone? A logistic regression
    on the loss is cross-validated on equally many samples of the forget set and of held-out data; larger sides are randomly subsampled.

    The value is the mean accuracy over the splits, in [0, 1]; 0.5 is chance. The ideal is gold's value, which is not 0.5 where
    forgotten and held-out samples are of different kinds. A value below 0.5 is no better than 0.5. The attack looks at the
    population: leakage of a few samples does not show.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        protocol: ``kurmanji``: 5 splits, losses clipped to [-100, 100], held-out samples only of classes that occur in the forget
            set (of multilabel samples, which have no one class, all). ``choi-na``: 10 splits, losses as they are, all held-out samples.
        n_splits: Random stratified splits; by default the protocol's.
        test_size: Share of each split that is scored, in (0, 1); by default the protocol's, 0.1.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023, arXiv:2302.09880; Choi & Na, 2023, arXiv:2311.02240",
        code="meghdadk/SCRUB at 98ffb11",
        tested="scikit-learn's cross-validated accuracy (tests/unit/measures/test_umia.py)",
        deviations=(
            "Whichever side is larger is subsampled (Choi & Na's code cuts the forget side alone).",
            "Splits and subsamples come from the measure's own stream (Choi & Na's code fixes seed 0 for the splits).",
            "Upstream trains on a fifth of the samples and takes the first ones of each partition; we follow the authors.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "attack"
    chance_level: ClassVar[float | None] = 0.5

    forget: Partition = "forget"
    test: Partition = "test"
    protocol: Literal["kurmanji", "choi-na"] = "kurmanji"
    n_splits: PositiveInt | None = None
    test_size: OpenFraction | None = None

    @property
    def _settings(self) -> _Protocol:
        defaults = _PROTOCOLS[self.protocol]
        return defaults._replace(n_splits=self.n_splits or defaults.n_splits, test_size=self.test_size or defaults.test_size)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Mean accuracy of the attack."""
        settings = self._settings
        matched = settings.same_classes and evaluation.task != "multilabel"
        forget, test = evaluation.outputs(self.forget), evaluation.outputs(self.test)
        unseen = torch.isin(test.labels, forget.labels) if matched else torch.ones(len(test), dtype=torch.bool)
        members, others = _losses(forget, settings.clip), _losses(test, settings.clip, unseen)
        n = min(len(members), len(others))
        self._require(len(members), len(others), n, matched)
        streams = evaluation.streams
        features = np.concatenate([_subsample(members, n, streams, "forget"), _subsample(others, n, streams, "test")])
        membership = np.concatenate([np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.int64)])
        splits = _splits(evaluation, membership, settings, seed=derive(streams.seed, "splits") % 2**32)
        accuracy = _attack_accuracy(features, membership, splits)
        return [Value(value=accuracy, partition=self.forget)]

    def _require(self, n_forget: int, n_test: int, n: int, matched: bool) -> None:
        """Every split must train and score on both kinds of sample."""
        kind = " of the forgotten classes" if matched else ""
        if not n:
            raise RequirementNotMet(f'UMIA needs held-out samples{kind}; "{self.test}" has none')
        n_scored = int(np.ceil(self._settings.test_size * 2 * n))
        if n_scored < 2 or 2 * n - n_scored < 2 or n < 2:
            raise RequirementNotMet(
                f'UMIA cannot split so few samples: {n_forget} in "{self.forget}" and {n_test}{kind} in "{self.test}" leave '
                f"{n_scored} of {2 * n} to score on; at least 2 must be trained and scored on"
            )


def _losses(outputs: Outputs, clip: float | None, kept: Tensor | None = None) -> Any:
    """Losses by ascending id, so that the order of a partition does not matter."""
    order = torch.argsort(outputs.ids)
    if kept is not None:
        order = order[kept[order]]
    losses = outputs.losses[order].double()
    losses = losses if clip is None else losses.clamp(-clip, clip)
    if outputs_diverged(losses):
        raise RequirementNotMet("UMIA compares losses, and some are not finite or run away")
    return losses.numpy()


def _subsample(losses: Any, n: int, streams: Streams, name: str) -> Any:
    if len(losses) == n:
        return losses
    return losses[np.sort(streams.numpy("subsample", name).permutation(len(losses))[:n])]


def _splits(evaluation: Evaluation, membership: Any, settings: _Protocol, *, seed: int) -> list[tuple[Any, Any]]:
    """Positions to fit on and to score, for each split; the same for every model that is judged on as many samples."""
    with for_scikit_learn():
        from sklearn.model_selection import StratifiedShuffleSplit

    key = ("splits of UMIA", len(membership), settings.n_splits, settings.test_size, seed)
    if key in evaluation.kept:
        return cast(list[tuple[Any, Any]], evaluation.kept[key])
    drawn = StratifiedShuffleSplit(n_splits=settings.n_splits, test_size=settings.test_size, random_state=seed)
    splits = list(drawn.split(membership, membership))
    if len(membership) * settings.n_splits <= _MAX_KEPT:
        evaluation.kept[key] = splits
    return splits


def _attack_accuracy(losses: Any, membership: Any, splits: Sequence[tuple[Any, Any]]) -> float:
    """Cross-validated accuracy of a logistic regression on the loss; both classes are equally frequent."""
    with for_scikit_learn():
        from sklearn import config_context
        from sklearn.linear_model import LogisticRegression

    features = losses[:, None]
    scores = []
    with config_context(assume_finite=True, skip_parameter_validation=True):  # as was seen before: a seventh of the time
        for train, scored in splits:
            attack = LogisticRegression(max_iter=1000).fit(features[train], membership[train])
            scores.append(float((attack.predict(features[scored]) == membership[scored]).mean()))
    return float(np.mean(scores))
