"""Tuning a method's parameters: trials on seeds of their own, then the defaults against what was found, on the reported seeds."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from erasure.analysis.verdict_words import NOTHING_TO_FORGET
from erasure.analysis.verdicts import Judged
from erasure.component import Call, Component, canonical
from erasure.durable import write_atomically
from erasure.errors import ConfigError, Diagnostic, StoreError, nearest
from erasure.events import Listener, ignore_events
from erasure.experiment.configuration import Experiment, LabelledUnlearner, load_experiment
from erasure.records.output_folder import check_free, check_writable
from erasure.records.rows import Row
from erasure.reports.exports import csv_bytes
from erasure.reports.results import Results
from erasure.training.randomness import derive
from erasure.types import Json
from erasure.unlearners.contract import Unlearner
from erasure.unlearners.search import search_space, with_parameters
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment
from erasure.workflows.trials import Trial, begin, history_of, load_optuna, open_study, published, search

__all__ = ["Protocol", "Tuned", "tune"]

Protocol: TypeAlias = Literal["gold", "gold-free", "transfer"]
"""``gold``: smallest mean gap to gold. ``gold-free``: the loss of forgotten samples as on unseen ones, utility kept. ``transfer``: as
``gold`` on one seed, reported on others."""

_VALIDATION = ("validation", "valid", "val")
_UTILITY_DROP = 0.02
_PENALTY = 10.0
_DATABASE, _SUMMARY, _REPORT = "study.db", "tuning.json", "report"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What tuning found.

    Args:
        method: The method's label in the configuration.
        protocol: How it was judged.
        trials: Every trial, in order.
        best: The best setting.
        snippet: It as an entry of ``unlearners``, in JSON.
        gaps: Objective on the reported seeds: of the published defaults (a composition has none), of the configured setting if it
            differs, and of the tuned one.
        floor: The same of models retrained with other seeds, below which nothing can be told apart; None without gold.
        tested: The verdict of the report on each of them, by label, and its p-value corrected for all of them, if it was tested; empty
            without golds. No trial has seen these seeds, so that the luck of the search is not in it.
        tuning_s: Seconds of unlearning that tuning cost; part of the tuned method's total.
        gold_s: Seconds of retraining that tuning cost; 0 without gold.
        total_s: Seconds of one unlearning with the tuned setting, and of tuning.
        report: Results on the reported seeds.
        notes: What a reader must know.
    """

    method: str
    protocol: Protocol
    trials: tuple[Trial, ...]
    best: Mapping[str, Any]
    snippet: Json
    gaps: Mapping[str, float | None]
    floor: float | None
    tested: Mapping[str, tuple[str, float | None]]
    tuning_s: float
    gold_s: float
    total_s: float
    report: Results
    notes: tuple[str, ...] = ()

    @property
    def improvement(self) -> float | None:
        """By what share the tuned objective is smaller than the defaults', or else the configured setting's; None if unknown."""
        before, after = self.gaps.get("default", self.gaps.get("configured")), self.gaps.get("tuned")
        return None if not before or after is None else 1 - after / before


