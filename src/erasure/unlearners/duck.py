"""DUCK: drive the features of forget samples to the nearest centroid of another class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.training.layer_inputs import listening_to_inputs
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["DUCK"]

_REPAIR_SHARE = 0.1
"""Of the weight of the distances, in the second stage."""


@dataclass(frozen=True, kw_only=True)
class DUCK(IterativeUnlearner):
    r"""Moves forget samples' features to the nearest centroid of another class while the retain set is trained on.

    .. math::
        L = \lambda_1\, \mathbb{E}_{D_f} \bigl(1 - \cos(e(x), c_{k(x)})\bigr) + \lambda_2\, \mathbb{E}_{D_r}\, \ell(z(x) / T, y), \qquad
        k(x) = \arg\max_{k \ne y} \cos(e_o(x), c_k)

    Features ``e`` are what the last linear map reads, and ``c`` the means of the original's features of each retain class, in eval
    mode. In the first stage each forget batch meets ``retain_batches`` retain batches one after the other, and training ends after the
    first epoch in which the forget accuracy is below ``target_accuracy``. The second stage pairs each forget batch, with its nearest
    centroids chosen again, with at most ``repair_batches`` large retain batches; forget and retain samples go through the network
    together, and the distances weigh a tenth. An empty forget or retain set leaves the model unchanged.

    **Cost**: one pass over the retain set, then at most ``epochs`` passes over the forget set with ``retain_batches`` steps for each
    batch, and ``repair_epochs`` passes with ``repair_batches`` steps for each.

    Args:
        distance_weight: ``lambda_1``.
        retain_weight: ``lambda_2``, in the first stage; 1 in the second.
        temperature: ``T``.
        retain_batches: Retain batches for each forget batch.
        target_accuracy: Forget accuracy at which the first stage ends: 0.01 suits whole classes; for random samples take the
            original's accuracy on unseen data.
        repair_epochs: Passes of the second stage.
        repair_optimizer: Optimizer of the second stage; its rate falls along a cosine to 0.
        repair_batches: Retain batches for each forget batch there, at most.
        repair_batch_size: Retain samples in each.
        repair_forget_size: Forget samples of each batch that take part there.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cotogni, Bonato, Sabetta, Pelosin, Nicolosi, 2023, arXiv:2312.02052",
        code="OcraM17/DUCK at 0961e3a",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_centroids.py)",
        deviations=(
            "Each forget sample keeps its own nearest centroid, chosen on the original in eval mode; the code chooses in training mode "
            "and, as soon as a forget batch meets several retain batches or is shuffled, gives it to other samples.",
            "Centroids are of the whole retain set, not of its first 50 batches, and of the classes that it has; in the code a class "
            "that goes shifts the numbers of those after it.",
            "The second stage takes shorter retain batches too; the code drops them, and does nothing with fewer than 512 samples.",
            "Whole classes are treated as random samples; the code stops the second stage after one forget batch there.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = (
        "one pass over the retain set, epochs passes over the forget set with retain_batches steps for each batch"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 50),
        "distance_weight": Range(0.1, 5.0, log=True),
        "retain_weight": Range(0.1, 5.0, log=True),
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 200
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=4e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("MultiStepLR", milestones=[25, 40], gamma=0.5))
    batch_size: PositiveInt | None = 256
    distance_weight: NonNegativeFloat = 1.0
    retain_weight: NonNegativeFloat = 1.4
    temperature: PositiveFloat = 2.0
    retain_batches: PositiveInt = 6
    target_accuracy: Fraction = 0.01
    repair_epochs: NonNegativeInt = 2
    repair_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-4))
    repair_batches: PositiveInt = 20
    repair_batch_size: PositiveInt = 512
    repair_forget_size: PositiveInt = 128

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be a last linear map whose input can be read."""
        with _features(model) as seen:
            model(batch.x)
            seen()

    def changes_nothing(self) -> bool:
        """Whether neither stage has an epoch."""
        return self.epochs == self.repair_epochs == 0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the centroids, move towards them, repair."""
        if not context.n_samples("forget") or not context.n_samples("retain") or self.changes_nothing():
            return model
        with _features(model) as seen:
            centroids = self._centroids(model, context, seen)
            self._move(model, context, seen, centroids)
            self._repair(model, context, seen, centroids)
        return model

    @torch.no_grad()
    def _centroids(self, model: nn.Module, context: UnlearningContext, seen: _Seen) -> Tensor:
        """Mean features of each class, not a number where the retain set has none of it."""
        total = torch.zeros(0)
        counts = torch.zeros(context.n_classes, device=context.device)
        for batch in context.batches("retain", shuffle=False):
            model(batch.x)
            features = seen()
            if not len(total):
                total = features.new_zeros(context.n_classes, features.shape[1])
            total.index_add_(0, batch.y.long(), features)
            counts += torch.bincount(batch.y.long(), minlength=context.n_classes)
        return total / counts.to(total.dtype)[:, None]

    def _move(self, model: nn.Module, context: UnlearningContext, seen: _Seen, centroids: Tensor) -> None:
        nearest = torch.zeros(len(context.y), dtype=torch.int64, device=context.device)
        with torch.no_grad():
            for batch in context.batches("forget", shuffle=False):
                model(batch.x)
                nearest[batch.ids] = _nearest(seen(), centroids, batch.y)
        trainer, forget, retain = self.trainer(model, context), context.batches("forget"), context.batches("retain")

        def loss(pair: tuple[Batch, Batch]) -> Tensor:
            forgotten, kept = pair
            model(forgotten.x)
            distance = _distance(seen(), centroids[nearest[forgotten.ids]])
            logits = logits_of(model(kept.x)) / self.temperature
            return self.distance_weight * distance + self.retain_weight * context.criterion(logits, kept.y)

        def pairs() -> Iterator[tuple[Batch, Batch]]:
            for forgotten in forget:
                for kept in itertools.islice(retain, self.retain_batches):
                    yield forgotten, kept

        for _ in trainer.epochs():
            trainer.train_on(pairs(), loss)
            if context.accuracy(model, "forget") < self.target_accuracy:
                break

    def _repair(self, model: nn.Module, context: UnlearningContext, seen: _Seen, centroids: Tensor) -> None:
        forget, retain = context.batches("forget"), context.batches("retain", batch_size=self.repair_batch_size)
        n_steps = self.repair_epochs * len(forget) * min(self.repair_batches, len(retain))
        repair = self.replace(
            optimizer=self.repair_optimizer, schedule=Schedule.of("CosineAnnealingLR"), epochs=self.repair_epochs
        )
        trainer = repair.trainer(model, replace(context, on_epoch=None), schedule_steps=n_steps)
        nearest = torch.zeros(0, dtype=torch.int64)

        def loss(step: tuple[Tensor, Tensor, bool]) -> Tensor:
            nonlocal nearest
            forgotten, kept, is_first = step
            n = len(forgotten)
            logits = logits_of(model(context.x.gather(torch.cat([forgotten, kept]))))[n:] / self.temperature
            features = seen()[:n]
            if is_first:
                nearest = _nearest(features.detach(), centroids, context.y[forgotten])
            distance = _distance(features, centroids[nearest])
            return _REPAIR_SHARE * self.distance_weight * distance + context.criterion(logits, context.y[kept])

        def steps() -> Iterator[tuple[Tensor, Tensor, bool]]:
            for batch in forget:
                for number, kept in enumerate(itertools.islice(retain, self.repair_batches)):
                    yield batch.ids[: self.repair_forget_size], kept.ids, number == 0

        for _ in trainer.epochs():
            trainer.train_on(steps(), loss)


