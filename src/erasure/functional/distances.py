r"""Distances between two lists of matrices, by the names and formulas of the reference implementation.

Each matrix has shape ``(B, r, c)``, for ``B`` independent comparisons; each function gives ``(B,)``. A distance is the mean over the
matrices, or with ``block_diagonal`` that of the two block-diagonal matrices made of them, which are never built.

They are kept so that published numbers can be read. Means of unnormalised norms let a bias of ten numbers weigh as much as a kernel
of a million, and a softmax over weights is no distribution of anything.

Source: aiim-research/ERASURE at d5bbbe5 (``distances.py``), computed here in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["DISTANCES", "hausdorff", "jsdistance", "kldivergence", "l2norm"]

_MIN = 1e-5
_ROWS = 256
"""Rows compared at once, so that large layers do not fill the memory."""

Matrices: TypeAlias = Sequence[Tensor]
_OfFlat: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]


def l2norm(first: Matrices, second: Matrices, *, block_diagonal: bool = False) -> Tensor:
    """Norm of the difference.

    Example:
        >>> l2norm([torch.zeros(1, 2, 2), torch.zeros(1, 1, 1)], [torch.ones(1, 2, 2), torch.ones(1, 1, 1)])
        tensor([1.5000], dtype=torch.float64)
    """
    norms = torch.stack([(a.double() - b.double()).flatten(1).norm(dim=1) for a, b in zip(first, second, strict=True)])
    return norms.norm(dim=0) if block_diagonal else norms.mean(0)


def hausdorff(first: Matrices, second: Matrices, *, block_diagonal: bool = False) -> Tensor:
    """Directed Hausdorff distance of the rows: the largest distance of a row of the first to its nearest row of the second.

    Source:
        Tested against ``scipy.spatial.distance.directed_hausdorff``.

    Example:
        >>> hausdorff([torch.tensor([[[0.0], [5.0]]])], [torch.tensor([[[1.0], [2.0]]])])
        tensor([3.], dtype=torch.float64)
    """
    nearest = [_nearest_row(a.double(), b.double()) for a, b in zip(first, second, strict=True)]
    if not block_diagonal:
        return torch.stack([each.amax(1) for each in nearest]).mean(0)
    shortest = torch.stack([b.double().square().sum(2).amin(1) for b in second])
    found = []
    for k, (a, own) in enumerate(zip(first, nearest, strict=True)):
        # Rows of different blocks are orthogonal: their squared distance is the sum of their squared norms.
        others = torch.cat([shortest[:k], shortest[k + 1 :]])
        if len(others):
            own = torch.minimum(own, (a.double().square().sum(2) + others.amin(0)[:, None]).sqrt())
        found.append(own.amax(1))
    return torch.stack(found).amax(0)


def _nearest_row(a: Tensor, b: Tensor) -> Tensor:
    """Distance of each row of ``a`` to its nearest one of ``b``, ``(B, r)``."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(rows, b, compute_mode=exact).amin(2) for rows in torch.split(a, _ROWS, dim=1)], dim=1)


def kldivergence(first: Matrices, second: Matrices, *, block_diagonal: bool = False) -> Tensor:
    r"""Sum of :math:`p \ln(p / q) - p + q` over softmaxes of all entries, each at least 1e-5.

    Example:
        >>> kldivergence([torch.zeros(1, 1, 2)], [torch.zeros(1, 1, 2)])
        tensor([0.], dtype=torch.float64)
    """
    return _of_flat(_kl, first, second, block_diagonal)


def jsdistance(first: Matrices, second: Matrices, *, block_diagonal: bool = False) -> Tensor:
    """Square root of the Jensen-Shannon divergence of the same softmaxes, normalised after the clamping; natural logarithms.

    Example:
        >>> jsdistance([torch.zeros(1, 1, 2)], [torch.zeros(1, 1, 2)])
        tensor([0.], dtype=torch.float64)
    """
    return _of_flat(_js, first, second, block_diagonal)


def _of_flat(distance: _OfFlat, first: Matrices, second: Matrices, block_diagonal: bool) -> Tensor:
    if block_diagonal:
        n_rows, n_columns = (sum(m.shape[d] for m in first) for d in (1, 2))
        n_zeros = n_rows * n_columns - sum(m.shape[1] * m.shape[2] for m in first)
        pairs = [tuple(torch.cat([m.flatten(1) for m in side], dim=1) for side in (first, second))]
    else:
        n_zeros, pairs = 0, [(a.flatten(1), b.flatten(1)) for a, b in zip(first, second, strict=True)]
    found = []
    for a, b in pairs:
        (p, p_zero), (q, q_zero) = _softmax(a, n_zeros), _softmax(b, n_zeros)
        found.append(distance(p, p_zero, q, q_zero, n_zeros))
    return torch.stack(found).mean(0)


def _softmax(entries: Tensor, n_zeros: int) -> tuple[Tensor, Tensor]:
    """Softmax of the entries and ``n_zeros`` zeros, clamped: ``(B, n)`` of the entries and ``(B,)`` of each zero."""
    entries = entries.double()
    zeros = torch.tensor(float(n_zeros), dtype=torch.float64, device=entries.device).log()
    total = torch.logaddexp(entries.logsumexp(1), zeros)
    return (entries - total[:, None]).exp().clamp(min=_MIN), (-total).exp().clamp(min=_MIN)


def _kl(p: Tensor, p_zero: Tensor, q: Tensor, q_zero: Tensor, n_zeros: int) -> Tensor:
    return _kl_terms(p, q).sum(1) + n_zeros * _kl_terms(p_zero, q_zero)


def _kl_terms(p: Tensor, q: Tensor) -> Tensor:
    return p * (p / q).log() - p + q


def _js(p: Tensor, p_zero: Tensor, q: Tensor, q_zero: Tensor, n_zeros: int) -> Tensor:
    p_total, q_total = (x.sum(1) + n_zeros * x_zero for x, x_zero in ((p, p_zero), (q, q_zero)))
    p, q = p / p_total[:, None], q / q_total[:, None]
    zero = _js_terms(p_zero / p_total, q_zero / q_total)
    return ((_js_terms(p, q).sum(1) + n_zeros * zero) / 2).clamp(min=0).sqrt()


def _js_terms(p: Tensor, q: Tensor) -> Tensor:
    m = (p + q) / 2
    return p * (p / m).log() + q * (q / m).log()


DISTANCES: Mapping[str, Callable[..., Tensor]] = {
    "l2norm": l2norm,
    "hausdorff": hausdorff,
    "kldivergence": kldivergence,
    "jsdistance": jsdistance,
}
"""Name to function."""
