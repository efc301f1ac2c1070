"""Auditing an unlearned model of one's own: judged beside retrained models where there are any, and told what cannot be said where not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erasure.analysis.equivalence import CERTAINTY
from erasure.analysis.findings import Repeats, Tested, TestedReport
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.judging import judge_report
from erasure.engine.fits import Fit, Fits, recipe_fit
from erasure.engine.given_checks import check_bounds, check_settings
from erasure.engine.given_data import GivenData, given_data
from erasure.engine.given_models import GivenBlock, GivenModel, MeasuredModels, fitted_model, held_model, of_fits
from erasure.engine.given_treatments import Treatments, Unlearn
from erasure.engine.recording.given_evidence import given_evidence
from erasure.errors import DataError, RequirementNotMet
from erasure.events import Listener, Message, ignore_events
from erasure.functional.membership import auc, auc_interval
from erasure.functional.weights import changed_share
from erasure.measures.contract import Measure
from erasure.records.evidence import write_run_record
from erasure.records.rows import Row
from erasure.registry.lookup import Registry
from erasure.reports.results import Results
from erasure.store import Store, default_base_path, default_store_path
from erasure.training.devices import resolve_device
from erasure.training.randomness import derive
from erasure.types import Task
from erasure.workflows.deletion_folder import check_folder
from erasure.workflows.run import report_page, save

__all__ = [
    "Audit",
    "audit",
    "audit_measures",
    "gold_seed",
    "golds_of",
    "guarded",
    "judged",
    "memory_words",
    "p_words",
    "roles_of",
    "unfamiliar",
    "written",
]

_GOLDS_OF_ONE = 19
"""Golds of a single original: as many as it takes to accuse one method at a level of 5 % without assumptions."""
_GOLDS_OF_MANY = 4
_RULERS = 4


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Results):
    """The results of an audit.

    Args:
        tested: The tests beside retrained models; None where there are none.
        statements: What can be said, one sentence each.
        cannot: What cannot be said with what was given, and what it would take.
    """

    tested: TestedReport | None = None
    statements: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()

    def finding(self, label: str = "unlearned") -> str:
        """What was found of a method: ``indistinguishable``, ``under-forgotten``, …; ``undecided`` without retrained models.

        A method that a guard has stopped has the guard's word, such as ``no-op`` or ``collapsed``.
        """
        guards = guarded(self.rows)
        if label in guards:
            return guards[label][0]
        return self.tested.methods[label].finding.value if self.tested is not None else "undecided"


def audit(
    *,
    original: nn.Module | Sequence[nn.Module],
    unlearned: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module | Sequence[nn.Module]],
    forget: Any,
    retain: Any = None,
    test: Any = None,
    data: Any = None,
    train: Fit | Mapping[str, Any] | None = None,
    golds: Sequence[nn.Module] = (),
    unlearn: Unlearn | Mapping[str, Unlearn] | None = None,
    n_golds: int | None = None,
    measures: Sequence[str | Measure] | None = None,
    exact: Sequence[str] = (),
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: Task | None = None,
    batch_size: int = 64,
    seed: int = 0,
    version: str = "",
    output: Path | str | None = None,
    store: Path | str | None = None,
    device: str = "auto",
    name: str = "audit",
    listener: Listener = ignore_events,
) -> Audit:
    """Judge an unlearned model of one's own beside models that were retrained without the forgotten samples.

    Retrained models come from ``train``, which trains each once and keeps it in the store, or are given as ``golds``. Without either,
    what the two models themselves show is said, and what cannot be said is named.

    Args:
        original: The model before; several, of several seeds of training, make the audit sharper.
        unlearned: The model after, or label to model; as many of each as there are originals.
        forget: The samples that were to be forgotten; with ``data`` their positions, as whole numbers or a mask.
        retain: The samples that were kept, in the same form; with ``data``, by default all others.
        test: Samples that no model has seen.
        data: The training set; needed where ``train`` is given.
        train: ``fit(indices, seed) -> model``, which trains a model from scratch on the samples of ``data`` at these positions (an array of
            whole numbers), or a recipe such as ``{"epochs": 20, "optimizer": "Adam"}``.
        golds: Retrained models, instead of ``train``.
        unlearn: ``unlearn(model, forget, retain, seed) -> model``, which does to any model what was done to the original, or label to
            function; attacks that apply the method to shadow models need it, and ``train``. Such attacks train on samples of ``test``, too:
            both functions get positions from ``len(data)`` on for these.
        n_golds: Retrained models for each original; by default 19 for a single original and 4 for each of several.
        measures: Names of measures, or measures; by default accuracies, losses on the forgotten samples, and memory left with ``train``.
        exact: Labels of methods that retrain.
        loss_fn: Loss of ``(logits, labels)``; by default the task's cross-entropy.
        task: How labels are read; by default as labels and logits say.
        batch_size: Samples per step.
        seed: Root of the golds' seeds and of all random choices.
        version: What ``train`` depends on beyond its own code, such as the digest of a file of settings.
        output: Directory for rows, evidence and the HTML report.
        store: Where trained models are kept; by default ``$ERASURE_STORE`` or ``.erasure/store``.
        device: Where to compute; ``auto`` takes an accelerator if there is one.
        name: Name of the audit in its report.
        listener: Receives events.

    Returns:
        The rows with ``tested``, ``statements`` and ``cannot``.

    Raises:
        DataError: If the samples cannot be used.
        RequirementNotMet: If a model does not take them, or what ``train`` gives cannot be used.
    """
    check_settings(seed=seed, batch_size=batch_size)
    if n_golds is not None:
        check_bounds(whole=("n_golds",), n_golds=(n_golds, 0, math.inf))
    if isinstance(measures, str):
        measures = [measures]
    if output is not None:
        check_folder(Path(output))
    originals = _several(original)
    methods = {
        label: _several(each)
        for label, each in (unlearned if isinstance(unlearned, Mapping) else {"unlearned": unlearned}).items()
    }
    for label, models in methods.items():
        if len(models) != len(originals):
            raise DataError(
                f"{label}: {len(models)} unlearned models for {len(originals)} originals; give one for each, in their order"
            )
    unknown = sorted({*exact} - {*methods})
    if unknown:
        raise DataError(f'exact names "{unknown[0]}", and the unlearned models are {", ".join(methods)}')
    given = given_data(
        originals[0],
        forget=forget,
        data=data,
        retain=retain,
        test=test,
        loss_fn=loss_fn,
        task=task,
        batch_size=batch_size,
        device=resolve_device(device),
    )
    fits = _fits(
        train, originals[0], given, Store(store or default_store_path(), base=default_base_path()), version, listener, data
    )
    blocks = _blocks(given, originals, methods, golds, fits, n_golds, seed)
    chosen = audit_measures(measures, given, fits is not None)
    maker = of_fits(fits, given, seed) if fits is not None else None
    functions = unlearn if isinstance(unlearn, Mapping) else {} if unlearn is None else dict.fromkeys(methods, unlearn)
    treated = Treatments(fits, given, seed, functions) if fits is not None else None
    measured = MeasuredModels(data=given, measures=chosen, name=name, seed=seed, made=maker, treated=treated)
    rows = measured.rows(blocks)
    found = judged(given, blocks, rows, exact=exact)
    if output is not None:
        found = written(found, given, blocks, measured.by_name, output, name=name, exact=exact, listener=listener)
    for sentence in found.cannot:
        listener(Message(sentence, level="warning"))
    return found


def judged(
    data: GivenData,
    blocks: Sequence[GivenBlock],
    rows: Sequence[Row],
    *,
    exact: Sequence[str] = (),
    certainty: float = CERTAINTY,
) -> Audit:
    """Rows with what they say.

    Args:
        data: The data.
        blocks: What was measured.
        rows: What was found.
        exact: Labels of methods that retrain.
        certainty: Level of each limit that equivalence is shown by.
    """
    shown, jury = (tuple(row for row in rows if row.is_juror == wanted) for wanted in (False, True))
    tested = None
    if jury:
        tested = judge_report(
            rows, roles_of(data), exact=exact, excluded=guarded(shown), repeats=Repeats.MODELS, certainty=certainty
        )
    statements, cannot = _said(data, blocks, tested)
    failures = {
        f"{row.label}: {row.measure}": row.reason for row in shown if row.status == "failed" and row.model_role == "unlearned"
    }
    return Audit(shown, failures, None, jury=jury, tested=tested, statements=statements, cannot=cannot)


def written(
    found: Audit,
    data: GivenData,
    blocks: Sequence[GivenBlock],
    measures: Mapping[str, Measure],
    output: Path | str,
    *,
    name: str,
    exact: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    listener: Listener = ignore_events,
) -> Audit:
    """The audit with its files: rows, evidence and the report.

    Args:
        found: The audit.
        data: The data.
        blocks: What was measured.
        measures: The measure behind each name that rows have.
        output: Directory of the files.
        name: Name of the audit.
        exact: Labels of methods that retrain.
        keys: Label to registered name of the method.
        listener: Receives events.
    """
    where = Path(output)
    where.mkdir(parents=True, exist_ok=True)
    found = replace(found, output=where)
    save(found, where)
    write_run_record(given_evidence(data, blocks, measures, name=name, dataset="given data", keys=keys, exact=exact), where)
    report_page(where, listener)
    return found


def guarded(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Labels that the guards have judged, with the guard's word and reason: they changed nothing, broke down or are not finite."""
    return {
        row.label: (row.status, row.reason)
        for row in rows
        if row.model_role == "unlearned" and row.status in {"no-op", "collapsed", "non-finite"}
    }