def tune(
    configuration: Path | str | Mapping[str, Any],
    method: str,
    *,
    output: Path,
    trials: int = 30,
    protocol: Protocol = "gold",
    n_seeds: int = 3,
    time_limit_s: float | None = None,
    overrides: Sequence[str] = (),
    trust: Iterable[str] = (),
    options: RunOptions | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    listener: Listener = ignore_events,
) -> Tuned:
    """Tune a method of a configuration; rerun an interrupted call to resume it.

    Args:
        configuration: Path of a JSONC file, or the configuration as a mapping.
        method: Label or name of one of its unlearners.
        output: Folder of the study, the trials and the report.
        trials: Budget; failed trials count. Give all methods the same.
        protocol: How a setting is judged.
        n_seeds: Tuning seeds, which are none of those reported; ``transfer`` has one, the first of the reported.
        time_limit_s: No trial starts after this many seconds of this call; the best one until then is reported.
        overrides: ``path=value`` settings.
        trust: Modules whose classes the configuration may name.
        options: How experiments are run; ``seeds`` are those reported, by default as many as there are tuning seeds.
        on_trial: Called after every new trial.
        listener: Receives the events of the report's run.

    Raises:
        ConfigError: If the configuration, the method or its partitions do not allow it, or every trial failed.
        MissingDependency: If Optuna is not installed.
        StoreError: If a file cannot be written, or the folder is that of another experiment or method; before any trial.
    """
    optuna = load_optuna()
    trust = tuple(trust)
    experiment = load_experiment(configuration, overrides=overrides, trust=trust)
    entry = _entry(experiment, method)
    _check_folder(output, experiment.name, entry.label)
    space = search_space(entry.unlearner)
    if not space:
        raise ConfigError([Diagnostic(f"{entry.label} has no parameters to tune", kind="requirement")])
    heldout, notes = _heldout(experiment)
    options = options or RunOptions()
    roots = options.seeds or _fresh(experiment.globals.seed, protocol, n_seeds)
    tuning, reported = _seeds(roots, protocol, n_seeds)
    judged = _judged(configuration, (*overrides, _evaluator(entry.unlearner, heldout)), trust)
    quiet = replace(options, output=None, report=False)

    def attempt(parameters: Mapping[str, Any]) -> tuple[float | None, str, float, float]:
        """Objective, reason if there is none, seconds of unlearning, seconds of retraining."""
        try:
            tried = replace(entry, unlearner=with_parameters(entry.unlearner, parameters), label="trial")
            results = run_experiment(replace(judged, unlearners=(tried,)), replace(quiet, seeds=tuning))
        except ConfigError as error:
            return None, str(error), 0.0, 0.0
        return _judge(results, "trial", protocol, heldout, entry.unlearner)

    output.mkdir(parents=True, exist_ok=True)
    identity = [judged.canonical(), canonical(entry.unlearner), {k: asdict(v) for k, v in space.items()}, protocol, tuning]
    name = f"{entry.label}-{protocol}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
    storage = optuna.storages.RDBStorage(f"sqlite:///{(output / _DATABASE).absolute().as_posix()}")
    try:
        study = open_study(optuna, storage, name, derive(roots[0], "tune", "sampler"))
        begin(study, optuna, entry.unlearner, space)
        end = math.inf if time_limit_s is None else time.monotonic() + time_limit_s
        search(study, optuna, space, trials, attempt, on_trial, end)
        history = history_of(study)
        gold_s = max((float(t.user_attrs.get("gold_s", 0.0)) for t in study.trials), default=0.0)
    finally:
        storage.remove_session()
        storage.engine.dispose()
    complete = [trial for trial in history if trial.objective is not None]
    if not complete:
        reason = history[0].reason if history else "no trial was made"
        raise ConfigError(
            [Diagnostic(f"every trial of {entry.label} failed: {reason}", hint="raise --trials", kind="requirement")]
        )
    best = min(complete, key=lambda trial: (trial.objective or 0.0, trial.number))
    contenders = _contenders(entry, best.parameters)
    final = replace(judged, unlearners=tuple(contenders.values()))
    if protocol != "gold-free":
        n_golds = max(1, experiment.evaluator.floor_repeats)
        final = replace(final, evaluator=replace(final.evaluator, floor_repeats=n_golds))
    results = run_experiment(final, replace(options, output=output / _REPORT, seeds=reported), listener)
    verdicts = {kind: _judge(results, each.label, protocol, heldout, entry.unlearner) for kind, each in contenders.items()}
    floor = _floor(results, contenders["tuned"].label)
    notes += _remarks(history, trials, floor, verdicts)
    judged_report = results.overview().judged if results.jury else Judged()
    if judged_report.report.has_nothing_to_forget:
        notes.append(NOTHING_TO_FORGET)
    spent = math.fsum(trial.unlearning_s for trial in history)
    found = Tuned(
        method=entry.label,
        protocol=protocol,
        trials=tuple(history),
        best=best.parameters,
        snippet=_snippet(entry, contenders["tuned"].unlearner),
        gaps={kind: verdict[0] for kind, verdict in verdicts.items()},
        floor=floor,
        tuning_s=spent,
        gold_s=gold_s if protocol != "gold-free" else 0.0,
        tested={
            each.label: (each.finding.value, each.tested.adjusted if each.tested is not None else None)
            for each in judged_report.verdicts
        },
        total_s=spent + (gold_s if protocol != "gold-free" else 0.0) + verdicts["tuned"][2] / max(1, len(reported)),
        report=results,
        notes=(*notes, f"Tuned on the seeds {_listed(tuning)}; reported on {_listed(reported)}."),
    )
    _write(found, output)
    return found


