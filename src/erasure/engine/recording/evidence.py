"""What a report shows beside the rows: what was forgotten, from what, how, at what cost, and where everything comes from.

It is written to ``report.json`` at the end of a run. Nothing is trained or run for it: what the store does not have is left out,
with the reason. It holds numbers and names of samples (their positions in the data set), never a sample itself.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

from erasure.component import Call, Component, canonical, field_types
from erasure.config.docs import prose_of
from erasure.data.dataset import Dataset
from erasure.engine.recording import provenance
from erasure.engine.recording.model_evidence import ModelEvidence, Named
from erasure.engine.recording.rows import suffixes
from erasure.errors import ErasureError
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.measures.contract import Measure
from erasure.planning.plan import Plan, Repetition, ReportedModel
from erasure.planning.seeds import Seeds
from erasure.records.evidence import (
    CommandRecord,
    ConfigurationFile,
    ConfigurationRecord,
    DatasetRecord,
    FailureRecord,
    MeasureRecord,
    MissingRecord,
    ModelRecord,
    RunRecord,
    SourceRecord,
)
from erasure.records.figure_records import Curve, RepetitionRecord, ValueInterval
from erasure.records.reading import as_record
from erasure.records.rows import Row
from erasure.renamed import today
from erasure.stages.session import Session
from erasure.stages.value_records import FORMER
from erasure.store.addresses import plain_json
from erasure.training.graphs import GraphColumn
from erasure.training.links import LinkColumn
from erasure.types import Json

__all__ = ["collect", "measure_record", "summary_of"]

_LONGEST_SOURCE = 200_000
"""Characters of a configuration file that are kept."""
_MAX_EVIDENCE = 500
"""Curves of measures that are kept; a run may have many more."""
_MAX_INTERVALS = 5000
_AXES = ("split", "train", "unlearn", "evaluate")


def collect(plan: Plan, session: Session, failed: Mapping[str, str], rows: Sequence[Row]) -> RunRecord:
    """Everything a report needs beside the rows.

    Distributions, classes, layers and samples are those of the first repetition; rows have every repetition.

    Args:
        plan: What was run.
        session: The session that ran it; its store answers.
        failed: Address to reason of what could not be computed.
        rows: The result rows.
    """
    found: dict[str, Any] = {"created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    missing: list[MissingRecord] = []

    def piece(name: str, make: Callable[[], Any]) -> None:
        try:
            found[name] = make()
        except Exception as error:  # a picture that cannot be drawn must not cost the results
            missing.append(MissingRecord(what=name, reason=str(error).strip() or type(error).__name__))

    experiment = plan.experiment
    piece("experiment", lambda: experiment.name)
    piece("configuration", lambda: _configuration(experiment))
    piece("command", lambda: _command(plan))
    piece("versions", provenance.versions)
    piece("machine", lambda: provenance.machine(plan.numerics, session.device))
    piece("dataset", lambda: _dataset(plan, session))
    piece(
        "seeds", lambda: tuple(dict(vars(seeds)) for seeds in dict.fromkeys(repetition.seeds for repetition in plan.repetitions))
    )
    piece(
        "models", lambda: tuple(model for repetition in plan.repetitions for model in _models(plan, session, failed, repetition))
    )
    piece("measures", lambda: _measures(plan, rows))
    piece("sources", lambda: _sources(plan))
    stored: list[_Record] = []
    piece("curves", lambda: _curves(_filled(stored, plan, session, failed)))
    piece("gold_curves", lambda: _curves(_filled(stored, plan, session, failed), further=True))
    piece("intervals", lambda: _intervals(_filled(stored, plan, session, failed)))
    first = [repetition for repetition in plan.repetitions if repetition.seeds == plan.repetitions[0].seeds]
    several = len({repetition.retain for repetition in plan.repetitions}) > 1
    groups: list[RepetitionRecord] = []
    for repetition in first:
        models = ModelEvidence(plan, session, failed, repetition, named=_named(repetition, several=several))
        record, reasons = models.record()
        groups.append(record)
        missing += reasons
    own = (address for address in failed if address in plan.stages)  # what fails may be another experiment's of the same run
    failures = tuple(FailureRecord(stage=plan.stages[address].name, reason=failed[address]) for address in own)
    return RunRecord(**found, repetitions=tuple(groups), failures=failures, missing=tuple(missing))


# Models


def _named(repetition: Repetition, *, several: bool) -> list[Named]:
    """Original, gold and unlearned models with the names that rows have."""
    suffix = f" ({repetition.retain})" if several else ""
    subjects = [repetition.original, *([repetition.gold] if repetition.gold is not None else []), *repetition.unlearned]
    return [Named(_label_of(reported, suffix), reported) for reported in subjects]


def _label_of(reported: ReportedModel, suffix: str) -> str:
    """How rows call a model."""
    return reported.entry.label if reported.entry is not None else f"{reported.role}{suffix}"


def _models(plan: Plan, session: Session, failed: Mapping[str, str], repetition: Repetition) -> list[ModelRecord]:
    several = len({each.retain for each in plan.repetitions}) > 1
    return [_model(session, failed, repetition, named) for named in _named(repetition, several=several)]


def _model(session: Session, failed: Mapping[str, str], repetition: Repetition, named: Named) -> ModelRecord:
    reported = named.subject
    entry = reported.entry
    described = ModelRecord(
        label=named.label, role=reported.role, retain=repetition.retain, seed=repetition.seeds.train, address=reported.model
    )
    if entry is not None:
        described = replace(
            described,
            key=entry.key,
            exact=entry.unlearner.exact,
            forget=entry.unlearner.forget,
            summary=summary_of(type(entry.unlearner))[0],
            access=entry.unlearner.access(),
            parameters=_flat(canonical(entry.unlearner)),
        )
    if reported.model in failed:
        return replace(described, failed=failed[reported.model])
    facts = session.store.open(reported.model).facts
    costs = {name: facts.get(name) for name in ("elapsed_s", "precompute_s", "peak_memory_mib", "kept_bytes")}
    promise = cast(dict[str, Any], facts.get("guarantee") or {})
    described = replace(described, guarantee=promise.get("text", ""), assumptions=tuple(promise.get("assumptions", ())))
    return replace(described, chosen_epoch=cast("int | None", facts.get("epoch")), **cast(dict[str, Any], costs))


def _flat(node: Json, prefix: str = "") -> dict[str, Json]:
    """Parameters of a canonical component, those of inner ones by dotted names."""
    flat: dict[str, Json] = {}
    for name, value in node.get("parameters", {}).items():
        inner = value if isinstance(value, list) else [value]
        for number, each in enumerate(inner):
            here = f"{prefix}{name}" + (f"[{number}]" if isinstance(value, list) else "")
            if isinstance(each, dict) and "parameters" in each:
                flat[here] = str(each.get("class") or each.get("call")).rpartition(":")[2].rpartition(".")[2]
                flat |= _flat(each, f"{here}.")
            elif each is None or isinstance(each, bool | int | float | str):
                flat[here] = each
    return flat


# Measures and papers


def _measures(plan: Plan, rows: Iterable[Row]) -> dict[str, MeasureRecord]:
    """What each column of the tables means, by the name that rows have."""
    by_address: dict[str, dict[str, None]] = {}
    for row in rows:
        by_address.setdefault(row.address, {})[row.measure] = None
    described: dict[str, MeasureRecord] = {}
    for repetition in plan.repetitions:
        for reported in (repetition.original, *([repetition.gold] if repetition.gold else []), *repetition.unlearned):
            for measure, address in zip(plan.experiment.evaluator.measures, reported.values, strict=True):
                for name in by_address.get(address or "", ()):
                    if name not in described:
                        described[name] = measure_record(measure)
    return described


def measure_record(measure: Measure) -> MeasureRecord:
    """What a report says of a measure."""
    summary, answers = summary_of(type(measure))
    return MeasureRecord(
        component=type(measure).__name__,
        summary=summary,
        answers=answers,
        ideal=measure.ideal,
        higher_is_better=measure.higher_is_better,
    )


def summary_of(cls: type[Component]) -> tuple[str, str]:
    """First sentence of a component's documentation, and the question it answers."""
    paragraphs = [" ".join(text.split()) for text in prose_of(cls).split("\n\n")]
    answers = next((text.removeprefix("Answers: ") for text in paragraphs if text.startswith("Answers: ")), "")
    question = answers.partition("?")
    return paragraphs[0], f"{question[0]}?" if question[1] else answers


