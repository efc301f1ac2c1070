"""Parts of a vector along others and across them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["orthogonal_part"]


def orthogonal_part(vector: Tensor, rows: Tensor) -> Tensor:
    r"""What is left of a vector when everything in the span of others is taken out.

    .. math:: v - Q Q^\top v, \qquad \mathrm{span}\, Q = \mathrm{span}\{r_1, \dots, r_B\}

    Args:
        vector: ``(P,)``, floating point; half precision is projected in single.
        rows: ``(B, P)``, same type and device; they may depend on each other or be 0.

    Returns:
        ``(P,)``, with an inner product of 0 with every row, up to rounding; 0 if the rows span everything.

    Example:
        >>> orthogonal_part(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
        tensor([1., 2., 0.])
    """
    if rows.shape[0] == 0:
        return vector
    if vector.dtype.itemsize < 4:  # no factorisation is written for these
        return orthogonal_part(vector.float(), rows.float()).to(vector.dtype)
    # Singular vectors rather than a QR factorisation, whose Q leaves the span where rows depend on each other.
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    threshold = sizes.amax() * torch.finfo(rows.dtype).eps * max(rows.shape)
    # Where every row is 0 so are their singular vectors, which come with rounding there: Adam would make whole steps of it.
    basis = basis * (sizes > threshold)[:, None] * (rows != 0).any(0)
    # Twice is enough for orthogonality to working precision.
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector
