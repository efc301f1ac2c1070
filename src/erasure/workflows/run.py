"""Running an experiment: check, plan, execute, and put the results into files."""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from erasure.analysis.drift import drift_warnings
from erasure.analysis.overview import Overview, overview_of
from erasure.analysis.power import LEVEL
from erasure.component import Component
from erasure.data.partitions import PartitionIssue, inspect_partitions
from erasure.durable import write_atomically
from erasure.engine.executors import processes, serial
from erasure.engine.recording.evidence import collect
from erasure.engine.recording.rows import assemble, assemble_jury, assemble_trace
from erasure.errors import ConfigError, DataError, MissingDependency, PartitionError, Problem, RequirementNotMet
from erasure.events import Event, Listener, RowReady, RunFinished, RunStarted, Said, silent
from erasure.experiment.configuration import Experiment
from erasure.measures.contract import Measure
from erasure.planning.devices import check_devices, unshareable
from erasure.planning.estimate import forecasting
from erasure.planning.plan import Plan
from erasure.planning.planner import build_plan
from erasure.planning.seeds import Seeds
from erasure.records.evidence import write_evidence
from erasure.records.looks import MOST_LOOKS, Look, count_look
from erasure.records.output_folder import check_output, holds_other_configuration
from erasure.records.rows import write_rows, write_trace
from erasure.records.run_folder import RunFolder
from erasure.records.stages_file import write_stages
from erasure.reports.page import PAGE_FILE, write_page
from erasure.reports.results import Results
from erasure.reports.table import markdown_table
from erasure.reports.verdicts_file import write_verdicts
from erasure.stages.models import MakeModels
from erasure.stages.numerics import Numerics
from erasure.stages.session import LoadedData, Session
from erasure.stages.spawning import n_workers
from erasure.stages.stage import Stage
from erasure.store import Store, default_base_path, default_store_path
from erasure.store.addresses import address
from erasure.training.batches import Batch
from erasure.training.devices import resolve_device
from erasure.training.fit import loss_misfit, output_misfit
from erasure.training.links import request_of
from erasure.training.predictor import build_model
from erasure.training.trial import deep_copy, gives_probabilities, initialised, try_outputs
from erasure.types import Json
from erasure.unlearners.contract import Unlearner
from erasure.workflows.samples import write_samples

