"""Checks before a run: the data are loaded and split, and every component is asked whether it is defined for them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from erasure.component import Component
from erasure.data.partitions import PartitionIssue, inspect_partitions
from erasure.engine.executors import serial
from erasure.errors import ConfigError, DataError, Diagnostic, ErasureError, PartitionError, RequirementNotMet, foreign
from erasure.events import Listener, Message, ignore_events
from erasure.experiment.configuration import Experiment
from erasure.functional.tokens import labelled
from erasure.measures.contract import Measure
from erasure.planning.devices import unshareable
from erasure.planning.plan import Plan
from erasure.stages.models import MakeModels
from erasure.stages.session import LoadedData, Session
from erasure.training.batches import Batch
from erasure.training.devices import emulated_precision, rounded_steps
from erasure.training.fit import loss_misfit, output_misfit
from erasure.training.graph_requests import RequestedGraph
from erasure.training.links import request_of
from erasure.training.neighbours import neighbours_unsupported
from erasure.training.predictor import build_model
from erasure.training.trial import deep_copy, gives_probabilities, initialised, try_one_sample, try_outputs
from erasure.unlearners.contract import Unlearner

__all__ = ["located", "prepare"]


@contextmanager
def located(experiment: Experiment) -> Iterator[None]:
    """Give an error of the data the place in the configuration that asked for them."""
    data = experiment.data
    try:
        yield
    except DataError as error:
        number = error.splitter if isinstance(error, PartitionError) else None
        error.problem = _problem(experiment, data.data_source if number is None else data.partitions[number], str(error), "data")
        raise


def _problem(experiment: Experiment, component: Component | None, message: str, kind: str) -> Diagnostic:
    place = experiment.place_of(component)
    return Diagnostic(message, path=place.path, position=place.position, kind=kind)


def prepare(
    plan: Plan, session: Session, inspected: dict[str, list[PartitionIssue]], notices: dict[str, None], listener: Listener
) -> None:
    """Load and cut the data, and ask every component whether it is defined for it, before anything is trained.

    What is wrong with the partitions of a split is found once, and kept in ``inspected``; what networks warn of as they are built, in
    ``notices``.
    """
    with located(plan.experiment):
        for stage in plan.stages.values():
            if stage.prepares:
                serial.run_or_raise(stage, session)
    for number, data in enumerate({data.split_address: data for data in plan.data}.values()):
        loaded = session.loaded(data)
        is_told = data.split_address in inspected
        if not is_told:
            partitions = {name: ids.cpu() for name, ids in loaded.partitions.items()}
            inspected[data.split_address] = inspect_partitions(partitions, loaded.dataset)
        tell = listener if number == 0 and not is_told else ignore_events
        problems = [*_partition_problems(plan, loaded, inspected[data.split_address], tell), *_misfits(plan, loaded, notices)]
        if problems:
            raise ConfigError(sorted(problems, key=lambda problem: (problem.position, problem.path)))


def _partition_problems(plan: Plan, loaded: LoadedData, issues: Iterable[PartitionIssue], listener: Listener) -> list[Diagnostic]:
    experiment = plan.experiment
    made_by = {name: splitter for splitter in experiment.data.partitions for name in splitter.parts}
    problems = []
    training_set = experiment.predictor.training_set
    if experiment.predictor.epochs and not len(loaded.partitions[training_set]):
        problems.append(
            _problem(experiment, made_by.get(training_set), f'the training partition "{training_set}" is empty', "partition")
        )
    for issue in issues:
        if issue.severity == "error":
            message = f'partition "{issue.partition}": {issue.message}'
            problems.append(_problem(experiment, made_by.get(issue.partition), message, "partition"))
        else:
            listener(Message(f"{issue.partition}: {issue.message}", level="warning"))
    return problems


def _misfits(plan: Plan, loaded: LoadedData, notices: dict[str, None]) -> list[Diagnostic]:
    """Components that are not defined for the data; what the network warns of as it is built goes to ``notices``."""
    experiment, data = plan.experiment, loaded.model_input
    problems = []
    components: list[Unlearner | Measure] = [entry.unlearner for entry in experiment.unlearners]
    for component in components + list(experiment.evaluator.measures):
        reason = component.unsupported_reason(data)
        if reason is not None:
            problems.append(_problem(experiment, component, reason, "requirement"))
    for entry in experiment.unlearners:
        problems += [_problem(experiment, entry.unlearner, reason, "partition") for reason in _absent(entry.unlearner, loaded)]
    for measure in experiment.evaluator.measures:
        read = {name: loaded.partitions[name] for name in measure.partitions() if name in loaded.partitions}
        # Edges have no labels; that a measure looks at those of samples is said below.
        labels = {
            name: loaded.y.index_select(0, ids) for name, ids in read.items() if not len(ids) or int(ids.max()) < len(loaded.y)
        }
        remark = measure.remark(labels, data)
        if remark is not None:
            notices.setdefault(remark)
    problems += _unanswerable(plan, loaded)
    try:
        reason = experiment.predictor.model.refuse(data)
        if reason is not None:
            raise RequirementNotMet(reason)
        model = build_model(experiment.predictor.model, data, 0, torch.device("cpu"), told=lambda text: notices.setdefault(text))
        for told in (emulated_precision(plan.numerics.device, plan.numerics.precision, model), rounded_steps(model)):
            if told is not None:
                notices.setdefault(told)
        logits, y = _first_logits(model, loaded, notices)
        problems += _untrainable(experiment, model, loaded)
        problems += [
            _problem(experiment, experiment.predictor, reason, "requirement") for reason in _unfit(plan, loaded, model, logits, y)
        ]
        problems += [
            _problem(experiment, experiment.predictor, reason, "requirement") for reason in unshareable(plan, loaded.x, model)
        ]
    except RequirementNotMet as error:
        problems.append(_problem(experiment, experiment.predictor.model, str(error), "requirement"))
    return problems


def _absent(unlearner: Unlearner, loaded: LoadedData) -> Iterator[str]:
    """Partitions of its own that a method looks at, beside those that every experiment has, and that are not there."""
    for name in sorted(unlearner.partition_names() - set(unlearner.partitions().values())):
        if not len(loaded.partitions.get(name, ())):
            there = ", ".join(loaded.partitions)
            yield f'{type(unlearner).__name__} looks at the partition "{name}", which is missing or empty; there are {there}'


def _unanswerable(plan: Plan, loaded: LoadedData) -> Iterator[Diagnostic]:
    """Methods that the inputs give nothing to work on, and what a request to forget something of a graph leaves without an answer."""
    experiment, x = plan.experiment, request_of(loaded.x)
    for method in (entry.unlearner for entry in experiment.unlearners):
        is_undefined = method.unsupported_reason(loaded.model_input) is not None
        reason = None if is_undefined else method.refuse_inputs(loaded.x if x is None else x)
        if reason is not None:
            yield _problem(experiment, method, reason, "requirement")
    if x is None:
        return
    edges = {name for name, ids in loaded.partitions.items() if len(ids) and int(ids.max()) >= len(x)}
    for measure in experiment.evaluator.measures:
        wrong = [name for name in measure.partitions() if name in edges and name not in measure.of_edges()]
        if wrong:
            parts = "edges" if isinstance(x, RequestedGraph) else "nodes, and samples are links"
            message = f'{measure.title} looks at samples, and "{wrong[0]}" is a partition of {parts}'
            yield _problem(experiment, measure, message, "requirement")
    if any(isinstance(stage, MakeModels) and stage.block.has_own_forget_sets for stage in plan.stages.values()):
        message = (
            "a measure asks for shadow models that unlearn, and each would need a request of its own, which there is none of"
        )
        yield _problem(experiment, experiment.evaluator, message, "requirement")


@torch.no_grad()
def _first_logits(model: torch.nn.Module, loaded: LoadedData, notices: dict[str, None]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a fresh model says about the first two samples, and their labels; that these are probabilities goes to ``notices``."""
    ids = torch.arange(min(2, len(loaded.dataset)))
    y = loaded.y.index_select(0, ids.to(loaded.y.device))
    reason = initialised(model)
    if reason is not None:
        raise RequirementNotMet(reason)
    try:
        logits = try_outputs(model, loaded.dataset.x.gather(ids), loaded.model_input.n_outputs)
        if len(ids) > 1:
            # Answers have as many rows of logits as the longest of a batch has tokens.
            longest = int(labelled(y).sum(-1).argmax()) if loaded.dataset.task == "generation" else 0
            try_one_sample(model, loaded.dataset.x.gather(ids[longest : longest + 1]), logits)
        remark = gives_probabilities(model, loaded.dataset.x.gather(ids))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        if loaded.dataset.task == "generation":
            message = "the data has prompts and answers, which the model does not take; take CausalLanguageModel or SmallLlama"
            raise RequirementNotMet(f"{message} ({error})") from error
        read = ' (whole numbers are ids of tokens; give the source modality = "table" if they are measurements)'
        shape = f"{loaded.dataset.x_shape}{read if loaded.dataset.modality == 'text' else ''}"
        raise RequirementNotMet(f"the model does not take samples of shape {shape}: {error}") from error
    except ErasureError:
        raise
    except Exception as error:
        raise RequirementNotMet(f"the model fails on the first samples: {foreign(error)}") from error
    if remark is not None:
        notices.setdefault(remark)
    return logits.to(loaded.y.device), y


