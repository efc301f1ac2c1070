"""How much of what a model knew about forgotten samples is left: 0 as in retrained models, 1 as in the original."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["MemoryLeft", "memory_left"]

_MIN_RULERS = 3


class MemoryLeft(NamedTuple):
    """A share of memory and how sure its rulers are.

    Args:
        share: 0 as in retrained models, 1 as in originals.
        spread: Standard deviation of the shares of ruler golds, each measured by the others.
        contrast: How many of these standard deviations ruler originals are above ruler golds.
    """

    share: float
    spread: float
    contrast: float


def memory_left(margins: Tensor, golds: Tensor, originals: Tensor, forgotten: Tensor) -> MemoryLeft:
    r"""Share of the originals' knowledge of forgotten samples that a model still has.

    Over forgotten and unseen samples together, weighted least squares of

    .. math:: m_i - \bar g_i = f \cdot v_i + a + c \cdot \bar g_i, \qquad
              v_i = \begin{cases} \bar o_i - \bar g_i & i \text{ forgotten} \\ 0 & \text{otherwise} \end{cases}

    with the margins m of the model and the means :math:`\bar g`, :math:`\bar o` of ruler golds and ruler originals. The weights are
    :math:`1 / \sigma_i^2`, half the variance of the sample itself over ruler golds and half the mean of all samples. The terms a and c
    take out confidence that has grown or shrunk everywhere: without them, a model that was only trained longer would seem to remember
    more. f is divided by its mean over ruler originals, each measured by the others.

    Args:
        margins: Log-odds of the right label, ``(n,)``.
        golds: The same of ruler golds, ``(G, n)``, at least 3.
        originals: The same of ruler originals, ``(O, n)``, at least 3.
        forgotten: Which samples were forgotten, ``(n,)`` bool; the others are unseen.

    Raises:
        DataError: If there are too few rulers, shapes differ, a margin is not finite, or the rulers do not differ on forgotten samples.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> golds, originals = torch.randn(4, 40, generator=generator), torch.randn(4, 40, generator=generator)
        >>> forgotten = torch.arange(40) < 20
        >>> originals[:, forgotten] += 5
        >>> model = torch.randn(40, generator=generator) + 2.5 * forgotten
        >>> round(memory_left(model, golds, originals, forgotten).share, 1)
        0.5
    """
    m, g, o = margins.double(), golds.double(), originals.double()
    if g.ndim != 2 or o.ndim != 2 or min(len(g), len(o)) < _MIN_RULERS:
        raise DataError(f"memory is measured by {_MIN_RULERS} golds and originals or more, found {len(g)} and {len(o)}")
    if not g.shape[1] == o.shape[1] == len(m) == len(forgotten):
        raise DataError("margins of the model, of golds and of originals must be of the same samples")
    if not all(bool(each.isfinite().all()) for each in (m, g, o)):
        raise DataError("margins must be finite: a model among the rulers, or the one that is measured, diverged")
    every_o = [_share(o[k], g, _without(o, k), forgotten) for k in range(len(o))]
    unit = sum(every_o) / len(every_o)
    if not unit > 0:
        raise DataError("originals are no surer of the forgotten samples than golds are: there is nothing that could be left")
    every_g = torch.tensor([_share(g[k], _without(g, k), o, forgotten) for k in range(len(g))], dtype=torch.float64) / unit
    spread = float(every_g.std())
    contrast = (1 - float(every_g.mean())) / spread if spread else float("inf")
    return MemoryLeft(_share(m, g, o, forgotten) / unit, spread, contrast)


def _without(models: Tensor, number: int) -> Tensor:
    return torch.cat([models[:number], models[number + 1 :]])


def _share(margins: Tensor, golds: Tensor, originals: Tensor, forgotten: Tensor) -> float:
    """F before it is scaled."""
    centre, variance = golds.mean(0), golds.var(0)
    weight = (2 / (variance + variance.mean()).clamp(min=1e-12)).sqrt()
    known = torch.where(forgotten, originals.mean(0) - centre, 0.0)
    table = torch.stack([known, torch.ones_like(centre), centre], dim=1) * weight.unsqueeze(1)
    # By singular values: where all golds agree on every sample, the last two columns are one.
    solved = torch.linalg.lstsq(table, ((margins - centre) * weight).unsqueeze(1), driver="gelsd").solution
    return float(solved[0])
