"""Forgetting what models remember best or least: samples ranked by memorisation or by what membership attacks see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from erasure.component import canonical
from erasure.data.contract import ScoredSplitter, Scores, Training
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.data.scenarios.ranking_models import RankingRecipe, balanced, folds
from erasure.data.selection import portion
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.functional.diverged import outputs_diverged
from erasure.training.predictor import Predictor
from erasure.training.randomness import Streams
from erasure.types import Json, NonNegativeInt, OpenFraction, Partition, PositiveInt, Source

__all__ = ["MemorisedSplitter", "Ranking", "VulnerableSplitter"]


@dataclass(frozen=True, kw_only=True)
class Ranking(ScoredSplitter):
    """Samples from one place of a ranking, and the others; subclasses say how samples are scored.

    The first part is in the order of the ranking, highest score first, so that its first samples are the extreme ones; the second
    part keeps the order of ``ref_data``. What is chosen does not depend on the order of ``ref_data``.
    """

    predictor: Predictor
    n_samples: NonNegativeInt | None = None
    percentage: OpenFraction | None = None
    order: Literal["most", "least", "middle"] = "most"
    population: Partition | None = None
    batch_size: PositiveInt = 64
    seed: NonNegativeInt | None = None

    def check(self) -> None:
        """One of the two sizes, and a recipe that needs no further data."""
        name = type(self).__name__
        if (self.n_samples is None) == (self.percentage is None):
            raise InvalidParameters([Diagnostic("give either n_samples or percentage", path=f"{name}.n_samples")])
        if self.predictor.patience is not None:
            message = "the models that rank samples have no validation set; leave patience and validation_set out"
            raise InvalidParameters([Diagnostic(message, path=f"{name}.predictor.patience")])
        if self.predictor.epochs == 0:
            message = "models that are not trained cannot rank samples; expected 1 or more epochs, found 0"
            raise InvalidParameters([Diagnostic(message, path=f"{name}.predictor.epochs")])

    def needs_scores(self) -> bool:
        """Not for an empty part."""
        return self.n_samples != 0

    def scored(self) -> str:
        """The population."""
        return self.population or self.ref_data

    def scores_content(self, seed: int) -> Json:
        """Everything but where in the ranking is cut; splitters with one seed share their models."""
        plain = self.replace(parts_names=("", ""), ref_data="all", population=None, n_samples=1, percentage=None, order="most")
        return {"splitter": canonical(plain), "drawn": [seed, *self.parts_names] if self.seed is None else None}

    def scores(
        self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator, training: Training
    ) -> Scores:
        """Train the models, and score what they say."""
        ids = ids_of(partitions, self.ref_data)
        self._size(ids)
        drawn = int(generator.integers(2**62))
        seed = drawn if self.seed is None else self.seed
        recipe = RankingRecipe(
            data=data,
            ids=self._population(partitions, ids),
            predictor=self.predictor,
            batch_size=self.batch_size,
            seed=seed,
            training=training,
        )
        scores = self.score(recipe, Streams(seed))
        if any(outputs_diverged(score) for score in scores):
            raise PartitionError(
                "the models that rank the samples diverged: their outputs are not finite or run away; lower the learning rate"
            )
        return scores

    def split_by(self, scores: Scores, partitions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rank and cut; ties go by id."""
        ids = ids_of(partitions, self.ref_data)
        size = self._size(ids)
        if size == 0:
            return ids[:0], ids
        ordered = ids.sort().values
        at = torch.searchsorted(self._population(partitions, ids), ordered)
        ranked = ordered[torch.from_numpy(np.lexsort([(-score[at]).numpy() for score in reversed(scores)]))]
        start = {"most": 0, "least": len(ids) - size, "middle": (len(ids) - size) // 2}[self.order]
        chosen = ranked[start : start + size]
        return chosen, ids[~torch.isin(ids, chosen)]

    def _size(self, ids: Tensor) -> int:
        size = portion(len(ids), self.percentage) if self.percentage is not None else self.n_samples or 0
        if size > len(ids):
            raise PartitionError(f'{size} samples asked for, but "{self.ref_data}" has {len(ids)}')
        return size

    def score(self, recipe: RankingRecipe, streams: Streams) -> Scores:
        """Scores of ``recipe.ids``, high for what comes first.

        Raises:
            PartitionError: If the models cannot be trained, or there are too few samples.
        """
        raise NotImplementedError

    def _population(self, partitions: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        if self.population is None:
            return ids.sort().values
        population = ids_of(partitions, self.population).sort().values
        outside = int((~torch.isin(ids, population)).sum())
        if outside:
            raise PartitionError(
                f'{outside} of the {len(ids)} samples of "{self.ref_data}" are not in the population "{self.population}"'
            )
        return population


@dataclass(frozen=True, kw_only=True)
class MemorisedSplitter(Ranking):
    r"""The samples that models memorise most, least or moderately, and the others.

    ``by`` says what memorised means:

    - ``memorisation``: Feldman and Zhang's estimate,
      :math:`\Pr[f(x_i) = y_i \mid i \in S] - \Pr[f(x_i) = y_i \mid i \notin S]` over models that are trained on random parts
      :math:`S`, in [-1, 1]. Ties, frequent with few models, are broken by the same difference of the label's probability.
    - ``held-out-loss``: the loss under a model that was trained on the other folds: a sample that the others do not explain can only
      be memorised. It does not tell a memorised sample from one that is never learned. The held-out confidence gives the same ranking.
    - ``learning-speed``: one less the confidence in the label, averaged over the epochs of a training: what is learned late is
      memorised.

    **Cost**: ``n_models`` trainings and passes; for ``learning-speed`` a pass in every epoch. A stage of its own trains them
    before the data are split; the store keeps the scores.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        predictor: How the models are trained; its ``training_set`` has no meaning here.
        n_samples: Samples in the first part, from 0 to the size of ``ref_data``.
        percentage: In its place, the fraction of ``ref_data`` in the first part.
        order: ``most``, ``least`` or ``middle`` of the ranking.
        population: The samples that the models are trained on, which include ``ref_data``; by default ``ref_data`` itself.
        batch_size: Samples per step, unless the predictor has its own.
        seed: Of the models. Splitters with one seed, recipe and population share the models and so cut one ranking; by default each
            has a stream of its own.
        by: The score.
        n_models: Models, at least 2 (1 for ``learning-speed``); folds for ``held-out-loss``. By default 64, 5 and 1.
        share: For ``memorisation``, the fraction of the models that see a sample.
    """

    source: ClassVar[Source | None] = Source(
        paper="Feldman & Zhang, NeurIPS 2020, arXiv:2008.03703; Jiang, Zhang, Talwar, Mozer, ICML 2021, arXiv:2002.03206; "
        "Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, NeurIPS 2024, arXiv:2406.01257",
        deviations=(
            "Each sample is seen by the same number of models; the paper draws parts of the same size.",
            "64 models; the paper trains thousands.",
        ),
    )

    by: Literal["memorisation", "held-out-loss", "learning-speed"] = "memorisation"
    n_models: PositiveInt | None = None
    share: OpenFraction = 0.7

    @property
    def _n_models(self) -> int:
        return self.n_models or {"memorisation": 64, "held-out-loss": 5, "learning-speed": 1}[self.by]

    def check(self) -> None:
        """Every sample needs models that have seen it and models that have not."""
        super().check()
        if self.by != "learning-speed" and self._n_models < 2:
            message = f"{self.by} compares models that have seen a sample with others; expected 2 or more, found {self._n_models}"
            raise InvalidParameters([Diagnostic(message, path="MemorisedSplitter.n_models")])

    def score(self, recipe: RankingRecipe, streams: Streams) -> Scores:
        """By the chosen definition."""
        n, n_models = len(recipe.ids), self._n_models
        if self.by == "learning-speed":
            return (1 - recipe.course(n_models),)
        if self.by == "held-out-loss":
            if n < n_models:
                raise PartitionError(f"{n} samples cannot be held out in {n_models} folds")
            models = recipe.bank(folds(n_models, n, streams.numpy("folds")))
            return (models.mean(lambda said: said.loss, seen=False),)
        n_seen = min(max(round(self.share * n_models), 1), n_models - 1)
        models = recipe.bank(balanced(n_models, n, n_seen, streams.numpy("seen")))
        return models.difference(lambda said: said.right), models.difference(lambda said: said.confidence)


@dataclass(frozen=True, kw_only=True)
class VulnerableSplitter(Ranking):
    r"""The samples that membership attacks see best, or worst, and the others.

    Ranked by how far the logit of the label's probability, :math:`\phi = \log p_y - \log(1 - p_y)`, moves when a model is trained on
    the sample: its mean over the models that have seen it less the mean over those that have not. With one variance for all samples
    that is the order in which LiRA tells them apart. ``most`` are the vulnerable samples, ``least`` the protected ones.

    **Cost**: ``n_models`` trainings and passes. A stage of its own trains them before the data are split; the store keeps the
    scores.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        predictor: How the models are trained; its ``training_set`` has no meaning here.
        n_samples: Samples in the first part, from 0 to the size of ``ref_data``.
        percentage: In its place, the fraction of ``ref_data`` in the first part.
        order: ``most``, ``least`` or ``middle`` of the ranking.
        population: The samples that the models are trained on, which include ``ref_data``; by default ``ref_data`` itself.
        batch_size: Samples per step, unless the predictor has its own.
        seed: Of the models. Splitters with one seed, recipe and population share the models and so cut one ranking; by default each
            has a stream of its own.
        n_models: Models, of which half have seen each sample; at least 2.
    """

    source: ClassVar[Source | None] = Source(
        paper="Naderloui et al., USENIX Security 2025, arXiv:2506.13009; Carlini et al., IEEE S&P 2022, arXiv:2112.03570",
        deviations=("Samples are ranked by the difference of the means; RULI ranks by the likelihood ratio.",),
    )

    n_models: PositiveInt = 16

    def check(self) -> None:
        """Every sample needs models that have seen it and models that have not."""
        super().check()
        if self.n_models < 2:
            raise InvalidParameters([Diagnostic("expected 2 or more, found 1", path="VulnerableSplitter.n_models")])

    def score(self, recipe: RankingRecipe, streams: Streams) -> Scores:
        """Separation of the logit."""
        if recipe.data.task == "multilabel":
            raise PartitionError(
                f'the samples of "{recipe.data.name}" have several labels each, and no single probability to compare'
            )
        models = recipe.bank(balanced(self.n_models, len(recipe.ids), self.n_models // 2, streams.numpy("seen")))
        return (models.difference(lambda said: said.margin),)
