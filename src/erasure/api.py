"""The Python door: run a configuration, or unlearn on your own model and data.

>>> import erasure  # doctest: +SKIP
>>> forgotten = erasure.unlearn(model, "SSD", forget=forget, train=train)  # doctest: +SKIP
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from erasure.component import component_slot, field_types
from erasure.config import Node
from erasure.config.build import Builder
from erasure.data.arrays import datasets_from
from erasure.data.dataset import Dataset
from erasure.data.reading.held import Held, held_columns
from erasure.errors import DataError, InvalidParameters, Problem, RequirementNotMet, UnlearningWarning
from erasure.events import Listener, silent
from erasure.experiment.configuration import load_experiment
from erasure.registry.lookup import Registry
from erasure.reports.results import Results
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion
from erasure.training.devices import Precision, resolve_device
from erasure.training.parametrized import draw_anew
from erasure.training.predictor import ModelInput, StepListener
from erasure.training.randomness import Streams, isolated
from erasure.training.trial import as_before, deep_copy, initialised, try_outputs
from erasure.types import TaskKind
from erasure.unlearners.contract import Unlearner, UnlearningTask
from erasure.unlearners.outcome import Outcome, accuracies, compared, ruined, shared_samples
from erasure.workflows.run import RunOptions, run_experiment

__all__ = ["run", "unlearn"]

_SHOWN = 10


def run(
    configuration: Path | str | Mapping[str, Any],
    *,
    seeds: Sequence[int] | None = None,
    output: Path | str | None = None,
    store: Path | str | None = None,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    threads: int = 1,
    devices: int = 1,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    overrides: Sequence[str] = (),
    trust: Iterable[str] = (),
    listener: Listener = silent,
) -> Results:
    """Run a configuration.

    Args:
        configuration: Path of a JSONC file, or the configuration as a mapping.
        seeds: Root seed of each repetition; by default the configuration's alone.
        output: Directory for the result files; none are written by default.
        store: Where intermediate results are kept; by default ``$ERASURE_STORE`` or ``.erasure/store``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of one operation.
        devices: Devices of this machine that train a model together.
        strategy: ``ddp`` has all weights on every device, ``fsdp`` a shard of them.
        overrides: ``path=value`` settings, as with ``--set``.
        trust: Modules outside the allowed ones whose classes the configuration may name.
        listener: Hears what happens, see :mod:`erasure.events`.

    Returns:
        The rows; look at ``is_sound`` before you believe them.

    Raises:
        ConfigError: With every problem of the configuration.
        DataError: If the data cannot be read or cut.
    """
    experiment = load_experiment(configuration, overrides=overrides, trust=trust)
    options = RunOptions(
        seeds=None if seeds is None else tuple(seeds),
        output=None if output is None else Path(output),
        store=None if store is None else Path(store),
        device=device,
        precision=precision,
        threads=threads,
        devices=devices,
        strategy=strategy,
    )
    return run_experiment(experiment, options, listener)


def unlearn(
    model: nn.Module,
    method: str | Unlearner = "SSD",
    *,
    forget: Any,
    retain: Any = None,
    train: Any = None,
    validation: Any = None,
    modality: Literal["image", "table", "text"] | None = None,
    test: Any = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: TaskKind | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "fp32",
    verbose: bool = False,
    **hyperparameters: Any,
) -> nn.Module:
    """Remove the influence of some samples from a trained model.

    The result is a model of the same class with the same names of weights. Its attribute ``unlearning`` (an
    :class:`~erasure.unlearners.outcome.Outcome`) tells what share of the weights changed and how often the model is right on each given
    part, before and after. An :class:`~erasure.errors.UnlearningWarning` tells where nothing changed, where the model has lost more than
    ten points of accuracy on ``retain`` (else ``train``) or ``test``, and where ``retain`` still holds samples to forget. Whether it
    has forgotten can only be told beside a retrained model: :func:`erasure.run`.

    Args:
        model: Any network that returns logits, ``(features, logits)`` or an object with ``.logits``. It is not changed.
        method: Name of an unlearner (``erasure list unlearners``), or an unlearner.
        forget: The samples to forget: a pair of tensors, arrays or data frames, a map-style data set of ``(x, y)`` or of dicts with keys
            such as ``input_ids``, ``attention_mask`` and ``label``, or a ``DataLoader``. They reach the model as they are, fractions in the
            model's own type. Labels that are texts are the model's outputs in sorted order.
        retain: The samples to keep, in the same form, where the method reads them.
        train: Everything the model was trained on; by default ``forget`` and ``retain`` together.
        validation: Samples that nobody trained on, where the method reads them (``SCRUB+R``).
        modality: What a sample is; by default an image where it has three dimensions of numbers that are no tokens, else a table.
        test: Samples that the model has never seen, to look at before and after; no method reads them.
        loss_fn: Loss of ``(logits, labels)``, one number for a batch, or one for each sample, which are averaged; by default the task's
            cross-entropy. It is tried on a few samples first.
        task: How labels are read; by default as labels and logits say. Labels with one 1 in each row are classes unless this says
            ``multilabel``.
        seed: Seeds every random choice of the method; torch's global generators are left alone.
        batch_size: Samples per step, where the method does not say.
        device: Where to compute; ``auto`` takes an accelerator if there is one.
        precision: ``fp32`` or ``bf16``.
        verbose: Whether to print what ``unlearning`` tells.
        **hyperparameters: The method's parameters (``erasure describe SCRUB``); ``optimizer="SGD"`` and
            ``optimizer={"class": "SGD", "parameters": {"lr": 0.1}}`` both work.

    Returns:
        A new model in eval mode, on the device that ``model`` is on.

    Raises:
        UnknownComponent: If there is no such method.
        InvalidParameters: If it does not accept its parameters.
        RequirementNotMet: If it needs data that was not given, or is not defined for the task.
        Diverged: If the unlearned model is not finite, or its weights are beyond the bound.
    """
    _check_model(model)
    unlearner = _unlearner(method, hyperparameters)
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    target = resolve_device(device)
    held = _held(unlearner, forget=forget, retain=retain, train=train, validation=validation, test=test)
    parts = datasets_from(held, keep_float64=True, axes="as_they_are", task=_told_task(task, loss_fn, held["forget"].y))
    private = deep_copy(model).to(target)
    x, y, partitions = _joined(parts, private)
    column, labels = x.to(target), y.to(target)
    restored = _called_by_name(private, held["forget"].arguments)
    data, logits = _model_input(private, column, labels, modality, task, next(iter(parts.values())).class_names)
    criterion = Criterion(data.task, loss_fn)
    _try_loss(criterion, logits, labels[: len(logits)])
    work = UnlearningTask(
        x=column,
        y=labels if data.task != "multilabel" else labels.to(torch.get_default_dtype()),
        partitions={name: ids.to(target) for name, ids in partitions.items()},
        model_input=data,
        criterion=criterion,
        streams=Streams(seed),
        batch_size=batch_size,
        bank=_OwnModelBank(private),
        precision=precision,
    )
    kept_part = "retain" if "retain" in parts else "train"
    measured: dict[str, Tensor] = {}
    measured |= {name: work.partitions[name] for name in ("forget", kept_part, "test") if name in parts}
    with as_before(private):
        before = accuracies(private, column, work.y, measured, data.task, batch_size)
    unlearned = unlearner.run(private, _with_names(work, unlearner))
    with as_before(unlearned.model):
        after = accuracies(unlearned.model, column, work.y, measured, data.task, batch_size)
    changed, unchanged = compared(unlearner, private, unlearned.model)
    kept = shared_samples(column, work.y, work.partitions["forget"], work.partitions["retain"]) if "retain" in parts else 0
    both = f"{kept} of the samples to forget are in retain as well: what is in both is learned again. Take them out of retain."
    outcome = Outcome(
        method=type(unlearner).__name__,
        changed=changed,
        before=before,
        after=after,
        sizes={name: len(ids) for name, ids in measured.items()},
        elapsed_s=unlearned.elapsed_s + unlearned.precompute_s,
        remarks=tuple(filter(None, (unchanged, both if kept else "", *ruined(before, after)))),
    )
    for remark in outcome.remarks:
        warnings.warn(remark, UnlearningWarning, stacklevel=2)
    if verbose:
        sys.stdout.write(f"{outcome}\n")
    result = restored(unlearned.model.to(home))
    # Not a module or a tensor, so weights, parameters and their names stay as they are.
    object.__setattr__(result, "unlearning", outcome)
    return result


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise RequirementNotMet(
            f"the model is a {type(model).__name__}, expected a torch.nn.Module: methods change weights by gradients; a model of another "
            "library, such as scikit-learn, is trained again on the retain set instead"
        )


def _unlearner(method: str | Unlearner, hyperparameters: Mapping[str, Any]) -> Unlearner:
    if isinstance(method, Unlearner):
        return method.replace(**hyperparameters) if hyperparameters else method
    cls = Registry().resolve(method, Unlearner).cls
    builder = Builder(Registry())
    values: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        slot = component_slot(field_types(cls).get(name))
        values[name] = (
            builder.build(Node.of(value), slot, name) if slot is not None and isinstance(value, str | Mapping) else value
        )
    if builder.problems:
        raise InvalidParameters(builder.problems)
    try:
        unlearner = cls(**values)
    except TypeError:
        from erasure.component import check_fields

        _, problems = check_fields(cls, values)
        raise InvalidParameters([Problem(p.message, path=f"{method}.{p.location}", hint=p.hint) for p in problems]) from None
    assert isinstance(unlearner, Unlearner)  # noqa: S101 - the registry has checked it
    return unlearner


def _held(unlearner: Unlearner, **given: Any) -> dict[str, Held]:
    """The data that the method reads, and what is looked at besides, as columns."""
    if given["forget"] is None:
        raise DataError("there is nothing to forget: give the samples as forget=")
    roles = {
        name: role for role in ("forget", "retain", "train", "validation") for name in (getattr(unlearner, role, None),) if name
    }
    wanted = {roles[name] for name in unlearner.partition_names() if name in roles}
    missing = sorted(role for role in wanted - {"train"} if given.get(role) is None)
    if "train" in wanted and given["train"] is None and given["retain"] is None:
        missing.append("train")
    if missing:
        raise RequirementNotMet(f"{type(unlearner).__name__} reads the {' and the '.join(missing)} set; give it as {missing[0]}=")
    return {role: _named_in_errors(role, data) for role, data in given.items() if data is not None}


def _named_in_errors(role: str, data: Any) -> Held:
    try:
        return held_columns(data)
    except DataError as error:
        raise DataError(f"{role}: {error}") from error


def _told_task(task: TaskKind | None, loss: Any, y: Any) -> TaskKind | None:
    """``multilabel`` where the caller says so, by the task or by a loss that compares each of several logits with its label."""
    if task is None and isinstance(loss, nn.BCEWithLogitsLoss | nn.MultiLabelSoftMarginLoss) and y.ndim == 2 and y.shape[1] > 1:
        return "multilabel"
    return "multilabel" if task == "multilabel" else None


def _joined(parts: Mapping[str, Dataset], model: nn.Module) -> tuple[TensorColumn, Tensor, dict[str, Tensor]]:
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


@torch.no_grad()
def _model_input(
    model: nn.Module, x: TensorColumn, y: Tensor, modality: str | None, told: TaskKind | None, names: Sequence[str]
) -> tuple[ModelInput, Tensor]:
    """The task, read off the model's logits and the labels, and these logits of the first samples."""
    reason = initialised(model)
    if reason is not None:
        raise RequirementNotMet(reason)
    n_seen = int(y.max()) + 1 if len(y) and y.dim() == 1 else y.shape[-1] if y.dim() == 2 else None
    try:
        with isolated(0, y.device):
            logits = try_outputs(model, x.gather(torch.arange(min(2, len(x)), device=x.values.device)), n_seen)
    except (RuntimeError, TypeError, ValueError) as error:
        whole = (
            ""
            if x.values.is_floating_point()
            else "; whole numbers reach the model as they are: give x.float() if it wants fractions"
        )
        raise DataError(
            f"the model does not take these samples (shape {x.sample_shape}, {x.values.dtype}): {error}{whole}"
        ) from error
    width = 1 if logits.dim() == 1 else logits.shape[1]
    task: TaskKind = "multilabel" if y.dim() == 2 else "binary" if width == 1 else "classification"
    n_classes = 2 if task == "binary" else width
    _check_names(names, n_classes)
    if task != "multilabel" and len(y) and int(y.max()) >= n_classes:
        raise DataError(f"label {int(y.max())} is out of range: the model has {n_classes} classes")
    if told is not None and told != task:
        raise DataError(f'task = "{told}" does not fit {width} logits a sample and labels of shape {tuple(y.shape[1:])}')
    is_image = len(x.sample_shape) == 3 and (x.values.is_floating_point() or x.values.dtype == torch.uint8)
    return ModelInput(x.sample_shape, n_classes, task, modality or ("image" if is_image else "table")), logits


