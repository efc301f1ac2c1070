"""Doing nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.types import ANY_TASK, PartitionRole, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import SearchSpace

__all__ = ["Identity"]


@dataclass(frozen=True, kw_only=True)
class Identity(Unlearner):
    """The original model, unchanged: the row every method must differ from."""

    source: ClassVar[Source | None] = Source(paper="Baseline")
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset()
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "none"
    search_space: ClassVar[SearchSpace] = {}

    def changes_nothing(self) -> bool:
        """Always."""
        return True

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Return the model as it is."""
        return model
