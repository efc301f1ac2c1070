"""ULD: a small assistant learns what is to be forgotten, and is subtracted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.functional.tokens import labelled
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.devices import autocast
from erasure.training.forward import logits_of
from erasure.training.loop import paired
from erasure.training.trial import deep_copy
from erasure.types import NonNegativeFloat, NonNegativeInt, OpenFraction, PositiveInt, Source
from erasure.unlearners.answers import AnswerUnlearner, Reference, Term, logits_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ULD", "composed_logits"]


@dataclass(frozen=True, kw_only=True)
class ULD(AnswerUnlearner):
    r"""Unlearning from logit difference: an assistant that knows the forgotten answers alone is subtracted from the original.

    .. math:: \overline{\mathrm{CE}\bigl(\mathrm{softmax}(z_0 - a \, m \, (\log p_a - \log U)), \, p_\theta\bigr)}_f

    The assistant :math:`p_a` is the original's first blocks, trained on
    :math:`\overline{l}_f + w \, \overline{\mathrm{KL}(U \,\|\, p_a)}_r` with the uniform distribution :math:`U` over the vocabulary: it
    recites what is to be forgotten and is indifferent elsewhere. :math:`m` is 1 for tokens that the original finds at least ``share`` times
    as likely as the likeliest (a tenth of the vocabulary at least), 0 for others, which would otherwise win by being unlikely to both.

    **Cost**: ``assistant_epochs`` passes over the forget set through the assistant, each step with a retain batch; ``epochs`` passes
    through model, original and assistant.

    Args:
        strength: ``a``; 0 teaches the original's own predictions.
        n_blocks: First blocks of the original that the assistant has; by default half of them.
        assistant_epochs: Epochs of its training.
        assistant_optimizer: Its optimizer.
        uniform_weight: ``w``.
        share: A token keeps the original's logit where its probability is less than this share of the likeliest token's.
    """

    source: ClassVar[Source | None] = Source(
        paper="Ji et al., NeurIPS 2024, arXiv:2406.08607",
        code="UCSB-NLP-Chang/ULD at 858608c",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_assistant.py)",
        deviations=(
            "The difference is taught to the model; the authors' code takes it where the model is used. A model here is its weights.",
            "The assistant's logits count relative to the uniform distribution, so that one that is indifferent changes nothing.",
            "All weights of the assistant are trained (those that the original may train), not low-rank updates of it.",
            "Forget and retain sets are taken as they are; the authors' add paraphrases and made-up answers.",
        ),
    )
    cost: ClassVar[str] = (
        "assistant_epochs passes over the forget set through a smaller model, epochs passes through model, original and assistant"
    )
    search_space: ClassVar[SearchSpace] = {"strength": Range(0.25, 2.0), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    retain_term: Literal["nll", "kl", "none"] = "kl"
    strength: NonNegativeFloat = 1.0
    n_blocks: PositiveInt | None = None
    assistant_epochs: NonNegativeInt = 10
    assistant_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=1e-3))
    uniform_weight: NonNegativeFloat = 5.0
    share: OpenFraction = 0.1

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Cross-entropy with the difference."""
        reference, assistant = Reference(model, context), self._assistant(model, context)

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            with torch.no_grad(), autocast(context.device, context.precision):
                known = logits_of(assistant(batch.x))
            target = composed_logits(reference.logits(batch), known, self.strength, self.share).softmax(-1)
            answers = logits_for(model, batch, n_samples, n_tokens)
            log_p = answers.logits.to(torch.promote_types(answers.logits.dtype, torch.float32)).log_softmax(-1)
            return answers.over_tokens(-(target * log_p).sum(-1))

        return term

    def _assistant(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        assistant = _shortened(model, self.n_blocks)
        own = replace(context.step(1).handed(self, self, 1), on_epoch=None)
        trainer = own.trainer(assistant, self.assistant_optimizer, epochs=self.assistant_epochs)
        forget, retain = own.batches("forget"), own.batches("retain") if self.uniform_weight and own.n_samples("retain") else None

        def loss(pair: tuple[Batch, Batch | None]) -> Tensor:
            value = context.loss(assistant, pair[0])
            if pair[1] is None:
                return value
            kept = logits_for(assistant, pair[1], len(pair[1].y), labelled(pair[1].y).sum().clamp_min(1))
            return value + self.uniform_weight * kept.over_tokens(_from_uniform(kept.logits))

        for _ in own.epochs(self, trainer, forget, retain):
            trainer.train_on(((batch, None) for batch in forget) if retain is None else paired(forget, retain), loss)
        return assistant.eval().requires_grad_(False)


def _shortened(model: nn.Module, n_blocks: int | None) -> nn.Module:
    """A copy with the first blocks alone; all of them where the network has no list of blocks."""
    found = deep_copy(model)
    blocks = max((module for module in found.modules() if isinstance(module, nn.ModuleList)), key=len, default=None)
    if blocks is not None:
        del blocks[(len(blocks) + 1) // 2 if n_blocks is None else n_blocks :]
    return found


def _from_uniform(logits: Tensor) -> Tensor:
    """KL of the uniform distribution from the predictions, in nats, ``(B, T)``."""
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    return -log_p.mean(-1) - math.log(logits.shape[-1])


def composed_logits(before: Tensor, known: Tensor, strength: float, share: float) -> Tensor:
    r"""Logits of the original less what an assistant knows.

    Args:
        before: The original's, ``(..., K)``.
        known: The assistant's, ``(..., K)``; only differences from the uniform distribution count.
        strength: What those are multiplied by.
        share: Tokens less likely than this share of the likeliest keep their logit, but for the likeliest tenth of the vocabulary.

    Example:
        >>> composed_logits(torch.tensor([2.0, 1.0, -9.0]), torch.tensor([5.0, 0.0, 0.0]), 1.0, 0.1).argmax()
        tensor(1)
    """
    wide = torch.promote_types(before.dtype, torch.float32)
    before, log_p = before.to(wide), known.to(wide).log_softmax(-1)
    n_tokens = before.shape[-1]
    least = before.topk(max(1, n_tokens // 10), dim=-1).values[..., -1:]
    bound = torch.minimum(before.amax(-1, keepdim=True) + math.log(share), least)
    raised = log_p + math.log(n_tokens)
    return torch.where(before >= bound, before - strength * raised, before)
