"""The Python door: run a configuration, or unlearn on your own model and data.

>>> import erasure  # doctest: +SKIP
>>> forgotten = erasure.unlearn(model, "SSD", forget=forget, train=train)  # doctest: +SKIP
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from erasure.catalogue import shown_name
from erasure.data.arrays import datasets_from
from erasure.data.reading.held import Held
from erasure.engine.given_checks import check_model, check_run, check_settings, chosen_positions, try_loss
from erasure.engine.given_data import (
    Brought,
    OwnModels,
    called_by_name,
    joined,
    located,
    model_input_of,
    named_in_errors,
    told_task,
    unlearner_of,
    with_names,
)
from erasure.engine.given_graphs import brought_graphs, is_graph, is_graphs
from erasure.errors import DataError, RequirementNotMet, UnlearningWarning
from erasure.events import Listener, ignore_events
from erasure.experiment.configuration import load_experiment
from erasure.reports.results import Results
from erasure.training.calls import Criterion
from erasure.training.devices import Precision, resolve_device
from erasure.training.randomness import Streams
from erasure.training.trial import as_before, deep_copy
from erasure.types import Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.outcome import Outcome, accuracies, coarse, compared, ruined, shared_samples
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

__all__ = ["run", "unlearn"]


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
    listener: Listener = ignore_events,
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
        listener: Receives events, see :mod:`erasure.events`.

    Returns:
        The rows; look at ``is_sound`` before you believe them.

    Raises:
        ConfigError: With every problem of the configuration.
        DataError: If the data cannot be read or cut.
    """
    check_run(configuration, seeds)
    check_settings(threads=threads, precision=(precision, get_args(Precision)), strategy=(strategy, ("ddp", "fsdp")))
    overrides = [overrides] if isinstance(overrides, str) else overrides
    trust = [trust] if isinstance(trust, str) else trust
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
    method: str | Mapping[str, Any] | Unlearner = "SSD",
    *,
    forget: Any,
    retain: Any = None,
    train: Any = None,
    validation: Any = None,
    modality: Literal["image", "table", "text"] | None = None,
    test: Any = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: Task | None = None,
    seed: int = 0,
    batch_size: int | None = None,
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
    has forgotten can only be told next to a retrained model: :func:`erasure.run`.

    Args:
        model: Any network that returns logits, ``(features, logits)`` or an object with ``.logits``. It is not changed.
        method: Name of an unlearner (``erasure list unlearners``), what a configuration says of it, or an unlearner.
        forget: The samples to forget: a pair of tensors, arrays or data frames, a map-style data set of ``(x, y)`` or of dicts with keys
            such as ``input_ids``, ``attention_mask`` and ``label``, or a ``DataLoader``. They reach the model as they are, fractions in the
            model's own type. Labels that are texts are the model's outputs in sorted order. With ``train``, also their positions in it,
            as whole numbers or a mask. Of a graph: ``{"nodes": [17, 4]}``, ``{"edges": [[3, 17]]}`` or ``{"features_of": [17]}``, the last
            with ``columns`` for some of the features.
        retain: The samples to keep, in the same form, where the method reads them; by default all others of ``train`` where ``forget`` is
            positions or a ``Subset`` of it.
        train: Everything the model was trained on; by default ``forget`` and ``retain`` together. A graph of PyTorch Geometric (``Data``)
            is one graph whose nodes have classes: its masks say who is trained on and tested, ``forget`` what is to be forgotten of it, and
            the method and all accuracies but those before on ``forget`` see it after that. Sequences of ``Data`` are graphs with a class
            each, here and as ``forget`` and ``retain``.
        validation: Samples that nobody trained on, where the method reads them (``SCRUB+R``).
        modality: What a sample is; by default text where it is whole numbers, which are taken for tokens, an image where it has three
            dimensions, else a table.
        test: Samples that the model has never seen, to look at before and after; no method reads them.
        loss_fn: Loss of ``(logits, labels)``, one number for a batch, or one for each sample, which are averaged; by default the task's
            cross-entropy. It is tried on a few samples first.
        task: How labels are read; by default as labels and logits say. Labels with one 1 in each row are classes unless this says
            ``multilabel``.
        seed: Seeds every random choice of the method; torch's global generators are left alone.
        batch_size: Samples per step, where the method does not say; by default 64, and all nodes of a graph.
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
        DataError: If samples cannot be used, or positions are not in ``train``.
        RequirementNotMet: If it needs data that was not given, or is not defined for the task.
        Diverged: If the unlearned model is not finite, or its weights are beyond the bound.
    """
    check_model(model)
    check_settings(
        seed=seed,
        batch_size=64 if batch_size is None else batch_size,
        task=(task, (None, *get_args(Task))),
        modality=(modality, (None, "image", "table", "text")),
        precision=(precision, get_args(Precision)),
    )
    unlearner = unlearner_of(method, hyperparameters)
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    target = resolve_device(device)
    private = deep_copy(model).to(target)
    given = {"forget": forget, "retain": retain, "train": train, "validation": validation, "test": test}
    are_graphs = any(is_graph(each) or is_graphs(each) for each in given.values())
    if are_graphs:
        ready = brought_graphs(private, task=task, batch_size=batch_size, **given)
        _require(unlearner, set(ready.partitions), "the graph has none, set its val_mask" if is_graph(train) else "")
    else:
        ready = _samples(unlearner, private, modality, task, loss_fn, batch_size, given)
    private, data, batch_size = ready.model, ready.model_input, ready.batch_size
    criterion = Criterion(data.task, loss_fn)
    try_loss(criterion, ready.logits, ready.tried, loss_fn)
    column, partitions = ready.x, ready.partitions
    work = UnlearningContext(
        x=column,
        y=ready.y if data.task != "multilabel" else ready.y.to(torch.get_default_dtype()),
        partitions={name: ids.to(target) for name, ids in partitions.items()},
        model_input=data,
        criterion=criterion,
        streams=Streams(seed),
        batch_size=batch_size,
        models=OwnModels(private),
        precision=precision,
    )
    kept_part = "retain" if "retain" in partitions else "train"
    measured: dict[str, Tensor] = {}
    measured |= {name: work.partitions[name] for name in ("forget", kept_part, "test") if name in partitions}
    with as_before(private):
        before = accuracies(private, column, work.y, measured, data.task, batch_size)
    unlearned = unlearner.run(private, with_names(work, unlearner))
    with as_before(unlearned.model):
        after = accuracies(unlearned.model, column, work.y, measured, data.task, batch_size)
    changed, unchanged = compared(unlearner, private, unlearned.model)
    are_apart = are_graphs or "retain" not in partitions
    kept = 0 if are_apart else shared_samples(column, work.y, work.partitions["forget"], work.partitions["retain"])
    both = f"{kept} of the samples to forget are in retain as well: what is in both is learned again. Take them out of retain."
    outcome = Outcome(
        method=shown_name("unlearner", type(unlearner)),
        changed=changed,
        before=before,
        after=after,
        sizes={name: len(ids) for name, ids in measured.items()},
        elapsed_s=unlearned.elapsed_s + unlearned.precompute_s,
        remarks=tuple(
            filter(
                None, (ready.remark, unchanged, coarse(unlearner, private, changed), both if kept else "", *ruined(before, after))
            )
        ),
    )
    for remark in outcome.remarks:
        warnings.warn(remark, UnlearningWarning, stacklevel=2)
    if verbose:
        sys.stdout.write(f"{outcome}\n")
    result = ready.restored(unlearned.model.to(home))
    # Not a module or a tensor, so weights, parameters and their names stay as they are.
    object.__setattr__(result, "unlearning", outcome)
    return result


def _samples(
    unlearner: Unlearner,
    private: nn.Module,
    modality: str | None,
    task: Task | None,
    loss_fn: Any,
    batch_size: int | None,
    given: Mapping[str, Any],
) -> Brought:
    """The model and samples that depend on nothing but themselves."""
    target = next((p.device for p in private.parameters()), torch.device("cpu"))
    chosen = chosen_positions(given["forget"], given["retain"], given["train"])
    held = _held(unlearner, chosen, **given)
    first = next(iter(held.values()))
    parts = datasets_from(held, keep_float64=True, axes="as_they_are", task=told_task(task, loss_fn, first.y))
    x, y, partitions = joined(parts, private)
    partitions = located(partitions, chosen)
    column, labels = x.to(target), y.to(target)
    restored = called_by_name(private, first.arguments)
    data, logits = model_input_of(private, column, labels, modality, task, next(iter(parts.values())).class_names)
    return Brought(
        x=column,
        y=labels,
        partitions=partitions,
        model=private,
        model_input=data,
        logits=logits,
        tried=labels[: len(logits)],
        batch_size=batch_size or 64,
        restored=restored,
    )


def _require(unlearner: Unlearner, there: Set[str], hint: str = "") -> None:
    """That the parts are there which a method reads."""
    roles = {
        name: role for role in ("forget", "retain", "train", "validation") for name in (getattr(unlearner, role, None),) if name
    }
    missing = sorted({roles[name] for name in unlearner.partition_names() if name in roles} - there)
    if missing:
        name = shown_name("unlearner", type(unlearner))
        raise RequirementNotMet(f"{name} reads the {' and the '.join(missing)} set; {hint or f'give it as {missing[0]}='}")


def _held(unlearner: Unlearner, chosen: Mapping[str, Any], **given: Any) -> dict[str, Held]:
    """The data that the method reads, and what is looked at besides, as columns; without what is a choice from the training set."""
    if given["forget"] is None:
        raise DataError("there is nothing to forget: give the samples as forget=, or their positions in train=")
    there = {role for role, data in given.items() if data is not None} | set(chosen)
    _require(unlearner, there | ({"train"} if "retain" in there else set()))
    if chosen:
        given = {"train": given["train"], **{role: data for role, data in given.items() if role not in chosen}}
    return {role: named_in_errors(role, data) for role, data in given.items() if data is not None}
