"""Gradients of single samples and their squares, without a loop over batches of one.

One backward pass of a batch gives every layer the gradient at its output, row by row; together with the layer's input that fixes each
sample's gradient. Layers with a closed form (one rule per type, in ``linear``, ``convolution``, ``normalisation`` and ``embedding``)
sum the squares from these alone. Whatever no rule covers is recognised and differentiated sample by sample, so every number is exact.
"""

from __future__ import annotations

from erasure.training.per_sample.squares import (
    absolute_gradients,
    batch_absolute_gradients,
    batch_squared_gradients,
    per_sample_gradients,
    squared_gradients,
    true_fisher,
)

__all__ = [
    "absolute_gradients",
    "batch_absolute_gradients",
    "batch_squared_gradients",
    "per_sample_gradients",
    "squared_gradients",
    "true_fisher",
]
