"""Boundary Expand: push the forget samples into a shadow class, then remove that class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.inputs import fixed
from erasure.types import NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["BoundaryExpand"]


@dataclass(frozen=True, kw_only=True)
class BoundaryExpand(IterativeUnlearner):
    r"""Trains the forget set into a ``(K+1)``-th class and drops that output again.

    .. math:: \min_{\theta, w_{K+1}} \; \mathbb{E}_{D_f} \; \mathrm{CE}\bigl([f_\theta(x),\, w_{K+1}^\top h_\theta(x)],\; K+1\bigr)

    The shadow output stands beside the last linear layer, which keeps its own weights and names: masks fit, the first ``K`` logits are
    the original's before training, and ``K`` outputs remain afterwards. Labels are not read.

    BatchNorm's running statistics follow the forget batches; ``batch_norm="frozen"`` keeps them.

    **Cost**: ``epochs`` passes over the forget set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chen, Gao, Liu, Peng, Wang, CVPR 2023, arXiv:2303.11570",
        code="TY-LEE-KR/Boundary-Unlearning-Code at 86c2f1f",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_boundary.py)",
        deviations=("The shadow output is dropped from the unlearned model, as in the paper's code; the OPTML port keeps it.",),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification"})
    cost: ClassVar[str] = "epochs passes over the forget set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 20), "optimizer.lr": Range(1e-6, 1e-2, log=True)}

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=1e-5, momentum=0.9))
    batch_size: PositiveInt | None = 64

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Expand, train, drop."""
        if not context.n_samples("forget") or not self.epochs:
            return model
        head, shadow, n_outputs = self._expand(model, context)
        # The loop collects the shadow's weights with the model's; after that the model has its own structure again, so that
        # whoever looks at it between epochs sees K outputs.
        head.add_module("shadow_class", shadow)
        trainer = self.trainer(model, context)
        del head.shadow_class

        def loss(batch: Batch) -> Tensor:
            target = torch.full((len(batch.ids),), n_outputs, device=context.device)
            return F.cross_entropy(_logits_beside(model, head, shadow, batch.x), target)

        forget = context.batches("forget")
        for _ in trainer.epochs():
            trainer.train_on(forget, loss)
        return model

    def _expand(self, model: nn.Module, context: UnlearningContext) -> tuple[nn.Linear, nn.Linear, int]:
        """The layer that gives the logits, the shadow output to put beside it, and the number of logits."""
        example = next(iter(context.batches("forget", shuffle=False, batch_size=1))).x
        with torch.no_grad(), fixed(model):
            n_outputs = logits_of(model(example)).shape[-1]
        heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == n_outputs]
        if not heads:
            raise RequirementNotMet(
                f"BoundaryExpand is not defined for this model: it has no nn.Linear with {n_outputs} outputs to put another beside"
            )
        head = heads[-1]
        shadow = nn.Linear(head.in_features, 1, bias=head.bias is not None).to(head.weight)
        # As in the authors' code the widened layer is initialised whole (Xavier) before the old rows are put back.
        spread = (2 / (head.in_features + n_outputs + 1)) ** 0.5
        drawn = torch.randn(shadow.weight.shape, generator=context.generator("shadow_class"), dtype=torch.float64)
        with torch.no_grad():
            shadow.weight.copy_(spread * drawn)
            if head.bias is not None:
                shadow.bias.zero_()
            with fixed(model):
                width = _logits_beside(model, head, shadow, example).shape[-1]
        if width != n_outputs + 1:
            raise RequirementNotMet("BoundaryExpand is not defined for this model: its last nn.Linear does not give the logits")
        return head, shadow, n_outputs


def _logits_beside(model: nn.Module, head: nn.Linear, shadow: nn.Linear, x: Any) -> Tensor:
    """Logits of the model with those of ``shadow`` as the last column."""

    def widen(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return torch.cat([output, shadow(inputs[0])], dim=-1)

    handle = head.register_forward_hook(widen)
    try:
        return logits_of(model(x))
    finally:
        handle.remove()
