"""Exact per-sample gradients of any parameter: vectorised over samples where torch can, one sample at a time where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from erasure.errors import RequirementNotMet
from erasure.training.forward import logits_of
from erasure.training.per_sample.scope import map_tensors, sample
from erasure.training.per_sample.seeds import Cotangents, Seeder
from erasure.training.trial import unwatched

__all__ = ["one_by_one", "vectorised"]

_CHUNK_ELEMENTS = 1 << 24
"""Elements of per-sample gradients that one vectorised call may hold: 64 MiB of float32."""

_SEEDS_AT_ONCE = 16


def one_by_one(
    model: Callable[..., Any],
    parameters: Mapping[str, nn.Parameter],
    x: Any,
    y: Tensor,
    n: int,
    seeder: Seeder,
    only: Collection[int] | None = None,
    n_passes: int | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Gradients of every pass of every sample, each sample run as a batch of its own: the definition, and the slowest way.

    Args:
        model: In evaluation mode.
        parameters: What to differentiate by, by name.
        x: A batch, as the model takes it.
        y: Its labels, shape ``(n, …)``.
        n: Its number of samples.
        seeder: Gives the passes.
        only: Positions of the samples to run; None runs all.
        n_passes: How many passes to take; None takes all.

    Yields:
        Gradients by name; pass after pass, sample after sample.
    """
    names, leaves = list(parameters), list(parameters.values())
    for i in range(n) if only is None else only:
        logits = logits_of(model(sample(x, i, n)))
        if logits.shape[0] != 1:
            raise RequirementNotMet(f"the model gives logits of shape {tuple(logits.shape)} for one sample; expected (1, …)")
        seeds = seeder(logits.detach(), sample(y, i, n))
        count = seeds.count if n_passes is None else min(n_passes, seeds.count)
        for j in range(count):
            if not logits.requires_grad:
                yield {name: torch.zeros_like(p) for name, p in parameters.items()}
                continue
            keep = j + 1 < count
            grads = seeds.gradients(j, logits, leaves, keep=keep)
            yield {
                name: torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
                for name, p, g in zip(names, leaves, grads, strict=True)
            }


def vectorised(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], x: Any, n: int, seeds: Cotangents
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Gradients of many samples at once by ``torch.func.vmap``.

    Args:
        model: In evaluation mode; samples of a batch must not influence one another.
        parameters: What to differentiate by, by name.
        x: A tensor, or a mapping or tuple of tensors, with samples in front.
        n: Number of samples.
        seeds: The passes of this batch.

    Yields:
        Which samples, and their gradients, shape ``(samples, passes, *parameter)``. All passes of the batch are covered.
    """
    constants = {name: p.detach() for name, p in model.named_parameters()}
    active = {name: constants.pop(name) for name in parameters}

    def gradients(x_i: Any, seeds_i: Tensor) -> dict[str, Tensor]:
        def logits(values: dict[str, Tensor]) -> Tensor:
            return logits_of(
                functional_call(model, {**constants, **values}, (map_tensors(x_i, lambda t: t.unsqueeze(0)),))
            ).squeeze(0)

        pullback = vjp(logits, active)[1]
        # A loop over passes, for PReLU's backward is wrong under a vmap within a vmap (torch 2.13).
        passes = [pullback(seed)[0] for seed in seeds_i.unbind()]
        return {name: torch.stack([given[name] for given in passes]) for name in active}

    size = max(1, sum(p.numel() for p in parameters.values()))
    for first in range(0, seeds.count, _SEEDS_AT_ONCE):
        stacked = seeds.stacked(first, min(seeds.count, first + _SEEDS_AT_ONCE))
        step = max(1, _CHUNK_ELEMENTS // (size * len(stacked)))
        for start in range(0, n, step):
            part = slice(start, min(n, start + step))
            x_part = map_tensors(x, itemgetter(part))
            with unwatched(), warnings.catch_warnings():
                # Layers that torch does not vectorise are computed one sample at a time, which is slower and no fault.
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                found = vmap(gradients, in_dims=(0, 1))(x_part, stacked[:, part])
            yield part, found
