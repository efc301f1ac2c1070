"""Methods that treat forgotten answers as what is not preferred: NPO and SimNPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.types import NonNegativeFloat, PositiveFloat, Source
from erasure.unlearners.answers import AnswerUnlearner, Reference, Term, losses_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.published_faults import logit_differences, require_whole
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NPO", "SimNPO"]


@dataclass(frozen=True, kw_only=True)
class NPO(AnswerUnlearner):
    r"""Negative preference: pushes the probability of forgotten answers below the original's, ever more gently.

    .. math:: \frac{2}{\beta} \, \mathbb{E}_f \log\Bigl(1 + \bigl(p_\theta(y|x) / p_0(y|x)\bigr)^\beta\Bigr)

    Probabilities are those of whole answers. At the original its gradient is that of ascent on the summed loss of each answer; as an answer
    becomes improbable the gradient vanishes. ``retain_term`` gives the variants of the paper: ``none``, ``nll`` (NPO-RT), ``kl``.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch; one pass over the forget set before.

    Args:
        beta: Inverse temperature; towards 0 it is gradient ascent.
        legacy: Whether the ratio is taken of every logit at every position, padding included, as in MUSE's code; the first loss is alike,
            the gradient is not.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Zhang, Lin, Bai, Mei, COLM 2024, arXiv:2404.05868",
        code="licong-lin/negative-preference-optimization at 1207bbe",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
        deviations=(
            "Partners from the retain set differ in every epoch; in the authors' code those of the first epoch stay.",
            "Ratios are of answers; the copies of the method in MUSE take them of logits (``legacy``).",
        ),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch; one pass of the original"
    search_space: ClassVar[SearchSpace] = {"beta": Range(0.01, 1.0, log=True), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    beta: PositiveFloat = 0.1
    legacy: bool = field(default=False, metadata={"address": "changed"})

    def check(self) -> None:
        """The legacy loss looks at whole batches."""
        if self.legacy:
            require_whole(self.piece_size, "NPO")

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Softplus of the scaled log-ratio of each answer."""
        if self.legacy:
            return logit_differences(model, context, self.beta)
        before = Reference(model, context).sums("forget")

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = losses_for(model, batch, n_samples, n_tokens)
            ratios = before[batch.ids] - answers.losses.sum(1)
            return answers.over_samples(F.softplus(self.beta * ratios)) * 2 / self.beta

        return term


@dataclass(frozen=True, kw_only=True)
class SimNPO(AnswerUnlearner):
    r"""NPO without a reference: the mean loss of each answer takes the place of the log-ratio.

    .. math:: -\frac{2}{\beta} \, \mathbb{E}_f \log\sigma\bigl(\beta (\overline{l} - \delta)\bigr)

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.

    Args:
        beta: Inverse temperature.
        delta: Margin in nats per token, inside the product with ``beta``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Fan et al., 2024, arXiv:2410.07163",
        code="OPTML-Group/Unlearn-Simple at f1a355d",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
        deviations=("The paper's margin is beta times this delta.",),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = {"beta": Range(1.0, 6.0), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    forget_weight: PositiveFloat = 0.125
    beta: PositiveFloat = 4.5
    delta: NonNegativeFloat = 0.0

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Log-sigmoid of the scaled mean loss of each answer."""

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = losses_for(model, batch, n_samples, n_tokens)
            means = answers.losses.sum(1) / answers.lengths.clamp_min(1)
            return -answers.over_samples(F.logsigmoid(self.beta * (means - self.delta))) * 2 / self.beta

        return term
