"""SISA: members of an ensemble that saw forgotten samples are trained again, from the slice that has the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.accounting.guarantee import Guarantee
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.sharded import ShardedEnsemble, require_shards
from erasure.types import PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import SearchSpace

__all__ = ["SISA"]


@dataclass(frozen=True, kw_only=True)
class SISA(Unlearner):
    """Restores the members of an :class:`~erasure.models.ensemble.Ensemble` to before they saw the forget set, and trains them on.

    The result is bit for bit the ensemble that the recipe trains without the forget set; of a graph that was cut by its edges or features
    (GraphEraser) it is the one that it trains on the shards of the whole training set, which is no longer exact.

    Checkpoints are kept while the original trains; here its training is replayed once for all requests, and the time counts as
    precomputation. What is kept follows the requests: one after another in ``Sequential`` trains only what it touches itself.

    **Cost**: of each shard with a forgotten sample the epochs from its slice on; for one sample about one part in ``shards``, and less with
    more slices. The weights of all members after each slice are kept.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot, IEEE S&P 2021, arXiv:1912.03817",
        code="cleverhans-lab/machine-unlearning at 50a3ada",
        tested="training without the samples, bit for bit (tests/unit/unlearners/test_training_time.py)",
        deviations=("The ensemble says where it differs from the code.",),
    )
    samples_apart: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train", "retain"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = (
        "epochs of the shards with forgotten samples, from their slices on; the original's training as precomputation"
    )
    search_space: ClassVar[SearchSpace] = {}

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """It must have shards."""
        require_shards(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Restore and train on."""
        unlearned = context.resumed(model, "retain")
        if isinstance(unlearned, ShardedEnsemble) and unlearned.partition is not None:
            context.promise(
                Guarantee(assumptions=("Which shard a kept node is in was decided with the forgotten nodes in the graph.",))
            )
            return unlearned
        context.promise(
            Guarantee(
                kind="exact",
                assumptions=(
                    "It is bit for bit the ensemble that the recipe trains on the kept samples.",
                    "Requests do not depend on models released before.",
                    "Statistics by which inputs were scaled are not covered.",
                ),
            )
        )
        return unlearned
