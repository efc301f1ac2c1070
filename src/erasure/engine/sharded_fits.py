"""Sharded training by somebody's own function: one network for each shard of people, so that forgetting trains few of them again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erasure.engine.fits import Fit, callable_digest
from erasure.errors import DataError, RequirementNotMet
from erasure.training.randomness import derive, isolated
from erasure.training.resuming import Resumed
from erasure.training.sharded import ShardedEnsemble
from erasure.training.trial import deep_copy
from erasure.types import Task

__all__ = ["OwnShards", "ShardedFit", "sharded"]


class OwnShards(ShardedEnsemble):
    """Networks that somebody's own function has trained, one for each shard, and that vote by their mean probabilities.

    Args:
        members: One for each shard.
        task: How labels are read.
        seed: Of the training.
        places: What tells which sample is in which shard, as a number.
    """

    seed: Tensor
    places: Tensor

    def __init__(self, members: list[nn.Module], task: Task, seed: int, places: int) -> None:
        super().__init__(members, 1, task, "probabilities")
        self.register_buffer("seed", torch.tensor(seed, dtype=torch.int64))
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64))


class ShardedFit:
    """Trains a network for each shard by somebody's own function; called as that function is.

    Which shard a sample is in follows from the group that it belongs to and nothing else: all samples of a person are in one shard, and
    a sample that goes moves no other. A member is a function of the samples of its shard and of the seed; training without some samples
    therefore gives, bit for bit, the members that did not see them, and new ones where they were.

    Args:
        fit: ``fit(indices, seed)`` trains one network.
        network: Gives an untrained one.
        groups: The group of each sample of the training set, such as the id of a person.
        shards: Networks.
        task: How labels are read.

    Raises:
        DataError: If there are fewer groups than shards.
    """

    def __init__(
        self, fit: Fit, network: Callable[[], nn.Module], groups: Sequence[Any], *, shards: int, task: Task = "classification"
    ) -> None:
        names = [str(each) for each in np.asarray(groups).tolist()]
        if not 2 <= shards <= len(set(names)):
            raise DataError(
                f"{len(set(names)):,} groups cannot be in {shards} shards: expected 2 shards or more, and a group for each"
            )
        self.fit: Fit = fit
        self.network: Callable[[], nn.Module] = network
        self.task = task
        self.n_shards: int = shards
        self.shard_of: NDArray[np.int64] = np.array([_number(name) % shards for name in names])
        self.places: int = _number(f"{shards} {names}")
        self.__erasure_recipe__: str = f"{shards} shards {self.places} {callable_digest(fit)}"

    def __call__(self, indices: Any, seed: int) -> OwnShards:
        """Train all members.

        Args:
            indices: Positions of samples in the training set.
            seed: Of everything random.
        """
        ids = np.asarray(indices)
        made = self.untrained(seed)
        for shard in range(self.n_shards):
            self._train(made, shard, ids)
        return made.eval()

    def untrained(self, seed: int = 0) -> OwnShards:
        """The networks before training, for weights to be loaded into."""
        return OwnShards([self.network() for _ in range(self.n_shards)], self.task, seed, self.places)

    def resumed(self, original: OwnShards, before: Tensor, kept: Tensor) -> Resumed:
        """The model without some samples: members that saw none of them stay as they are.

        Args:
            original: Trained on ``before``.
            before: Positions of samples.
            kept: Those that stay.

        Raises:
            RequirementNotMet: If the original was trained with other shards.
        """
        if int(original.places) != self.places or len(original.members) != self.n_shards:
            raise RequirementNotMet(
                "the model was trained with other groups or another number of shards than train= has now; give the training set and the "
                "groups in the order of that training (samples that were removed may stay in them)"
            )
        start = time.perf_counter()
        new, touched = kept.cpu().numpy(), self._touched(before, kept)
        model = cast(OwnShards, deep_copy(original))
        for shard in touched:
            self._train(model, shard, new)
        elapsed_s = time.perf_counter() - start
        return Resumed(model=model.eval(), elapsed_s=elapsed_s, precompute_s=0.0, kept_bytes=0, share=self.share_of(before, kept))

    def share_of(self, before: Tensor, kept: Tensor) -> float:
        """Part of a training on what stays that forgetting does again."""
        of = self.shard_of[kept.cpu().numpy()]
        return float(np.isin(of, self._touched(before, kept)).mean()) if len(of) else 0.0

    def of_one_shard(self, ids: Tensor) -> Tensor:
        """The ids of the shard that has the most, on which one network alone is trained."""
        of = torch.from_numpy(self.shard_of).to(ids.device)[ids]
        return ids[of == torch.bincount(of).argmax()]

    def n_trained(self, ids: Tensor) -> int:
        """How many shards have samples among these: only their networks are trained."""
        return len(np.unique(self.shard_of[ids.cpu().numpy()]))

    def _touched(self, before: Tensor, kept: Tensor) -> list[int]:
        gone = np.setdiff1d(before.cpu().numpy(), kept.cpu().numpy())
        return sorted(set(self.shard_of[gone].tolist()))

    def _train(self, model: OwnShards, shard: int, ids: np.ndarray[Any, Any]) -> None:
        own = ids[self.shard_of[ids] == shard]
        model.voters[shard] = float(len(own) > 0)
        device, seed = model.voters.device, derive(int(model.seed), "shard", shard)
        with isolated(seed, device):
            member = self.fit(own, seed) if len(own) else self.network()
        if not isinstance(member, nn.Module):
            raise RequirementNotMet(f"fit gave a {type(member).__name__}, expected the trained torch.nn.Module")
        model.members[shard] = member.to(device)


def sharded(
    fit: Fit, network: Callable[[], nn.Module], groups: Sequence[Any], *, shards: int = 5, task: Task = "classification"
) -> ShardedFit:
    """Have your own training make a model that forgets at a fraction of a retraining, by proof (SISA).

    Args:
        fit: ``fit(indices, seed)`` trains one network on the samples at these positions. It must depend on nothing else.
        network: Gives an untrained network.
        groups: The group of each training sample, such as whose it is: all samples of a group are in one shard.
        shards: Networks; forgetting a group costs one part in ``shards`` of a training, and each network sees as small a part of the data.
        task: How labels are read.

    Returns:
        A function as ``fit``, which trains the networks that vote. Train with it, and give it as ``train=``.

    Source:
        Bourtoule et al., IEEE S&P 2021, arXiv:1912.03817, with one slice.
    """
    return ShardedFit(fit, network, groups, shards=shards, task=task)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
