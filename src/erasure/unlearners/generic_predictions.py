"""WHP: fine-tuning on what a model would say that knows no more of the forgotten answers than any."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.devices import autocast
from erasure.training.forward import logits_of
from erasure.training.trial import deep_copy
from erasure.types import NonNegativeFloat, NonNegativeInt, Source
from erasure.unlearners.answers import AnswerUnlearner, Reference, Term, logits_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["WHP", "generic_logits"]


@dataclass(frozen=True, kw_only=True)
class WHP(AnswerUnlearner):
    r"""Who is Harry Potter: tokens that more training on the forget set would favour are replaced by others.

    .. math:: \overline{-\log p_\theta(\tilde y_t)}_f, \quad
        \tilde y_t = \arg\max_v \bigl(z_0 - a \max(0, z_+ - z_0)\bigr)_v

    with logits :math:`z_+` of a copy that is trained further on the forget set, the reinforced model, and those of the original. What that
    training does not raise is a generic answer.

    **Cost**: ``reinforce_epochs`` and ``epochs`` passes over the forget set, the second through model, original and reinforced model.

    Args:
        strength: ``a``; 0 teaches the original's own predictions.
        reinforce_epochs: Epochs of the copy on the forget set.
        reinforce_optimizer: Its optimizer.
    """

    source: ClassVar[Source | None] = Source(
        paper="Eldan, Russinovich, 2023, arXiv:2310.02238",
        code="jaechan-repo/muse_bench at 54719c5",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_generic_predictions.py)",
        deviations=(
            "Names are not replaced by generic ones before: that half of the method needs a dictionary of them.",
            "MUSE's code takes the changed logits where the model is used, and does not train; a model here is its weights.",
        ),
    )
    cost: ClassVar[str] = "reinforce_epochs and epochs passes over the forget set, the second through three models"
    search_space: ClassVar[SearchSpace] = {"strength": Range(1.0, 256.0, log=True), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    epochs: NonNegativeInt = 3
    retain_term: Literal["nll", "kl", "none"] = "none"
    strength: NonNegativeFloat = 5.0
    reinforce_epochs: NonNegativeInt = 3
    reinforce_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=3e-6))

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Cross-entropy with the generic tokens."""
        reference, reinforced = Reference(model, context), self._reinforced(model, context)

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            with torch.no_grad(), autocast(context.device, context.precision):
                raised = logits_of(reinforced(batch.x))
            tokens = generic_logits(reference.logits(batch), raised, self.strength).argmax(-1)
            answers = logits_for(model, batch, n_samples, n_tokens)
            log_p = answers.logits.to(torch.promote_types(answers.logits.dtype, torch.float32)).log_softmax(-1)
            return answers.over_tokens(-log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1))

        return term

    def _reinforced(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        tuned = deep_copy(model)
        own = replace(context.step(1).handed(self, self, 1), on_epoch=None)
        trainer = own.trainer(tuned, self.reinforce_optimizer, epochs=self.reinforce_epochs)
        forget = own.batches("forget")
        for _ in own.epochs(self, trainer, forget):
            trainer.train_on(forget, lambda batch: context.loss(tuned, batch))
        return tuned.eval().requires_grad_(False)


def generic_logits(before: Tensor, reinforced: Tensor, strength: float) -> Tensor:
    """Logits less what reinforcing has raised, times a strength.

    Example:
        >>> generic_logits(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([3.0, 0.0, 0.5]), 4.0)
        tensor([-2.,  1., -2.])
    """
    wide = torch.promote_types(before.dtype, torch.float32)
    return before.to(wide) - strength * (reinforced.to(wide) - before.to(wide)).clamp_min(0)
