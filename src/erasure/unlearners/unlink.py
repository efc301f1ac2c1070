"""Unlinking: what is forgotten is taken out of the graph, and the weights are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.types import PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import SearchSpace

__all__ = ["Unlink"]


@dataclass(frozen=True, kw_only=True)
class Unlink(Unlearner):
    """The original's weights, used on the graph after the request (UtU).

    The method is the evaluation: partitions that a ``GraphRequest`` deploys see the graph without what is forgotten, for every model. So
    this row shows how far removing edges, nodes or features from the input goes without any unlearning, and a method that is no closer to
    gold does nothing. The weights still hold all that they have learned, which is why it is reported as a no-op.
    """

    source: ClassVar[Source | None] = Source(
        paper="Tan et al., WWW 2024, arXiv:2402.10695",
        deviations=("Nodes and features are unlinked, too; the paper has edges.",),
    )
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset()
    cost: ClassVar[str] = "none"
    search_space: ClassVar[SearchSpace] = {}

    def changes_nothing(self) -> bool:
        """Always: the weights stay."""
        return True

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Return the model as it is."""
        return model
