"""Methods that give forgotten tokens another target: UNDIAL, CE-U and the inverted hinge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.functional.tokens import labelled
from erasure.training.batches import Batch
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, Source
from erasure.unlearners.answers import AnswerLogits, AnswerUnlearner, Reference, Term, logits_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.published_faults import lowered_everywhere, require_whole
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["CEU", "UNDIAL", "InvertedHinge"]

_TESTED = "values and gradients by plain formulas in float64 (tests/unit/language/test_token_targets.py)"
_RATE = Range(1e-6, 1e-3, log=True)


@dataclass(frozen=True, kw_only=True)
class UNDIAL(AnswerUnlearner):
    r"""Self-distillation from the original's logits with those of the forgotten tokens pushed down.

    .. math:: \overline{\mathrm{CE}\bigl(\mathrm{softmax}(z_0 - \beta e_{y}), \, p_\theta\bigr)}_f

    The target never moves, so the method ends where it has been told. It has no retain term by default.

    **Cost**: ``epochs`` passes over the forget set through model and original.

    Args:
        beta: How far the logit of the forgotten token is pushed down.
        legacy: Whether prompts and padding count as in open-unlearning, which pushes one unrelated token down there.
    """

    source: ClassVar[Source | None] = Source(
        paper="Dong et al., NAACL 2025, arXiv:2402.10052",
        code="dong-river/LLM_unlearning at 89856dc; locuslab/open-unlearning at d3d7cf9",
        tested=_TESTED,
        deviations=(
            "Only tokens of answers count; open-unlearning also counts prompts and padding and pushes a wrong token there (``legacy``).",
        ),
    )
    cost: ClassVar[str] = "epochs passes over the forget set through model and original"
    search_space: ClassVar[SearchSpace] = {"beta": Range(3.0, 30.0), "optimizer.lr": _RATE}

    retain_term: Literal["nll", "kl", "none"] = "none"
    beta: NonNegativeFloat = 10.0
    legacy: bool = field(default=False, metadata={"address": "changed"})

    def check(self) -> None:
        """The legacy loss looks at whole batches."""
        if self.legacy:
            require_whole(self.piece_size, "UNDIAL")

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Cross-entropy with the changed prediction of the original."""
        if self.legacy:
            return lowered_everywhere(model, context, self.beta)
        reference = Reference(model, context)

        def values(answers: AnswerLogits, batch: Batch) -> Tensor:
            before = reference.logits(batch).to(_wide(answers.logits))
            down = F.one_hot(answers.y.clamp_min(0), before.shape[-1]) * self.beta
            target = (before - down).softmax(-1)
            return -(target * _log_p(answers)).sum(-1)

        return _mean_over_tokens(model, values)


@dataclass(frozen=True, kw_only=True)
class CEU(AnswerUnlearner):
    r"""Cross-entropy with the model's own prediction from which the forgotten token is left out.

    .. math:: \overline{\mathrm{CE}\bigl(\mathrm{sg}\,\mathrm{softmax}(z_{v \ne y}), \, p_\theta\bigr)}_f

    Its gradient vanishes as the token becomes improbable. The first tokens of each answer are left out: they would be forgotten in every
    answer.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.

    Args:
        skipped: Tokens at the start of each answer that are left out.
    """

    source: ClassVar[Source | None] = Source(
        paper="Yang, 2025, arXiv:2503.01224",
        code="locuslab/open-unlearning at d3d7cf9",
        tested=_TESTED,
        deviations=("A retain term by default; give retain_term none for the method of the paper.",),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": _RATE}

    skipped: NonNegativeInt = 1

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Cross-entropy with the prediction without the token."""

        def values(answers: AnswerLogits, batch: Batch) -> Tensor:
            is_label = F.one_hot(answers.y.clamp_min(0), answers.logits.shape[-1]).bool()
            others = answers.logits.detach().to(_wide(answers.logits)).masked_fill(is_label, float("-inf"))
            found = -(others.softmax(-1) * _log_p(answers)).sum(-1)
            counted = torch.arange(found.shape[1], device=found.device) >= self.skipped
            return torch.where(counted, found, torch.zeros_like(found))

        return _mean_over_tokens(model, values)

    def n_tokens(self, batch: Batch, role: PartitionRole) -> Tensor:
        """Of forgotten answers, the tokens that are not left out."""
        return labelled(batch.y[:, self.skipped :] if role == "forget" else batch.y).sum()


@dataclass(frozen=True, kw_only=True)
class InvertedHinge(AnswerUnlearner):
    r"""A hinge that pushes the forgotten token just below the best of the others.

    .. math:: \overline{1 + p_\theta(y_t) - \max_{v \ne y_t} p_\theta(v)}_f

    In [0, 2], so that it cannot run away. It is the loss of LoKU, without the choice of low-rank updates by their importance.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cha, Cho, Hwang, Lee, Moon, Lee, ICLR 2025, arXiv:2408.06621",
        code="csm9493/efficient-llm-unlearning at 272484a",
        tested=_TESTED,
        deviations=("Low-rank updates start as usual, not from the Fisher information of the forget set (FILA).",),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": _RATE}

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """One plus the margin in probability."""

        def values(answers: AnswerLogits, batch: Batch) -> Tensor:
            p = _log_p(answers).exp()
            labels = answers.y.clamp_min(0).unsqueeze(-1)
            own = p.gather(-1, labels).squeeze(-1)
            return 1 + own - p.scatter(-1, labels, -1.0).amax(-1)

        return _mean_over_tokens(model, values)


def _mean_over_tokens(model: nn.Module, values: Callable[[AnswerLogits, Batch], Tensor]) -> Term:
    def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
        answers = logits_for(model, batch, n_samples, n_tokens)
        return answers.over_tokens(values(answers, batch))

    return term


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _log_p(answers: AnswerLogits) -> Tensor:
    return answers.logits.to(_wide(answers.logits)).log_softmax(-1)
