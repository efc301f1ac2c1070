"""What somebody brings along: a trained model of their own and data in any form, read as methods and measures want them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from erasure.component import Component, component_slot, field_types
from erasure.config import Node
from erasure.config.build import Builder
from erasure.data.arrays import datasets_from
from erasure.data.dataset import Dataset
from erasure.data.reading.held import Held, held_columns
from erasure.engine.given_checks import check_model, check_settings, positions, try_loss
from erasure.errors import DataError, Diagnostic, ErasureError, InvalidParameters, RequirementNotMet, UnlearningWarning
from erasure.registry.lookup import Registry
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion
from erasure.training.history import StepListener
from erasure.training.parametrized import draw_anew
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated
from erasure.training.resuming import Resumed
from erasure.training.trial import deep_copy, gives_probabilities, initialised, try_one_sample, try_outputs
from erasure.types import Task
from erasure.unlearners.contract import Unlearner, UnlearningContext

__all__ = [
    "Brought",
    "GivenData",
    "OwnModels",
    "called_by_name",
    "given_data",
    "joined",
    "located",
    "model_input_of",
    "named_error",
    "named_in_errors",
    "read_outputs",
    "told_task",
    "unlearner_of",
    "with_names",
]

_SHOWN = 10
_EVERYTHING = "all {:,} samples are to be forgotten: there is nothing left that a model could be of use for"


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenData:
    """Data as models, methods and measures read it.

    Args:
        x: Inputs of all samples, on the device; those of the training set come first, in their order.
        y: Their labels.
        partitions: Ids of ``train``, ``forget``, ``retain`` and, where there are any, ``test``.
        model_input: Shape and task.
        criterion: The loss.
        arguments: Names under which a model takes the parts of an input; mostly empty.
        batch_size: Samples per step.
        class_names: Of labels that are texts.
    """

    x: TensorColumn
    y: Tensor
    partitions: Mapping[str, Tensor]
    model_input: ModelInput
    criterion: Criterion
    arguments: tuple[str, ...] = ()
    batch_size: int = 64
    class_names: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the data is."""
        return self.y.device

    def prepared(self, model: nn.Module) -> nn.Module:
        """A private copy of a model on the data's device, in eval mode, that takes the inputs as they are kept here."""
        private = deep_copy(model).to(self.device)
        called_by_name(private, self.arguments)
        return private.eval()

    def released(self, model: nn.Module) -> nn.Module:
        """A prepared model as its maker knows it, without what :meth:`prepared` added."""
        for module in model.modules():
            for number in list(module._forward_pre_hooks_with_kwargs):
                if getattr(module._forward_pre_hooks.get(number), "is_by_name", False):
                    module._forward_pre_hooks.pop(number)
                    module._forward_pre_hooks_with_kwargs.pop(number)
        return model

    def fingerprint(self, partition: str = "train") -> str:
        """SHA-256 of inputs and labels of a partition."""
        return self.fingerprint_of(self.partitions[partition])

    def fingerprint_of(self, ids: Tensor) -> str:
        """SHA-256 of inputs and labels of some samples; each set of them is read once."""
        known, key = self._fingerprints, ids.cpu().numpy().tobytes()
        if key not in known:
            known[key] = self._read_fingerprint(ids)
        return known[key]

    @functools.cached_property
    def _fingerprints(self) -> dict[bytes, str]:
        return {}

    def _read_fingerprint(self, ids: Tensor) -> str:
        digest = hashlib.sha256()
        for some in torch.split(ids, 4096):
            for part in (self.x.rows(some), self.y.index_select(0, some)):
                values = part.detach().cpu().contiguous()
                digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
                digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def content_of(self, number: int) -> bytes:
        """Input and label of a sample, as bytes."""
        one = torch.tensor([number], device=self.device)
        parts = (self.x.rows(one), self.y.index_select(0, one))
        return b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in parts)

    def narrowed(self, **partitions: Tensor) -> GivenData:
        """The same data with other partitions."""
        return replace(self, partitions={**self.partitions, **partitions})