def _sources(plan: Plan) -> tuple[SourceRecord, ...]:
    """Papers of every method and measure, those inside others too, each once."""
    experiment = plan.experiment
    evaluator = experiment.evaluator
    traced = evaluator.trace.measures if evaluator.trace is not None else ()
    sources: dict[tuple[str, str], SourceRecord] = {}
    for kind, component in [
        *(("method", entry.unlearner) for entry in experiment.unlearners),
        *(("measure", measure) for measure in (*evaluator.measures, *traced)),
        ("data", experiment.data.data_source),
        ("model", experiment.predictor.model),
    ]:
        for inner in _components(component):
            cls = type(inner)
            if cls.source is not None:
                sources.setdefault(
                    (kind, cls.__name__),
                    SourceRecord(
                        kind=kind,
                        name=cls.__name__,
                        summary=summary_of(cls)[0],
                        paper=cls.source.paper,
                        code=cls.source.code,
                        deviations=tuple(cls.source.deviations),
                        bibtex=cls.source.bibtex,
                    ),
                )
    return tuple(sources.values())


def _components(value: Any) -> Iterable[Component]:
    if isinstance(value, Component) and not isinstance(value, Call):
        yield value
        for name in field_types(type(value)):
            yield from _components(getattr(value, name))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _components(inner)


