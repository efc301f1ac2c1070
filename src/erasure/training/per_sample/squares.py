"""The public functions: per-sample gradients, their squares, and what published methods use in their place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from erasure.errors import DataError, Diverged
from erasure.training.forward import logits_of
from erasure.training.per_sample.engine import Engine, Method
from erasure.training.per_sample.scope import evaluation, selected_parameters
from erasure.training.per_sample.seeds import PerSampleLoss, Seeder, fisher_seeder, loss_seeder
from erasure.training.trial import require_gradients
from erasure.types import Task

__all__ = [
    "absolute_gradients",
    "batch_absolute_gradients",
    "batch_squared_gradients",
    "per_sample_gradients",
    "squared_gradients",
    "true_fisher",
]


def squared_gradients(
    model: nn.Module,
    batches: Iterable[Any],
    per_sample_loss: PerSampleLoss,
    *,
    normaliser: Literal["mean", "sum"] = "mean",
    dtype: torch.dtype = torch.float64,
    method: Method = "auto",
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Mean squared gradient of single samples' losses, for each parameter.

    Answers: how much does each weight matter to the losses of these samples? With the cross-entropy of the true labels it is the
    diagonal of the *empirical* Fisher information.

    .. math:: I = \frac1N \sum_{i=1}^N \Bigl(\frac{\partial \ell_i}{\partial \theta}\Bigr)^2

    The result does not depend on how the samples are batched. A sample's loss is the one it has in a batch of its own, in evaluation
    mode.

    Args:
        model: Called as ``model(x)``; gives logits, ``(features, logits)`` or an object with ``.logits``, samples in front. Comes back
            as it was: modes, ``requires_grad``, ``.grad``, hooks and buffers.
        batches: Yields ``(x, y)``, more fields are ignored; ``x`` is whatever the model takes, ``y`` has shape ``(B, …)``.
        per_sample_loss: ``(logits, y) -> (B,)``, a function of nothing else.
        normaliser: Divide by the number of samples, or do not.
        dtype: Of the sums over batches. float32 is enough for the gradients but moves ratios of importances.
        method: ``auto``, or a fallback for all parameters: ``vmap`` or ``loop``. The numbers are the same.
        parameters: Names to restrict the work to; None takes those that require gradients, or all if none does.

    Returns:
        By parameter name, in the parameter's shape and on its device, each entry at least 0; 0 for a parameter that takes no part.

    Raises:
        DataError: If there are no samples.
        Diverged: If a result is not finite.
        RequirementNotMet: If the loss is not per sample, logits do not have samples in front, or ``parameters`` holds unknown names.

    Cost:
        One forward and one backward pass per batch for layers with a closed form: Linear, Conv1d/2d/3d, BatchNorm, GroupNorm,
        InstanceNorm, LayerNorm, RMSNorm, Embedding. Parameters used otherwise (shared or called twice, attention, recurrent layers,
        direct use) are differentiated sample by sample, vectorised by ``torch.func.vmap`` where it can be. On the first batch four
        more passes of one sample check the closed forms.

    Source:
        Goodfellow, arXiv 1510.01799; Rochette et al., arXiv 1912.06015; tested against a loop over batches of one.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> batches = [(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.zeros(2))]
        >>> squared_gradients(model, batches, lambda logits, y: logits[:, 0])["weight"]
        tensor([[5., 2.]], dtype=torch.float64)
    """
    return _accumulate(model, batches, loss_seeder(per_sample_loss), normaliser, dtype, method, parameters)


