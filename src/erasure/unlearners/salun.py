"""SalUn: random labels for the forget set, learned by the salient weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from erasure.types import Fraction, Source
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.masked import confined
from erasure.unlearners.saliency import saliency_mask
from erasure.unlearners.search import Range, SearchSpace
from erasure.unlearners.successive_random_labels import SuccessiveRandomLabels

__all__ = ["SalUn"]


@dataclass(frozen=True, kw_only=True)
class SalUn(SuccessiveRandomLabels):
    r"""Relabels the forget set and trains only the weights that matter most for it.

    .. math::
        \theta_u = m \odot (\theta_o + \Delta\theta) + (1 - m) \odot \theta_o, \qquad
        \min_{\Delta\theta} \; \mathbb{E}_{D_f} \, \ell(f_{\theta_u}(x), y') + \mathbb{E}_{D_r} \, \ell(f_{\theta_u}(x), y), \quad y' \neq y

    with ``m`` the top ``fraction`` of :math:`|\nabla_\theta \sum_{D_f} \ell|` at the original. The same as
    ``Masked(inner=SuccessiveRandomLabels(...), mask=SaliencyMask(...))``; for another inner method use that. ``fraction = 1`` is
    plain relabelling, ``fraction = 0`` leaves every weight; BatchNorm's running statistics are not masked.

    **Cost**: ``epochs`` passes over the forget and the retain set, one pass over the forget set for the mask, one model copy.

    Args:
        fraction: Share of the weights that may change, counted exactly over all of them.
    """

    source: ClassVar[Source | None] = Source(
        paper="Fan, Liu, Zhang, Wong, Wei, Liu, ICLR 2024, arXiv:2310.12508",
        code="OPTML-Group/Unlearn-Saliency at a6e89fd",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_salun.py)",
        deviations=(
            'Labels differ from the true ones, as in the paper; the code draws from all classes (classes="all").',
            "Weights outside the mask stay exact under weight decay and momentum, as in the latest reference code; earlier versions "
            "masked gradients only.",
            "The forget pass comes first, as in the code for CIFAR-10 and SVHN; its CIFAR-100 and TinyImageNet runs mix "
            '(order="mixed", redraw="epoch").',
            "The retain loss has weight 1, as in the code.",
        ),
    )
    cost: ClassVar[str] = "epochs + 1 passes over the forget set, epochs over the retain set, one model copy"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 15),
        "fraction": Range(0.1, 0.9),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    order: Literal["mixed", "sequential"] = "sequential"
    fraction: Fraction = 0.5

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Select the salient weights, then relabel."""
        mask = saliency_mask(model, context, fraction=self.fraction)
        return confined(mask, model, context, super().unlearn)
