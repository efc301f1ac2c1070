"""Products with the BFGS approximation of a curvature, from pairs of steps and differences of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SecantCurvature"]


class SecantCurvature:
    r"""The compact form of BFGS from the last pairs.

    .. math:: B v = \sigma v - \begin{bmatrix} Y & \sigma S \end{bmatrix}
        \begin{bmatrix} -D & L^\top \\ L & \sigma S^\top S \end{bmatrix}^{-1} \begin{bmatrix} Y^\top v \\ \sigma S^\top v \end{bmatrix}

    with :math:`\sigma = y_m^\top s_m / s_m^\top s_m`, ``L`` the strictly lower part of :math:`S^\top Y` and ``D`` its diagonal.
    It maps the last step to the last difference exactly.

    Source: Byrd, Nocedal, Schnabel, Mathematical Programming 1994.

    Args:
        steps: ``s``, each ``(P,)``, the oldest first.
        differences: ``y`` of the same steps; ``y's`` must be positive.

    Example:
        >>> curvature = SecantCurvature([torch.tensor([1.0, 0.0])], [torch.tensor([2.0, 0.0])])
        >>> curvature(torch.tensor([1.0, 1.0]))
        tensor([2., 2.])
    """

    def __init__(self, steps: Sequence[Tensor], differences: Sequence[Tensor]) -> None:
        s, y = torch.stack(list(steps), 1), torch.stack(list(differences), 1)
        inner = s.T @ y
        self.scale: Tensor = inner[-1, -1] / (s[:, -1] @ s[:, -1])
        lower = torch.tril(inner, -1)
        top = torch.cat([-torch.diag(torch.diagonal(inner)), lower.T], 1)
        bottom = torch.cat([lower, self.scale * (s.T @ s)], 1)
        self.middle: Tensor = torch.cat([top, bottom])
        self.outer: Tensor = torch.cat([y, self.scale * s], 1)

    def __call__(self, v: Tensor) -> Tensor:
        """The product with ``v``, ``(P,)``."""
        product: Tensor = self.scale * v - self.outer @ torch.linalg.solve(self.middle, self.outer.T @ v)
        return product
