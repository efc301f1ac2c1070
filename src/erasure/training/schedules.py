"""Learning-rate schedules that PyTorch does not have."""

from __future__ import annotations

import torch

from erasure.errors import InvalidParameters

__all__ = ["Triangle"]


class Triangle(torch.optim.lr_scheduler.LambdaLR):
    r"""A rate that rises linearly to its full value in the middle of the training and falls again.

    .. math:: \eta_e = \eta\, \frac{\min(e + 1,\, E - e)}{\lceil E / 2 \rceil}, \qquad e = 0, \dots, E - 1

    Args:
        optimizer: Its rates are the full ones.
        epochs: ``E``, at least 1; a training's length by default where a method has the schedule.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3.0)
        >>> schedule, rates = Triangle(optimizer, epochs=5), []
        >>> for _ in range(5):
        ...     rates.append(round(schedule.get_last_lr()[0], 6))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [1.0, 2.0, 3.0, 2.0, 1.0]
    """

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        if epochs < 1:
            raise InvalidParameters(f"a triangular schedule needs at least 1 epoch, found {epochs}")
        peak = -(-epochs // 2)
        super().__init__(optimizer, lambda epoch: max(0, min(epoch + 1, epochs - epoch)) / peak)
