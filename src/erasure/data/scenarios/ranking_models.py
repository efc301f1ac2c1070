"""A bank of small models, each trained on some of the samples, and what it says about all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from erasure.data.contract import Training
from erasure.data.dataset import Dataset
from erasure.data.standardise import standardised
from erasure.errors import Diverged, PartitionError, RequirementNotMet
from erasure.functional.losses import correctness, per_sample_loss
from erasure.training.batches import Batches, Column
from erasure.training.calls import Criterion
from erasure.training.ensemble import BLOCK_SIZE, train_together, unsupported_reason
from erasure.training.forward import logits_of
from erasure.training.loop import EpochListener
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.randomness import derive
from erasure.types import Task

__all__ = ["Predictions", "RankingModels", "RankingRecipe", "balanced", "folds"]

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says about ``n`` samples.

    Args:
        right: Whether each is predicted correctly (for ``multilabel``, the share of right labels), ``(n,)`` float64.
        loss: Its loss, ``(n,)`` float64, in nats; ``exp(-loss)`` is the probability of its label.
        margin: Logit of that probability, ``(n,)`` float64; of ``multilabel`` samples nothing, ``(0,)``.
    """

    right: Tensor
    loss: Tensor
    margin: Tensor

    @property
    def confidence(self) -> Tensor:
        """Probability of the label, ``(n,)``, in [0, 1]."""
        return (-self.loss).exp()