@dataclass(frozen=True, eq=False, kw_only=True)
class Brought:
    """A model and samples to unlearn with, as a method takes them.

    Args:
        x: Inputs of all samples, on the device.
        y: Their labels.
        partitions: Ids of each part.
        model: A private copy that takes batches of ``x``.
        model_input: Shape and task.
        logits: Of a few samples.
        tried: Labels of these.
        batch_size: Samples per step.
        restored: What makes a model of the caller's kind again of one that was made from ``model``.
        remark: What was changed about the model, and has to be known; mostly empty.
    """

    x: Any
    y: Tensor
    partitions: Mapping[str, Tensor]
    model: nn.Module
    model_input: ModelInput
    logits: Tensor
    tried: Tensor
    batch_size: int
    restored: Callable[[nn.Module], nn.Module]
    remark: str = ""


def given_data(
    model: nn.Module,
    *,
    forget: Any,
    data: Any = None,
    retain: Any = None,
    test: Any = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: Task | None = None,
    batch_size: int = 64,
    device: torch.device,
) -> GivenData:
    """Read what somebody brings along.

    Args:
        model: The trained model.
        forget: Samples, or with ``data`` the positions of samples in it: whole numbers, or a mask.
        data: The training set.
        retain: The samples to keep, in the same form; with ``data``, by default all others.
        test: Samples that no model has seen.
        loss_fn: Loss of ``(logits, labels)``.
        task: How labels are read.
        batch_size: Samples per step.
        device: Where to compute.

    Raises:
        DataError: If samples cannot be used, positions are not in the data, or the forget set is everything or nothing.
        RequirementNotMet: If the model does not take the data.
    """
    check_model(model)
    check_settings(seed=0, batch_size=batch_size, task=(task, (None, *get_args(Task))))
    if forget is None:
        raise DataError("there is nothing to forget: give the samples, or their positions in data, as forget=")
    parts: dict[str, Any] = {"train": data} if data is not None else {"forget": forget, "retain": retain}
    parts |= {"test": test}
    held = {name: named_in_errors(name, each) for name, each in parts.items() if each is not None}
    first = next(iter(held.values()))
    sets = datasets_from(held, keep_float64=True, axes="as_they_are", task=told_task(task, loss_fn, first.y))
    private = deep_copy(model).to(device)
    x, y, partitions = joined(sets, private)
    partitions = _positioned(partitions, forget, retain) if data is not None else partitions
    if "retain" not in partitions:
        raise DataError("give what the model is to keep: the whole training set as data= and positions as forget=, or retain=")
    called_by_name(private, first.arguments)
    column, labels = x.to(device), y.to(device)
    names = next(iter(sets.values())).class_names
    model_input, logits = model_input_of(private, column, labels, None, task, names)
    criterion = Criterion(model_input.task, loss_fn)
    try_loss(criterion, logits, labels[: len(logits)], loss_fn)
    return GivenData(
        x=column,
        y=labels if model_input.task != "multilabel" else labels.to(torch.get_default_dtype()),
        partitions={name: ids.to(device) for name, ids in partitions.items()},
        model_input=model_input,
        criterion=criterion,
        arguments=first.arguments,
        batch_size=batch_size,
        class_names=names,
    )


def _positioned(partitions: Mapping[str, Tensor], forget: Any, retain: Any) -> dict[str, Tensor]:
    found = located(partitions, {"forget": forget, "retain": retain}, "data")
    if not len(found["retain"]):
        raise DataError(_EVERYTHING.format(len(found["train"])))
    both = int(torch.isin(found["forget"], found["retain"]).sum())
    if both:
        raise DataError(f"{both:,} samples are in forget and in retain; take them out of retain")
    return found