_Record: TypeAlias = tuple[dict[str, Json], dict[str, Json]]
"""A stored value: whose it is and how rows call it, and what the measure said."""


def _filled(found: list[_Record], *where: Any) -> list[_Record]:
    found[:] = found or _records(*where)
    return found


def _curves(records: Iterable[_Record], *, further: bool = False) -> tuple[Curve, ...]:
    """What measures brought for their figures, with the address by which rows are found; or on further golds, which have no rows."""
    kept = (each for each in records if each[1].get("curve") and (each[0]["role"] == "further gold") == further)
    curves = (as_record(Curve, described | record["curve"]) for described, record in kept)
    return tuple(itertools.islice(curves, _MAX_EVIDENCE))


def _intervals(records: Iterable[_Record]) -> tuple[ValueInterval, ...]:
    """Intervals that measures gave to their own values, over samples or over the models of a bank; repeated rows lack them."""
    found = (
        ValueInterval(**described, **{name: record[name] for name in ("value", "low", "high")})
        for described, record in records
        if record["low"] is not None and record["high"] is not None and described["role"] != "further gold"
    )
    return tuple(itertools.islice(found, _MAX_INTERVALS))


def _records(plan: Plan, session: Session, failed: Mapping[str, str]) -> list[_Record]:
    several = len({repetition.retain for repetition in plan.repetitions}) > 1
    endings = suffixes(plan.experiment.evaluator.measures)
    found: list[_Record] = []
    for repetition in plan.repetitions:
        named = _named(repetition, several=several)
        each: list[tuple[str, str, Sequence[str | None]]] = [(n.label, n.subject.role, n.subject.values) for n in named]
        each += [("gold", "further gold", floor.values) for floor in repetition.floors]
        for label, role, addresses in each:
            for number, address in enumerate(addresses):
                if address is None or address in failed:
                    continue
                measure = plan.experiment.evaluator.measures[number]
                over = "models" if getattr(measure, "interval", "") == "models" else "samples"
                for stored in session.store.open(address).json("values"):
                    record = today(stored, FORMER)
                    described = {"label": label, "role": role, "seed": repetition.seeds.train, "address": address}
                    name = record["name"] + endings[number]
                    found.append((described | {"measure": name, "partition": record["partition"], "over": over}, record))
    return found


# Where it comes from


def _kind_of_sample(dataset: Dataset) -> str:
    if dataset.modality != "graph" or isinstance(dataset.x, GraphColumn):
        return dataset.modality
    return "link" if isinstance(dataset.x, LinkColumn) else "node"


def _dataset(plan: Plan, session: Session) -> DatasetRecord:
    data = plan.data[0]
    dataset = session.dataset(data.data_address)
    content = data.data_content
    return DatasetRecord(
        name=dataset.name,
        source=type(data.source).__name__,
        modality=_kind_of_sample(dataset),
        task=dataset.task,
        n=len(dataset),
        n_classes=dataset.n_classes,
        x_shape=tuple(dataset.x_shape),
        class_names=tuple(dataset.class_names)[:1000],
        address=data.data_address,
        fingerprint=plain_json(content["fingerprint"], "fingerprint"),
        parameters=canonical(data.source)["parameters"],
    )


