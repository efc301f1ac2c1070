"""AMUN: fine-tune with the nearest adversarial neighbours of the forget set and the classes these are taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import per_sample_loss, predictions
from erasure.training.batches import Batch, Batches, Column
from erasure.training.calls import Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.training.inputs import Bounds, value_range
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["AMUN"]

_TINY = 1e-10


@dataclass(frozen=True, kw_only=True)
class AMUN(IterativeUnlearner):
    r"""Adds, for each forget sample, an adversarial example close to it with its wrong label to the training data, and fine-tunes.

    .. math::
        x \leftarrow \Pi_{\lVert x - x_0 \rVert_2 \le \epsilon}\Bigl(x + \tfrac{\epsilon}{10}
        \frac{\nabla_x \ell(f_o(x), y)}{\lVert \nabla_x \ell \rVert_2}\Bigr), \qquad
        \min_\theta\; \mathbb{E}_{D \cup \{(x_{adv},\, \arg\max f_o(x_{adv}))\}}\, \ell(f_\theta(x), y)

    A sample stops at the first step at which the original no longer gives its label; if it still does after ``attack_steps``, its
    ``epsilon`` doubles and the attack goes on from where it is. Samples that the original already gets wrong stay as they are, with the
    class it gives them. The forget set stays in the training data with its true labels, as published: confidence falls because the
    neighbours pull the boundary closer. Images are cut to the range of the forget images per channel; tables, which have no common
    range, are not. The attacks depend on the original and the forget set alone and are kept for other settings. Not defined for tokens
    and graphs. An empty forget set leaves fine-tuning.

    **Cost**: up to ``attack_steps`` forward and backward passes over the forget set for each doubling, then ``epochs`` passes over the
    training data and the adversarial examples; one model copy, one copy of the forget inputs.

    Args:
        data: What is trained on: ``all`` is the retain set, the forget set and its neighbours; ``forget`` leaves out the retain set;
            ``adversarial`` takes the neighbours alone.
        epsilon: Radius that the attack starts with, in the unit of the inputs before normalisation.
        attack_steps: Steps before the radius doubles.
        max_doublings: Doublings at most; a sample that keeps its label even then is trained on as it is.
    """

    source: ClassVar[Source | None] = Source(
        paper="Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran, ICML 2025, arXiv:2503.00917",
        code="Ali-E/AMUN at 9e341a9",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_weight_edits.py)",
        deviations=(
            "Images are cut to the range of the forget images; the code, made for pixels, cuts to [0, 1].",
            "The number of doublings is limited; the code goes on until every sample is misclassified.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = (
        "an attack of attack_steps passes over the forget set per doubling, epochs passes over the training data, one model copy"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 15),
        "epsilon": Range(0.01, 1.0, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("StepLR", step_size=1, gamma=0.1))
    batch_size: PositiveInt | None = 128
    data: Literal["all", "forget", "adversarial"] = "all"
    epsilon: PositiveFloat = 0.04
    attack_steps: PositiveInt = 50
    max_doublings: NonNegativeInt = 20

    def partitions(self) -> dict[PartitionRole, str]:
        """The retain set is needed only where it is trained on."""
        return {role: name for role, name in super().partitions().items() if role != "retain" or self.data == "all"}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs that have no neighbours."""
        if data.modality in {"graph", "text"}:
            return f"AMUN is not defined for {data.modality} data: an adversarial neighbour is an input in one tensor of real numbers"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Attack once, then fine-tune."""
        if not self.epochs:
            return model
        trainer = self.trainer(model, context)
        batches = self._training_data(model, context)
        for _ in trainer.epochs():
            trainer.train_on(batches, lambda batch: context.loss(model, batch))
        return model

    def _training_data(self, model: nn.Module, context: UnlearningContext) -> Batches:
        """Batches of samples and, under ids beyond those of the data, of adversarial examples."""
        forget, n = context.ids("forget"), len(context.y)
        x, y, extra = context.x, context.y, forget[:0]
        if len(forget):
            found = self._neighbours(model, context)
            x, y = _WithNeighbours(context.x, found["x"], forget), torch.cat([context.y, found["y"].to(context.y.dtype)])
            extra = torch.arange(n, n + len(forget), device=context.device)
        chosen = [extra]
        if self.data != "adversarial":
            chosen.append(forget)
        if self.data == "all":
            chosen.append(context.ids("retain"))
        return Batches(x, y, torch.cat(chosen), context.batch_size, context.generator("shuffle", "forget"))

    def _neighbours(self, model: nn.Module, context: UnlearningContext) -> Mapping[str, Tensor]:
        attack = {"epsilon": self.epsilon, "attack_steps": self.attack_steps, "max_doublings": self.max_doublings}
        return context.precomputed("adversarial_neighbours", model, ["forget"], lambda: self._attacked(model, context), **attack)

    def _attacked(self, model: nn.Module, context: UnlearningContext) -> dict[str, Tensor]:
        original, forget = frozen_copy(model), context.batches("forget", shuffle=False)
        if any(not batch.x.is_floating_point() for batch in islice(forget, 1)):
            raise RequirementNotMet("AMUN moves inputs by fractions, and these are whole numbers; use another method")
        bounds = value_range(original, forget) if context.model_input.modality == "image" else None
        parts = [self._adversarial(original, batch, context, bounds) for batch in forget]
        return {"x": torch.cat([x for x, _ in parts]), "y": torch.cat([y for _, y in parts])}

    def _adversarial(
        self, original: nn.Module, batch: Batch, context: UnlearningContext, bounds: Bounds | None
    ) -> tuple[Tensor, Tensor]:
        """A batch's neighbours and what the original takes them for."""
        clean = batch.x.detach()
        # A column that normalises knows the unit: one standard deviation of the model's input is `std` of the data's.
        std = getattr(context.x, "std", None)
        unit: Tensor | float = std if isinstance(std, Tensor) else 1.0
        shape = (-1, *[1] * (clean.ndim - 1))
        values, epsilon = clean, clean.new_full((len(clean),), self.epsilon)
        for _ in range(self.max_doublings + 1):
            for _ in range(self.attack_steps):
                values = self._step(original, batch, context, values, (epsilon.view(shape), unit, bounds))
            # One wait for the device per doubling.
            holds = self._answer(original, values, context) == batch.y
            if not bool(holds.any()):
                break
            epsilon = torch.where(holds, 2 * epsilon, epsilon)
        return values, self._answer(original, values, context)

    def _step(
        self,
        original: nn.Module,
        batch: Batch,
        context: UnlearningContext,
        values: Tensor,
        within: tuple[Tensor, Tensor | float, Bounds | None],
    ) -> Tensor:
        """One step of the attack, for the samples whose label the original still gives."""
        epsilon, unit, bounds = within
        leaf = values.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = logits_of(original(leaf))
            (slope,) = torch.autograd.grad(per_sample_loss(context.task, logits, batch.y).sum(), leaf)
        holds = (predictions(context.task, logits) == batch.y).view(epsilon.shape)
        gradient = slope / unit
        away = (leaf.detach() - batch.x) * unit + epsilon / 10 * gradient / (_norm(gradient) + _TINY)
        away = away * (epsilon / _norm(away).clamp(min=_TINY)).clamp(max=1.0)
        moved: Tensor = batch.x + away / unit
        return torch.where(holds, moved if bounds is None else moved.clamp(*bounds), leaf.detach())

    def _answer(self, original: nn.Module, values: Tensor, context: UnlearningContext) -> Tensor:
        with torch.no_grad():
            return predictions(context.task, logits_of(original(values)))


def _norm(x: Tensor) -> Tensor:
    """Length of each sample, shaped to be broadcast against it."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length.view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True, eq=False)
class _WithNeighbours:
    """A column of inputs followed by one neighbour for each of some samples.

    Args:
        column: The inputs, floating point when read.
        neighbours: ``(n, ...)``, as the model reads them.
        ids: ``(n,)``, the samples that they belong to.
    """

    column: Column
    neighbours: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.column) + len(self.ids)

    def gather(self, ids: Tensor) -> Tensor:
        """Samples, and for ids from ``len(column)`` on neighbours."""
        n = len(self.column)
        is_neighbour, place = ids >= n, (ids - n).clamp(min=0)
        clean: Tensor = self.column.gather(torch.where(is_neighbour, self.ids[place], ids))
        return torch.where(is_neighbour.view(-1, *[1] * (clean.ndim - 1)), self.neighbours[place].to(clean.dtype), clean)

    def to(self, device: torch.device) -> _WithNeighbours:
        """The same column on another device."""
        return _WithNeighbours(self.column.to(device), self.neighbours.to(device), self.ids.to(device))
