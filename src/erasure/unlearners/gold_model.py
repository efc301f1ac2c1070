"""Retraining without the forget set: exact, and what every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.types import ANY_TASK, PartitionRole, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import SearchSpace

__all__ = ["GoldModel"]


@dataclass(frozen=True, kw_only=True)
class GoldModel(Unlearner):
    """A model trained from scratch on the retain set, with the original's recipe and seed.

    **Cost**: one full training on the retain set.
    """

    source: ClassVar[Source | None] = Source(paper="Exact unlearning by retraining; Cao & Yang, IEEE S&P 2015")
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "one full training on the retain set"
    search_space: ClassVar[SearchSpace] = {}
    exact: ClassVar[bool] = True

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Ask for the retrained model; its training time is this method's time."""
        return context.retrained("retain")
