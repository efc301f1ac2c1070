"""Masked small gradients: redraw the kernels' weights on which forgetting and retaining agree, then repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.init import _calculate_fan_in_and_fan_out

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.parametrized import may_be_trained, plain_weights, require_assignable
from erasure.types import ANY_TASK, Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["MaskedSmallGradients"]


@dataclass(frozen=True, kw_only=True)
class MaskedSmallGradients(IterativeUnlearner):
    r"""Redraws the weights of each convolution whose gradient for keeping and forgetting is smallest, then fine-tunes.

    .. math::
        g = \nabla_\theta \Bigl( \sum_{B \subset S \subset D_r} \ell(B) - \sum_{B \subset D_f} \ell(B) \Bigr), \quad |S| = n_f; \qquad
        w_i \sim \mathcal{N}\bigl(0,\, 2 / \mathrm{fan}_{out}\bigr) \;\text{ for the } \rho \text{ smallest } |g_i| \text{ of a layer}

    In the repair, redrawn weights learn at the full rate; all others of those layers get ``kept_rate`` of their gradient (weight decay is
    not scaled). The gradient is taken at the original, in eval mode, summed over the means of batches. The rate rises to the middle
    epoch and falls again. Biases, normalisation and other layers keep their values. Frozen layers are left alone; computed weights
    (weight norm) are trained as plain ones. An empty forget set leaves the model as it is; ``epochs = 0`` redraws and does not
    repair.

    **Cost**: one pass over the forget set and over as many retain samples, then ``epochs`` passes over the retain set.

    Args:
        fraction: ``rho``: share of each layer's weights that is redrawn, rounded to the nearest number.
        kept_rate: Factor on the gradients of the weights that are not redrawn.
        layers: ``convolutions`` as published (two-dimensional ones), or ``all`` of these and the linear maps, for models of tables.
    """

    source: ClassVar[Source | None] = Source(
        paper="Second of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et al., "
        "2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop2)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            "Biases keep their values; the code builds each convolution again and loses them.",
            "Gradients are scaled while training; the code returns the network with masking layers inside.",
            "The gradient is taken in eval mode; the code uses whatever mode the model is in.",
            "Among equal gradients the earlier weight is redrawn.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "one pass over the forget set and as many retain samples, epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "fraction": Range(0.05, 0.6),
        "kept_rate": Range(0.01, 1.0, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("erasure.training.schedules.Triangle"))
    batch_size: PositiveInt | None = 64
    fraction: Fraction = 0.3
    kept_rate: NonNegativeFloat = 0.1
    layers: Literal["convolutions", "all"] = "convolutions"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the small gradients, redraw, fine-tune."""
        if not context.n_samples("forget"):
            self._kernels(model)
            return model
        with plain_weights(model, pruned=True):
            self._redraw_and_repair(model, context)
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be layers to redraw, and they must take what is assigned to them."""
        require_assignable(model, self.registered_name())
        self._kernels(model)

    def _redraw_and_repair(self, model: nn.Module, context: UnlearningContext) -> None:
        kernels = self._kernels(model)
        redrawn = {name: _smallest(size, self.fraction) for name, size in self._gradients(model, kernels, context).items()}
        _redraw(kernels, redrawn, context)
        trainer = self.trainer(model, context)
        retain = context.batches("retain")
        rates = [
            (kernels[name], torch.full_like(kernels[name], self.kept_rate, requires_grad=False).masked_fill_(chosen, 1.0))
            for name, chosen in redrawn.items()
        ]

        def scaled(batch: Batch) -> Tensor:
            loss, gradients = trainer.gradient(batch, lambda part: context.loss(model, part))
            trainer.set_gradients(gradients)
            for kernel, rate in rates:
                if kernel.grad is not None:
                    kernel.grad.mul_(rate)
            return loss

        for _ in context.epochs(self, trainer, retain):
            trainer.step_on(retain, scaled)

    def _kernels(self, model: nn.Module) -> dict[str, Tensor]:
        kinds = nn.Conv2d if self.layers == "convolutions" else (nn.Conv2d, nn.Linear)
        layers = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
        found = {name: module.weight for name, module in layers.items() if may_be_trained(module)}
        if not found:
            what = "two-dimensional convolutions" if self.layers == "convolutions" else "convolutions or linear maps"
            hint = '; layers="all" also takes linear maps' if self.layers == "convolutions" else ""
            raise RequirementNotMet(f"MSG needs {what} that may be trained; {type(model).__name__} has none{hint}")
        return found

    def _gradients(self, model: nn.Module, kernels: Mapping[str, Tensor], context: UnlearningContext) -> dict[str, Tensor]:
        """Gradient of keeping as many retain samples as there are to forget, and of forgetting, by layer."""
        retain = context.ids("retain")
        order = torch.randperm(len(retain), generator=context.generator("subset")).to(retain.device)
        subset = retain[order[: context.n_samples("forget")]]
        passes = ((context.batches("retain", shuffle=False, ids=subset), 1), (context.batches("forget", shuffle=False), -1))
        totals = {name: torch.zeros_like(kernel) for name, kernel in kernels.items()}
        for batches, sign in passes:
            for batch in batches:
                loss = sign * context.loss(model, batch)
                found = torch.autograd.grad(loss, list(kernels.values()), allow_unused=True, materialize_grads=True)
                for total, gradient in zip(totals.values(), found, strict=True):
                    total += gradient
        return totals


def _smallest(gradient: Tensor, fraction: float) -> Tensor:
    """Where the share ``fraction`` of smallest absolute values is, a mask."""
    chosen = torch.zeros(gradient.numel(), dtype=torch.bool, device=gradient.device)
    chosen[gradient.abs().flatten().argsort(stable=True)[: round(fraction * gradient.numel())]] = True
    return chosen.view(gradient.shape)


@torch.no_grad()
def _redraw(kernels: Mapping[str, Tensor], redrawn: Mapping[str, Tensor], context: UnlearningContext) -> None:
    """Draw the chosen weights as Kaiming's initialisation for ReLU does, on the CPU, so that a seed is the same on every device."""
    generator = context.generator("redraw")
    for name, chosen in redrawn.items():
        kernel = kernels[name]
        _, fan_out = _calculate_fan_in_and_fan_out(kernel)
        drawn = torch.randn(kernel.shape, generator=generator, dtype=kernel.dtype) * (2 / fan_out) ** 0.5
        kernel.copy_(torch.where(chosen, drawn.to(kernel.device), kernel))
