"""Ascent on forgotten answers in which every token has a weight: WGA, TNPO, WTNPO, SatImp, SimSat and SimImp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.types import NonNegativeFloat, PositiveFloat, Source
from erasure.unlearners.answers import AnswerLosses, AnswerUnlearner, Reference, Term, losses_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["TNPO", "WGA", "WTNPO", "SatImp", "SimImp", "SimSat", "WeightedAscent"]

_TESTED = "values and gradients by plain formulas in float64 (tests/unit/language/test_weighted_ascent.py)"
_COST = "epochs passes over the forget set, each step with a retain batch"

Weights: TypeAlias = Callable[[AnswerLosses, Batch], Tensor]
"""Weight of each token, ``(B, T)``, in which no gradient flows."""


@dataclass(frozen=True, kw_only=True)
class WeightedAscent(AnswerUnlearner):
    r"""Ascent in which the loss of each token is weighted.

    .. math:: \min_\theta \; -\gamma \, \overline{\mathrm{sg}(w_t) \, l_t}_f + \alpha \, \overline{l}_r

    The mean is over all tokens of the batch; weights are recomputed in every step, and no gradient flows in them.
    """

    def weights(self, model: nn.Module, context: UnlearningContext) -> Weights:
        """The weights as a function of the batch; called once, before the first step."""
        raise NotImplementedError

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """The negative weighted mean."""
        weights = self.weights(model, context)

        def ascent(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = losses_for(model, batch, n_samples, n_tokens)
            return -answers.over_tokens(weights(answers, batch).detach() * answers.losses)

        return ascent


@dataclass(frozen=True, kw_only=True)
class WGA(WeightedAscent):
    r"""Weighted gradient ascent: tokens that have become improbable are left alone.

    .. math:: w_t = p_\theta(y_t \mid x, y_{<t})^\beta

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.

    Args:
        beta: 0 is plain ascent.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wang et al., ICLR 2025, arXiv:2502.19301",
        code="tmlr-group/G-effect at ef368ee; locuslab/open-unlearning at d3d7cf9",
        tested=_TESTED,
    )
    cost: ClassVar[str] = _COST
    search_space: ClassVar[SearchSpace] = {"beta": Range(0.1, 10.0, log=True), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    beta: NonNegativeFloat = 1.0

    def weights(self, model: nn.Module, context: UnlearningContext) -> Weights:
        """A power of the token's probability."""
        return lambda answers, batch: (-self.beta * answers.losses).exp()


@dataclass(frozen=True, kw_only=True)
class TNPO(WeightedAscent):
    r"""NPO token by token.

    .. math:: w_t = \frac{2 \, p_\theta^{\beta + a}}{p_\theta^\beta + p_0^\beta}, \quad a = 0

    At the original all weights are 1.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch; a copy of the original.

    Args:
        beta: Power of the probabilities.
        extra: ``a``, a further power of the model's own.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wang et al., ICLR 2025, arXiv:2502.19301",
        code="tmlr-group/G-effect at ef368ee",
        tested=_TESTED,
        deviations=("Computed from logarithms, without the 1e-5 that the authors' code adds to the denominator.",),
    )
    cost: ClassVar[str] = _COST
    search_space: ClassVar[SearchSpace] = {"beta": Range(0.5, 8.0), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    beta: PositiveFloat = 4.0
    extra: NonNegativeFloat = 0.0

    def weights(self, model: nn.Module, context: UnlearningContext) -> Weights:
        """The share of the model's own power in that of model and original."""
        reference = Reference(model, context)

        def of(answers: AnswerLosses, batch: Batch) -> Tensor:
            before = reference.losses(batch)
            share = torch.sigmoid(self.beta * (before - answers.losses))
            return 2 * share * (-self.extra * answers.losses).exp()

        return of


@dataclass(frozen=True, kw_only=True)
class WTNPO(TNPO):
    r"""TNPO whose weights also fall with the token's own probability.

    .. math:: w_t = \frac{2 \, p_\theta^{\beta + a}}{p_\theta^\beta + p_0^\beta}

    **Cost**: that of TNPO.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wang et al., ICLR 2025, arXiv:2502.19301", code="tmlr-group/G-effect at ef368ee", tested=_TESTED
    )

    extra: NonNegativeFloat = 1.5


@dataclass(frozen=True, kw_only=True)
class SatImp(WeightedAscent):
    r"""Ascent on tokens that are neither forgotten already nor certain: saturation and importance.

    .. math:: w_t = p^{\beta_1} (1 - p)^{\beta_2}

    The weight is largest at :math:`p = \beta_1 / (\beta_1 + \beta_2)`.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.

    Args:
        saturation: ``beta_1``; 0 leaves it out.
        importance: ``beta_2``; 0 leaves it out.
    """

    source: ClassVar[Source | None] = Source(
        paper="Yang et al., ICML 2025, arXiv:2505.11953",
        code="tmlr-group/SatImp at 51314c0",
        tested=_TESTED,
        deviations=(
            "The retain term has the weight 0.1 of the authors' code; the configuration of open-unlearning has it reversed.",
        ),
    )
    cost: ClassVar[str] = _COST
    search_space: ClassVar[SearchSpace] = {
        "saturation": Range(0.5, 8.0),
        "importance": Range(0.1, 4.0),
        "optimizer.lr": Range(1e-6, 1e-3, log=True),
    }

    retain_weight: NonNegativeFloat = 0.1
    saturation: NonNegativeFloat = 5.0
    importance: NonNegativeFloat = 1.0

    def weights(self, model: nn.Module, context: UnlearningContext) -> Weights:
        """The product of both powers."""

        def of(answers: AnswerLosses, batch: Batch) -> Tensor:
            unlikely = -torch.expm1(-answers.losses)
            return (-self.saturation * answers.losses).exp() * unlikely.clamp_min(0) ** self.importance

        return of


@dataclass(frozen=True, kw_only=True)
class SimSat(SatImp):
    """SatImp by saturation alone, which is WGA with another weight of the retain term.

    **Cost**: that of SatImp.
    """

    source: ClassVar[Source | None] = Source(
        paper="Yang et al., ICML 2025, arXiv:2505.11953", code="tmlr-group/SatImp at 51314c0", tested=_TESTED
    )

    search_space: ClassVar[SearchSpace] = {"saturation": Range(0.5, 8.0), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    importance: NonNegativeFloat = 0.0


@dataclass(frozen=True, kw_only=True)
class SimImp(SatImp):
    """SatImp by importance alone.

    **Cost**: that of SatImp.
    """

    source: ClassVar[Source | None] = Source(
        paper="Yang et al., ICML 2025, arXiv:2505.11953", code="tmlr-group/SatImp at 51314c0", tested=_TESTED
    )

    search_space: ClassVar[SearchSpace] = {"importance": Range(0.1, 4.0), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    saturation: NonNegativeFloat = 0.0