def roles_of(data: GivenData) -> RolePartitions:
    """What the partitions are, for the judge."""
    return RolePartitions(sizes={name: len(ids) for name, ids in data.partitions.items()})


def audit_measures(
    asked: Sequence[str | Measure] | None, data: GivenData, can_train: bool, *, n_rulers: int = _RULERS
) -> list[Measure]:
    """The measures of an audit; those that are not defined for the data are refused where they were asked for by name.

    Raises:
        UnknownComponent: If there is no such measure.
        RequirementNotMet: If one is not defined for the data.
    """
    has_test = "test" in data.partitions
    if asked is not None:
        chosen = [each if isinstance(each, Measure) else _measure(each) for each in asked]
        for measure in chosen:
            reason = measure.unsupported_reason(data.model_input)
            missing = [name for name in measure.partitions() if name not in data.partitions]
            if reason is None and missing:
                reason = f'{measure.title} looks at the partition "{missing[0]}", which was not given'
            if reason is not None:
                raise RequirementNotMet(reason)
        return chosen
    found = [_measure("Accuracy", partition=name) for name in ("forget", "retain", *(["test"] if has_test else []))]
    found.append(_measure("NLL", partition="forget"))
    if can_train and has_test:
        found.append(_measure("ResidualMemory", n_models=n_rulers))
    return [measure for measure in found if measure.unsupported_reason(data.model_input) is None]


