"""Datamodel matching: predict what the retrained model would answer, and fine-tune until the original does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer
from erasure.training.curvature import moved_logits
from erasure.training.forward import logits_of
from erasure.training.trial import deep_copy
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.influence_unlearning import InfluenceUnlearning
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["DatamodelMatching"]


@dataclass(frozen=True, kw_only=True)
class DatamodelMatching(IterativeUnlearner):
    r"""Fine-tunes the original to answer as data attribution says that a model without the forget set would.

    .. math::
        \min_\theta \; \mathbb{E}_{D_f \cup D_r'} \Bigl\lVert z_\theta(x) - \Bigl(z_o(x) - \sum_{i \in D_f} \tau_i(x)\Bigr) \Bigr\rVert^2,
        \qquad \sum_{i \in D_f} \tau_i(x) = -J_o(x)\, \Delta

    The attributions ``tau`` are influence functions: the logits are moved to first order by the step ``Delta`` that InfluenceUnlearning
    would take, with the Gauss-Newton curvature. ``targets="gold"`` matches a retrained model's logits instead (oracle matching): no
    shortcut, but the best that any attribution could do. The loss is the mean over samples and logits; labels serve the curvature
    alone. An empty forget or retain set leaves the model unchanged.

    **Cost**: that of InfluenceUnlearning (or a retraining), a forward pass with derivatives over the forget set and ``retain_fraction``
    of the retain set, then ``epochs`` passes over these.

    Args:
        targets: ``influence`` or ``gold``.
        retain_fraction: Share of the retain set, drawn at random, that is matched too.
        kept: What retain samples are trained towards: ``predicted`` answers, as published, or, by the original's loss, their ``labels``.
        subset: Whether this share is ``fixed`` or drawn ``anew`` for each epoch; predictions, where they are wanted, are then made
            for all of the retain set.
        damping: Added to the curvature's diagonal.
        max_samples: Retain samples for the curvature, drawn at random.
        max_steps: Conjugate-gradient steps.
    """

    source: ClassVar[Source | None] = Source(
        paper="Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel, ICLR 2025, arXiv:2410.23232",
        tested="targets and steps by plain formulas in float64, and retraining for a quadratic loss "
        "(tests/unit/unlearners/test_curvature_steps.py)",
        deviations=(
            "Written from the description of the method; no code was compared, and the defaults are ours.",
            "Attributions are influence functions at the original; the paper's are estimated over an ensemble of models.",
            'By default the samples that are matched are drawn once; subset="anew" draws them for each epoch.',
            'With kept="labels" retain samples are trained as the original was; the paper matches predictions on all.',
        ),
    )
    learns_from_retrained: ClassVar[bool] = True
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "that of InfluenceUnlearning, epochs passes over the forget set and retain_fraction of the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 20),
        "damping": Range(1e-4, 1.0, log=True),
        "retain_fraction": Range(0.1, 1.0),
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=5e-4))
    targets: Literal["influence", "gold"] = "influence"
    retain_fraction: Fraction = 0.3
    kept: Literal["predicted", "labels"] = "predicted"
    subset: Literal["fixed", "anew"] = "fixed"
    damping: NonNegativeFloat = 0.01
    max_samples: PositiveInt = 1000
    max_steps: PositiveInt = 50

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The curvature's products."""
        if self.targets == "influence":
            self._influence.try_on(model, batch, criterion)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Predict the answers, match them."""
        if not context.n_samples("forget") or not context.n_samples("retain") or not self.epochs:
            return model
        forget, retain = context.ids("forget"), context.ids("retain")
        generator = context.generator("subset")

        def subset() -> Tensor:
            order = torch.randperm(len(retain), generator=generator).to(retain.device)
            return retain[order[: round(self.retain_fraction * len(retain))]]

        fixed = torch.cat([forget, subset()]) if self.subset == "fixed" else None
        predicted = forget if self.kept == "labels" else torch.cat([forget, retain]) if fixed is None else fixed
        place, targets = self._predicted(model, context, predicted)
        mixture = context.batches("retain", ids=fixed)

        def mismatch(batch: Batch) -> Tensor:
            logits, number = logits_of(model(batch.x)), place[batch.ids]
            away = (logits - targets[number]).square()
            if self.kept == "predicted":
                return away.mean()
            losses = context.criterion.per_sample(logits, batch.y)
            return torch.where(number >= 0, away.flatten(1).mean(1), losses).mean()

        trainer = self.trainer(model, context)
        for _ in trainer.epochs():
            if fixed is None:
                some = torch.cat([forget, subset()])
                order = torch.randperm(len(some), generator=generator).to(some.device)
                mixture = context.batches("retain", ids=some[order], shuffle=False)
            trainer.train_on(mixture, mismatch)
        return model

    @property
    def _influence(self) -> InfluenceUnlearning:
        return InfluenceUnlearning(damping=self.damping, max_samples=self.max_samples, max_steps=self.max_steps)

    def _predicted(self, model: nn.Module, context: UnlearningContext, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Where each sample's target stands, by id, and the logits to match."""
        place = torch.full((len(context.y),), -1, dtype=torch.int64, device=context.device)
        place[ids] = torch.arange(len(ids), device=context.device)
        return place, self._answers(model, context, ids)

    def _answers(self, model: nn.Module, context: UnlearningContext, ids: Tensor) -> Tensor:
        """What a model without the forget set would say of some samples."""
        batches = context.batches("retain", shuffle=False, ids=ids)
        if self.targets == "gold":
            gold = context.retrained("retain").eval()
            with torch.no_grad():
                return torch.cat([logits_of(gold(batch.x)) for batch in batches])
        stepped = dict(self._influence.unlearn(deep_copy(model), context).named_parameters())
        direction = {n: (stepped[n] - p).detach() for n, p in model.named_parameters() if p.requires_grad}
        found = []
        for batch in batches:
            logits, moved = moved_logits(model, batch.x, direction)
            found.append(logits + moved)
        return torch.cat(found)