def _entry(experiment: Experiment, method: str) -> LabelledUnlearner:
    for entry in experiment.unlearners:
        if method.casefold() in {entry.label.casefold(), entry.key.casefold()}:
            return entry
    labels = [entry.label for entry in experiment.unlearners]
    hint = nearest(method, labels) or f"there are {', '.join(labels)}"
    raise ConfigError([Diagnostic(f'the configuration has no unlearner "{method}"', "unlearners", hint=hint, kind="structure")])


def _check_folder(output: Path, name: str, label: str) -> None:
    check_free(output / _REPORT, name)
    with suppress(OSError, ValueError, KeyError, TypeError):
        there = str(json.loads((output / _SUMMARY).read_bytes())["method"])
        if there != label:
            raise StoreError(
                f"{output} is the study of {there}, whose results those of {label} would overwrite; "
                "choose another directory with --output, or remove this one."
            )
    check_writable(output)


def _heldout(experiment: Experiment) -> tuple[str, list[str]]:
    """The partition on which settings are judged: validation if there is one, never the reported test set then."""
    names = [name for splitter in experiment.data.partitions for name in splitter.parts]
    for name in _VALIDATION:
        if name in names:
            return name, []
    if "test" in names:
        note = (
            'There is no partition "validation": settings are judged on the test set, cut with other seeds than those reported.'
        )
        return "test", [note]
    raise ConfigError([Diagnostic('tuning needs a partition "validation" or "test"', "data.partitions", kind="partition")])


def _fresh(root: int, protocol: Protocol, n_seeds: int) -> tuple[int, ...]:
    """Seeds to report on where none are given: the configuration's, and as many in all as there are tuning seeds."""
    if protocol == "transfer":
        return (root,)
    return (root, *(derive(root, "confirm", number) % 2**31 for number in range(1, n_seeds)))