__all__ = ["RunOptions", "make_plan", "merged_failures", "report_page", "run_experiment", "run_experiments"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; none of it belongs to the configuration.

    Args:
        seeds: Root seed of each repetition; by default the configuration's alone.
        store: Where intermediate results are kept; by default ``$ERASURE_STORE`` or ``.erasure/store``.
        output: Where result files go; None writes none.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of one operation; results on the CPU are the same bytes for the same number.
        executor: ``serial`` runs one stage after the other in this process, ``processes`` a pool of processes on this machine, ``ray``
            a cluster. The results are the same bytes.
        workers: How many stages run at a time; by default as many as there are cores for.
        address: Address of a running Ray cluster; by default one is started on this machine.
        axes: Seeds of an axis (``split``, ``train``, ``unlearn``, ``evaluate``) instead of the root's; every combination is a
            repetition.
        report: Whether an HTML report is made as well as the result files.
        shared_store: Whether all nodes of a Ray cluster see the store's directory; otherwise objects travel through Ray.
        devices: Devices of this machine that train a model together, one process each; methods and measures run on one.
        strategy: ``ddp`` has all weights on every device, ``fsdp`` a shard of them.
        looks: Looks that are planned at the output while seeds are added; each takes its share of the level.
    """

    seeds: tuple[int, ...] | None = None
    store: Path | None = None
    output: Path | None = None
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1
    executor: Literal["serial", "processes", "ray"] = "serial"
    workers: int | None = None
    address: str | None = None
    shared_store: bool = True
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    report: bool = True
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    looks: int | None = None

    def repetitions(self, experiment: Experiment) -> list[Seeds]:
        """Seeds of every repetition: each root seed with every combination of the axes that have seeds of their own."""
        roots = dict.fromkeys(self.seeds or (experiment.globals.seed,))
        fixed = {} if experiment.data.split_seed is None else {"split": (experiment.data.split_seed,)}
        axes = fixed | {axis: tuple(dict.fromkeys(seeds)) for axis, seeds in self.axes.items() if seeds}
        found = [
            replace(Seeds.all(root), **dict(zip(axes, chosen, strict=True)))
            for root in roots
            for chosen in itertools.product(*axes.values())
        ]
        return list(dict.fromkeys(found))

    def record(self) -> dict[str, Json]:
        """The options as JSON."""
        return {
            "seeds": None if self.seeds is None else list(self.seeds),
            "axes": {axis: list(seeds) for axis, seeds in self.axes.items()},
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "executor": self.executor,
            "workers": self.workers,
            **({"devices": self.devices, "strategy": self.strategy} if self.devices > 1 else {}),
        }


def make_plan(experiment: Experiment, options: RunOptions) -> Plan:
    """The plan of an experiment under some options; nothing is loaded or trained.

    Raises:
        DataError: If a data file is missing.
        RequirementNotMet: If the device does not exist, or a model cannot be trained on that many.
        MissingDependency: If what several devices need is not installed.
    """
    device = resolve_device(options.device)
    check_devices(options.devices, options.device, options.executor)
    numerics = Numerics(device.type, options.precision, options.threads, options.devices, options.strategy)
    with _located(experiment):
        return build_plan(experiment, options.repetitions(experiment), numerics)


def run_experiment(experiment: Experiment, options: RunOptions | None = None, listener: Listener = silent) -> Results:
    """Run an experiment; what the store has is not computed again.

    Args:
        experiment: The validated configuration.
        options: How to run it.
        listener: Receives events.

    Returns:
        The rows; failed ones carry their reason.

    Raises:
        ConfigError: If the data, the model and the components do not fit together; before anything is trained.
        DataError: If the data cannot be read or cut.
        StoreError: If the store or the output directory cannot be used, or the latter has another experiment's results; before
            anything is computed.
    """
    options = options or RunOptions()
    if options.output is not None:
        check_output(options.output, experiment.name)
        if holds_other_configuration(options.output, experiment.canonical()):
            text = f'{options.output} has results of "{experiment.name}" with other settings; those of this run replace them.'
            listener(Said(text, level="warning"))
    return run_experiments([(experiment, options.output)], options, listener)[0]


def run_experiments(
    wanted: Sequence[tuple[Experiment, Path | None]], options: RunOptions, listener: Listener = silent
) -> list[Results]:
    """Run several experiments as one plan: stages that are equal are one stage, whichever experiment they belong to.

    Args:
        wanted: Each experiment, and where its result files go.
        options: How to run them; ``output`` is that of the whole, for those who listen.
        listener: Receives events.

    Raises:
        As :func:`run_experiment`.
    """
    start = time.perf_counter()
    plans = [make_plan(experiment, options) for experiment, _ in wanted]
    stages = {address: stage for plan in plans for address, stage in plan.stages.items()}
    name, output = wanted[0][0].name, str(options.output or "")
    said: list[tuple[str, str]] = []
    with _store(wanted[0][0], options, listener) as store, _threads(options.threads):
        listener = forecasting(listener, stages, store)
        cores = n_workers(options.threads, options.workers) if options.executor == "serial" else 1
        session = Session(store, resolve_device(options.device), plans[0].numerics, listener, cores=cores)
        listener = _noting(listener, said)
        with _executing(stages, session, options) as execute:
            inspected: dict[str, list[PartitionIssue]] = {}
            notices: dict[str, None] = {}
            for plan in plans:
                _prepare(plan, session, inspected, notices, listener)
            for notice in notices:
                listener(Said(notice))
            listener(
                RunStarted(
                    experiment=name,
                    configuration=plans[0].experiment.canonical(),
                    options=options.record(),
                    total=len(stages),
                    cached=len(store.contains_many(stages)),
                    output=output,
                )
            )
            failed = execute()
        look = _look(plans, wanted, options.looks)
        results = [
            _results(plan, session, failed, where, listener if options.report else None, look.level(LEVEL))
            for plan, (_, where) in zip(plans, wanted, strict=True)
        ]
    if look.number > 1:
        listener(Said(_looked(look), level="warning" if look.number > look.planned else "info"))
    for plan, found in zip(plans, results, strict=True):
        for text in drift_warnings(found.trace, _streams(plan)):
            listener(Said(text, level="warning"))
        for row in found:
            listener(RowReady(row.record()))
    listener(
        RunFinished(
            experiment=name,
            is_sound=all(found.is_sound for found in results),
            elapsed_s=time.perf_counter() - start,
            rows=sum(len(found) for found in results),
            failures=merged_failures([(experiment.name, found) for (experiment, _), found in zip(wanted, results, strict=True)]),
            output=output,
        )
    )
    return [replace(found, said=tuple(said)) for found in results]


def _noting(listener: Listener, said: list[tuple[str, str]]) -> Listener:
    """The listener; what it is told of the data and the results, which does not depend on what the store holds, goes to ``said`` too."""

    def emit(event: Event) -> None:
        if isinstance(event, Said):
            said.append((event.text, event.level))
        listener(event)

    return emit


def _look(plans: Sequence[Plan], wanted: Sequence[tuple[Experiment, Path | None]], planned: int | None) -> Look:
    """How often a folder was judged with other seeds; settings of a sweep are ranked, and not asked."""
    output = wanted[0][1]
    golds = {(group.seeds.split, group.seeds.train): len(group.floors) for group in plans[0].groups}
    if len(plans) > 1 or output is None or not any(golds.values()):
        return Look(1, planned or 1)
    asked = {name: part for name, part in plans[0].experiment.canonical().items() if name in {"data", "predictor", "unlearners"}}
    return count_look(output, address("looks", asked), {"originals": len(golds), "golds": sum(golds.values())}, planned)


def _looked(look: Look) -> str:
    """What a further look costs."""
    level, spent = 100 * look.level(LEVEL), 100 * look.spent(LEVEL)
    start = f"this is look {look.number} at the same methods with other numbers of seeds or golds: it is taken at a level of {level:.2g} %"
    if look.number <= look.planned:
        return (
            f"{start}, so that all {look.planned} planned ones accuse a retrained model in at most {100 * LEVEL:.0f} % of cases"
        )
    return (
        f"{start}, and together the looks accuse a retrained model in up to {spent:.2g} % of cases; to keep to {100 * LEVEL:.0f} % in all, "
        f"plan them before the first one (--looks {MOST_LOOKS})"
    )


def _streams(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The forget sets of each method that answers several requests, by its label."""
    found = {entry.label: entry.unlearner.forgotten() for entry in plan.experiment.unlearners}
    return {label: names for label, names in found.items() if len(names) > 1}


def _results(
    plan: Plan, session: Session, failed: Mapping[str, str], output: Path | None, listener: Listener | None, level: float = LEVEL
) -> Results:
    """The rows of a plan that was run, in files where they are wanted, with a page if there is someone to tell about it."""
    store = session.store
    dataset = session.dataset(plan.data[0].data_address).name
    results = Results(
        rows=tuple(assemble(plan, store, failed, dataset)),
        failures=_named(plan, failed),
        output=output,
        trace=tuple(assemble_trace(plan, store, failed, dataset)),
        jury=tuple(assemble_jury(plan, store, failed, dataset)),
    )
    if output is not None:
        evidence = replace(collect(plan, session, failed, results.rows), level=level)
        save(results, output)
        write_samples(plan, session, failed, output)
        write_judged(overview_of(RunFolder(results.rows, evidence, jury=results.jury)), output)
        write_stages({address: stage.name for address, stage in plan.stages.items()}, output)
        write_evidence(evidence, output)
        (output / PAGE_FILE).unlink(missing_ok=True)  # a page of an earlier run would tell another story than the rows
        if listener is not None:
            report_page(output, listener)
    return results


@contextmanager
def _executing(stages: Mapping[str, Stage], session: Session, options: RunOptions) -> Iterator[processes.Execute]:
    """What runs the stages by the executor that was asked for."""
    if options.executor == "ray":
        from erasure.engine.executors import ray_cluster

        yield lambda: ray_cluster.execute(
            stages, session, workers=options.workers, address=options.address, shared=options.shared_store
        )
    elif options.executor == "processes":
        with processes.executing(stages, session, n_workers(options.threads, options.workers)) as execute:
            yield execute
    else:
        yield lambda: serial.execute(stages, session)


def save(results: Results, output: Path) -> None:
    """Write ``rows.parquet``, ``rows.csv`` and ``rows.json``, and ``trace.csv`` and ``trace.json`` if there is a trace."""
    write_rows((*results.rows, *results.jury), output)
    if results.trace:
        write_trace(results.trace, output)


def write_judged(overview: Overview, output: Path) -> None:
    """Write ``verdicts.json`` and ``table.md``; of several problems a table of each."""
    write_verdicts(overview, output)
    parts = overview.parts or [("", overview)]
    tables = [(name, markdown_table(part.folder.rows, part.judged)) for name, part in parts]
    text = "\n".join(f"## {name}\n\n{table}" if name else table for name, table in tables)
    write_atomically(output / "table.md", text.encode("utf-8", "replace"))


def report_page(output: Path, listener: Listener) -> None:
    """Write the HTML report; a run is complete without it."""
    try:
        write_page(output)
    except MissingDependency as error:
        listener(Said(f"No report was made: {error}"))
    except Exception as error:  # the results are on the disk already; a page must not cost them
        listener(Said(f"No report was made: {type(error).__name__}: {error}", level="warning"))


def merged_failures(found: Sequence[tuple[str, Results]]) -> dict[str, str]:
    """Stage to reason in several experiments; where there are several, the stage says of which one it is."""
    return {
        stage if len(found) == 1 else f"{stage} of {name}": reason
        for name, results in found
        for stage, reason in results.failures.items()
    }


def _named(plan: Plan, failed: Mapping[str, str]) -> dict[str, str]:
    return {plan.stages[address].name: reason for address, reason in failed.items() if address in plan.stages}


@contextmanager
def _store(experiment: Experiment, options: RunOptions, listener: Listener) -> Iterator[Store]:
    def report(address: str, reason: str) -> None:
        listener(Said(f"{reason} It is computed again.", level="warning"))

    if experiment.globals.cached:
        yield Store(options.store or default_store_path(), on_corrupt=report, base=default_base_path())
        return
    with tempfile.TemporaryDirectory(prefix="erasure-") as directory:
        yield Store(Path(directory) / "store", on_corrupt=report)


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _located(experiment: Experiment) -> Iterator[None]:
    """Give an error of the data the place in the configuration that asked for them."""
    data = experiment.data
    try:
        yield
    except DataError as error:
        number = error.splitter if isinstance(error, PartitionError) else None
        error.problem = _problem(experiment, data.data_source if number is None else data.partitions[number], str(error), "data")
        raise


def _problem(experiment: Experiment, component: Component | None, message: str, kind: str) -> Problem:
    place = experiment.place_of(component)
    return Problem(message, path=place.path, position=place.position, kind=kind)


def _prepare(
    plan: Plan, session: Session, inspected: dict[str, list[PartitionIssue]], notices: dict[str, None], listener: Listener
) -> None:
    """Load and cut the data, and ask every component whether it is defined for it, before anything is trained.

    What is wrong with the partitions of a split is found once, and kept in ``inspected``; what networks warn of as they are built, in
    ``notices``.
    """
    with _located(plan.experiment):
        for stage in plan.stages.values():
            if stage.prepares:
                serial.run_or_raise(stage, session)
    for number, data in enumerate({data.split_address: data for data in plan.data}.values()):
        loaded = session.loaded(data)
        is_told = data.split_address in inspected
        if not is_told:
            partitions = {name: ids.cpu() for name, ids in loaded.partitions.items()}
            inspected[data.split_address] = inspect_partitions(partitions, loaded.dataset)
        tell = listener if number == 0 and not is_told else silent
        problems = [*_partition_problems(plan, loaded, inspected[data.split_address], tell), *_misfits(plan, loaded, notices)]
        if problems:
            raise ConfigError(sorted(problems, key=lambda problem: (problem.position, problem.path)))


def _partition_problems(plan: Plan, loaded: LoadedData, issues: Iterable[PartitionIssue], listener: Listener) -> list[Problem]:
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
            listener(Said(f"{issue.partition}: {issue.message}", level="warning"))
    return problems


def _misfits(plan: Plan, loaded: LoadedData, notices: dict[str, None]) -> list[Problem]:
    """Components that are not defined for the data; what the network warns of as it is built goes to ``notices``."""
    experiment, data = plan.experiment, loaded.model_input
    problems = []
    components: list[Unlearner | Measure] = [entry.unlearner for entry in experiment.unlearners]
    for component in components + list(experiment.evaluator.measures):
        reason = component.refuse(data)
        if reason is not None:
            problems.append(_problem(experiment, component, reason, "requirement"))
    for measure in experiment.evaluator.measures:
        read = {name: loaded.partitions[name] for name in measure.partitions() if name in loaded.partitions}
        # Edges have no labels; that a measure looks at those of samples is said below.
        labels = {
            name: loaded.y.index_select(0, ids) for name, ids in read.items() if not len(ids) or int(ids.max()) < len(loaded.y)
        }
        remark = measure.remark(labels, data)
        if remark is not None:
            notices.setdefault(remark)
    problems += _unrequested(plan, loaded)
    try:
        reason = experiment.predictor.model.refuse(data)
        if reason is not None:
            raise RequirementNotMet(reason)
        model = build_model(experiment.predictor.model, data, 0, torch.device("cpu"), told=lambda text: notices.setdefault(text))
        logits, y = _first_logits(model, loaded, notices)
        problems += _untrainable(experiment, model, loaded)
        problems += [
            _problem(experiment, experiment.predictor, reason, "requirement") for reason in _unfit(plan, loaded, logits, y)
        ]
        problems += [
            _problem(experiment, experiment.predictor, reason, "requirement") for reason in unshareable(plan, loaded.x, model)
        ]
    except RequirementNotMet as error:
        problems.append(_problem(experiment, experiment.predictor.model, str(error), "requirement"))
    return problems


def _unrequested(plan: Plan, loaded: LoadedData) -> Iterator[Problem]:
    """Components that a request to forget something of a graph leaves without an answer."""
    experiment, x = plan.experiment, request_of(loaded.x)
    if x is None:
        return
    for entry in experiment.unlearners:
        reason = entry.unlearner.refuse_inputs(x)
        if reason is not None:
            yield _problem(experiment, entry.unlearner, reason, "requirement")
    edges = {name for name, ids in loaded.partitions.items() if len(ids) and int(ids.max()) >= len(x)}
    for measure in experiment.evaluator.measures:
        wrong = [name for name in measure.partitions() if name in edges and name not in measure.of_edges()]
        if wrong:
            message = f'{measure.title} looks at samples, and "{wrong[0]}" is a partition of edges'
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
    reason = initialised(model)
    if reason is not None:
        raise RequirementNotMet(reason)
    try:
        logits = try_outputs(model, loaded.dataset.x.gather(ids), loaded.model_input.n_outputs)
        remark = gives_probabilities(model, loaded.dataset.x.gather(ids))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        read = ' (whole numbers are ids of tokens; give the source modality = "table" if they are measurements)'
        shape = f"{loaded.dataset.x_shape}{read if loaded.dataset.modality == 'text' else ''}"
        raise RequirementNotMet(f"the model does not take samples of shape {shape}: {error}") from error
    if remark is not None:
        notices.setdefault(remark)
    return logits.to(loaded.y.device), loaded.y.index_select(0, ids.to(loaded.y.device))


def _untrainable(experiment: Experiment, model: torch.nn.Module, loaded: LoadedData) -> Iterator[Problem]:
    """Methods that need of the network what it does not have, found on the first two samples."""
    ids = torch.arange(min(2, len(loaded.dataset)))
    y, criterion = loaded.dataset.y.index_select(0, ids), copy.deepcopy(loaded.criterion).to(torch.device("cpu"))
    for entry in experiment.unlearners:
        batch = Batch(loaded.dataset.x.gather(ids), y, ids)
        try:
            entry.unlearner.try_on(deep_copy(model).eval(), batch, criterion)
        except RequirementNotMet as error:
            yield _problem(experiment, entry.unlearner, str(error), "requirement")


def _unfit(plan: Plan, loaded: LoadedData, logits: torch.Tensor, y: torch.Tensor) -> Iterator[str]:
    """Why the loss or the augmentation does not fit the data and the model."""
    predictor, data = plan.experiment.predictor, loaded.model_input
    reason = output_misfit(logits, data, len(y))
    if reason is not None:
        raise RequirementNotMet(reason)
    reasons = [loss_misfit(loaded.criterion, predictor.loss_fn, data, logits, y)]
    reasons += [augmentation.refuse(loaded.dataset.x) for augmentation in predictor.augment]
    yield from (each for each in reasons if each is not None)