def _measure(name: str, **parameters: Any) -> Measure:
    cls: Any = Registry().resolve(name, Measure).cls
    measure: Measure = cls(**parameters)
    return measure


def golds_of(fits: Fits, data: GivenData, block: int, number: int, seed: int, generation: int = 0) -> GivenModel:
    """A retrained model of a block; ``generation`` as in :func:`~erasure.engine.given_models.of_fits`."""
    name = f"retrained model {number + 1} of block {block}"
    return fitted_model(fits.model(data.partitions["retain"], gold_seed(seed, block, number, generation), name))


def gold_seed(seed: int, block: int, number: int, generation: int = 0) -> int:
    """Seed of a retrained model of a block."""
    return derive(seed, "gold", block, number, *([generation] if generation else []))


def _several(models: Any) -> list[nn.Module]:
    return list(models) if isinstance(models, tuple | list) else [models]


def _fits(
    train: Any, like: nn.Module, data: GivenData, store: Store, version: str, listener: Listener, given: Any
) -> Fits | None:
    if train is None:
        return None
    if given is None:
        raise RequirementNotMet(
            "to train models, the training set is needed in one piece: give it as data=, and forget= as positions in it"
        )
    fit = recipe_fit(train, like, data) if isinstance(train, Mapping) else train
    if not callable(fit):
        raise RequirementNotMet(
            f"train is a {type(train).__name__}, expected a function fit(indices, seed) that gives a trained model, or a recipe"
        )
    return Fits(fit, like, data, store, version=version, listener=listener)


def _blocks(
    data: GivenData,
    originals: Sequence[nn.Module],
    methods: Mapping[str, Sequence[nn.Module]],
    golds: Sequence[nn.Module],
    fits: Fits | None,
    n_golds: int | None,
    seed: int,
) -> list[GivenBlock]:
    n_blocks = len(originals)
    wanted = n_golds if n_golds is not None else _GOLDS_OF_ONE if n_blocks == 1 else _GOLDS_OF_MANY
    if golds and len(golds) < n_blocks:
        raise DataError(f"{len(golds)} golds for {n_blocks} originals: each needs one of its own at least")
    _check_distinct(golds)
    blocks = []
    for number, original in enumerate(originals):
        if any(not changed_share(original.state_dict(), gold.state_dict()) for gold in golds):
            raise DataError(
                "one of the golds has the weights of an original: give models that were retrained without the samples"
            )
        if golds:
            own: Sequence[GivenModel] = [held_model(gold, data) for gold in golds[number::n_blocks]]
        elif fits is not None:
            own = [golds_of(fits, data, number, each, seed) for each in range(wanted)]
        else:
            own = []
        unlearned = {label: held_model(models[number], data) for label, models in methods.items()}
        blocks.append(GivenBlock(original=held_model(original, data), golds=own, unlearned=unlearned, number=number))
    return blocks


def _check_distinct(golds: Sequence[nn.Module]) -> None:
    for (first, one), (second, other) in itertools.combinations(enumerate(golds), 2):
        if not changed_share(one.state_dict(), other.state_dict()):
            raise DataError(
                f"golds[{first}] and golds[{second}] have the same weights: give models that were retrained with different seeds, so that "
                "they show what chance does"
            )


# What can be said


