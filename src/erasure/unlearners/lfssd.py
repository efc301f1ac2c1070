"""Loss-Free Selective Synaptic Dampening: importances from the size of the outputs, so that no labels are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from erasure.training.per_sample import absolute_gradients, batch_absolute_gradients, squared_gradients
from erasure.types import PartitionRole, Source, Task
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening

__all__ = ["LFSSD"]


def _squared_norm(logits: Tensor, y: Tensor) -> Tensor:
    """Squared norm of each sample's logits, ``(B,)``; labels are not looked at."""
    return logits.reshape(len(logits), -1).square().sum(1)


@dataclass(frozen=True, kw_only=True)
class LFSSD(SelectiveSynapticDampening):
    r"""SSD whose importances are the sensitivity of the logits' squared norm; it reads inputs, no labels.

    .. math:: I_i = \mathbb{E}\left|\frac{\partial \lVert f_\theta(x) \rVert_2^2}{\partial \theta_i}\right|

    Everything else is as in SSD.

    **Cost**: that of SSD.

    Args:
        importance: ``batch`` takes the absolute gradient of each minibatch's mean, as published; ``sample`` the root of the mean
            squared gradient of single samples, which does not depend on the batch size.
        combined_by: With ``sample``: ``root-mean-square``, or ``mean-absolute``, the published expectation without minibatches
            (LFSSD-Det), which needs the gradient of each sample of a batch in memory.
    """

    source: ClassVar[Source | None] = Source(
        paper="Foster, Schoepf, Brintrup, ICLR 2024 Tiny Papers, arXiv:2402.19308",
        code="if-loops/selective-synaptic-dampening at cdfdc0e",
        tested="the published importances and formula, by a loop (tests/unit/unlearners/test_second_order.py)",
        deviations=("With importance=sample, by default, gradients of single samples are combined by their root mean square.",),
    )

    # What a language model says after the end of a shorter answer means nothing, and has a norm all the same.
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})

    combined_by: Literal["root-mean-square", "mean-absolute"] = field(default="root-mean-square", metadata={"address": "changed"})

    def _kind(self) -> str:
        means = self.importance == "sample" and self.combined_by == "mean-absolute"
        return "squared norm of the logits" + (", mean of absolute values" if means else "")

    def _importances(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> dict[str, Tensor]:
        batches = context.batches(role, shuffle=False)
        if self.importance == "batch":
            return batch_absolute_gradients(model, batches, lambda logits, y: _squared_norm(logits, y).mean())
        if self.combined_by == "mean-absolute":
            return absolute_gradients(model, batches, _squared_norm)
        return {name: value.sqrt() for name, value in squared_gradients(model, batches, _squared_norm).items()}