def _files(experiment: Experiment) -> list[str]:
    files = dict.fromkeys(place.position.file for _, place in experiment.places)
    return [file for file in files if not file.startswith("<") and Path(file).is_file()]


def _configuration(experiment: Experiment) -> ConfigurationRecord:
    files = tuple(
        ConfigurationFile(file=_shown(file), text=Path(file).read_text("utf-8")[:_LONGEST_SOURCE]) for file in _files(experiment)
    )
    return ConfigurationRecord(files=files, canonical=experiment.canonical())


def _shown(file: str) -> str:
    """A path as others may see it: from the working directory, or its name alone."""
    path = Path(file).absolute()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name


def _command(plan: Plan) -> CommandRecord:
    """The command that gives these numbers again, and whether that is certain."""
    experiment, numerics = plan.experiment, plan.numerics
    options = ["--device", numerics.device, "--precision", numerics.precision, "--threads", str(numerics.threads)]
    seeds = _seed_options(list(dict.fromkeys(repetition.seeds for repetition in plan.repetitions)), experiment)
    files = _files(experiment)
    if not files:
        return CommandRecord(note="The configuration was given from Python; run it with erasure.run(configuration).")
    whole = next((file for file in files if _is_whole(file, experiment)), None)
    note = ""
    if whole is None:
        swept = next(((file, label) for file in files if (label := _setting(file, experiment)) is not None), None)
        if swept is not None:
            text = shlex.join(["erasure", "sweep", _shown(swept[0]), *seeds, *options])
            return CommandRecord(text=text, note=f"It runs every setting of the sweep; this one is {swept[1]}.")
        note = (
            "The file alone gives another configuration: values were set on the command line (--set), a module was trusted "
            "(--trust), or the file has changed. The canonical configuration below is what was run."
        )
    return CommandRecord(text=shlex.join(["erasure", "run", _shown(whole or files[0]), *seeds, *options]), note=note)


def _seed_options(repetitions: Sequence[Seeds], experiment: Experiment) -> list[str]:
    """The fewest options that give these repetitions: root seeds, with axes of their own where they do not follow the root."""
    fixed = {} if experiment.data.split_seed is None else {"split": (experiment.data.split_seed,)}
    for n_own in range(len(_AXES) + 1):
        for own in itertools.combinations(_AXES, n_own):
            following = [axis for axis in _AXES if axis not in own and axis not in fixed]
            roots = list(dict.fromkeys(getattr(s, following[0]) if following else experiment.globals.seed for s in repetitions))
            axes = fixed | {axis: tuple(dict.fromkeys(getattr(seeds, axis) for seeds in repetitions)) for axis in own}
            if len(roots) * math.prod(map(len, axes.values())) != len(repetitions):
                continue
            made = {
                replace(Seeds.all(root), **dict(zip(axes, chosen, strict=True)))
                for root in roots
                for chosen in itertools.product(*axes.values())
            }
            if made == set(repetitions):
                options = [] if roots == [experiment.globals.seed] else ["--seeds", ",".join(map(str, roots))]
                return options + [word for axis in own for word in (f"--{axis}-seeds", ",".join(map(str, axes[axis])))]
    return []


def _is_whole(file: str, experiment: Experiment) -> bool:
    return _alone(file, Path(file).stat().st_mtime_ns) == _text(experiment)


@functools.lru_cache(maxsize=2)
def _alone(file: str, changed: int) -> str:
    """The configuration of a file as it stands; empty if that is none."""
    try:
        return _text(load_experiment(file))
    except ErasureError:
        return ""


def _text(experiment: Experiment) -> str:
    return json.dumps(experiment.canonical(), sort_keys=True)


def _setting(file: str, experiment: Experiment) -> str | None:
    """Which setting of the file's sweep the experiment is, if it is one."""
    found = _settings(file, Path(file).stat().st_mtime_ns)
    return found.get(_text(experiment))


@functools.lru_cache(maxsize=2)
def _settings(file: str, changed: int) -> Mapping[str, str]:
    """Label of every setting of a sweep by its configuration; all settings of a sweep ask one after the other."""
    from erasure.experiment.sweep_section import load_sweep

    try:
        sweep = load_sweep(file)
    except ErasureError:
        return {}
    return {_text(point.experiment): point.label for point in sweep.points}
