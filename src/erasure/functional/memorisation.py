"""How much of an answer a language model has by heart, from what it says of each token."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.functional.tokens import TokenTable

__all__ = ["exact_memorisation", "extraction_strength"]


def exact_memorisation(table: TokenTable) -> Tensor:
    """Share of the tokens of each answer that are hit, ``(n,)`` float64 in [0, 1]; 0 for one without tokens."""
    return table.hit_shares


def extraction_strength(table: TokenTable) -> Tensor:
    r"""Length of the unbroken run of hits that ends an answer, over its length: ``(n,)`` float64 in [0, 1].

    .. math:: 1 - k / T, \quad k = \min\{k : \text{every token } t \ge k \text{ is hit}\}

    0 where the last token is missed, and for an answer without tokens.

    Example:
        >>> hits = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
        >>> statistics = torch.stack([hits - 1, hits, hits, hits], dim=-1)
        >>> float(extraction_strength(TokenTable(statistics, torch.ones(1, 4, dtype=torch.int64))))
        0.5
    """
    misses = table.mask & ~table.hits
    places = torch.arange(1, misses.shape[1] + 1, device=misses.device)
    last_miss = (misses * places).amax(1) if misses.shape[1] else misses.sum(1)
    return (table.lengths - last_miss).double() / table.lengths.clamp_min(1)
