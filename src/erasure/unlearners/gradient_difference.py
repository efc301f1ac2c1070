"""Ascent on the loss of forgotten answers: alone, against descent on retained ones, or held near the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.types import NonNegativeInt, Source
from erasure.unlearners.answers import AnswerUnlearner, Term, losses_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.published_faults import divergence_everywhere, require_whole
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["GradAscent", "GradDiff", "KLMin"]

_SPACE: SearchSpace = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-6, 1e-3, log=True)}


@dataclass(frozen=True, kw_only=True)
class GradDiff(AnswerUnlearner):
    r"""Climbs the loss of forgotten answers and descends on that of retained ones.

    .. math:: \min_\theta \; -\gamma \, \overline{l}_f + \alpha \, \overline{l}_r

    Both are means over the tokens of a batch. The first has no upper bound: the model is ruined if it goes on for long.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.
    """

    source: ClassVar[Source | None] = Source(
        paper="Liu, Liu, Stone, CoLLAs 2022, arXiv:2203.12817; Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = _SPACE

    epochs: NonNegativeInt = 5

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """The negative mean loss of the batch's tokens."""

        def ascent(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = losses_for(model, batch, n_samples, n_tokens)
            return -answers.over_tokens(answers.losses)

        return ascent


@dataclass(frozen=True, kw_only=True)
class GradAscent(GradDiff):
    r"""Climbs the loss of forgotten answers and looks at nothing else.

    .. math:: \max_\theta \; \overline{l}_f

    Nothing bounds it: after a few epochs the model answers nothing any more, and is then called collapsed.

    **Cost**: ``epochs`` passes over the forget set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Jang et al., ACL 2023, arXiv:2210.01504; Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
    )
    cost: ClassVar[str] = "epochs passes over the forget set"

    retain_term: Literal["nll", "kl", "none"] = "none"


@dataclass(frozen=True, kw_only=True)
class KLMin(GradDiff):
    r"""Climbs the loss of forgotten answers and keeps predictions on retained ones near the original's.

    .. math:: \min_\theta \; -\gamma \, \overline{l}_f + \alpha \, \overline{\mathrm{KL}(p_0 \,\|\, p_\theta)}_r

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch that also goes through a copy of the original.

    Args:
        legacy: Whether the divergence is averaged over prompts and padding too, as in the reference codes.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121 (KL minimisation)",
        code="locuslab/tofu at bdc209e; locuslab/open-unlearning at d3d7cf9",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
        deviations=(
            "The divergence is averaged over the tokens of answers; the reference codes average over prompts and padding too, so that it "
            "shrinks as padding grows (``legacy``).",
        ),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch through model and original"

    retain_term: Literal["nll", "kl", "none"] = "kl"
    legacy: bool = field(default=False, metadata={"address": "changed"})

    def check(self) -> None:
        """The legacy term looks at whole batches."""
        if self.legacy:
            require_whole(self.piece_size, "KLMin")

    def retained_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """The divergence, as the reference codes average it if that is asked for."""
        if self.legacy and self.retain_term == "kl":
            return divergence_everywhere(model, context)
        return super().retained_term(model, context)
