"""PDU: predictions on forgotten answers are flattened while the loss of retained ones is held under a bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import labelled
from erasure.training.batches import Batch
from erasure.training.loop import Trainer
from erasure.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, Source
from erasure.unlearners.answers import AnswerUnlearner, Reference, Step, Term, logits_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.published_faults import late_logits, require_everywhere, require_whole
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["PDU"]


@dataclass(frozen=True, kw_only=True)
class PDU(AnswerUnlearner):
    r"""Flattens the logits of forgotten tokens under a bound on the retain loss, whose weight follows by dual ascent.

    .. math::
        \min_\theta \; \overline{\bigl(\max_v z_v - \overline{z_v}\bigr)^2}_f
        \quad \text{subject to} \quad \overline{l}_r \le \epsilon

    Each step descends on the first plus :math:`\lambda \, \overline{l}_r`, and then
    :math:`\lambda \leftarrow \max(0, \lambda + \eta (\overline{l}_r - \epsilon))` with the loss of that step's retain batch.
    ``retain_weight`` is the first :math:`\lambda`.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch; a pass over the retain set where no bound is given.

    Args:
        bound: The mean retain loss per token that may not be exceeded; by default the original's plus ``slack``.
        slack: Nats above the original's loss.
        dual_rate: How fast the weight of the retain loss follows.
        warm_up: Epochs in which that weight stays.
        legacy: Whether the logits one position after those that predict a token are flattened, as in the reference code.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Entesari et al., 2025, arXiv:2506.05314",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_constrained_forgetting.py)",
        deviations=(
            "The logits that predict the tokens of answers are flattened; the reference code flattens those one later (``legacy``).",
            "The bound is found from the original where none is given; the reference code has to be told.",
            "The weight follows after every step; the reference code can also wait for the end of an epoch.",
        ),
    )
    cost: ClassVar[str] = (
        "epochs passes over the forget set, each step with a retain batch; a pass over the retain set for the bound"
    )
    search_space: ClassVar[SearchSpace] = {
        "dual_rate": Range(0.1, 10.0, log=True),
        "slack": Range(0.01, 1.0, log=True),
        "optimizer.lr": Range(1e-6, 1e-3, log=True),
    }

    retain_weight: NonNegativeFloat = 50.0
    retain_term: Literal["nll", "kl", "none"] = "nll"
    bound: NonNegativeFloat | None = None
    slack: NonNegativeFloat = 0.1
    dual_rate: PositiveFloat = 1.0
    warm_up: NonNegativeInt = 3
    legacy: bool = field(default=False, metadata={"address": "changed"})

    @property
    def keeps(self) -> bool:
        """Always: a weight of 0 may grow."""
        return True

    def check(self) -> None:
        """The constraint is on the loss."""
        if self.retain_term != "nll":
            raise RequirementNotMet("PDU holds the loss of retained answers under a bound; leave retain_term out")
        if self.legacy:
            require_whole(self.piece_size, "PDU")

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Squared distance of the largest logit from their mean."""
        if self.legacy:
            require_everywhere(model)

        def late(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            logits, n_found = late_logits(model, batch.x)
            return (logits.amax(-1) - logits.mean(-1)).square().sum() / n_found

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = logits_for(model, batch, n_samples, n_tokens)
            logits = answers.logits.to(torch.promote_types(answers.logits.dtype, torch.float32))
            return answers.over_tokens((logits.amax(-1) - logits.mean(-1)).square())

        return late if self.legacy else term

    def retained_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """The retain loss less the bound: its mean over a batch is what the weight follows."""
        loss, bound = super().retained_term(model, context), self._bound(model, context)

        def excess(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            value = loss(batch, n_samples, n_tokens)
            return value - bound * labelled(batch.y).sum().to(value.dtype) / n_tokens

        return excess

    def step(self, trainer: Trainer, forget: Term, retain: Term | None, n_steps: int) -> Step:
        """Descend on both terms, then let the weight follow."""
        memory = trainer.memory
        memory |= {"weight": torch.tensor(self.retain_weight, device=trainer.device), "n_taken": torch.tensor(0)}
        n_before = self.warm_up * n_steps

        def step(pair: tuple[Batch, Batch | None]) -> Tensor:
            loss = trainer.accumulate(
                self.pieces(pair[0], "forget"), lambda piece: self.forget_weight * forget(piece[0], piece[1], piece[2])
            )
            if retain is None or pair[1] is None:
                return loss
            found: list[Tensor] = []

            def share(piece: tuple[Batch, int, Tensor]) -> Tensor:
                value = retain(*piece)
                found.append(value.detach())
                return memory["weight"] * value

            loss = loss + trainer.accumulate(self.pieces(pair[1], "retain"), share)
            memory["n_taken"] = memory["n_taken"] + 1
            if memory["n_taken"] > n_before:
                memory["weight"] = (memory["weight"] + self.dual_rate * torch.stack(found).sum()).clamp_min(0)
            return loss

        return step

    def _bound(self, model: nn.Module, context: UnlearningContext) -> float:
        if self.bound is not None or not context.n_samples("retain"):
            return self.bound or 0.0
        ids = context.ids("retain")
        losses = Reference(model, context).sums("retain")[ids]
        n_tokens = labelled(context.y.index_select(0, ids)).sum()
        return float(losses.double().sum() / n_tokens) + self.slack
