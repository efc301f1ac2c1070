r"""Divergences between predicted distributions, sample by sample.

All take log-probabilities of shape ``(…, K)`` and compare along the last dimension, in natural logarithms. Working with
log-probabilities keeps saturated predictions exact where circulating code clamps probabilities at 1e-12.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.types import Task

__all__ = ["hellinger", "jensen_shannon", "kullback_leibler", "log_probabilities", "total_variation"]


def log_probabilities(task: Task, logits: Tensor) -> Tensor:
    """Logarithms of the predicted distributions, in double precision.

    Returns:
        ``(n, K)``; ``(n, 2)`` for ``binary``; for ``multilabel`` ``(n, C, 2)``, one distribution over no and yes for each label.

    Example:
        >>> log_probabilities("binary", torch.zeros(1, 1)).exp()
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    logits = logits.double()
    if task == "classification":
        return logits.log_softmax(1)
    pair = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)
    return pair if task == "multilabel" else pair.reshape(-1, 2)


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence :math:`\mathrm{KL}(p \,\|\, q) = \sum_k p_k \ln(p_k / q_k)`.

    Returns:
        Shape ``(…,)``, at least 0, in nats; 0 only where both are equal.

    Source:
        Tested against ``scipy.special.rel_entr``.

    Example:
        >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
        >>> round(float(kullback_leibler(p.log(), q.log())), 4)
        0.1438
    """
    p = log_p.exp()
    # A probability of zero contributes nothing, whatever its logarithm.
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1).clamp(min=0)


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence :math:`\tfrac12 \mathrm{KL}(p \,\|\, m) + \tfrac12 \mathrm{KL}(q \,\|\, m)`, :math:`m = (p + q) / 2`.

    Returns:
        Shape ``(…,)``, in [0, ln 2], in nats; symmetric.

    Source:
        Lin, 1991; tested against the square of ``scipy.spatial.distance.jensenshannon``.

    Example:
        >>> jensen_shannon(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log())
        tensor(0.6931)
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kullback_leibler(log_p, log_m) + kullback_leibler(log_q, log_m)) / 2


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Total variation distance :math:`\tfrac12 \sum_k |p_k - q_k|`.

    Returns:
        Shape ``(…,)``, in [0, 1].

    Example:
        >>> total_variation(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log())
        tensor(0.2500)
    """
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def hellinger(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Hellinger distance :math:`\tfrac{1}{\sqrt 2} \lVert \sqrt p - \sqrt q \rVert_2`.

    Returns:
        Shape ``(…,)``, in [0, 1].

    Example:
        >>> hellinger(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log())
        tensor(1.)
    """
    return ((log_p / 2).exp() - (log_q / 2).exp()).square().sum(-1).div(2).sqrt()
