"""RMU: states on forgotten samples are turned to a random direction, those on retained ones are held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PADDING
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer
from erasure.training.devices import autocast
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.answers import AnswerUnlearner, Term
from erasure.unlearners.contract import UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["RMU"]


@dataclass(frozen=True, kw_only=True)
class RMU(AnswerUnlearner):
    r"""Representation misdirection: the states of forgotten samples after one block are moved to a random direction.

    .. math:: \mathbb{E}_f \lVert h_l(x) - c \, u \rVert^2 / d + \alpha \, \mathbb{E}_r \lVert h_l(x) - h_l^0(x) \rVert^2 / d

    over all tokens of prompts and answers, with a random unit vector :math:`u` of positive entries. Only the last linear map of the
    perceptrons in some blocks is trained, and nothing after block :math:`l`. By default :math:`c` is a multiple of the norm of the states
    of the first forget batch (adaptive RMU): a fixed one does nothing where states are longer than it.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch that also goes through a copy of the original.

    Args:
        block: Number of the block whose output is turned, from 0; by default the one in the middle.
        n_trained: Blocks up to that one that are trained.
        trained: ``down_proj`` trains the weights of that name, ``block`` all weights of those blocks.
        steering: ``c``; None takes ``scale`` times the mean norm of the states of the first forget batch.
        scale: That multiple.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Li et al., ICML 2024, arXiv:2403.03218; adaptive: Dang et al., AAAI 2025, arXiv:2408.06223",
        code="RebelsNLU-jaist/llm-unlearning at 0da98e5",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_rmu.py)",
        deviations=(
            "Padding does not count; the authors' code averages over it.",
            "One direction for the forget set; the authors' code has one for each topic.",
            "The retain term is of the retain set, not of other text.",
        ),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch through model and original"
    search_space: ClassVar[SearchSpace] = {"scale": Range(1.0, 10.0), "retain_weight": Range(1.0, 1200.0, log=True)}

    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=5e-5))
    retain_weight: NonNegativeFloat = 1200.0
    retain_term: Literal["nll", "kl", "none"] = "none"
    block: NonNegativeInt | None = None
    n_trained: PositiveInt = 3
    trained: Literal["down_proj", "block"] = "down_proj"
    steering: PositiveFloat | None = None
    scale: PositiveFloat = 5.0

    @property
    def keeps(self) -> bool:
        """Whether states of retained samples are held."""
        return self.retain_weight > 0

    def check(self) -> None:
        """The retain term is the method's own."""
        if self.retain_term != "none":
            raise RequirementNotMet("RMU has a retain term of its own, of states; leave retain_term out")

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be blocks, with the weights that are to be trained."""
        self._chosen(model)

    def narrow(self, model: nn.Module) -> None:
        """Leave the chosen weights trainable, and no others."""
        _, chosen = self._chosen(model)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and any(parameter is each for each in chosen))

    def n_tokens(self, batch: Batch, role: PartitionRole) -> Tensor:
        """All tokens, those of prompts too."""
        found: Tensor = (batch.x[:, 1] != PADDING).sum()
        return found

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Squared distance of the states from the target."""
        block, _ = self._chosen(model)
        target: Tensor | None = None
        with torch.no_grad(), autocast(context.device, context.precision):
            first = next(iter(context.batches("forget", shuffle=False)))
            states = _states(model, block, first)
            direction = torch.rand(states.shape[-1], generator=context.generator("direction")).to(_real(states, first))
            length = self.steering if self.steering is not None else self.scale * float(_real(states, first).norm(dim=-1).mean())
            target = length * direction / direction.norm()

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            states = _states(model, block, batch)
            return (_real(states, batch) - target).square().mean(-1).sum() / n_tokens

        return term

    def retained_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Squared distance of the states from the original's."""
        block, _ = self._chosen(model)
        teacher = frozen_copy(model)
        before, _ = self._chosen(teacher)

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = _real(_states(teacher, before, batch), batch)
            return (_real(_states(model, block, batch), batch) - wanted).square().mean(-1).sum() / n_tokens

        return term

    def _chosen(self, model: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
        """The block whose output is turned, and what is trained."""
        lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        if not lists:
            raise RequirementNotMet("RMU needs a network with a list of blocks; this one has no nn.ModuleList")
        blocks = max(lists, key=len)
        number = (len(blocks) - 1) // 2 if self.block is None else self.block
        if number >= len(blocks):
            raise RequirementNotMet(f"there is no block {number}; the network has {len(blocks)}, counted from 0")
        below = blocks[max(0, number - self.n_trained + 1) : number + 1]
        named = [(name, parameter) for block in below for name, parameter in block.named_parameters()]
        chosen = [parameter for name, parameter in named if self.trained == "block" or "down_proj" in name]
        if not chosen:
            raise RequirementNotMet('the blocks have no weights called down_proj; give trained = "block"')
        return blocks[number], chosen


def _states(model: nn.Module, block: nn.Module, batch: Batch) -> Tensor:
    """Output of a block, ``(B, L, d)``."""
    seen: list[Tensor] = []
    with _watched(block, seen):
        model(batch.x)
    return seen[0]


@contextmanager
def _watched(block: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    handle = block.register_forward_hook(
        lambda module, inputs, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    try:
        yield
    finally:
        handle.remove()


def _real(states: Tensor, batch: Batch) -> Tensor:
    """States of what is no padding, ``(n, d)``, at least float32."""
    return states[(batch.x[:, 1] != PADDING)[:, : states.shape[1]]].to(torch.promote_types(states.dtype, torch.float32))
