"""Centred kernel alignment: whether two layers see the same samples as alike."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["alignment", "gram"]

_FLAT = 1e-12
"""Relative size of what counts as rounding of a constant layer."""


def gram(activations: Tensor) -> Tensor:
    """Inner products of all pairs of samples, ``(n, n)`` float64; ``activations`` is ``(n, …)``.

    The mean over the samples is taken out first, which changes no alignment and keeps large offsets from drowning the rest. A layer
    that is constant over the samples gives zeros.
    """
    rows = activations.flatten(1).double()
    centred = rows - rows.mean(0)
    if float(centred.norm()) <= _FLAT * float(rows.norm()):
        return torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    return centred @ centred.T


def alignment(first: Tensor, second: Tensor, *, unbiased: bool = False) -> float:
    r"""Linear centred kernel alignment (CKA) of two layers, from their Gram matrices.

    Answers: do both layers tell the same samples apart, up to rotation and scale?

    .. math:: \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \lVert Y^\top Y \rVert_F}
        = \frac{\langle K_X, K_Y \rangle}{\lVert K_X \rVert \lVert K_Y \rVert}

    with centred columns of :math:`X` and :math:`Y`, and :math:`K = X X^\top`.

    Args:
        first: Gram matrix of one layer, from :func:`gram`, ``(n, n)``.
        second: Of the other, on the same samples in the same order.
        unbiased: Use the unbiased estimate of the alignment (U-centred matrices), for few samples of many dimensions.

    Returns:
        In [0, 1], in [-1, 1] if unbiased; 1 for layers that are equal up to rotation and scale. Two layers that are constant over the
        samples are equal; one that is constant shares nothing with another.

    Raises:
        DataError: If there are fewer than two samples, or fewer than four if unbiased.

    Source:
        Kornblith, Norouzi, Lee, Hinton, ICML 2019, arXiv:1905.00414; unbiased: Song et al., JMLR 2012, and Nguyen, Raghu, Kornblith,
        ICLR 2021.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> round(alignment(gram(x), gram(-3 * x)), 9)
        1.0
    """
    n = len(first)
    if n < (4 if unbiased else 2):
        raise DataError(f"alignment needs at least {4 if unbiased else 2} samples, found {n}")
    centre = _u_centred if unbiased else _centred
    a, b = centre(first), centre(second)
    flat = [_is_flat(each, whole) for each, whole in ((a, first), (b, second))]
    if any(flat):
        return 1.0 if all(flat) else 0.0
    value = float((a * b).sum() / (a.norm() * b.norm()))
    return max(-1.0 if unbiased else 0.0, min(1.0, value))


def _is_flat(centred: Tensor, whole: Tensor) -> bool:
    return float(centred.norm()) <= _FLAT * float(whole.norm())


def _centred(k: Tensor) -> Tensor:
    return k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()


def _u_centred(k: Tensor) -> Tensor:
    n = len(k)
    k = k - torch.diag(k.diagonal())
    rows = k.sum(1) / (n - 2)
    centred = k - rows - rows[:, None] + k.sum() / ((n - 1) * (n - 2))
    return centred - torch.diag(centred.diagonal())
