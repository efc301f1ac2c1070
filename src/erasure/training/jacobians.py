"""Derivatives of single samples' logits by the weights, and of single samples' losses by the logits."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.per_sample import per_sample_gradients
from erasure.training.trial import differentiable_gradients

__all__ = ["logit_jacobians", "output_hessians"]


def logit_jacobians(model: nn.Module, batch: Batch, n_outputs: int) -> Tensor:
    """Gradient of every logit of every sample by the weights that may be trained, in eval mode.

    Args:
        model: ``P`` trainable weights, in the order of its parameters.
        batch: ``B`` samples.
        n_outputs: ``K`` logits a sample.

    Returns:
        ``(B, K, P)``.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    rows = []
    for k in range(n_outputs):
        found = per_sample_gradients(model, batch.x, batch.y, functools.partial(_logit, k, n_outputs), parameters=names)
        rows.append(torch.cat([found[name].flatten(1) for name in names], dim=1))
    return torch.stack(rows, dim=1)


def output_hessians(criterion: Criterion, logits: Tensor, y: Tensor) -> Tensor:
    r"""Second derivatives of each sample's loss by its logits.

    Args:
        criterion: The loss.
        logits: ``K`` for each of ``B`` samples, in the shape that the loss takes.
        y: Labels.

    Returns:
        ``(B, K, K)``, symmetric.

    Example:
        >>> output_hessians(Criterion("classification"), torch.zeros(1, 2), torch.tensor([0]))
        tensor([[[ 0.2500, -0.2500],
                 [-0.2500,  0.2500]]])
    """
    leaf = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        losses = criterion.per_sample(leaf, y)
        (slope,) = differentiable_gradients(losses.sum(), [leaf])
        columns = slope.reshape(len(y), -1)
        n_outputs = columns.shape[1]
        if not columns.requires_grad:  # the loss is linear
            return logits.new_zeros(len(y), n_outputs, n_outputs)
        rows = [
            torch.autograd.grad(columns[:, k].sum(), leaf, retain_graph=True)[0].reshape(len(y), -1) for k in range(n_outputs)
        ]
    return torch.stack(rows, dim=1)


def _logit(k: int, n_outputs: int, logits: Tensor, y: Tensor) -> Tensor:
    """Logit ``k`` of each sample."""
    return logits.reshape(len(logits), n_outputs)[:, k]
