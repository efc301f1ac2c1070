"""How much of what a model knew about forgotten samples is left: 0 as in retrained models, 1 as in the original."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["MemoryLeft", "memory_left"]

_MIN_RULERS = 3
_LINEAR = 2.0
"""Log-odds up to which a margin counts in full; beyond, its logarithm does."""


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

    Margins are compressed, :math:`t(m) = \operatorname{asinh}(m / 2)`: linear where the label is in doubt, a logarithm where a model is
    sure of it either way. What is remembered shows in hard samples; of easy ones a model is a little more or less sure by chance, and they
    are many. Over forgotten and unseen samples together, least squares of

    .. math:: t(m_i) - \bar t_i = f \cdot v_i + a + b \cdot \bar t_i + c \cdot \overline{t'(g)}_i + d \cdot \overline{t'(g) g}_i,
              \qquad v_i = \begin{cases} \overline{t(o)}_i - \bar t_i & i \text{ forgotten} \\ 0 & \text{otherwise} \end{cases}

    with the margins m of the model, g of ruler golds and o of ruler originals, and :math:`\bar t` the mean of t(g). The terms a to d take
    out confidence that has grown or shrunk everywhere: c is what adding a number to all margins changes in t, d what multiplying them does.
    Without them, a model that was only trained longer would seem to remember more.

    f is then measured from its mean over ruler golds and divided by what ruler originals are above that, each ruler being measured by the
    others. All samples have one weight: spreads of single samples are known too badly from a few rulers.

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
        0.6
    """
    m, g, o = margins.double(), golds.double(), originals.double()
    if g.ndim != 2 or o.ndim != 2 or min(len(g), len(o)) < _MIN_RULERS:
        raise DataError(f"memory is measured by {_MIN_RULERS} golds and originals or more, found {len(g)} and {len(o)}")
    if not g.shape[1] == o.shape[1] == len(m) == len(forgotten):
        raise DataError("margins of the model, of golds and of originals must be of the same samples")
    if not all(bool(each.isfinite().all()) for each in (m, g, o)):
        raise DataError("margins must be finite: a model among the rulers, or the one that is measured, diverged")
    every_g = torch.tensor([_share(g[k], _without(g, k), o, forgotten) for k in range(len(g))], dtype=torch.float64)
    every_o = torch.tensor([_share(o[k], g, _without(o, k), forgotten) for k in range(len(o))], dtype=torch.float64)
    none = float(every_g.mean())
    unit = float(every_o.mean()) - none
    if not unit > 0:
        raise DataError("originals are no surer of the forgotten samples than golds are: there is nothing that could be left")
    spread = float(every_g.std()) / unit
    return MemoryLeft((_share(m, g, o, forgotten) - none) / unit, spread, 1 / spread if spread else float("inf"))


def _without(models: Tensor, number: int) -> Tensor:
    return torch.cat([models[:number], models[number + 1 :]])


def _share(margins: Tensor, golds: Tensor, originals: Tensor, forgotten: Tensor) -> float:
    """F before it is scaled."""
    compressed = torch.asinh(golds / _LINEAR)
    slope = 1 / (golds**2 + _LINEAR**2).sqrt()
    centre = compressed.mean(0)
    known = torch.where(forgotten, torch.asinh(originals / _LINEAR).mean(0) - centre, 0.0)
    table = torch.stack([known, torch.ones_like(centre), centre, slope.mean(0), (slope * golds).mean(0)], dim=1)
    apart = torch.asinh(margins / _LINEAR) - centre
    # By singular values: where all golds agree on every sample, the last four columns are one.
    solved = torch.linalg.lstsq(table, apart.unsqueeze(1), driver="gelsd").solution
    return float(solved[0])
