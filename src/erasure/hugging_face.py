"""Deletion requests for models of a Hugging Face ``Trainer``: a callback, and ``forget_from(trainer, ids)``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from erasure.errors import DataError, MissingDependency, RequirementNotMet
from erasure.training.anatomy import load_state
from erasure.training.torchvision_operators import torchvision
from erasure.training.trial import deep_copy
from erasure.workflows.deletion import Answer, forget
from erasure.workflows.deletion_plan import DeletionPlan

_Callback: Any = object
with suppress(MissingDependency):  # transformers imports torchvision where it is installed
    torchvision("transforms", "reading images")
with suppress(ModuleNotFoundError):
    import transformers

    _Callback = transformers.TrainerCallback

__all__ = ["DeletionCallback", "forget_from"]


class DeletionCallback(_Callback):  # type: ignore[misc]
    """Remembers what the model was before training, without which nobody could train it again: ``Trainer(callbacks=[…])``."""

    def __init__(self) -> None:
        self.initial: dict[str, torch.Tensor] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any) -> None:
        """Keep the weights, unless an interrupted training goes on."""
        if self.initial is None and model is not None and not state.global_step:
            self.initial = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def forget_from(trainer: Any, ids: Sequence[Any], *, id_column: str | None = None, **options: Any) -> Answer | DeletionPlan:
    """Answer a deletion request for the model of a ``Trainer`` that has a :class:`DeletionCallback`.

    The model is trained again, where evidence or the answer need it, by the same ``TrainingArguments`` from the weights that it had before.

    Args:
        trainer: After ``train()``; its ``train_dataset`` holds what was trained on, ``eval_dataset`` what was not.
        ids: Positions in ``train_dataset``, or values of ``id_column``.
        id_column: Column of ``train_dataset`` that has the ids.
        **options: As for :func:`erasure.forget`, such as ``folder=`` and ``dry_run=``.

    Raises:
        RequirementNotMet: If the callback was not there.
        DataError: If an id is not in the data.
        MissingDependency: If transformers is not installed.
    """
    if _Callback is object:
        raise MissingDependency("transformers", "text", "answering requests for a Trainer")
    known = [each for each in trainer.callback_handler.callbacks if isinstance(each, DeletionCallback)]
    if not known or known[0].initial is None:
        raise RequirementNotMet(
            "nobody remembers the weights before training: give the Trainer callbacks=[DeletionCallback()] first"
        )
    initial, data = known[0].initial, trainer.train_dataset
    ids = [ids] if isinstance(ids, str | int) else ids
    places = list(ids) if id_column is None else _places(data, id_column, ids)

    def fit(indices: Any, seed: int) -> nn.Module:
        model = deep_copy(trainer.model)
        load_state(model, initial)
        with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
            quiet = {
                "output_dir": folder,
                "seed": seed % 2**31,
                "data_seed": seed % 2**31,
                "report_to": [],
                "save_strategy": "no",
            }
            more = {"eval_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True, "push_to_hub": False}
            arguments = dataclasses.replace(trainer.args, **quiet, **more)
            again = type(trainer)(
                model=model,
                args=arguments,
                train_dataset=Subset(data, [int(each) for each in indices]),
                data_collator=trainer.data_collator,
                compute_loss_func=getattr(trainer, "compute_loss_func", None),
            )
            again.remove_callback(_printer())
            again.train()
        trained: nn.Module = again.model
        return trained

    device = str(next(trainer.model.parameters()).device)
    return forget(
        **{
            "model": trainer.model,
            "forget": places,
            "data": _tensors_only(data),
            "test": None if trainer.eval_dataset is None else _tensors_only(trainer.eval_dataset),
            "train": fit,
            "who": None if id_column is None else [str(each) for each in ids],
            "version": _identity(trainer, initial),
            "batch_size": trainer.args.per_device_train_batch_size,
            "device": device,
            **options,
        }
    )


def _printer() -> Any:
    from transformers import PrinterCallback

    return PrinterCallback


def _places(data: Any, column: str, ids: Sequence[Any]) -> list[int]:
    try:
        values = [str(each) for each in data[column]]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        names = getattr(data, "column_names", None)
        has = f"; it has {', '.join(names)}" if names else ""
        raise DataError(f'the training set has no column "{column}"{has}') from error
    known = set(values)
    missing = [each for each in ids if str(each) not in known]
    if missing:
        raise DataError(f'{len(missing)} of {len(ids)} ids are not in the column "{column}", the first is {missing[0]!r}')
    wanted = {str(each) for each in ids}
    return [position for position, each in enumerate(values) if each in wanted]


class _tensors_only:  # noqa: N801 - a view, made and used as a function
    """The columns of a data set that a model takes, under the names that it has for them."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        sample = self.data[place]
        names = ("input_ids", "attention_mask", "pixel_values", "label", "labels")
        return {name: torch.as_tensor(sample[name]) for name in names if name in sample}


def _identity(trainer: Any, initial: dict[str, torch.Tensor]) -> str:
    """What the training depends on beyond code and data: arguments and the weights that it starts from."""
    passing = {
        "output_dir",
        "logging_dir",
        "run_name",
        "seed",
        "data_seed",
        "report_to",
        "disable_tqdm",
        "hub_token",
        "push_to_hub_token",
    }
    arguments = {name: value for name, value in trainer.args.to_dict().items() if name not in passing}
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True, default=str).encode())
    for name, value in sorted(initial.items()):
        digest.update(name.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