class _Seen:
    """The last input of a layer."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self) -> Tensor:
        """The features, ``(B, d)``."""
        if self.last is None:
            raise RequirementNotMet("DUCK reads the input of the last linear map, which the model did not run")
        return self.last.flatten(1)


@contextmanager
def _features(model: nn.Module) -> Iterator[_Seen]:
    """What the last linear map of a model reads."""
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise RequirementNotMet(f"DUCK moves what the last linear map reads, and {type(model).__name__} has no linear map")
    seen = _Seen()

    def note(name: str, x: Tensor) -> None:
        seen.last = x

    with listening_to_inputs({"head": heads[-1]}, note):
        yield seen


def _nearest(features: Tensor, centroids: Tensor, y: Tensor) -> Tensor:
    """The class other than ``y`` whose centroid has the largest cosine, ``(B,)``."""
    cosines = F.normalize(features, dim=1) @ F.normalize(centroids, dim=1).T
    other = torch.arange(len(centroids), device=y.device)[None] != y.reshape(-1, 1)
    cosines = torch.where(other & ~cosines.isnan(), cosines, -torch.inf)
    best = cosines.max(1)
    if bool(best.values.isneginf().any()):
        raise RequirementNotMet("DUCK moves forget samples to another class, and the retain set has no sample of one")
    return best.indices


def _distance(features: Tensor, centroids: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(features, centroids, dim=1)).mean()