def _untrainable(experiment: Experiment, model: torch.nn.Module, loaded: LoadedData) -> Iterator[Diagnostic]:
    """Methods that need of the network what it does not have, found on the first two samples."""
    ids = torch.arange(min(2, len(loaded.dataset)))
    y, criterion = loaded.dataset.y.index_select(0, ids), copy.deepcopy(loaded.criterion).to(torch.device("cpu"))
    has_weights = next(model.parameters(), None) is not None
    for entry in experiment.unlearners:
        if entry.unlearner.changes_weights() and not has_weights:
            message = (
                f"{entry.unlearner.registered_name()} changes weights that are trained, and this model has none; take ExactDeletion, or "
                "GoldModel, which fits it again"
            )
            yield _problem(experiment, entry.unlearner, message, "requirement")
            continue
        batch = Batch(loaded.dataset.x.gather(ids), y, ids)
        try:
            entry.unlearner.try_on(deep_copy(model).eval(), batch, criterion)
        except RequirementNotMet as error:
            yield _problem(experiment, entry.unlearner, str(error), "requirement")


def _unfit(plan: Plan, loaded: LoadedData, model: torch.nn.Module, logits: torch.Tensor, y: torch.Tensor) -> Iterator[str]:
    """Why the loss, the augmentation or the drawing of neighbours does not fit the data and the model."""
    predictor, data = plan.experiment.predictor, loaded.model_input
    reason = output_misfit(logits, data, len(y))
    if reason is not None:
        raise RequirementNotMet(reason)
    reasons = [loss_misfit(loaded.criterion, predictor.loss_fn, data, logits, y)]
    reasons += [augmentation.unsupported_reason(loaded.dataset.x) for augmentation in predictor.augment]
    if predictor.neighbours:
        reasons.append(neighbours_unsupported(model, loaded.dataset.x, predictor.neighbours))
    yield from (each for each in reasons if each is not None)