def told_task(task: Task | None, loss: Any, y: Any) -> Task | None:
    """``multilabel`` where the caller says so, by the task or by a loss that compares each of several logits with its label."""
    if task is None and isinstance(loss, nn.BCEWithLogitsLoss | nn.MultiLabelSoftMarginLoss) and y.ndim == 2 and y.shape[1] > 1:
        return "multilabel"
    return "multilabel" if task == "multilabel" else None


def joined(parts: Mapping[str, Dataset], model: nn.Module) -> tuple[TensorColumn, Tensor, dict[str, Tensor]]:
    """One column for all parts, and the ids of each."""
    shapes = {role: (part.x_shape, part.y.shape[1:]) for role, part in parts.items()}
    if len(set(shapes.values())) > 1:
        found = "; ".join(f"{role} has x {x} and y {tuple(y)}" for role, (x, y) in shapes.items())
        raise DataError(f"the samples must have one shape: {found}")
    columns = {role: part.x for role, part in parts.items() if isinstance(part.x, TensorColumn)}
    partitions, start = {}, 0
    for role, part in parts.items():
        partitions[role] = torch.arange(start, start + len(part))
        start += len(part)
    if "train" not in partitions and "retain" in partitions:
        partitions["train"] = torch.cat([partitions["forget"], partitions["retain"]])
    values = torch.cat([column.values for column in columns.values()])
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if own is not None and values.is_floating_point():
        values = values.to(own)  # numpy's default is float64, torch's float32
    return TensorColumn(values), torch.cat([part.y for part in parts.values()]), partitions


def located(partitions: Mapping[str, Tensor], chosen: Mapping[str, Any], whole: str = "train") -> dict[str, Tensor]:
    """The partitions with those that are choices from the training set.

    Args:
        partitions: Ids of each part.
        chosen: Positions in ``train`` by role; with ``retain`` given as None, all others are kept.
        whole: What the caller calls the training set.

    Raises:
        DataError: If positions are not in the training set, or forget is nothing or all of it.
    """
    if not chosen:
        return dict(partitions)
    train = partitions["train"]
    found = {role: train[positions(ids, len(train), role, whole)] for role, ids in chosen.items() if ids is not None}
    if not len(found["forget"]):
        raise DataError("there is nothing to forget: forget holds no samples")
    if len(found["forget"]) == len(train):
        raise DataError(_EVERYTHING.format(len(train)))
    if "retain" in chosen and chosen["retain"] is None:
        found["retain"] = train[~torch.isin(train, found["forget"])]
    return {**partitions, **found}


@torch.no_grad()
def model_input_of(
    model: nn.Module, x: TensorColumn, y: Tensor, modality: str | None, told: Task | None, names: Sequence[str]
) -> tuple[ModelInput, Tensor]:
    """The task, read off the model's logits and the labels, and these logits of the first samples."""
    reason = initialised(model)
    if reason is not None:
        raise RequirementNotMet(reason)
    n_seen = int(y.max()) + 1 if len(y) and y.dim() == 1 else y.shape[-1] if y.dim() == 2 else None
    first = x.gather(torch.arange(min(2, len(x)), device=x.values.device))
    try:
        with isolated(0, y.device):
            logits = try_outputs(model, first, n_seen)
            if len(x) > 1:
                try_one_sample(model, x.gather(torch.arange(1, device=x.values.device)), logits)
            remark = gives_probabilities(model, first)
    except ErasureError:
        raise
    except Exception as error:  # whatever a forward pass of somebody else's raises
        taken = f"shape {x.sample_shape}, {x.values.dtype}"
        reason = f"{named_error(error)}{_whole_numbers(x, error)}"
        raise DataError(f"the model does not take these samples ({taken}): {reason}") from error
    if remark is not None:
        warnings.warn(remark, UnlearningWarning, stacklevel=5)
    task, n_classes = read_outputs(logits, y, min(2, len(x)), told, names)
    is_image = len(x.sample_shape) == 3 and (x.values.is_floating_point() or x.values.dtype == torch.uint8)
    is_tokens = not x.values.is_floating_point() and x.values.dtype != torch.uint8 and x.values.dtype != torch.bool
    kind = modality or ("image" if is_image else "text" if is_tokens else "table")
    return ModelInput(x.sample_shape, n_classes, task, kind, tuple(names)), logits


