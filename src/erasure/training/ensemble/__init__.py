"""Models of one architecture, trained together.

The weights of all models lie in one tensor per layer, so that a step costs one batched product a layer, not one product a layer and
model. Each model keeps its own samples and its own random stream, and ends where it would end alone, up to the rounding of sums.
"""

from __future__ import annotations

from erasure.training.ensemble.choice import BLOCK_SIZE, unsuited, unsupported_reason
from erasure.training.ensemble.training import train_together

__all__ = ["BLOCK_SIZE", "train_together", "unsuited", "unsupported_reason"]
