"""A run in words: what was forgotten and from what, the verdicts in order, what to do, and the figures that go with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from erasure.analysis.advice import Advice, advise, references_of
from erasure.analysis.advice_words import recommendation
from erasure.analysis.certainty import Certainty, certainty_of
from erasure.analysis.findings import Repeats
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.result_table import ResultTable, result_table
from erasure.analysis.roles import roles_of
from erasure.analysis.verdicts import Judged, Verdict, judge_all
from erasure.records.evidence import DatasetRecord
from erasure.records.run_folder import RunFolder

__all__ = ["Overview", "overview_of"]


@dataclass(frozen=True, eq=False)
class Overview:
    """What a report says.

    Args:
        folder: The run.
        headline: What was forgotten and from what.
        judged: Verdict on each method, and the tests behind them.
        advice: What to do; of a sweep over several problems each part has its own.
        roles: What the partitions are.
        parts: Of a sweep over several problems, the name of each and what a report says of it: methods compete on one problem only.
    """

    folder: RunFolder
    headline: str
    judged: Judged
    advice: Advice
    roles: RolePartitions = field(default_factory=RolePartitions)
    parts: Sequence[tuple[str, Overview]] = ()

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """Verdict on each method, what comes nearest to retraining first."""
        return self.judged.verdicts

    @property
    def recommendation(self) -> str:
        """What to do, in words."""
        if self.parts:
            return " ".join(f"[{name}] {part.recommendation}" for name, part in self.parts)
        return recommendation(self.advice)

    @property
    def best(self) -> Verdict | None:
        """The method to use, if one is named."""
        return None if self.parts else self.advice.best

    @cached_property
    def table(self) -> ResultTable:
        """All values."""
        return result_table(self.folder.rows, self.judged)

    @cached_property
    def certainty(self) -> Certainty:
        """What the repetitions say."""
        return certainty_of(self.folder, self.judged, self.advice.named.label if self.advice.named is not None else None)

    @property
    def order(self) -> list[str]:
        """Labels of the methods, best first."""
        return [verdict.label for verdict in self.verdicts]


def overview_of(folder: RunFolder) -> Overview:
    """Judge a run; of a sweep over several problems each by itself."""
    roles = roles_of(folder)
    failed = {model.label: model.failed for model in folder.models if model.failed and model.role == "unlearned"}
    repeats = Repeats.MODELS if folder.record.is_of_given_models else Repeats.SEEDS
    judged = judge_all(
        [*folder.rows, *folder.jury],
        roles,
        _costs(folder),
        folder.retraining,
        failed=failed,
        golds=_golds(folder),
        level=folder.record.level,
        repeats=repeats,
    )
    advice = advise(judged, references_of(folder.rows, folder.models, roles, repeats))
    headline = _headline(folder)
    parts = [(name, overview_of(part)) for name, part in folder.problems]
    if parts:
        n = len(folder.record.sweep)
        headline = f"A sweep of {n} settings over {len(parts)} problems, which are judged one by one."
    return Overview(folder, headline, judged, advice, roles, parts)


def _golds(folder: RunFolder) -> dict[str, str]:
    """Label of the gold that each model is compared with, where the run retrained on several partitions."""
    golds = {(model.problem, model.retain): model.label for model in folder.models if model.role == "gold"}
    if len(golds) < 2:
        return {}
    return {
        model.label: golds[model.problem, model.retain]
        for model in folder.models
        if model.role != "gold" and (model.problem, model.retain) in golds
    }


def _costs(folder: RunFolder) -> dict[str, float | None]:
    """Time of each method, one-off work included, as a share of retraining's in the same repetition; the mean."""
    seconds: dict[str, list[tuple[tuple[Any, ...], float]]] = {}
    golds: dict[tuple[Any, ...], float] = {}
    for model in folder.models:
        if model.elapsed_s is None:
            continue
        key = (model.retain, model.seed, model.problem)
        total = model.elapsed_s + (model.precompute_s or 0.0)
        if model.role == "gold":
            golds[key] = total
        elif model.role == "unlearned":
            seconds.setdefault(model.label, []).append((key, total))
    shares = {label: [s / golds[key] for key, s in found if golds.get(key)] for label, found in seconds.items()}
    return {label: math.fsum(found) / len(found) if found else None for label, found in shares.items()}


_SAMPLES = {"image": "images", "table": "rows", "text": "texts", "graph": "graphs", "node": "nodes", "link": "links"}


def _headline(folder: RunFolder) -> str:
    described = folder.record.dataset or DatasetRecord()
    dataset = described.name or next((row.dataset for row in folder.rows), "the data")
    sentences = []
    for group in folder.groups:
        if group.forgotten is None:
            continue
        n, total, classes = group.forgotten.n, group.forgotten.n_training, group.forgotten.classes
        whole = [each.name for each in classes if each.forget == each.training]
        share = f" ({100 * n / total:.2g}\N{NO-BREAK SPACE}%)" if total else ""
        what = _SAMPLES.get(described.modality, "samples")
        if whole and len(whole) == len(classes):
            names = ", ".join(f"“{name}”" for name in whole[:5]) + (" and others" if len(whole) > 5 else "")
            sentence = f"All {n:,} training {what} of {'class' if len(whole) == 1 else 'the classes'} {names}"
            sentence += f", of {total:,}{share}, were to be forgotten"
        else:
            n_classes = described.n_classes
            some = f"all {n_classes}" if len(classes) == n_classes else f"{len(classes)} of {n_classes}"
            from_all = f", from {some} classes" if classes else ""
            sentence = f"{n:,} of {total:,} training {what}{share} were to be forgotten{from_all}"
        if len(group.requests) > 1:
            sentence += f", in {len(group.requests)} requests"
        sentences.append(sentence if len(folder.groups) == 1 else f"{sentence} (kept: {group.retain})")
    if not sentences:
        return f"Models trained on {dataset} were made to forget a part of it."
    return f"Data: {dataset}. " + ". ".join(dict.fromkeys(sentences)) + "."