def read_outputs(logits: Tensor, y: Tensor, n_tried: int, told: Task | None, names: Sequence[str] = ()) -> tuple[Task, int]:
    """The task and its classes, by the logits of some samples and all labels.

    Raises:
        DataError: If they do not fit.
    """
    if logits.dim() not in {1, 2} or len(logits) != n_tried:
        raise DataError(
            f"the model returns logits of shape {tuple(logits.shape)} for {n_tried} samples, expected one row of logits for each sample"
        )
    width = 1 if logits.dim() == 1 else logits.shape[1]
    task: Task = "multilabel" if y.dim() == 2 else "binary" if width == 1 else "classification"
    n_classes = 2 if task == "binary" else width
    _check_names(names, n_classes)
    if task != "multilabel" and len(y) and int(y.max()) >= n_classes:
        hint = ", and labels count from 0" if int(y.min()) == 1 and int(y.max()) == n_classes else ""
        raise DataError(f"label {int(y.max())} is out of range: the model has {n_classes} classes{hint}")
    if told is not None and told != task:
        raise DataError(f'task = "{told}" does not fit {width} logits a sample and labels of shape {tuple(y.shape[1:])}')
    return task, n_classes


def named_error(error: Exception) -> str:
    """What an error of somebody else's code says, with its kind where that is not in the words."""
    told = isinstance(error, RuntimeError | TypeError | ValueError) and str(error)
    return str(error) if told else ": ".join(filter(None, (type(error).__name__, str(error))))


def _whole_numbers(x: TensorColumn, error: Exception) -> str:
    if x.values.is_floating_point() or not any(
        word in str(error).casefold() for word in ("type", "long", "byte", "float", "int")
    ):
        return ""
    if x.values.dtype == torch.uint8 and len(x.sample_shape) == 3:
        return "; pictures reach the model as they are: add the transforms that it was trained with, such as ToTensor()"
    return "; whole numbers reach the model as they are: give x.float() if it wants fractions"


def _check_names(names: Sequence[str], n_outputs: int) -> None:
    """That labels given as texts are the model's outputs: as many, and in sorted order."""
    if not names:
        return
    if all(name.isdecimal() for name in names) and sorted(names, key=int) != list(names):
        raise DataError(
            f"the labels are texts of whole numbers, whose order as texts ({', '.join(names[:_SHOWN])}, …) is not that of the numbers, so "
            "nobody knows which output is which; give labels as numbers of the outputs"
        )
    if len(names) != n_outputs:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        which = f'; the model cannot have "{names[-1]}"' if len(names) > n_outputs else ", so nobody knows which is which"
        raise DataError(
            f"the labels of all parts have {len(names)} different texts ({shown}), and the model has {n_outputs} outputs{which}; "
            "give labels as numbers of the outputs"
        )


