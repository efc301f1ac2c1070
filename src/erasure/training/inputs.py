"""What a model reads, as something to perturb or to optimise: the input itself, or the embeddings of its tokens.

Methods that make noise or adversarial samples work on *values*: for floating-point inputs the input as the model sees it, for
graphs the features of their nodes, for integer tokens the output of the model's first ``nn.Embedding``, which a forward hook
replaces for one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batches
from erasure.training.forward import logits_of
from erasure.training.graphs import GraphBatch, NodeBatch
from erasure.training.optimizers import uncompiled

__all__ = ["fixed", "logits_on", "optimised", "value_range", "values_of"]

Bounds = tuple[Tensor, Tensor]


@contextmanager
def fixed(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients for its weights; modes and flags are put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    free = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training


def values_of(model: nn.Module, x: Any) -> Tensor:
    """What ``model`` reads for the input ``x``, detached: ``x`` itself, the features of its nodes, or the embeddings of its tokens.

    Of graphs these are the features of all nodes, of some nodes of one graph those nodes' own.

    Raises:
        RequirementNotMet: If the input is neither a floating-point tensor, nor graphs, nor tokens of a model with an embedding.
    """
    if isinstance(x, GraphBatch):
        return x.x.detach()
    if isinstance(x, NodeBatch):
        return x.x.index_select(0, x.rows).detach()
    if _is_continuous(x):
        return x.detach()  # type: ignore[no-any-return]
    seen: list[Tensor] = []
    handle = _embedding(model).register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    try:
        with torch.no_grad():
            model(x)
    finally:
        handle.remove()
    return _only(seen)


def logits_on(model: nn.Module, x: Any, values: Tensor, rows: Tensor | None = None) -> Tensor:
    """Logits of ``model`` when it reads ``values`` instead of the input ``x``.

    Args:
        model: The model; its hooks are as before afterwards.
        x: Input of ``B`` samples. Of tokens, everything but the embedding (lengths, attention mask) still counts.
        values: Shape as :func:`values_of` gives it; gradients flow here.
        rows: ``(B,)`` bool, the samples that are replaced; all of them by default, and always of graphs.
    """
    if isinstance(x, GraphBatch):
        return logits_of(model(replace(x, x=values)))
    if isinstance(x, NodeBatch):
        return logits_of(model(replace(x, x=x.x.index_copy(0, x.rows, values))))
    if _is_continuous(x):
        return logits_of(model(_placed(values, x, rows)))
    seen: list[Tensor] = []

    def replaced(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        seen.append(output)
        return _placed(values, output, rows)

    handle = _embedding(model).register_forward_hook(replaced)
    try:
        logits = logits_of(model(x))
    finally:
        handle.remove()
    _only(seen)
    return logits


def value_range(model: nn.Module, batches: Batches) -> Bounds:
    """Least and greatest value that the model reads, to be broadcast against :func:`values_of`.

    Per column of a table or of the features of nodes, and per channel of anything with more dimensions; for tokens per dimension of
    the embedding table.

    Args:
        model: The model, for its embedding.
        batches: The samples to look at, at least one.
    """
    low, high = None, None
    for batch in batches:
        on_graphs = isinstance(batch.x, GraphBatch | NodeBatch)
        if not on_graphs and not _is_continuous(batch.x):
            table = _embedding(model).weight.detach()
            return table.amin(0), table.amax(0)
        seen = values_of(model, batch.x)
        others = [0, *range(2, seen.ndim)]
        least, greatest = seen.amin(others, keepdim=True), seen.amax(others, keepdim=True)
        low = least if low is None else torch.minimum(low, least)
        high = greatest if high is None else torch.maximum(high, greatest)
    if low is None or high is None:
        raise RequirementNotMet("the range of the inputs cannot be distinguished from an empty partition")
    return low, high


def optimised(
    model: nn.Module,
    x: Any,
    start: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    bounds: Bounds | None = None,
) -> Tensor:
    """Values that minimise an objective with the model fixed, by Adam.

    The model is in eval mode meanwhile, and its weights receive no gradient.

    Args:
        model: The model, as before afterwards.
        x: Input whose values are replaced.
        start: Where to start.
        objective: Takes logits and values, gives a scalar.
        steps: Adam's steps.
        lr: Adam's rate.
        bounds: The values are put back between these at the start and after every step.

    Returns:
        Shape of ``start``, detached.
    """
    values = (start if bounds is None else start.clamp(*bounds)).detach().clone().requires_grad_(True)
    adam = uncompiled(torch.optim.Adam)([values], lr=lr)
    with fixed(model), torch.enable_grad():
        for _ in range(steps):
            adam.zero_grad(set_to_none=True)
            objective(logits_on(model, x, values), values).backward()  # type: ignore[no-untyped-call]
            adam.step()
            if bounds is not None:
                with torch.no_grad():
                    values.clamp_(*bounds)
    return values.detach()


def _is_continuous(x: Any) -> bool:
    if not isinstance(x, Tensor):
        raise RequirementNotMet(f"noise can only be made for inputs in one tensor; this model reads {type(x).__name__}")
    return x.is_floating_point()


def _embedding(model: nn.Module) -> nn.Embedding:
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return module
    raise RequirementNotMet("the inputs are integers and the model has no nn.Embedding that reads them")


def _placed(values: Tensor, x: Tensor, rows: Tensor | None) -> Tensor:
    if rows is None:
        return values
    return torch.where(rows.reshape(-1, *[1] * (x.ndim - 1)), values.to(x.dtype), x)


def _only(seen: list[Tensor]) -> Tensor:
    if len(seen) != 1:
        raise RequirementNotMet(f"the model must read its first nn.Embedding once a call; it did so {len(seen)} times")
    return seen[0]
