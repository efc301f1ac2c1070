"""Taking up a training without some of its samples: from a checkpoint between epochs, or from the slices of shards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Column
from erasure.training.calls import Criterion
from erasure.training.devices import Precision, synchronise
from erasure.training.history import Checkpoint
from erasure.training.predictor import Predictor, train
from erasure.training.sharded import ShardedEnsemble, require_shards, train_shards

__all__ = ["Cached", "Recipe", "Resumed", "resumed"]

_TRAINED_ON = "ids"
"""Beside the states of shards: the samples that they have seen."""

Cached = Callable[[str, Any, Callable[[], dict[str, Tensor]]], tuple[dict[str, Tensor], float]]
"""Tensors that depend on the second argument alone, and the seconds they took to compute."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Resumed:
    """A model whose training was taken up, and what that cost.

    Args:
        model: In eval mode.
        elapsed_s: Seconds of the request.
        precompute_s: Seconds of making what is kept, which training does by the way.
        kept_bytes: Size of what is kept.
        share: Part of the training that was done again, in [0, 1].
    """

    model: nn.Module
    elapsed_s: float
    precompute_s: float
    kept_bytes: int
    share: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe:
    """How the original was trained, with its data.

    Args:
        build: Gives the network with its initial weights.
        predictor: The recipe.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        ids: What the original was trained on.
        criterion: The loss.
        seed: Of the training.
        batch_size: Used where the recipe does not set its own.
        precision: ``fp32`` or ``bf16``.
        digest: Digest of a model, by which the replayed one is known to be the original.
        cached: Keeps tensors between requests.
    """

    build: Callable[[], nn.Module]
    predictor: Predictor
    x: Column
    y: Tensor
    ids: Tensor
    criterion: Criterion
    seed: int
    batch_size: int
    precision: Precision = "fp32"
    digest: Callable[[nn.Module], str]
    cached: Cached

    def arguments(self) -> dict[str, Any]:
        """What both kinds of training take, the samples apart."""
        names = ("x", "y", "criterion", "seed", "batch_size", "precision")
        return {name: getattr(self, name) for name in names}


def resumed(recipe: Recipe, original: nn.Module, ids: Tensor, epochs: int | None = None) -> Resumed:
    """The original's training without some samples, from what was kept of it.

    What an ensemble of shards keeps is kept of the result too, so that a stream of requests goes on from there.

    Args:
        recipe: How the original was trained.
        original: It, or an ensemble that came of an earlier request.
        ids: Samples that stay.
        epochs: Epochs that are taken back, of an ordinary network; an ensemble of shards goes back to the slices that it has to.

    Raises:
        RequirementNotMet: If the training cannot be taken up, or samples are not among those of the original.
    """
    strange = int((~torch.isin(ids, recipe.ids)).sum())
    if strange:
        raise RequirementNotMet(f"{strange} samples to keep were not trained on; training is taken up with samples it has seen")
    built = recipe.build()
    if epochs is not None and not isinstance(built, ShardedEnsemble):
        return _rewound(recipe, original, built, ids, epochs)
    return _shards(recipe, original, require_shards(built), ids)


def _shards(recipe: Recipe, original: nn.Module, built: ShardedEnsemble, ids: Tensor) -> Resumed:
    def compute() -> dict[str, Tensor]:
        fresh = recipe.build()
        assert isinstance(fresh, ShardedEnsemble)  # noqa: S101 - narrows the type
        states = train_shards(fresh, recipe.predictor, ids=recipe.ids, **recipe.arguments()).states
        _require_same(recipe, fresh, original)
        return {**states, _TRAINED_ON: recipe.ids}

    states, precompute_s = recipe.cached("shards", {"original": recipe.digest(original)}, compute)
    start = time.perf_counter()
    moved = {name: value.to(recipe.y.device) for name, value in states.items()}
    trained_on = moved.pop(_TRAINED_ON, recipe.ids)
    if bool((~torch.isin(ids, trained_on)).any()):
        raise RequirementNotMet(
            "some samples to keep were deleted by an earlier request; start from the original to have them back"
        )
    gone = trained_on[~torch.isin(trained_on, ids)]
    done = train_shards(built, recipe.predictor, ids=ids, states=moved, gone=gone, **recipe.arguments())
    synchronise(recipe.y.device)
    elapsed_s = time.perf_counter() - start
    recipe.cached("shards", {"original": recipe.digest(built)}, lambda: {**done.states, _TRAINED_ON: ids})
    return Resumed(
        model=built,
        elapsed_s=elapsed_s,
        precompute_s=precompute_s,
        kept_bytes=sum(value.numel() * value.element_size() for value in moved.values()),
        share=done.n_trained / (len(built.members) * built.n_slices),
    )


def _rewound(recipe: Recipe, original: nn.Module, built: nn.Module, ids: Tensor, epochs: int) -> Resumed:
    kept: list[Checkpoint] = []
    at = max(0, recipe.predictor.epochs - epochs)

    def keep(checkpoint: Checkpoint) -> None:
        if checkpoint.epoch == at:
            kept.append(checkpoint)

    start = time.perf_counter()
    replayed = train(recipe.build(), recipe.predictor, ids=recipe.ids, on_checkpoint=keep, **recipe.arguments())
    _require_same(recipe, replayed, original)
    between = time.perf_counter()
    if not kept:  # nothing is taken back
        return Resumed(model=replayed, elapsed_s=0.0, precompute_s=between - start, kept_bytes=0, share=0.0)
    model = train(built, recipe.predictor, ids=ids, resume=kept[0], **recipe.arguments())
    synchronise(recipe.y.device)
    return Resumed(
        model=model,
        elapsed_s=time.perf_counter() - between,
        precompute_s=between - start,
        kept_bytes=kept[0].n_bytes,
        share=1 - at / max(1, recipe.predictor.epochs),
    )


def _require_same(recipe: Recipe, replayed: nn.Module, original: nn.Module) -> None:
    if recipe.digest(replayed) != recipe.digest(original):
        raise RequirementNotMet(
            "replaying the original's training gave another model; use the device and options it was trained with, and start from the "
            "original itself (or, with SISA, from what its requests gave)"
        )
