"""LUNAR: states of forgotten prompts are moved to where the model declines to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PROMPT
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Criterion
from erasure.types import NonNegativeInt, Partition, PartitionRole, PositiveFloat, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["LUNAR"]


@dataclass(frozen=True, kw_only=True)
class LUNAR(Unlearner):
    r"""Refits one linear map so that forgotten prompts are moved in the direction of refused ones.

    .. math:: \min_W \sum_{h \in f} \lVert W h - W_0 h - c \, r \rVert^2 + \sum_{h \in r} \lVert W h - W_0 h \rVert^2
        + \lambda \lVert W - W_0 \rVert^2

    over the inputs :math:`h` of the last linear map of one block's perceptron, at all tokens of prompts; :math:`r` is the mean state
    after that block at the last token of refused prompts less that of forgotten ones. The solution is of rank one and exact:
    :math:`W = W_0 + c \, r \, v^\top` with :math:`v = (H_f^\top H_f + H_r^\top H_r + \lambda I)^{-1} H_f^\top \mathbf{1}`.

    The model must decline to answer some prompts before; ``refused`` names a partition of such.

    **Cost**: a pass over the prompts of three partitions and one linear system of the width of that map.

    Args:
        refused: Partition of prompts that the model declines to answer.
        block: Number of the block, from 0; by default the one in the middle.
        strength: ``c``.
        ridge: ``lambda`` over the mean square of the inputs' entries, times their number.
    """

    source: ClassVar[Source | None] = Source(
        paper="Shen et al., 2025, arXiv:2502.07218",
        code="facebookresearch/LUNAR at a1b183c",
        tested="least squares by another solver in float64 (tests/unit/language/test_lunar.py)",
        deviations=(
            "The least-squares problem is solved; the authors' code takes steps of AdamW towards its solution.",
            "One block; the authors' code can change several, each as if it were alone.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})
    cost: ClassVar[str] = "a pass over the prompts of three partitions and one linear system"
    search_space: ClassVar[SearchSpace] = {"strength": Range(0.5, 8.0)}

    refused: Partition = "refused"
    block: NonNegativeInt | None = None
    strength: PositiveFloat = 2.0
    ridge: PositiveFloat = 1e-6

    def partition_names(self) -> frozenset[str]:
        """Also that of refused prompts."""
        return super().partition_names() | {self.refused}

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be blocks with the map that is refitted."""
        self._chosen(model)

    @torch.no_grad()
    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Solve and add."""
        if not context.n_samples("forget"):
            return model
        block, linear = self._chosen(model)
        width = linear.in_features
        square, total = (torch.zeros(*shape, dtype=torch.float64, device=context.device) for shape in ((width, width), (width,)))
        n_rows = 0
        forgotten = _Mean(linear.out_features, context.device)
        for role in ("forget", "retain"):
            for batch in _of(context, context.ids(role)):
                inputs, states = _watched(model, linear, block, batch)
                rows = inputs[_of_prompts(batch, inputs)].double()
                square += rows.T @ rows
                n_rows += len(rows)
                if role == "forget":
                    total += rows.sum(0)
                    forgotten.add(_last(states, batch))
        refused = _Mean(linear.out_features, context.device)
        for batch in _of(context, self._refused_ids(context)):
            refused.add(_last(_watched(model, linear, block, batch)[1], batch))
        direction = refused.value - forgotten.value
        scale = self.ridge * torch.trace(square) / width
        solved = torch.linalg.solve(square + scale * torch.eye(width, dtype=square.dtype, device=square.device), total)
        linear.weight += (self.strength * torch.outer(direction, solved)).to(linear.weight.dtype)
        context.confine(model)
        return model

    def _refused_ids(self, context: UnlearningContext) -> Tensor:
        ids = context.partitions.get(self.refused)
        if ids is None or not len(ids):
            raise RequirementNotMet(
                f'LUNAR needs a partition "{self.refused}" of prompts that the model declines to answer, and it is missing or empty'
            )
        return ids

    def _chosen(self, model: nn.Module) -> tuple[nn.Module, nn.Linear]:
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        if not lists:
            raise RequirementNotMet("LUNAR needs a network with a list of blocks; this one has no nn.ModuleList")
        blocks = max(lists, key=len)
        number = (len(blocks) - 1) // 2 if self.block is None else self.block
        if number >= len(blocks):
            raise RequirementNotMet(f"there is no block {number}; the network has {len(blocks)}, counted from 0")
        for name, module in blocks[number].named_modules():
            if name.rpartition(".")[2] == "down_proj" and isinstance(module, nn.Linear):
                return blocks[number], module
        raise RequirementNotMet("the block has no linear map called down_proj; merge low-rank updates first if it has some")


class _Mean:
    def __init__(self, width: int, device: torch.device) -> None:
        self.total, self.n = torch.zeros(width, dtype=torch.float64, device=device), 0

    def add(self, rows: Tensor) -> None:
        self.total += rows.double().sum(0)
        self.n += len(rows)

    @property
    def value(self) -> Tensor:
        return self.total / self.n


def _of(context: UnlearningContext, ids: Tensor) -> Batches:
    return Batches(context.x, context.y, ids, context.batch_size)


def _watched(model: nn.Module, linear: nn.Module, block: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs of the linear map and states after the block, each ``(B, L, d)``."""
    seen: dict[str, Tensor] = {}
    with _hooks(linear, block, seen):
        model(batch.x)
    return seen["inputs"], seen["states"]


@contextmanager
def _hooks(linear: nn.Module, block: nn.Module, seen: dict[str, Tensor]) -> Iterator[None]:
    handles = (
        linear.register_forward_pre_hook(lambda module, inputs: seen.update(inputs=inputs[0])),
        block.register_forward_hook(
            lambda module, inputs, output: seen.update(states=output if isinstance(output, Tensor) else output[0])
        ),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_prompts(batch: Batch, states: Tensor) -> Tensor:
    """Which states are of prompts, ``(B, L)`` bool."""
    found: Tensor = (batch.x[:, 1] == PROMPT)[:, : states.shape[1]]
    return found


def _last(states: Tensor, batch: Batch) -> Tensor:
    """States at the last token of each prompt, ``(B, d)``."""
    last = (batch.x[:, 1] == PROMPT).sum(1) - 1
    return states[torch.arange(len(states), device=states.device), last]
