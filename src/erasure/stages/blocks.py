"""Blocks: models that measures ask for beside the subject, trained together by one stage, and which samples each of them sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.measures.requested_models import ModelRequest, Original, Repeated, Retrained, Shadow, UnlearnedShadow
from erasure.training.randomness import Streams

__all__ = ["ModelStack", "asks_for_shadows", "chunks", "family", "forgotten_ids", "member", "seen_ids", "split_member"]


@dataclass(frozen=True, kw_only=True)
class ModelStack:
    """Models of one kind that one stage makes.

    Args:
        requests: What they are, of one family.
        seeds: Seed of each.
        way: ``train`` from scratch, or ``unlearn`` with the job's method.
        partition: What golds and originals are trained on.
        origins: The model each one starts from, for ``unlearn``.
        root: Seed of the random halves of shadows.
    """

    requests: tuple[ModelRequest, ...]
    seeds: tuple[int, ...]
    way: Literal["train", "unlearn"]
    partition: str = ""
    origins: tuple[str, ...] = ()
    root: int = 0

    @property
    def has_own_forget_sets(self) -> bool:
        """Whether each of its models forgets other samples than the experiment does."""
        return self.way == "unlearn" and isinstance(self.requests[0], UnlearnedShadow)

    def title(self) -> str:
        """What they are, for people."""
        first, n = self.requests[0], len(self.requests)
        numbers = f"{first.number}–{self.requests[-1].number}" if n > 1 else str(first.number)
        names: dict[type[ModelRequest], str] = {
            Retrained: "golds",
            Original: "originals",
            Shadow: "shadows",
            UnlearnedShadow: "shadows",
            Repeated: "repetitions",
        }
        return f"{names[type(first)]} {numbers}"


def family(request: ModelRequest) -> ModelRequest:
    """What is equal for all numbers of a kind of model."""
    if isinstance(request, UnlearnedShadow):
        return replace(request, number=0, shadow=replace(request.shadow, number=0))
    if isinstance(request, Repeated):
        return replace(request, number=0, origin=min(request.origin, 1))
    return request.numbered(0)


def asks_for_shadows(requests: Iterable[ModelRequest]) -> bool:
    """Whether there are shadow models among the requests, as attacks make them."""
    return any(isinstance(request, Shadow | UnlearnedShadow) for request in requests)


def chunks(requests: Iterable[ModelRequest], size: int) -> list[tuple[ModelRequest, ...]]:
    """Requests of one family by number, ``size`` to a block; more requests of the family leave the full blocks as they are."""
    ordered = sorted(dict.fromkeys(requests), key=lambda request: (request.number, repr(request)))
    return [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]


def member(address: str, index: int) -> str:
    """Reference to one model of a block."""
    return f"{address}#{index}"


def split_member(reference: str) -> tuple[str, int | None]:
    """Address of the object a model is in, and its index there if it is one of a block."""
    address, mark, index = reference.partition("#")
    return address, int(index) if mark else None


def seen_ids(request: ModelRequest, block: ModelStack, partitions: Mapping[str, Tensor]) -> Tensor:
    """Sorted ids of the samples a model is trained on; for an unlearned shadow before it forgets."""
    if isinstance(request, UnlearnedShadow):
        return seen_ids(request.origin, block, partitions)
    if isinstance(request, Shadow):
        always = _union(request.always, partitions)
        return torch.cat([always, _drawn(request, block.root, partitions, always)]).sort().values
    return partitions[block.partition].cpu()


def forgotten_ids(request: ModelRequest, block: ModelStack, partitions: Mapping[str, Tensor]) -> Tensor:
    """Sorted ids of the samples a model has forgotten; empty if it is not an unlearned shadow."""
    if not isinstance(request, UnlearnedShadow):
        return torch.empty(0, dtype=torch.int64)
    always = _union(request.shadow.always, partitions)
    drawn = _drawn(request.origin, block.root, partitions, always)
    if request.share >= 1:
        return drawn
    generator = Streams(block.root).torch("forget", request.number, request.draw)
    n = max(1, round(request.share * len(drawn)))
    return drawn[torch.randperm(len(drawn), generator=generator)[:n]].sort().values


def _drawn(shadow: Shadow, root: int, partitions: Mapping[str, Tensor], always: Tensor) -> Tensor:
    """The shadow's random part of the pool, sorted; what every shadow sees anyway is not of the pool."""
    pool = _union(shadow.pool, partitions)
    pool = pool[~torch.isin(pool, always)]
    halves = shadow.share == 0.5
    n = len(pool) // 2 if halves else round(shadow.share * len(pool))
    if not 0 < n < len(pool):
        names = ", ".join(shadow.pool)
        raise RequirementNotMet(f"shadow models need a part of {names} to see and a part not to; {len(pool)} samples are too few")
    order = torch.randperm(len(pool), generator=Streams(root).torch("half", shadow.number // 2 if halves else shadow.number))
    chosen = order[n:] if halves and shadow.number % 2 else order[:n]
    return pool[chosen].sort().values


def _union(names: Sequence[str], partitions: Mapping[str, Tensor]) -> Tensor:
    for name in names:
        if name not in partitions:
            raise RequirementNotMet(f'shadow models need the partition "{name}"; there are {", ".join(partitions)}')
    if not names:
        return torch.empty(0, dtype=torch.int64)
    together: Tensor = torch.unique(torch.cat([partitions[name].cpu() for name in names]))
    return together
