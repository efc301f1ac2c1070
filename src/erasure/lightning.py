"""Deletion requests for Lightning: a callback that remembers what is needed, and ``forget_from(trainer, module, data, ids)``."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler, Subset

from erasure.errors import MissingDependency, RequirementNotMet
from erasure.training.anatomy import load_state
from erasure.training.torchvision_operators import torchvision
from erasure.training.trial import deep_copy
from erasure.workflows.deletion import Answer, forget
from erasure.workflows.deletion_plan import DeletionPlan

library: Any
with suppress(MissingDependency):  # torchmetrics imports torchvision where it is installed
    torchvision("transforms", "reading images")
try:
    library = importlib.import_module("pytorch_lightning")
except ModuleNotFoundError:
    try:
        library = importlib.import_module("lightning.pytorch")
    except ModuleNotFoundError:
        library = None

_Callback: Any = object if library is None else library.Callback

__all__ = ["LightningDeletionCallback", "detached", "forget_from"]


class LightningDeletionCallback(_Callback):  # type: ignore[misc]
    """Remembers the weights before training, and how long it was: ``Trainer(callbacks=[…])``."""

    def __init__(self) -> None:
        self.initial: dict[str, Tensor] | None = None
        self.max_epochs: int | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the weights, unless an interrupted training goes on."""
        if self.initial is None and not trainer.global_step:
            self.initial = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        self.max_epochs = trainer.max_epochs


def detached(module: Any) -> nn.Module:
    """A copy of a ``LightningModule`` without its trainer, which methods may copy and train as any network."""
    held = module._trainer
    module._trainer = None
    try:
        private: nn.Module = deep_copy(module)
    finally:
        module._trainer = held
    return private.eval()


def forget_from(
    trainer: Any,
    module: Any,
    data: Any,
    ids: Sequence[int],
    *,
    loader: Callable[[Any], DataLoader[Any]] | None = None,
    **options: Any,
) -> Answer | DeletionPlan:
    """Answer a deletion request for a ``LightningModule``.

    Args:
        trainer: After ``fit``, with a :class:`LightningDeletionCallback` among its callbacks.
        module: The trained module; its ``forward`` gives logits.
        data: The data set that it was trained on, map-style.
        ids: Positions in it.
        loader: Makes the loader of a part of ``data``; by default one like that of the training, where it had one, else 64 samples a batch,
            shuffled.
        **options: As for :func:`erasure.forget`, such as ``test=``, ``folder=`` and ``dry_run=``.

    Raises:
        RequirementNotMet: If the callback was not there.
        MissingDependency: If Lightning is not installed.
    """
    if library is None:
        raise MissingDependency("pytorch-lightning", "lightning", "answering requests for a LightningModule")
    known = [each for each in trainer.callbacks if isinstance(each, LightningDeletionCallback)]
    if not known or known[0].initial is None:
        raise RequirementNotMet(
            "nobody remembers the weights before training: give the Trainer callbacks=[LightningDeletionCallback()] first"
        )
    initial, epochs = known[0].initial, known[0].max_epochs
    like = detached(module)
    loading = _loading(trainer)
    make = loader or functools.partial(DataLoader, **loading)

    def fit(indices: Any, seed: int) -> nn.Module:
        fresh: Any = deep_copy(like).train()
        load_state(fresh, initial)
        torch.manual_seed(seed)
        again = library.Trainer(
            max_epochs=epochs,
            accelerator="cpu" if trainer.strategy.root_device.type == "cpu" else "auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        again.fit(fresh, make(Subset(data, [int(each) for each in indices])))
        return detached(fresh)

    told = "own" if loader is not None else f"{loading['batch_size']} {loading['shuffle']} {loading['drop_last']}"
    digest = hashlib.sha256(f"{epochs} {told} {dict(getattr(module, 'hparams', {}))}".encode())
    for name, value in sorted(initial.items()):
        digest.update(name.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    ids = [ids] if isinstance(ids, str | int) else list(ids)
    return forget(**{"model": like, "forget": ids, "data": data, "train": fit, "version": digest.hexdigest(), **options})


def _loading(trainer: Any) -> dict[str, Any]:
    """How the training loaded its batches."""
    made = getattr(trainer, "train_dataloader", None)
    if not isinstance(made, DataLoader) or made.batch_size is None:
        return {"batch_size": 64, "shuffle": True, "drop_last": False}
    return {
        "batch_size": made.batch_size,
        "shuffle": not isinstance(made.sampler, SequentialSampler),
        "drop_last": made.drop_last,
        "collate_fn": made.collate_fn,
    }