def _seeds(roots: Sequence[int], protocol: Protocol, n_seeds: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seeds of tuning and of the report; none is both."""
    if protocol == "transfer":
        others = tuple(roots[1:]) or tuple(derive(roots[0], "transfer", i) % 2**31 for i in range(max(1, n_seeds)))
        return (roots[0],), others
    chosen = (derive(roots[0], "tune", i) % 2**31 for i in range(n_seeds + len(roots)))
    return tuple(seed for seed in chosen if seed not in roots)[:n_seeds], tuple(roots)


def _evaluator(unlearner: Unlearner, heldout: str) -> str:
    accuracies = (unlearner.forget, unlearner.retain, heldout)
    measures: list[Json] = [{"class": "Accuracy", "parameters": {"partition": partition}} for partition in accuracies]
    measures.append({"class": "UMIA", "parameters": {"forget": unlearner.forget, "test": heldout}})
    measures += [{"class": "NLL", "parameters": {"partition": partition}} for partition in (unlearner.forget, heldout)]
    return "evaluator=" + json.dumps({"measures": [*measures, "RunTime"], "floor_repeats": 0})


def _judged(configuration: Path | str | Mapping[str, Any], overrides: Sequence[str], trust: Iterable[str]) -> Experiment:
    return load_experiment(configuration, overrides=overrides, trust=trust)


def _judge(
    results: Results, label: str, protocol: Protocol, heldout: str, unlearner: Unlearner
) -> tuple[float | None, str, float, float]:
    mine = [row for row in results if row.model_role == "unlearned" and row.label == label]
    seconds = _seconds(mine)
    gold_s = _seconds([row for row in results if row.model_role == "gold"])
    broken = next((row for row in mine if row.status in {"failed", "non-finite"}), None)
    if broken is not None or not mine:
        return None, broken.reason if broken is not None else "there are no rows", seconds, gold_s
    if protocol == "gold-free":
        return _gold_free(results, mine, heldout, unlearner.forget), "", seconds, gold_s
    gaps = [row.gap for row in mine if row.gap is not None and _is_compared(row)]
    if not gaps:
        return None, "there is no gold to compare with", seconds, gold_s
    return math.fsum(gaps) / len(gaps), "", seconds, gold_s


def _is_compared(row: Row) -> bool:
    """What the gap to gold is the mean of: accuracy on forget, retain and held-out samples, and the attack's."""
    return row.statistic == "accuracy" or row.indicates == "attack"


def _floor(results: Results, label: str) -> float | None:
    """What the objective is for models retrained with other seeds."""
    floors = [row.noise_floor for row in results if row.label == label and _is_compared(row) and row.noise_floor is not None]
    return math.fsum(floors) / len(floors) if floors else None


def _remarks(
    history: Sequence[Trial], budget: int, floor: float | None, verdicts: Mapping[str, tuple[float | None, str, float, float]]
) -> list[str]:
    remarks = []
    if len(history) < budget:
        remarks.append(
            f"The time limit ended the search after {len(history)} of {budget} trials; rerun the command to continue it."
        )
    first = verdicts.get("default", verdicts.get("configured"))
    if floor is not None and first is not None and first[0] is not None and first[0] <= floor:
        remarks.append(
            f"The gap before tuning ({first[0]:.4f}) is within that of models retrained with other seeds ({floor:.4f}): "
            "tuning has nothing to gain by it."
        )
    return remarks


def _gold_free(results: Results, mine: Sequence[Row], heldout: str, forget: str) -> float:
    """How far the loss of forgotten samples is from that of unseen ones, and a penalty where utility drops by more than 2 points."""

    def mean(rows: Iterable[Row], measure: str, partition: str) -> float:
        known = [row.value for row in rows if row.measure == measure and row.partition == partition and row.value is not None]
        return math.fsum(known) / len(known) if known else math.nan

    original = mean([row for row in results if row.model_role == "original"], "accuracy", heldout)
    drop = original - mean(mine, "accuracy", heldout)
    mismatch = abs(mean(mine, "NLL", forget) - mean(mine, "NLL", heldout))
    return mismatch + _PENALTY * max(0.0, drop - _UTILITY_DROP)


def _seconds(rows: Iterable[Row]) -> float:
    return math.fsum(row.value for row in rows if row.measure in {"RunTime", "precompute"} and row.value is not None)


# Results


def _contenders(entry: LabelledUnlearner, best: Mapping[str, Any]) -> dict[str, LabelledUnlearner]:
    plain = published(entry.unlearner)
    found = {} if plain is None else {"default": replace(entry, unlearner=plain, label=f"{entry.label} (default)")}
    if plain is None or canonical(plain) != canonical(entry.unlearner):
        found["configured"] = replace(entry, label=f"{entry.label} (configured)")
    tuned = with_parameters(entry.unlearner, best)
    return found | {"tuned": replace(entry, unlearner=tuned, label=f"{entry.label} (tuned)")}


def _snippet(entry: LabelledUnlearner, tuned: Unlearner) -> Json:
    return {"class": entry.key, "parameters": _parameters(tuned)}


def _parameters(component: Component) -> dict[str, Json]:
    """The parameters that are not at their defaults, as they are written in a configuration."""
    values = {each.name: (getattr(component, each.name), _default(each)) for each in fields(component)}
    return {name: _written(value) for name, (value, default) in values.items() if canonical(value) != canonical(default)}


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def _written(value: Any) -> Json:
    if isinstance(value, Call):
        return {"class": value.name, "parameters": {name: canonical(each) for name, each in value.parameters.items()}}
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Component):
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", "parameters": _parameters(value)}
    return canonical(value)


def _write(found: Tuned, output: Path) -> None:
    """``trials.csv``, ``trials.json``, ``tuning.json`` and ``best.jsonc``."""
    records = [asdict(trial) for trial in found.trials]
    flat = [{**{k: v for k, v in r.items() if k != "parameters"}, **dict(r["parameters"])} for r in records]
    write_atomically(output / "trials.csv", csv_bytes(flat))
    write_atomically(output / "trials.json", json.dumps(records, indent=1, ensure_ascii=False).encode())
    summary = {
        "method": found.method,
        "protocol": found.protocol,
        "trials": len(found.trials),
        "best": dict(found.best),
        "gaps": dict(found.gaps),
        "floor": found.floor,
        "verdicts": {label: {"finding": finding, "p": p} for label, (finding, p) in found.tested.items()},
        "improvement": found.improvement,
        "tuning_s": found.tuning_s,
        "gold_s": found.gold_s,
        "total_s": found.total_s,
        "notes": list(found.notes),
    }
    write_atomically(output / _SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    head = f'// {found.method}, tuned by the protocol {found.protocol} in {len(found.trials)} trials; an entry of "unlearners".\n'
    write_atomically(output / "best.jsonc", (head + json.dumps(found.snippet, indent=2, ensure_ascii=False) + "\n").encode())


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
