"""Running an experiment: check, plan, execute, and put the results into files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from erasure.analysis.drift import drift_warnings
from erasure.analysis.overview import Overview, overview_of
from erasure.analysis.power import LEVEL
from erasure.data.partitions import PartitionIssue
from erasure.durable import owned, reported, write_atomically
from erasure.engine.executors import processes, serial
from erasure.engine.executors.helpers import helped
from erasure.engine.preflight import located, prepare
from erasure.engine.recording.evidence import collect
from erasure.engine.recording.rows import assemble, assemble_jury, assemble_trace
from erasure.errors import MissingDependency
from erasure.events import Event, Listener, Message, RowReady, RunFinished, RunStarted, ignore_events
from erasure.experiment.configuration import Experiment
from erasure.planning.devices import check_devices
from erasure.planning.estimate import forecasting
from erasure.planning.plan import Plan
from erasure.planning.planner import build_plan
from erasure.records.evidence import write_run_record
from erasure.records.looks import MAX_LOOKS, Look, count_look
from erasure.records.output_folder import check_output, holds_other_configuration
from erasure.records.rows import remove_trace, write_rows, write_trace
from erasure.records.run_folder import RunFolder
from erasure.records.stages_file import write_stages
from erasure.reports.page import PAGE_FILE, write_page
from erasure.reports.results import Results
from erasure.reports.run_summary import write_summary
from erasure.reports.table import markdown_table
from erasure.reports.verdicts_file import write_verdicts
from erasure.stages.numerics import Numerics
from erasure.stages.session import Session
from erasure.stages.spawning import n_workers
from erasure.stages.stage import Stage
from erasure.store import Store, default_base_path, default_store_path
from erasure.store.addresses import address
from erasure.training.devices import resolve_device
from erasure.workflows.options import RunOptions
from erasure.workflows.samples import write_samples

__all__ = ["make_plan", "merged_failures", "report_page", "run_experiment", "run_experiments"]


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
    with located(experiment):
        return build_plan(experiment, options.repetitions(experiment), numerics)


def run_experiment(experiment: Experiment, options: RunOptions | None = None, listener: Listener = ignore_events) -> Results:
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
            listener(Message(text, level="warning"))
    return run_experiments([(experiment, options.output)], options, listener)[0]


def run_experiments(
    wanted: Sequence[tuple[Experiment, Path | None]], options: RunOptions, listener: Listener = ignore_events
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
                prepare(plan, session, inspected, notices, listener)
            for notice in notices:
                listener(Message(notice))
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
        listener(Message(_looked(look), level="warning" if look.number > look.planned else "info"))
    for plan, found in zip(plans, results, strict=True):
        for text in drift_warnings(found.trace, _streams(plan)):
            listener(Message(text, level="warning"))
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
        if isinstance(event, Message):
            said.append((event.text, event.level))
        listener(event)

    return emit


def _look(plans: Sequence[Plan], wanted: Sequence[tuple[Experiment, Path | None]], planned: int | None) -> Look:
    """How often a folder was judged with other seeds; settings of a sweep are ranked, and not asked."""
    output = wanted[0][1]
    golds = {(repetition.seeds.split, repetition.seeds.train): len(repetition.floors) for repetition in plans[0].repetitions}
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
        f"plan them before the first one (--looks {MAX_LOOKS})"
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
        with reported("write", output, option="--output"):
            output.mkdir(parents=True, exist_ok=True)
        with owned(output, waits=True):  # of two runs into one folder the later one replaces all files of the other
            save(results, output)
            write_samples(plan, session, failed, output)
            overview = overview_of(RunFolder(results.rows, evidence, jury=results.jury))
            write_judged(overview, output)
            write_stages({address: stage.name for address, stage in plan.stages.items()}, output)
            write_run_record(evidence, output)
            write_summary(overview, output)
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
        yield lambda: serial.execute(stages, session, helped)


def save(results: Results, output: Path) -> None:
    """Write ``rows.parquet``, ``rows.csv`` and ``rows.json``, and ``trace.csv`` and ``trace.json`` if there is a trace."""
    write_rows((*results.rows, *results.jury), output)
    if results.trace:
        write_trace(results.trace, output)
    else:
        remove_trace(output)


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
        listener(Message(f"No report was made: {error}"))
    except Exception as error:  # the results are on the disk already; a page must not cost them
        listener(Message(f"No report was made: {type(error).__name__}: {error}", level="warning"))


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
        listener(Message(f"{reason} It is computed again.", level="warning"))

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
