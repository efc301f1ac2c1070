"""Likeness to random networks on what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.divergences import jensen_shannon, kullback_leibler, log_probabilities
from erasure.intervals import student_t
from erasure.measures.contract import Evaluation, Measure, Value, forward_pass
from erasure.measures.requirements import require_defined
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["ZRF", "LegacyZRF"]

_LARGEST_KEPT = 1 << 20
"""Bytes of what a random network says that is kept for the next model."""


@dataclass(frozen=True, kw_only=True)
class _AgainstRandom(Measure):
    """What both forms have in common.

    Args:
        partition: Where outputs are compared.
        n_teachers: Random networks to average over.
    """

    partition: Partition = "forget"
    n_teachers: PositiveInt = 5

    def _score(self, evaluation: Evaluation, divergence: Callable[[Tensor, Tensor], float]) -> list[Value]:
        require_defined(self, evaluation)
        mine = evaluation.outputs(self.partition)
        log_p = log_probabilities(mine.task, mine.logits)
        scores = [1 - divergence(log_p, log_q) for log_q in self._teachers(evaluation, mine.ids)]
        mean = float(np.mean(scores))
        if not math.isfinite(mean):
            raise RequirementNotMet(f'{self.title} is not finite on "{self.partition}": some logits are not')
        interval, (least, most) = student_t(scores), self.value_range
        if interval is None:
            return [Value(value=mean, partition=self.partition)]
        return [Value(value=mean, partition=self.partition, low=max(interval[0], least), high=min(interval[1], most))]

    def _teachers(self, evaluation: Evaluation, ids: Tensor) -> Iterator[Tensor]:
        """Log-probabilities of each random network; the same networks for every model that is judged."""
        if evaluation.fresh is None:
            raise RequirementNotMet(
                f"{self.title} compares with random networks of the same architecture, and cannot build one here"
            )
        ids = ids.to(evaluation.y.device)
        for number in range(self.n_teachers):
            seed = evaluation.streams.child("teacher", number).seed
            key = ("random network", seed, self.partition)
            if key in evaluation.kept:
                yield evaluation.kept[key]
                continue
            outputs = forward_pass(
                evaluation.fresh(seed),
                x=evaluation.x,
                y=evaluation.y,
                ids=ids,
                criterion=evaluation.criterion,
                task=evaluation.task,
            )
            log_q = log_probabilities(outputs.task, outputs.logits)
            if log_q.nbytes <= _LARGEST_KEPT:
                evaluation.kept[key] = log_q
            yield log_q


@dataclass(frozen=True, kw_only=True)
class ZRF(_AgainstRandom):
    r"""Zero retrain forgetting: likeness of a model's outputs to those of a network that knows nothing.

    Answers: does the model guess on what it forgot?

    .. math:: 1 - \frac{1}{|D_f|} \sum_{x \in D_f} \mathrm{JS}\bigl(p_u(x), p_{\text{random}}(x)\bigr)

    with the Jensen-Shannon divergence in nats, so in [1 - ln 2, 1]; higher is more like guessing. The ideal is gold's value, which is
    below 1 wherever gold generalises. Averaged over several random networks, with the 95 % interval of that mean; for multilabel tasks
    also over the labels.

    **Cost**: one pass over the partition for each random network.

    Args:
        partition: Where outputs are compared.
        n_teachers: Random networks to average over.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, AAAI 2023, arXiv:2205.08096",
        code="vikram2000b/bad-teaching-unlearning at f1aa988",
        tested="scipy's divergence (tests/unit/measures/test_zrf.py)",
        deviations=(
            "The divergence is the paper's; the authors' code reverses it and divides by the number of classes (see LegacyZRF).",
            "Several random networks are averaged, since one is a matter of luck.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (1 - math.log(2), 1.0)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean likeness."""
        return self._score(evaluation, lambda log_p, log_q: float(jensen_shannon(log_p, log_q).mean()))


@dataclass(frozen=True, kw_only=True)
class LegacyZRF(_AgainstRandom):
    r"""Zero retrain forgetting as the authors' code computes it, for comparison with published numbers only.

    .. math:: 1 - \frac{1}{|D_f| K} \sum_{x \in D_f} \tfrac12 \mathrm{KL}(m \,\|\, p_u) + \tfrac12 \mathrm{KL}(m \,\|\, p_{\text{random}}),
        \qquad m = (p_u + p_{\text{random}}) / 2

    Both divergences are reversed and divided by the number of classes :math:`K`, which puts almost every model above 0.9, the more so
    the more classes there are. At most 1, without a lower end. Use :class:`ZRF`.

    Args:
        partition: Where outputs are compared.
        n_teachers: Random networks to average over; the code has one.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, AAAI 2023, arXiv:2205.08096",
        code="vikram2000b/bad-teaching-unlearning at f1aa988",
        tested="the authors' formula, written out with torch (tests/unit/measures/test_zrf.py)",
    )
    value_range: ClassVar[tuple[float, float]] = (float("-inf"), 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    n_teachers: PositiveInt = 1

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean likeness by the legacy formula."""
        return self._score(evaluation, _reversed)


def _reversed(log_p: Tensor, log_q: Tensor) -> float:
    log_m = log_p.logaddexp(log_q) - math.log(2)
    each = (kullback_leibler(log_m, log_p) + kullback_leibler(log_m, log_q)) / 2
    return float(each.mean()) / log_p.shape[-1]
