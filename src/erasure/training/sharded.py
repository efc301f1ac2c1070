"""Sharded training (SISA): members that see disjoint shards, slice by slice, with a checkpoint after each slice.

Which shard, which slice and which place in an epoch a sample has depends on its id and the seed alone. Deleting samples is therefore bit
for bit training without them, and only members that saw them train again, from the slice of the first of them. A graph can be cut into
shards by its edges or features instead; the shards are then those of the whole training set, and deleting is training without on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.kernels import predicted
from erasure.training.anatomy import load_state
from erasure.training.batches import Batch, Batches, Column, PartitionedColumn
from erasure.training.calls import Criterion
from erasure.training.devices import Precision
from erasure.training.forward import logits_of
from erasure.training.graph_partition import GraphPartition, shards_of_nodes
from erasure.training.loop import EpochListener, Trainer
from erasure.training.randomness import derive, isolated
from erasure.types import Task

if TYPE_CHECKING:
    from erasure.training.predictor import Predictor

__all__ = ["ShardedEnsemble", "Shards", "Vote", "place_of", "require_shards", "train_shards"]

Vote = Literal["probabilities", "labels", "learned"]
States = dict[str, Tensor]
"""Weights and buffers of members after each slice: ``shard/slice/name`` to tensor; and which shard each node of a graph is in."""

_ASSIGNED = "assigned"
_STEPS = 200


class ShardedEnsemble(nn.Module):
    """Networks of one architecture that vote.

    Args:
        members: One for each shard.
        n_slices: Slices of each shard.
        task: How labels are read.
        vote: ``probabilities`` are averaged, or ``labels`` counted, ties to the lowest class; ``learned``: averaged with weights that
            make the training samples most probable.
        partition: What cuts a graph into shards; without it they follow from hashes of ids.
    """

    voters: Tensor

    def __init__(
        self, members: list[nn.Module], n_slices: int, task: Task, vote: Vote, partition: GraphPartition | None = None
    ) -> None:
        super().__init__()
        self.partition = partition
        self.members: nn.ModuleList = nn.ModuleList(members)
        self.n_slices: int = n_slices
        self.task = task
        self.vote = vote
        # A member whose shard has no sample has learned nothing and has no vote.
        self.register_buffer("voters", torch.ones(len(members)))

    def forward(self, x: object) -> Tensor:
        """Logits whose probabilities are those of the vote."""
        logits = torch.stack([logits_of(member(x)) for member in self.members])
        shape = -1, *[1] * (logits.ndim - 1)
        weights = (self.voters / self.voters.sum().clamp(min=1)).reshape(shape)
        many = self.task == "classification"
        if self.vote == "labels":
            voted = predicted("classification" if many else "multilabel", logits)
            shares = (nn.functional.one_hot(voted, logits.shape[-1]) if many else voted).float()
            # Counts first: as many votes are the same share, whoever gave them.
            share = (self.voters.float().reshape(shape) * shares).sum(0) / self.voters.float().sum().clamp(min=1)
            share = share.clamp(1e-6, 1 - 1e-6)
            if not many:
                return torch.logit(share).to(logits.dtype)
            # The last class loses less by it than one vote more is worth.
            step = min(1e-4, 0.5 / (len(self.members) * share.shape[-1]))
            return (share.log() - step * torch.arange(share.shape[-1], device=share.device)).to(logits.dtype)
        if many:
            return torch.logsumexp(torch.log_softmax(logits, -1) + weights.clamp(min=1e-30).log(), 0)
        inside = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        yes, no = (torch.logsumexp(each + weights.clamp(min=1e-30).log(), 0) for each in inside)
        return yes - no


@dataclass(frozen=True, eq=False, kw_only=True)
class Shards:
    """What a sharded training keeps.

    Args:
        states: After each slice.
        n_trained: Members times slices that were trained.
    """

    states: States
    n_trained: int


def require_shards(model: nn.Module) -> ShardedEnsemble:
    """The model, which has to be an ensemble of shards.

    Raises:
        RequirementNotMet: If it is none.
    """
    if not isinstance(model, ShardedEnsemble):
        raise RequirementNotMet(
            "SISA needs an ensemble of shards, and the original is none; give the predictor the model Ensemble"
        )
    return model


def place_of(ids: Tensor, seed: int, n: int, name: str) -> Tensor:
    """A number in ``[0, n)`` for each id that depends on id, seed and name alone; int64 on the device of ``ids``."""
    return torch.from_numpy((_hash(ids, derive(seed, name)) % np.uint64(n)).astype(np.int64)).to(ids.device)


def _hash(ids: Tensor, salt: int) -> np.ndarray:
    """The finaliser of SplitMix64 on ids and salt."""
    with np.errstate(over="ignore"):
        z = ids.cpu().numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        for _ in range(2):  # neighbouring ids differ in their last bits only
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z


def _in_order(ids: Tensor, seed: int, *names: str | int) -> Tensor:
    keys = _hash(ids, derive(seed, "order", *names))
    order = np.lexsort((ids.cpu().numpy(), keys))
    return ids[torch.from_numpy(order).to(ids.device)]


def epochs_of_slice(number: int, epochs: int, n_slices: int) -> int:
    """Epochs on the first ``number + 1`` slices, so that all together pass over as many samples as ``epochs`` on the shard."""
    each = 2 * epochs / (n_slices + 1)
    return int((number + 1) * each) - int(number * each)


def train_shards(
    model: ShardedEnsemble,
    predictor: Predictor,
    *,
    x: Column,
    y: Tensor,
    ids: Tensor,
    criterion: Criterion,
    seed: int,
    batch_size: int,
    precision: Precision = "fp32",
    on_epoch: EpochListener | None = None,
    make_trainer: Callable[..., Trainer] = Trainer,
    states: Mapping[str, Tensor] | None = None,
    gone: Tensor | None = None,
) -> Shards:
    """Train the members in place, or those alone that saw the samples that are gone.

    Args:
        model: Freshly built, with the members' initial weights.
        predictor: The recipe of each member; its optimizer and schedule start afresh with each slice.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        ids: Samples to train on.
        criterion: The loss.
        seed: Of places, orders and dropout.
        batch_size: Used where the recipe does not set its own.
        precision: ``fp32`` or ``bf16``.
        on_epoch: Called after each epoch.
        make_trainer: Makes the loop.
        states: What a training on more samples kept.
        gone: The samples of that training that are not in ``ids``.

    Raises:
        RequirementNotMet: If the recipe has what a slice cannot have.
    """
    if predictor.patience is not None or predictor.augment or predictor.neighbours:
        raise RequirementNotMet(
            "sharded training has neither early stopping nor augmentation nor drawn neighbours; leave patience, augment and neighbours out"
        )
    kept: States = dict(states or {})
    n_shards, n_trained = len(model.members), 0
    if model.partition is not None and _ASSIGNED not in kept:
        kept[_ASSIGNED] = shards_of_nodes(x, ids, n_shards, model.partition, seed)
    shard_of, slice_of = _shards_of(model, ids, seed, kept), place_of(ids, seed, model.n_slices, "slice")
    first = (
        _first_touched(model, seed, gone, kept) if states is not None and gone is not None else dict.fromkeys(range(n_shards), 0)
    )
    model.voters.copy_(torch.bincount(shard_of, minlength=n_shards) > 0)
    for shard, member in enumerate(model.members):
        own, loss = shard_of == shard, _loss_of(member, criterion)
        start = first.get(shard, model.n_slices)
        if start:
            load_state(member, {name: kept[f"{shard}/{start - 1}/{name}"] for name in member.state_dict()})
        for number in range(start, model.n_slices):
            seen = ids[own & (slice_of <= number)]
            n_epochs = epochs_of_slice(number, predictor.epochs, model.n_slices)
            if len(seen) and n_epochs:
                trainer = make_trainer(
                    member,
                    predictor.optimizer,
                    epochs=n_epochs,
                    schedule=predictor.schedule,
                    precision=precision,
                    max_grad_norm=predictor.max_grad_norm,
                    on_epoch=on_epoch,
                )
                column = x.within(seen) if isinstance(x, PartitionedColumn) else x  # whatever the order, it is the same nodes
                with isolated(derive(seed, "dropout", shard, number), ids.device):
                    for epoch in trainer.epochs():
                        ordered = _in_order(seen, seed, shard, number, epoch)
                        batches = Batches(column, y, ordered, predictor.batch_size or batch_size)
                        trainer.train_on(batches, loss)
                n_trained += 1
            kept |= {f"{shard}/{number}/{name}": value.detach().clone() for name, value in member.state_dict().items()}
    model.eval()
    if model.vote == "learned" and len(ids):
        _weigh(model, Batches(x, y, ids.sort().values, max(predictor.batch_size or batch_size, 1024)))
    return Shards(states=kept, n_trained=n_trained)


def _loss_of(member: nn.Module, criterion: Criterion) -> Callable[[Batch], Tensor]:
    return lambda batch: criterion(logits_of(member(batch.x)), batch.y)


def _shards_of(model: ShardedEnsemble, ids: Tensor, seed: int, kept: Mapping[str, Tensor]) -> Tensor:
    """The shard of each sample, as it was when all of them were trained on."""
    return kept[_ASSIGNED][ids] if _ASSIGNED in kept else place_of(ids, seed, len(model.members), "shard")


@torch.no_grad()
def _weigh(model: ShardedEnsemble, batches: Batches) -> None:
    """Weights of the members' probabilities that make the samples most probable: those of a mixture, by expectation maximisation."""
    parts = []
    for batch in batches:
        logits = torch.stack([logits_of(member(batch.x)) for member in model.members])
        parts.append(logits.log_softmax(-1).gather(2, batch.y.expand(len(model.members), -1)[..., None])[..., 0])
    likelihood = torch.cat(parts, dim=1).double()
    weights = (model.voters > 0).double()
    weights /= weights.sum()
    for _ in range(_STEPS):
        shares = (likelihood + weights.log()[:, None]).softmax(0)
        weights = shares.mean(1)
    model.voters.copy_(weights)


def _first_touched(model: ShardedEnsemble, seed: int, gone: Tensor, kept: Mapping[str, Tensor]) -> dict[int, int]:
    """The first slice of each shard that has a sample that is gone; shards without one are left out."""
    shards, slices = _shards_of(model, gone, seed, kept), place_of(gone, seed, model.n_slices, "slice")
    return {shard: int(slices[shards == shard].min()) for shard in torch.unique(shards).tolist()}
