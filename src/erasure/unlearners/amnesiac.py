"""Amnesiac unlearning: take back every update that a forgotten sample had a part in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from erasure.training.calls import Optimizer, Schedule
from erasure.training.history import Update
from erasure.types import NonNegativeInt, PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["AmnesiacUnlearning"]


@dataclass(frozen=True, kw_only=True)
class AmnesiacUnlearning(Unlearner):
    r"""Subtracts the logged updates of all batches with forget samples, then repairs on the retain set.

    .. math:: \theta_u = \theta_o - \sum_{t \,:\, B_t \cap D_f \neq \emptyset} (\theta_{t} - \theta_{t-1})

    The log is kept while the original trains; here its training is replayed, and the time counts as precomputation. Exact only if the
    touched updates are the last ones: later updates stay as they were computed, and with momentum or Adam they carry touched
    gradients on. Good when few batches are affected; a forget set of scattered samples touches nearly all of them, and little of the
    model is left before the repair.

    Buffers, BatchNorm's running statistics among them, are not part of the log and stay the original's until the repair. The sum is
    taken in float64, so that undoing float32 updates rounds once. If training stopped early, only updates up to the returned epoch
    count. No partition's samples are looked at before the repair except by the replay; of the forget set only ids are read.

    **Cost**: a replay of the training as precomputation, or one sum of the model's size kept while it trains; then
    ``repair_epochs`` passes over the retain set.

    Args:
        repair_epochs: Passes over the retain set afterwards; 0 subtracts alone.
        optimizer: Optimizer of the repair.
        schedule: Learning-rate schedule of the repair; constant by default.
        batch_norm: ``train`` lets running statistics follow the repair, ``frozen`` keeps BatchNorm in eval mode.
    """

    source: ClassVar[Source | None] = Source(
        paper="Graves, Nagisetty, Ganesh, AAAI 2021, arXiv:2010.10981",
        code="lmgraves/AmnesiacML at ae594cd",
        tested="the steps by a training written out by hand in float64 (tests/unit/unlearners/test_amnesiac.py)",
        deviations=(
            "Only the sum of the touched updates is kept, not each of them.",
            "Every parameter is logged; the code goes by names that contain weight or bias, and silently skips what fails to load.",
            "The paper asks for a brief repair and its notebook runs up to ten epochs; the default is one.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train", "forget", "retain"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = "the original's training as precomputation, repair_epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {"repair_epochs": Range(0, 5), "optimizer.lr": Range(1e-5, 1e-2, log=True)}

    repair_epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=0.001))
    schedule: Schedule | None = None
    batch_norm: Literal["train", "frozen"] = "train"

    def partitions(self) -> dict[PartitionRole, str]:
        """Without a repair the retain set is not needed."""
        return {role: name for role, name in super().partitions().items() if role != "retain" or self.repair_epochs}

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Subtract, then repair."""
        if not context.n_samples("forget"):
            return model
        updates = self._touched_updates(model, context)
        context.keeps(updates.numel() * updates.element_size())
        self._subtract(model, updates, context)
        if self.repair_epochs:
            trainer = context.trainer(
                model, self.optimizer, epochs=self.repair_epochs, schedule=self.schedule, batch_norm=self.batch_norm
            )
            retain = context.batches("retain")
            for _ in trainer.epochs():
                trainer.train_on(retain, lambda batch: context.loss(model, batch))
        return model

    def _touched_updates(self, original: nn.Module, context: UnlearningContext) -> Tensor:
        """Sum of the updates by batches with forget samples, as one vector."""
        returned = _vector(original)
        is_forgotten = torch.zeros(len(context.y), dtype=torch.bool, device=context.device)
        is_forgotten[context.ids("forget")] = True
        total = torch.zeros_like(returned)
        # Early stopping returns an earlier state than the last: the sum that belongs to it is the one at the time it passed by.
        total_when_returned, passed_by = total.clone(), torch.zeros((), dtype=torch.bool, device=context.device)
        before = returned

        def observe(model: nn.Module, update: Update) -> None:
            nonlocal before, total, total_when_returned, passed_by
            after = _vector(model)
            if update.batch is not None:
                total = total + (after - before) * is_forgotten[update.batch.ids].any()
                is_returned = (after == returned).all()
                total_when_returned = torch.where(is_returned, total, total_when_returned)
                passed_by = passed_by | is_returned
            before = after

        context.replay_training(observe)
        return total_when_returned if bool(passed_by) else total

    def _subtract(self, model: nn.Module, updates: Tensor, context: UnlearningContext) -> None:
        start = 0
        for name, parameter in model.named_parameters():
            update = updates[start : start + parameter.numel()].reshape(parameter.shape)
            start += parameter.numel()
            if context.mask is not None and name in context.mask:
                update = update * (context.mask[name] != 0)
            with torch.no_grad():
                parameter.copy_(parameter.to(update.dtype) - update)


def _vector(model: nn.Module) -> Tensor:
    """All parameters in one vector, in float64 where the device has it."""
    vector = parameters_to_vector(model.parameters()).detach()
    return vector if vector.device.type == "mps" else vector.to(torch.float64)