def true_fisher(
    model: nn.Module,
    batches: Iterable[Any],
    n_classes: int,
    *,
    task: Task = "classification",
    dtype: torch.dtype = torch.float64,
    method: Method = "auto",
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Diagonal of the true Fisher information, with labels distributed as the model predicts them.

    Answers: how far would the model's predictions on these inputs move if this weight did? Labels are not read.

    .. math:: F = \frac1N \sum_{i=1}^N \sum_{y} p(y \mid x_i) \Bigl(\frac{\partial \log p(y \mid x_i)}{\partial \theta}\Bigr)^2

    Args:
        model: As for :func:`squared_gradients`; its logits have shape ``(B, n_classes)``, or ``(B,)`` or ``(B, 1)`` if binary.
        batches: Yields ``(x, y)``; only the length of ``y`` matters.
        n_classes: Classes, or labels of a multilabel task.
        task: ``classification`` (softmax), ``binary`` (one Bernoulli label) or ``multilabel`` (``n_classes`` independent ones).
        dtype: Of the sums over batches.
        method: As for :func:`squared_gradients`.
        parameters: As for :func:`squared_gradients`.

    Returns:
        By parameter name, in the parameter's shape, each entry at least 0.

    Raises:
        DataError: If there are no samples.
        Diverged: If a result is not finite.
        RequirementNotMet: If the logits do not have the expected shape, or ``parameters`` holds unknown names.

    Cost:
        One forward and ``n_classes - 1`` backward passes per batch: the sum over labels is a sum of squares of ``n_classes - 1``
        vectors, from the Cholesky factor of :math:`\operatorname{diag}(p) - p p^\top`. Binary takes 1, multilabel ``n_classes``.

    Source:
        Golatkar, Achille, Soatto, CVPR 2020, arXiv 1911.04933 (their code sums over labels in batches of one); the factorisation as in
        Dangel, Kunstner, Hennig, "BackPACK", ICLR 2020, with one vector fewer.

    Example:
        >>> model = nn.Linear(1, 2, bias=False)
        >>> _ = model.weight.data.zero_()
        >>> true_fisher(model, [(torch.tensor([[2.0]]), torch.tensor([0]))], n_classes=2)["weight"].flatten()
        tensor([1., 1.], dtype=torch.float64)
    """
    return _accumulate(model, batches, fisher_seeder(n_classes, task), "mean", dtype, method, parameters)


def per_sample_gradients(
    model: nn.Module,
    x: Any,
    y: Tensor,
    per_sample_loss: PerSampleLoss,
    *,
    method: Literal["vmap", "loop"] = "vmap",
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Gradient of each sample's loss, :math:`\partial \ell_i / \partial \theta`, all of them in memory.

    Args:
        model: As for :func:`squared_gradients`.
        x: One batch of inputs.
        y: Its labels, shape ``(B, …)``, ``B >= 1``.
        per_sample_loss: ``(logits, y) -> (B,)``.
        method: ``vmap`` (falls back to the loop where it must) or ``loop``.
        parameters: As for :func:`squared_gradients`; restrict it to bound the memory.

    Returns:
        By parameter name, shape ``(B, *parameter)``, in the parameter's own type.

    Raises:
        DataError: If there are no samples.
        Diverged: If a gradient is not finite.
        RequirementNotMet: As for :func:`squared_gradients`.

    Cost:
        Memory for ``B`` copies of the parameters; one vectorised forward and backward pass.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> per_sample_gradients(model, x, torch.zeros(2), lambda logits, y: logits[:, 0])["weight"]
        tensor([[[1., 2.]],
        <BLANKLINE>
                [[3., 0.]]])
    """
    chosen = selected_parameters(model, parameters)
    with evaluation(model, chosen):
        gradients = Engine(model, chosen, loss_seeder(per_sample_loss), method, torch.float64).gradients(x, y)
    _require_finite(gradients)
    return gradients


def absolute_gradients(
    model: nn.Module,
    batches: Iterable[Any],
    per_sample_loss: PerSampleLoss,
    *,
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Mean absolute gradient of single samples' losses, for each parameter.

    .. math:: I = \frac1N \sum_{i=1}^N \Bigl|\frac{\partial \ell_i}{\partial \theta}\Bigr|

    The result does not depend on how the samples are batched; a batch needs memory for as many copies of the parameters as it has
    samples. Args, returns and raises are those of :func:`squared_gradients`.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> batches = [(torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.zeros(2))]
        >>> absolute_gradients(model, batches, lambda logits, y: logits[:, 0])["weight"]
        tensor([[2., 1.]], dtype=torch.float64)
    """
    totals: dict[str, Tensor] = {}
    n_samples = 0
    for batch in batches:
        x, y = batch[0], batch[1]
        if len(y) == 0:
            continue
        n_samples += len(y)
        for name, gradients in per_sample_gradients(model, x, y, per_sample_loss, parameters=parameters).items():
            size = gradients.to(torch.float64).abs().sum(0)
            totals[name] = totals[name] + size if name in totals else size
    if not n_samples:
        raise DataError("no samples: absolute gradients need at least one sample, and the batches gave none")
    return {name: total / n_samples for name, total in totals.items()}


def batch_squared_gradients(
    model: nn.Module,
    batches: Iterable[Any],
    mean_loss: Callable[[Tensor, Tensor], Tensor],
    *,
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Mean over minibatches of the squared gradient of the minibatch's loss: the importance of SSD as published.

    .. math:: I = \frac1M \sum_{m=1}^M \Bigl(\frac{\partial}{\partial \theta} \mathrm{loss}(B_m)\Bigr)^2

    Not the Fisher information: noise within a minibatch averages out before the square, so the value shrinks as minibatches grow, and
    two importances compare only if their minibatches have the same size. :func:`squared_gradients` does not depend on it.

    Args:
        model: As for :func:`squared_gradients`.
        batches: Yields ``(x, y)``; each minibatch weighs the same.
        mean_loss: ``(logits, y) -> scalar``.
        parameters: As for :func:`squared_gradients`.

    Returns:
        By parameter name, in the parameter's shape, float64.

    Raises:
        DataError: If there are no samples.
        Diverged: If a result is not finite.

    Source:
        Foster, Schoepf, Brintrup, AAAI 2024, arXiv 2308.07707.
    """
    return _over_minibatches(model, batches, mean_loss, torch.square, parameters)


def batch_absolute_gradients(
    model: nn.Module,
    batches: Iterable[Any],
    mean_loss: Callable[[Tensor, Tensor], Tensor],
    *,
    parameters: Collection[str] | None = None,
) -> dict[str, Tensor]:
    r"""Mean over minibatches of the absolute gradient of the minibatch's loss: the importance of loss-free SSD as published.

    .. math:: I = \frac1M \sum_{m=1}^M \Bigl|\frac{\partial}{\partial \theta} \mathrm{loss}(B_m)\Bigr|

    Args, returns and raises are those of :func:`batch_squared_gradients`; LFSSD's loss is the mean squared norm of the logits.

    Source:
        Foster et al., arXiv 2402.19308.
    """
    return _over_minibatches(model, batches, mean_loss, torch.abs, parameters)


def _accumulate(
    model: nn.Module,
    batches: Iterable[Any],
    seeder: Seeder,
    normaliser: str,
    dtype: torch.dtype,
    method: Method,
    parameters: Collection[str] | None,
) -> dict[str, Tensor]:
    chosen = selected_parameters(model, parameters)
    with evaluation(model, chosen):
        engine = Engine(model, chosen, seeder, method, dtype)
        for batch in batches:
            engine.add(batch[0], batch[1])
    if not engine.n_samples:
        raise DataError("no samples: squared gradients need at least one sample, and the batches gave none")
    divisor = engine.n_samples if normaliser == "mean" else 1
    totals = {name: total.div_(divisor) for name, total in engine.totals.items()}
    _require_finite(totals)
    return totals


def _over_minibatches(
    model: nn.Module,
    batches: Iterable[Any],
    mean_loss: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor], Tensor],
    parameters: Collection[str] | None,
) -> dict[str, Tensor]:
    chosen = selected_parameters(model, parameters)
    totals = {name: torch.zeros_like(p, dtype=torch.float64, requires_grad=False) for name, p in chosen.items()}
    n_batches = 0
    with evaluation(model, chosen):
        for batch in batches:
            x, y = batch[0], batch[1]
            if len(y) == 0:
                continue
            n_batches += 1
            logits = logits_of(model(x))
            if n_batches == 1:
                require_gradients(model, logits)
            loss = mean_loss(logits, y)
            if not loss.requires_grad:
                continue
            gradients = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True)
            for name, gradient in zip(chosen, gradients, strict=True):
                if gradient is not None:
                    dense = gradient.to_dense() if gradient.is_sparse else gradient
                    totals[name] += size(dense.to(torch.float64))
    if not n_batches:
        raise DataError("no samples: gradients of minibatches need at least one sample, and the batches gave none")
    totals = {name: total.div_(n_batches) for name, total in totals.items()}
    _require_finite(totals)
    return totals


def _require_finite(values: dict[str, Tensor]) -> None:
    """One wait for the device, after the last batch."""
    if not values:
        return
    device = next(iter(values.values())).device
    finite = torch.stack([value.isfinite().all().to(device) for value in values.values()]).tolist()
    bad = [name for name, is_finite in zip(values, finite, strict=True) if not is_finite]
    if bad:
        shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise Diverged(
            f"gradients of {shown} are not finite; expected finite logits, losses and weights: check the model for NaN"
        )
