"""Losses as reference codes compute them, faults included, for methods with a field ``legacy``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import ANSWER, END, UNLABELLED
from erasure.training.batches import Batch
from erasure.training.devices import autocast
from erasure.unlearners.answers import Reference, Term
from erasure.unlearners.contract import UnlearningContext

__all__ = [
    "divergence_everywhere",
    "late_logits",
    "logit_differences",
    "lowered_everywhere",
    "require_everywhere",
    "require_whole",
]


def require_whole(piece_size: int | None, name: str) -> None:
    """Refuse pieces: these losses depend on the padding of the batch.

    Raises:
        RequirementNotMet: If batches are to be cut.
    """
    if piece_size is not None:
        raise RequirementNotMet(f"the legacy loss of {name} depends on the padding of whole batches; leave piece_size out")


def require_everywhere(model: nn.Module) -> None:
    """Refuse networks that give logits for answers alone.

    Raises:
        RequirementNotMet: If it is one.
    """
    if not hasattr(model, "everywhere"):
        raise RequirementNotMet("legacy losses look at prompts and padding too; take a language model of this package")


def divergence_everywhere(model: nn.Module, context: UnlearningContext) -> Term:
    r"""KL from the original averaged over all positions of a padded batch, so that more padding makes it smaller."""
    before = _before(model, context)

    def divergence(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
        log_p = _everywhere(model, batch.x).log_softmax(-1)
        log_0 = before(batch.x).log_softmax(-1)
        found: Tensor = (log_0.exp() * (log_0 - log_p)).sum(-1).mean()
        return found

    return divergence


def logit_differences(model: nn.Module, context: UnlearningContext, beta: float) -> Term:
    r"""MUSE's NPO: the log-ratio is taken of every logit of every position and not of the answer.

    .. math:: -\frac{2}{\beta} \, \overline{\log\sigma(-\beta (z - z_0))}
    """
    before = _before(model, context)

    def preference(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
        return -F.logsigmoid(-beta * (_everywhere(model, batch.x) - before(batch.x))).mean() * 2 / beta

    return preference


def lowered_everywhere(model: nn.Module, context: UnlearningContext, beta: float) -> Term:
    """open-unlearning's UNDIAL: the label -100 of prompts and padding is read as the last entry but 99 of the vocabulary, and all count."""
    before = _before(model, context)

    def distance(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
        logits, wanted = _everywhere(model, batch.x)[:, :-1], before(batch.x)[:, :-1]
        if logits.shape[-1] < -UNLABELLED:
            raise RequirementNotMet(f"the legacy loss of UNDIAL needs a vocabulary of {-UNLABELLED} tokens or more")
        labels = _labels(batch.x)[:, 1 : logits.shape[1] + 1]
        down = F.one_hot(labels % logits.shape[-1], logits.shape[-1]) * beta
        return -((wanted - down).softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()

    return distance


def late_logits(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits at the positions of labels, one later than those that predict them, ``(n, K)``, and how many."""
    logits = _everywhere(model, x)
    chosen = logits[_labels(x)[:, : logits.shape[1]] != UNLABELLED]
    return chosen, torch.tensor(len(chosen), device=x.device).clamp_min(1)


def _labels(x: Tensor) -> Tensor:
    return torch.where(x[:, 1] >= ANSWER, x[:, 0], UNLABELLED)


def _everywhere(model: Any, x: Tensor) -> Tensor:
    ends = x[:, 0][x[:, 1] == END]
    logits: Tensor = model.everywhere(x, int(ends[0]) if len(ends) else 0)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _before(model: nn.Module, context: UnlearningContext) -> Callable[[Tensor], Tensor]:
    require_everywhere(model)
    reference = Reference(model, context)

    @torch.no_grad()
    def before(x: Tensor) -> Tensor:
        with autocast(context.device, context.precision):
            return _everywhere(reference.teacher, x)

    return before
