"""KLoM: how far a population of unlearned models is from one of retrained models, by their margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.margins import histogram_divergence
from erasure.functional.membership import confidence_margin
from erasure.functional.population_test import divergence_by_labelling, labellings_of, p_value
from erasure.measures.contract import Evaluation, Measure, ModelRole, Outputs, Value
from erasure.measures.requested_models import FIRST_FITTED, ModelRequest, Repeated, Retrained
from erasure.measures.requirements import require_defined, require_sound
from erasure.types import NonNegativeInt, Partition, PositiveInt, Source, Statistic, Task

__all__ = ["KLoM"]

_PERCENTILES = (95, 99)


@dataclass(frozen=True, kw_only=True)
class KLoM(Measure):
    r"""Kullback-Leibler divergence of margins: are unlearned models, as a population, what retrained models are?

    .. math:: \mathrm{KL}\bigl(\mathrm{margins}(x; \theta_u) \,\|\, \mathrm{margins}(x; \theta_r)\bigr),
              \qquad \mathrm{margin}(x; \theta) = z_y - \log \sum_{j \ne y} e^{z_j}

    for each sample, over ``n_models`` models each, estimated from histograms of 20 bins. Given are the mean over the samples and the 95th
    and 99th percentile, on each partition. In nats, in [0, 11.6]. Small on all partitions is good: on the forget set nothing is left, on
    the others nothing was broken. ``KLoM p`` tests whether the two populations are one: which of all the models are called unlearned is
    drawn ``relabellings`` times, and the means are computed again; where it is small on any partition, the method is not retraining.

    The target is not 0 but gold's value, that of retrained models against other retrained models: the estimate is biased upwards. Two
    populations with the same normal distribution have a mean of about 1.7 with 32 models each, 0.35 with 100, 0.15 with 200 and 0.05
    with 500. Values compare only for equal ``n_models``. It judges a method over its random seeds (and originals), not one model: the
    subject itself is not looked at.

    **Cost**: ``n_models`` retrainings, shared by all methods; for each method ``n_models`` runs of it, and as many originals if
    ``origins`` is ``many``. Read once on each partition.

    Args:
        forget: The forgotten samples.
        retain: Samples that are to be kept.
        test: Samples that no model was trained on.
        n_models: Number of models on either side, at least 2; the paper has 100.
        origins: ``many``: every unlearned model starts from an original of its own, as in the paper. ``one``: all start from the same.
        max_samples: Look at no more than this many samples of a partition, drawn at random; None takes all.
        relabellings: Drawn for the p-value; 0 leaves it out.
    """

    source: ClassVar[Source | None] = Source(
        paper="Georgiev, Rinberg, Park, et al., Attribute-to-Delete, 2024, arXiv:2410.23232",
        code="data-unlearning-bench",
        tested="numpy.histogram and scipy.stats.entropy (tests/unit/measures/test_klom.py)",
        deviations=(
            "The largest margin of a sample counts (the authors' code drops it with the last bin's edge).",
            "32 models a side by default (the paper: 100).",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 11.6)
    unit: ClassVar[str] = "nats"
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    n_models: PositiveInt = 32
    origins: Literal["many", "one"] = "many"
    max_samples: PositiveInt | None = 2000
    relabellings: NonNegativeInt = 999

    @property
    def statistic(self) -> Statistic:
        """One number of many models, which brings a test of its own."""
        return "population"

    def check(self) -> None:
        """One model is no population."""
        if self.n_models < 2:
            message = f"found {self.n_models} model on either side; populations have at least 2"
            raise InvalidParameters([Diagnostic(message, path="n_models")])

    @property
    def title(self) -> str:
        """``KLoM``, with ``of one original`` where that was chosen."""
        return "KLoM" if self.origins == "many" else "KLoM of one original"

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The subject made again, and golds."""
        return [(request, self.partitions()) for request in (*self._mine(subject), *self._golds())]

    def _mine(self, subject: ModelRole) -> list[ModelRequest]:
        # Only a method starts from an original.
        many = subject == "unlearned" and self.origins == "many"
        return [Repeated(number=k, origin=k if many else 0) for k in range(1, self.n_models + 1)]

    def _golds(self) -> list[ModelRequest]:
        return [Retrained(number=FIRST_FITTED + k) for k in range(self.n_models)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Mean and high percentiles over the samples of each partition."""
        require_defined(self, evaluation)
        values, statistics = [], []
        players = labellings_of(self.n_models, self.n_models, self.relabellings, evaluation.streams.numpy("relabellings"))
        for partition in self.partitions():
            rows = self._rows(evaluation, partition)
            mine = self._margins(evaluation, self._mine(evaluation.subject.role), partition, rows)
            golds = self._margins(evaluation, self._golds(), partition, rows)
            try:
                found = histogram_divergence(mine, golds)
            except DataError as error:
                raise RequirementNotMet(f'KLoM is not defined on "{partition}": {error}') from error
            values.append(Value(value=float(found.mean()), name=f"{self.title} mean", partition=partition))
            if self.relabellings:
                statistics.append(divergence_by_labelling(mine, golds, players))
            values += [
                Value(value=float(found.quantile(each / 100)), name=f"{self.title} {each}th percentile", partition=partition)
                for each in _PERCENTILES
            ]
        if statistics:
            values.append(Value(value=p_value(statistics), name=f"{self.title} p", partition=self.forget, unit="p"))
        return values

    def _rows(self, evaluation: Evaluation, partition: str) -> Tensor:
        """Ids of the samples that are looked at, ascending; the same for every model."""
        ids = evaluation.ids(partition).cpu().sort().values
        if not len(ids):
            raise RequirementNotMet(f'KLoM is not defined on "{partition}": it is empty')
        if self.max_samples is None or len(ids) <= self.max_samples:
            return ids
        drawn = evaluation.streams.numpy("samples", partition).permutation(len(ids))[: self.max_samples]
        return ids[torch.from_numpy(np.sort(drawn))]

    def _margins(self, evaluation: Evaluation, requests: Sequence[ModelRequest], partition: str, ids: Tensor) -> Tensor:
        """``(n_models, n)``, by ascending id."""
        models = evaluation.models()
        said = [models.outputs(request, partition) for request in requests]
        require_sound(self, partition, said)
        return torch.stack([_margins_of(outputs, ids) for outputs in said])


def _margins_of(outputs: Outputs, ids: Tensor) -> Tensor:
    order = outputs.ids.argsort()
    rows = order[torch.searchsorted(outputs.ids[order].contiguous(), ids.to(outputs.ids.device))]
    return confidence_margin(outputs.task, outputs.logits[rows], outputs.labels[rows]).cpu()
