"""NegMerge: learn the forget set several times over, and subtract what all of these agree on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from erasure.training.anatomy import first_factors, load_state
from erasure.training.calls import Optimizer
from erasure.types import ANY_TASK, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NegMerge", "agreed_mean"]


def agreed_mean(total: Tensor, signs: Tensor, n: int) -> Tensor:
    """Mean of ``n`` tensors where all of them have the same sign, otherwise 0; a 0 among them is a disagreement.

    Args:
        total: Their sum.
        signs: The sum of their signs.
        n: How many there are.

    Example:
        >>> parts = torch.tensor([[1.0, 1.0, 0.0], [3.0, -1.0, 2.0]])
        >>> agreed_mean(parts.sum(0), parts.sign().sum(0), 2)
        tensor([2., 0., 0.])
    """
    return torch.where(signs.abs() == n, total / n, 0.0)


@dataclass(frozen=True, kw_only=True)
class NegMerge(IterativeUnlearner):
    r"""Fine-tunes copies on the forget set and moves the original the other way, along weights on which all copies agree.

    .. math::
        \theta_u = \theta_o - \lambda\; \frac1n \sum_{i=1}^n \tau_i \odot [\mathrm{sign}\, \tau_1 = \dots = \mathrm{sign}\, \tau_n],
        \qquad \tau_i = \theta_i - \theta_o

    With one learning rate this is plain task negation (Ilharco et al., 2023). ``scale = 0`` changes nothing. No retain data is needed;
    what to subtract is best tuned. Of low-rank updates the second factor is trained, in which the weights are linear. Buffers, BatchNorm's
    running statistics among them, stay the original's. An empty forget set leaves the model as it is.

    **Cost**: ``epochs`` passes over the forget set for each learning rate; three copies of the weights.

    Args:
        learning_rates: One copy is trained with each, otherwise by the same optimizer; equal rates differ by their shuffling.
        scale: ``lambda``.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Kim, Han, Choe, ICML 2025, arXiv:2410.05583; task negation: Ilharco et al., ICLR 2023, arXiv:2212.04089",
        code="Harry24k/machine-unlearning-pytorch at 405bab1 (a port; the authors have published no code)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_weight_edits.py)",
        deviations=(
            "Copies differ by learning rate and shuffling; the paper also varies weight decay and augmentation.",
            "The scale is a parameter to tune; the paper chooses it on a validation set.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the forget set for each learning rate, three copies of the weights"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "scale": Range(0.05, 5.0, log=True)}

    epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", momentum=0.9))
    learning_rates: Annotated[tuple[PositiveFloat, ...], MinLen(1)] = (1e-4, 5e-4, 1e-3)
    scale: NonNegativeFloat = 1.0

    def changes_nothing(self) -> bool:
        """Whether nothing is learned or subtracted."""
        return self.epochs == 0 or self.scale == 0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Train the copies one after the other, merge, subtract."""
        before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        kept = [factor for factor in first_factors(model) if factor.requires_grad]
        for factor in kept:
            factor.requires_grad_(False)
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        totals, signs = ({name: torch.zeros_like(before[name]) for name in names} for _ in range(2))
        for number, rate in enumerate(self.learning_rates):
            self._learn(model, rate, replace(context.step(number).handed(self, self, number), on_epoch=None))
            with torch.no_grad():
                for name in names:
                    vector = model.get_parameter(name) - before[name]
                    totals[name] += vector
                    signs[name] += vector.sign()
            # In place, so that modules which an enclosing method has frozen are still those of this model.
            load_state(model, before)
        n = len(self.learning_rates)
        with torch.no_grad():
            for name in names:
                model.get_parameter(name).sub_(self.scale * agreed_mean(totals[name], signs[name], n))
        for factor in kept:
            factor.requires_grad_(True)
        return model

    def _learn(self, model: nn.Module, rate: float, context: UnlearningContext) -> None:
        optimizer = self.optimizer.replace(parameters={**self.optimizer.parameters, "lr": rate})
        trainer = self.replace(optimizer=optimizer).trainer(model, context)
        forget = context.batches("forget")
        for _ in context.epochs(self, trainer, forget):
            trainer.train_on(forget, lambda batch: context.loss(model, batch))