def _try_loss(criterion: Criterion, logits: Tensor, y: Tensor) -> None:
    """That the loss can be had and differentiated, before any work."""
    found = logits.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            loss = criterion(found, y)
    except RequirementNotMet:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} ({y.dtype})"
        raise RequirementNotMet(f"the loss does not take {shapes}: {error}") from error
    if not loss.requires_grad:
        raise RequirementNotMet("the loss has no gradient with respect to the logits")


def _check_names(names: Sequence[str], n_outputs: int) -> None:
    """That labels given as texts are the model's outputs: as many, and in sorted order."""
    if not names:
        return
    if len(names) != n_outputs:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        which = f'; the model cannot have "{names[-1]}"' if len(names) > n_outputs else ", so nobody knows which is which"
        raise DataError(
            f"the labels of all parts have {len(names)} different texts ({shown}), and the model has {n_outputs} outputs{which}; "
            "give labels as numbers of the outputs"
        )


def _called_by_name(model: nn.Module, arguments: tuple[str, ...]) -> Callable[[nn.Module], nn.Module]:
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

    hook = model.register_forward_pre_hook(by_name, with_kwargs=True)

    def restored(made: nn.Module) -> nn.Module:
        for module in made.modules():  # a copy keeps the number of the hook
            module._forward_pre_hooks.pop(hook.id, None)
            module._forward_pre_hooks_with_kwargs.pop(hook.id, None)
        return made

    return restored


def _with_names(task: UnlearningTask, unlearner: Unlearner) -> UnlearningTask:
    """The same task with the partitions under the names that the method uses."""
    names = {getattr(unlearner, role, role): ids for role, ids in task.partitions.items()}
    return replace(task, partitions={**task.partitions, **names})


class _OwnModelBank:
    """What can be had of other models when only one network is known: a random initialisation of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def fresh(self, seed: int) -> nn.Module:
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        fresh = deep_copy(self.model)
        with isolated(seed, device):
            draw_anew(fresh)
        return fresh.eval()

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        raise RequirementNotMet("retraining needs the training recipe; write a configuration and use erasure.run")

    def replay(self, on_step: StepListener) -> float:
        raise RequirementNotMet("this method needs the log of the original's training; write a configuration and use erasure.run")

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        return compute(), 0.0