def _said(data: GivenData, blocks: Sequence[GivenBlock], tested: TestedReport | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    said: list[str] = []
    for label in blocks[0].unlearned:
        said += _of_method(data, blocks[0], label)
    cannot: list[str] = []
    if tested is None:
        cannot.append(
            "Without a retrained model, whether retraining would have given this model is unknown. Give train= or golds=."
        )
        cannot.append(
            "How much of the original's knowledge is left is unknown, too: it takes models trained without the samples."
        )
    else:
        said += [_verdict(each) for each in tested.methods.values()]
        cannot += [f"{label}: {each.reason}." for label, each in tested.methods.items() if each.reason]
        cannot += [
            f"{label}: {name} could not be compared, because some model lacks it."
            for label, each in tested.methods.items()
            for name in each.left_out
        ]
    if "test" not in data.partitions:
        cannot.append("Without test data, whether the model still works on new samples is unknown. Give test=.")
    cannot.append("An attack that no measure here stands for may find what these do not.")
    return tuple(said), tuple(cannot)


def _verdict(tested: Tested) -> str:
    golds = (
        "retrained models of its block" if tested.n_originals == 1 else f"retrained models, over {tested.n_originals} originals"
    )
    return f"{tested.label} beside {golds}: {tested.finding.value}{p_words(tested)}.{memory_words(tested)}"


def p_words(tested: Tested) -> str:
    """A method's p-value in brackets; empty where there is none."""
    return "" if tested.adjusted is None else f" (p = {tested.adjusted:.3g})"


def memory_words(tested: Tested) -> str:
    """A sentence on what is left of the original's memory of the samples; empty where it was not measured."""
    if tested.memory is None:
        return ""
    return (
        f" Of what the original knew of the samples, {100 * tested.memory.low:.0f} to {100 * tested.memory.high:.0f} % is left."
    )


def _of_method(data: GivenData, block: GivenBlock, label: str) -> list[str]:
    """What the two models themselves show."""
    before, after = block.original, block.unlearned[label]
    share = changed_share(before.load().state_dict(), after.load().state_dict())
    if not share:
        return [f"{label} changed no weight: it is the original."]
    said = [f"{label} changed {100 * share:.3g} % of the weights."]
    names = [name for name in ("forget", "retain", "test") if name in data.partitions]
    outputs = {name: (before.outputs(data.partitions[name]), after.outputs(data.partitions[name])) for name in names}
    if any(each.diverged for pair in outputs.values() for each in pair):
        return [*said, f"What {label} says is not finite: the model is unusable."]
    moved = ", ".join(f"{name} {100 * a.accuracy:.1f} → {100 * b.accuracy:.1f} %" for name, (a, b) in outputs.items())
    said.append(f"{label}, accuracy before and after: {moved}.")
    if "test" in outputs:
        found = []
        for place in (0, 1):
            gone, unseen = (-outputs[name][place].losses.double() for name in ("forget", "test"))
            low, high = auc_interval(gone, unseen)
            found.append(f"{auc(gone, unseen):.3f} [{low:.3f}, {high:.3f}]")
        said.append(
            f"{label}, forgotten samples told from unseen ones by their loss (AUC; 0.5 is guessing): {found[0]} before, {found[1]} after."
        )
    return said


def unfamiliar(data: GivenData, model: nn.Module | GivenModel) -> str:
    """Why a model seems not to have been trained on the data, one sentence; empty if it may have been.

    It cannot be told of every sample, but of all together: a model that has learned from the forget set is not clearly worse on it than
    on samples it has never seen, and is better than a constant on the samples it has learned from.
    """
    given = model if isinstance(model, GivenModel) else held_model(model, data)
    train, forget = (given.outputs(data.partitions[name]) for name in ("retain", "forget"))
    if data.model_input.task != "multilabel":
        constant = float(torch.bincount(train.labels.long()).max()) / len(train)
        error = (constant * (1 - constant) / len(train)) ** 0.5
        if train.accuracy <= constant + 3 * error:
            return (
                f"the model seems not to be trained on this data: its accuracy on what is to be kept is {100 * train.accuracy:.1f} %, a "
                f"constant answer has {100 * constant:.1f} %; are inputs scaled and labels numbered as in its training?"
            )
    if "test" not in data.partitions or len(forget) < 2:
        return ""
    test = given.outputs(data.partitions["test"])
    a, b = forget.losses.double(), test.losses.double()
    spread = float((a.var() / len(a) + b.var() / len(b)).sqrt()) if len(b) > 1 else 0.0
    if spread and float(a.mean() - b.mean()) / spread > 4:
        return (
            f"the model seems never to have seen the samples to forget: their mean loss is {float(a.mean()):.3g}, that of unseen samples "
            f"{float(b.mean()):.3g}; check the ids, or say that it is right with check_data=False, as where their labels are known to be "
            "wrong and the model has not learned them by heart"
        )
    return ""