def called_by_name(model: nn.Module, arguments: tuple[str, ...]) -> Callable[[nn.Module], nn.Module]:
    """Have the model called with the parts of an input by their names, such as ``input_ids`` and ``attention_mask``.

    Only a model whose ``forward`` has these names; others, such as those of this package, take the parts as one tensor. What is given
    takes the change off a model that was made from it.
    """
    accepted = inspect.signature(model.forward).parameters
    if not arguments or not set(arguments) <= set(accepted):
        return lambda made: made

    def by_name(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if len(args) != 1 or kwargs:
            return None
        return (), {name: args[0][:, position] for position, name in enumerate(arguments)}

    by_name.is_by_name = True  # type: ignore[attr-defined]  # how `GivenData.released` knows it, whatever its number
    hook = model.register_forward_pre_hook(by_name, with_kwargs=True)

    def restored(made: nn.Module) -> nn.Module:
        for module in made.modules():  # a copy keeps the number of the hook
            module._forward_pre_hooks.pop(hook.id, None)
            module._forward_pre_hooks_with_kwargs.pop(hook.id, None)
        return made

    return restored


def with_names(context: UnlearningContext, unlearner: Unlearner) -> UnlearningContext:
    """The same task with the partitions under the names that the method uses."""
    names = {getattr(unlearner, role, role): ids for role, ids in context.partitions.items()}
    return replace(context, partitions={**context.partitions, **names})


class OwnModels:
    """What can be had of other models when only one network is known: a random initialisation of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def fresh(self, seed: int) -> nn.Module:
        """The same network with other random weights."""
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        fresh = deep_copy(self.model)
        with isolated(seed, device):
            draw_anew(fresh)
        return fresh.eval()

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """Not without a recipe."""
        raise RequirementNotMet("retraining needs the training recipe; write a configuration and use erasure.run")

    def replay(self, on_step: StepListener) -> float:
        """Not without a log."""
        raise RequirementNotMet("this method needs the log of the original's training; write a configuration and use erasure.run")

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """Not without a recipe."""
        raise RequirementNotMet("this method takes up the original's training; write a configuration and use erasure.run")

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Computed now."""
        return compute(), 0.0


def named_in_errors(role: str, data: Any) -> Held:
    """The columns of some data, with its role in the errors."""
    try:
        return held_columns(data)
    except DataError as error:
        raise DataError(f"{role}: {error}") from error


def _built(builder: Builder, value: Any, slot: type[Component], path: str) -> Any:
    """A component that is described by its name or a mapping, or several of them in a list; anything else as it is."""
    if isinstance(value, list | tuple):
        return tuple(_built(builder, each, slot, f"{path}[{number}]") for number, each in enumerate(value))
    return builder.build(Node.of(value), slot, path) if isinstance(value, str | Mapping) else value


def unlearner_of(method: Any, hyperparameters: Mapping[str, Any]) -> Unlearner:
    """The method of a name, or of what a configuration says of it, with its parameters.

    Raises:
        UnknownComponent: If there is no such method.
        InvalidParameters: If it does not accept its parameters.
    """
    if isinstance(method, Unlearner):
        return method.replace(**hyperparameters) if hyperparameters else method
    if isinstance(method, type) and issubclass(method, Unlearner):
        method = method.__name__
    if isinstance(method, Mapping):
        return _written(method, hyperparameters)
    if not isinstance(method, str):
        expected = 'expected a name such as "SSD" (erasure list unlearners), what a configuration says of it, or an unlearner'
        raise InvalidParameters([Diagnostic(f"{expected}; found {type(method).__name__}", path="method")])
    cls = Registry().resolve(method, Unlearner).cls
    builder = Builder(Registry())
    values: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        slot = component_slot(field_types(cls).get(name))
        values[name] = value if slot is None else _built(builder, value, slot, name)
    if builder.problems:
        raise InvalidParameters(builder.problems)
    try:
        unlearner = cls(**values)
    except TypeError:
        from erasure.component import check_fields

        _, problems = check_fields(cls, values)
        raise InvalidParameters([Diagnostic(p.message, path=f"{method}.{p.location}", hint=p.hint) for p in problems]) from None
    assert isinstance(unlearner, Unlearner)  # noqa: S101 - the registry has checked it
    return unlearner


def _written(method: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Unlearner:
    """The method that a configuration's object names, such as ``{"class": "SCRUB", "parameters": {"temperature": 4.0}}``."""
    builder = Builder(Registry())
    unlearner = builder.build(Node.of(method), Unlearner, "method")
    if builder.problems:
        raise InvalidParameters(builder.problems)
    for notice in builder.notices:
        warnings.warn(notice.message, UnlearningWarning, stacklevel=4)
    assert isinstance(unlearner, Unlearner)  # noqa: S101 - a node without problems makes one of its slot
    return unlearner.replace(**hyperparameters) if hyperparameters else unlearner