@dataclass(frozen=True, eq=False)
class RankingModels:
    """What ``M`` models say about ``n`` samples, each of which some have seen.

    Args:
        seen: Whether a model was trained on a sample, ``(M, n)`` bool.
        said: Of each model.
    """

    seen: Tensor
    said: tuple[Predictions, ...]

    def mean(self, statistic: Callable[[Predictions], Tensor], *, seen: bool) -> Tensor:
        """Mean of a statistic over the models that have, or have not, seen each sample; ``(n,)`` float64."""
        values = torch.stack([statistic(each) for each in self.said])
        members = (self.seen if seen else ~self.seen).double()
        return (values * members).sum(0) / members.sum(0)

    def difference(self, statistic: Callable[[Predictions], Tensor]) -> Tensor:
        """Mean over the models that have seen each sample less the mean over those that have not."""
        return self.mean(statistic, seen=True) - self.mean(statistic, seen=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class RankingRecipe:
    """How the models of a bank are trained.

    Args:
        data: The data set.
        ids: The samples that are looked at, ``(n,)``; tables are standardised by them.
        predictor: The training recipe.
        batch_size: Used where the predictor does not set its own.
        seed: Of initial weights and shuffling; each model has streams of its own.
        training: Where and how.
    """

    data: Dataset
    ids: Tensor
    predictor: Predictor
    batch_size: int
    seed: int
    training: Training = Training()  # noqa: RUF009 - a value that nothing can change

    def bank(self, seen: Tensor) -> RankingModels:
        """Models trained on the rows of ``seen``, ``(M, n)`` bool.

        Raises:
            PartitionError: If they cannot be trained.
        """
        with _training():
            x = self._inputs()
            return RankingModels(seen, tuple(self._said(model, x) for model in self._trained(seen, x)))

    def course(self, n_models: int) -> Tensor:
        """Confidence in each sample's label, averaged over the epochs of models that are trained on all samples; ``(n,)``.

        Raises:
            PartitionError: If they cannot be trained.
        """
        total = torch.zeros(len(self.ids), dtype=torch.float64)

        def note(epoch: int, epochs: int, model: nn.Module) -> None:
            nonlocal total
            total = total + self._said(model.eval(), x).confidence / epochs
            if self.training.on_epoch is not None:
                self.training.on_epoch(epoch, epochs, model)

        with _training():
            x = self._inputs()
            for number in range(n_models):
                self._one(number, self.ids, x, note)
        return total / n_models

    def each(self, inputs: Iterable[tuple[Column, Tensor]], look: Callable[[nn.Module, Column], Tensor]) -> Tensor:
        """What models say that are trained on inputs of their own, from the same weights and with batches in the same order.

        Args:
            inputs: Of each model, the column and the ids that it is trained on; labels are those of ``data``.
            look: What is kept of a trained model, in eval mode, and its column; tensors of one shape.

        Raises:
            PartitionError: If they cannot be trained.
        """
        said = []
        with _training():
            for column, ids in inputs:
                x = column.to(self.training.device)
                model = self._one(0, ids, x, self.training.on_epoch)
                with torch.no_grad():
                    said.append(look(model.eval(), x))
        return torch.stack(said)

    def _inputs(self) -> Column:
        return standardised(self.data, self.ids).to(self.training.device)

    @functools.cached_property
    def _labels(self) -> Tensor:
        return self.data.y.to(self.training.device)

    def _trained(self, seen: Tensor, x: Column) -> Iterator[nn.Module]:
        """The models of a bank, in order; small ones are trained together."""
        if not seen.any(1).all():
            raise PartitionError(f"{len(self.ids)} samples are too few to train {len(seen)} models on parts of them")
        if unsupported_reason(self._fresh(0), self.predictor, self.training.precision) is not None:
            for number, own in enumerate(seen):
                yield self._one(number, self.ids[own], x, self.training.on_epoch)
            return
        for start in range(0, len(seen), BLOCK_SIZE):
            block = seen[start : start + BLOCK_SIZE]
            numbers = range(start, start + len(block))
            yield from train_together(
                [self._fresh(number) for number in numbers],
                self.predictor,
                x=x,
                y=self._labels,
                ids=[self.ids[own].to(self.training.device) for own in block],
                criterion=self._criterion,
                seeds=[self._seed(number) for number in numbers],
                batch_size=self.batch_size,
                precision=self.training.precision,
                on_epoch=self.training.on_epoch,
            )

    def _one(self, number: int, ids: Tensor, x: Column, on_epoch: EpochListener | None = None) -> nn.Module:
        return train(
            self._fresh(number),
            self.predictor,
            x=x,
            y=self._labels,
            ids=ids.to(self.training.device),
            criterion=self._criterion,
            seed=self._seed(number),
            batch_size=self.batch_size,
            precision=self.training.precision,
            on_epoch=on_epoch,
        )

    def _seed(self, number: int) -> int:
        return derive(self.seed, "model", number)

    def _fresh(self, number: int) -> nn.Module:
        data = self.data
        shape = ModelInput(data.x_shape, data.n_classes, data.task, data.modality)
        return build_model(self.predictor.model, shape, self._seed(number), self.training.device)

    @property
    def _criterion(self) -> Criterion:
        return Criterion(self.data.task, self.predictor.loss_fn).to(self.training.device)

    @torch.no_grad()
    def _said(self, model: nn.Module, x: Column) -> Predictions:
        batches = Batches(x, self._labels, self.ids.to(self.training.device), _BATCH)
        logits = torch.cat([logits_of(model(batch.x)) for batch in batches]).double().cpu()
        task, y = self.data.task, self.data.y.index_select(0, self.ids)
        return Predictions(correctness(task, logits, y).double(), per_sample_loss(task, logits, y), _margin(task, logits, y))


def _margin(task: Task, logits: Tensor, y: Tensor) -> Tensor:
    """The label's logit less the log-sum-exp of the others, which stays exact where the probability rounds to 1."""
    if task == "multilabel":
        return logits.new_empty(0)
    if task == "binary":
        return torch.where(y.reshape(-1) == 1, 1.0, -1.0) * logits.reshape(-1)
    of_label = logits.gather(1, y.unsqueeze(1)).squeeze(1)
    return of_label - logits.scatter(1, y.unsqueeze(1), float("-inf")).logsumexp(1)


@contextmanager
def _training() -> Iterator[None]:
    """One thread, since the bytes of a model depend on their number, and errors of training as errors of the data's cut."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    except (RequirementNotMet, Diverged) as error:
        raise PartitionError(f"the models that rank the samples cannot be trained: {error}") from error
    finally:
        torch.set_num_threads(before)


def balanced(n_models: int, n_samples: int, n_seen: int, generator: np.random.Generator) -> Tensor:
    """Which models see which samples, at random, so that each sample is seen by exactly ``n_seen``; ``(M, n)`` bool."""
    order = torch.from_numpy(generator.random((n_models, n_samples))).argsort(0).argsort(0)
    return order < n_seen


def folds(n_folds: int, n_samples: int, generator: np.random.Generator) -> Tensor:
    """Which models see which samples, so that each sample is missed by exactly one; ``(n_folds, n)`` bool.

    Folds are random, and their sizes differ by one sample at most.
    """
    fold = torch.from_numpy(generator.permutation(np.arange(n_samples) % n_folds))
    return fold != torch.arange(n_folds).unsqueeze(1)
