"""RUM: forget in groups, from what the model memorised least to what it memorised most, each group in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import distillation_divergence, per_sample_loss
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.training.trial import deep_copy
from erasure.types import NonNegativeInt, Partition, PartitionRole, Source
from erasure.unlearners.contract import ModelService, Unlearner, UnlearningContext
from erasure.unlearners.neg_grad_plus import NegGradPlus
from erasure.unlearners.sequential import renamed

__all__ = ["RUM"]


def _published_steps() -> tuple[Unlearner, ...]:
    settings = ((0.99, 5, 0.01), (0.97, 5, 0.01), (0.97, 10, 0.001))
    return tuple(
        NegGradPlus(alpha=alpha, epochs=epochs, optimizer=Optimizer.of("SGD", lr=lr, momentum=0.9, weight_decay=5e-4))
        for alpha, epochs, lr in settings
    )


@dataclass(frozen=True, kw_only=True)
class RUM(Unlearner):
    r"""Splits the forget set by how far the original memorised each sample, and unlearns group after group, least memorised first.

    There are as many groups as ``steps``, of sizes that differ by one sample at most, and each step forgets its group from the model
    that the step before has left. Groups whose turn is still to come count as retained, as in a sequence of requests; the last step sees
    the retain set alone. With one step this is that step.

    **Cost**: that of the steps, and a forward pass over the forget set; with ``score="holdout"`` also ``holdout_epochs`` passes over the
    validation set and one model copy.

    Args:
        steps: The methods, for groups in the order of rising memorisation; the partitions that they call ``forget``, ``retain`` and
            ``train`` are those of this method.
        score: How memorisation is told: ``confidence`` by the loss of the true label, which is higher for what is remembered only by
            heart; ``holdout`` by how far predictions move, in symmetric Kullback-Leibler divergence, when the original is fine-tuned on
            samples it has not seen.
        holdout_epochs: Passes over the validation set for ``holdout``.
        holdout_optimizer: Optimizer for ``holdout``.
        validation: Partition that the original was not trained on, for ``holdout``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Zhao, Kurmanji, Bărbulescu, Triantafillou, Triantafillou, NeurIPS 2024, arXiv:2406.01257",
        code="kairanzhao/RUM at fe2df07 (NegGrad+ for each group)",
        tested="the order of the groups and the steps of NegGrad+ (tests/unit/unlearners/test_weight_edits.py)",
        deviations=(
            "The forget set is cut into groups as it is; the code also makes it up from the most, the least and the moderately memorised.",
            "Confidence is that of the trained original; the paper averages it over the epochs of its training.",
            "Scores by training many models, and by learning events, are left out.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain", "validation"})
    cost: ClassVar[str] = "that of the steps, one forward pass over the forget set"

    steps: Annotated[tuple[Unlearner, ...], MinLen(1)] = field(default_factory=_published_steps)
    score: Literal["confidence", "holdout"] = "confidence"
    holdout_epochs: NonNegativeInt = 5
    holdout_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9))
    validation: Partition = "validation"

    @property
    def named_steps(self) -> tuple[Unlearner, ...]:
        """The steps with this method's partitions."""
        names = {"forget": self.forget, "retain": self.retain, "train": self.train}
        return tuple(renamed(step, names) for step in self.steps)

    def partitions(self) -> dict[PartitionRole, str]:
        """Those of the steps and of the score."""
        found: dict[PartitionRole, str] = {role: name for step in self.named_steps for role, name in step.partitions().items()}
        found["forget"] = self.forget
        if len(self.steps) > 1:
            found["retain"] = self.retain
        return {**found, "validation": self.validation} if self.score == "holdout" else found

    def partition_names(self) -> frozenset[str]:
        """The partitions of the steps and of the score."""
        return frozenset(self.partitions().values()).union(*(step.partition_names() for step in self.named_steps))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The first step's reason that there is."""
        return next(filter(None, (step.unsupported_reason(data) for step in self.steps)), None)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Score, cut into groups, forget one after the other."""
        scores = self._memorisation(model, context)
        groups = context.ids("forget")[scores.argsort(stable=True)].tensor_split(len(self.steps))
        for number, (step, group) in enumerate(zip(self.named_steps, groups, strict=True)):
            changed = {self.forget: group}
            if self.retain in context.partitions:
                changed[self.retain] = torch.cat([context.partitions[self.retain], *groups[number + 1 :]])
            bank = (
                None
                if context.models is None
                else _OtherPartitions(context.models, frozenset(changed) if len(self.steps) > 1 else frozenset())
            )
            request = replace(context.step(number), partitions={**context.partitions, **changed}, models=bank, on_epoch=None)
            model = step.unlearn(model.eval(), request.seen_by(step))
            if context.on_epoch is not None:
                context.on_epoch(number + 1, len(self.steps), model)
        return model

    def _memorisation(self, model: nn.Module, context: UnlearningContext) -> Tensor:
        """A score of each forget sample, higher for what is memorised more, in the order of the partition."""
        forget = context.batches("forget", shuffle=False)
        tuned = self._tuned(model, context) if self.score == "holdout" and context.n_samples("forget") else None
        parts = [torch.zeros(0, device=context.device)]
        with torch.no_grad():
            for batch in forget:
                logits = logits_of(model(batch.x))
                if tuned is None:
                    parts.append(per_sample_loss(context.task, logits, batch.y))
                    continue
                other = logits_of(tuned(batch.x))
                both = ((logits, other), (other, logits))
                parts.append(sum(distillation_divergence(a, b, task=context.task) for a, b in both) / 2)  # type: ignore[arg-type]
        return torch.cat(parts)

    def _tuned(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """A copy of the original, fine-tuned on what it has not seen."""
        student = deep_copy(model)
        trainer = replace(context, on_epoch=None, mask=None).trainer(student, self.holdout_optimizer, epochs=self.holdout_epochs)
        unseen = context.batches("validation")
        for _ in trainer.epochs():
            trainer.train_on(unseen, lambda batch: context.loss(student, batch))
        return student.eval()


@dataclass(frozen=True, eq=False)
class _OtherPartitions:
    """A bank that refuses to retrain on partitions of which it knows only the names."""

    bank: ModelService
    changed: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bank, name)

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """A model trained from scratch on a partition that is the same for every group."""
        if partition in self.changed:
            raise RequirementNotMet(
                f'RUM cannot give a step a model retrained on "{partition}", which is another one for each group'
            )
        return self.bank.retrained(partition)
