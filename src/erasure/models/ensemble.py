"""Ensembles of one family of networks, each trained on its own shard of the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from erasure.errors import RequirementNotMet
from erasure.training.graph_partition import GraphPartition
from erasure.training.predictor import Model, ModelInput
from erasure.training.sharded import ShardedEnsemble, Vote
from erasure.types import PositiveInt, Source

__all__ = ["Ensemble"]


@dataclass(frozen=True, kw_only=True)
class Ensemble(Model):
    r"""Networks that are trained on disjoint shards, slice by slice, and vote (SISA); the method SISA deletes from them exactly.

    Shard and slice of a sample, and its place in each epoch, follow from hashes of its id: a sample that is deleted moves no other. A
    member trains on its first slice, then on the first two, and so on, each time for :math:`2E / (R + 1)` epochs of the recipe's ``E``, so
    that all together cost about ``E`` epochs. The optimizer and its schedule start afresh with each slice: weights are all that is kept.

    Args:
        model: The family of the members.
        shards: Members.
        slices: Slices of each shard.
        vote: ``probabilities`` are averaged, or ``labels`` counted, ties to the lowest class; ``learned``: averaged with weights that make
            the training samples most probable.
        partition: How nodes of a graph are cut into shards (GraphEraser): ``blpa`` keeps neighbours together, ``bekm`` nodes whose
            features are alike. Deleting then is no longer exact: the cut was made with the forgotten nodes. By default hashes decide.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot, IEEE S&P 2021, arXiv:1912.03817; Chen, "
        "Zhang, Wang, Backes, Humbert, Zhang, CCS 2022, arXiv:2103.14991 (GraphEraser)",
        code="cleverhans-lab/machine-unlearning at 50a3ada",
        tested="deletion against training without, bit for bit (tests/unit/training/test_sharded.py)",
        deviations=(
            "Shards and slices follow from hashes of ids, not from positions; the code's last slice trains on a remainder that its "
            "checkpoints do not know, so that deleting a sample there retrains nothing.",
            "All random choices are seeded by shard, slice and epoch; a shard that is trained again starts where it started.",
            "Samples are in a hashed order in each epoch; the code does not shuffle.",
            "Probabilities are averaged by default; the code counts labels.",
            "BEKM clusters propagated features; GraphEraser clusters embeddings of a network. Nodes without neighbours stay where BLPA "
            "starts them; in GraphEraser's code they crowd into the first shard.",
            "Learned weights are those of a mixture, found by expectation maximisation; GraphEraser's code takes a softmax twice.",
        ),
    )

    model: Model
    shards: PositiveInt = 5
    slices: PositiveInt = 1
    vote: Vote = "probabilities"
    partition: GraphPartition | None = field(default=None, metadata={"address": "changed"})

    def build(self, data: ModelInput) -> nn.Module:
        """The members with fresh weights."""
        if self.vote == "learned" and data.task != "classification":
            raise RequirementNotMet(
                f'Ensemble.vote "learned" is for one class a sample, and the task is {data.task}; take "probabilities"'
            )
        if self.partition is not None and data.modality != "graph":
            raise RequirementNotMet(
                f'Ensemble.partition "{self.partition}" cuts a graph, and the samples are of the kind {data.modality}; leave it out'
            )
        return ShardedEnsemble(
            [self.model.build(data) for _ in range(self.shards)], self.slices, data.task, self.vote, self.partition
        )
