"""What to do after a run: use a method, retrain, or mend the run first. It is decided here, and put into words elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from erasure.analysis.findings import ACCUSED, ORIGINAL, Finding, Repeats
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.nearest import MIN_ORIGINALS, Nearest
from erasure.analysis.verdicts import Judged, Verdict
from erasure.records.evidence import ModelRecord
from erasure.records.originals import original_of
from erasure.records.rows import Row

__all__ = ["MIN_ORIGINALS", "Advice", "Advised", "References", "advise", "references_of"]

_GOOD = frozenset({Finding.INDISTINGUISHABLE, Finding.NOT_TOLD_APART, Finding.DIFFERENT})
_SHORT = frozenset({Finding.UNDER_FORGOTTEN, Finding.OVER_FORGOTTEN})
_BROKEN = frozenset({"non-finite", "failed"})
_REFERENCES = {"original": "the original model", "gold": "the retrained model"}


class Advised(StrEnum):
    """What a run tells somebody who has to decide; the first that applies, in this order."""

    NO_GOLD = "no-gold"
    """No retrained model was asked for."""
    TRAINING_FAILED = "training-failed"
    """The original or the retrained model could not be trained."""
    NOTHING_MEASURED = "nothing-measured"
    """The original or the retrained model is there, and no measure has a value of it."""
    UNTRAINED = "untrained"
    """The original has not learned its task, so there is nothing to forget."""
    USELESS_GOLD = "useless-gold"
    """The retrained model has not learned its task, so nearness to it means nothing."""
    NOTHING_TRIED = "nothing-tried"
    """There is no method except retraining itself."""
    METHODS_FAILED = "methods-failed"
    """No method has left a model that can be measured."""
    NOTHING_TO_FORGET = "nothing-to-forget"
    """By these values the original itself, which has forgotten nothing, is not told from retrained models."""
    UNUSABLE = "unusable"
    """Retrain: every method has damaged the model or changed nothing."""
    UNDECIDED = "undecided"
    """The run cannot tell, for want of values or of further retrained models."""
    TOO_DEAR = "too-dear"
    """Retrain: what was tried takes as long as retraining, or longer."""
    NO_NEARER = "no-nearer"
    """Retrain: no method is shown to be nearer to retraining than the original, which has forgotten nothing."""
    USE = "use"
    """The nearest method is cheaper than retraining, and no harmful difference from retraining was found."""
    FALLS_SHORT = "falls-short"
    """The nearest method still knows more or less of the forgotten samples than retrained models do."""


@dataclass(frozen=True, kw_only=True)
class References:
    """What is known of the models that methods are compared with.

    Args:
        has_gold: Whether a retrained model was asked for.
        failed: Why the original or the retrained model could not be trained; empty if they could.
        unmeasured: Why the original or the retrained model has no values; empty if they have.
        untrained: Why the original has learned nothing; empty if it has.
        useless: Why the retrained model has learned nothing; empty if it has.
        n_originals: How many originals were trained, each with a seed or a split of its own.
        n_forgotten: Samples to forget, or None if unknown.
        repeats: How more originals are had.
        proven: Labels of methods whose every model is by proof what retraining gives.
    """

    has_gold: bool = True
    failed: str = ""
    unmeasured: str = ""
    untrained: str = ""
    useless: str = ""
    n_originals: int = MIN_ORIGINALS
    n_forgotten: int | None = None
    repeats: Repeats = Repeats.SEEDS
    proven: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What a run advises.

    Args:
        kind: What to do.
        nearest: The method that it is about, if it is about one.
        ties: Labels of further methods that are not shown to be farther from retraining, nearest first.
        reason: What was found, as the rows state it.
        among: Distances and chances of those that were chosen from; None for fewer than three originals.
        left_out: Labels of methods with values of so few originals that they were not chosen from.
        original: Distance of the original from retraining, in standard deviations of a gold; None if it was not compared.
        is_original_told: Whether the test tells the original from retrained models: there was something to forget.
        none_forgot: Whether every method that could be judged was found to know more than retrained models.
        shift: Difference of one value, in standard deviations of a gold, that the run would have found in 80 % of cases.
        has_attack: Whether an attack was among the values.
        n_originals: How many originals it rests on.
        n_forgotten: Samples to forget, or None if unknown.
        repeats: How more originals are had.
        proven: Methods other than retraining itself that are by proof what it gives, whatever was measured.
    """

    kind: Advised
    nearest: Verdict | None = None
    ties: tuple[str, ...] = ()
    reason: str = ""
    among: Nearest | None = None
    left_out: tuple[str, ...] = ()
    original: float | None = None
    is_original_told: bool = False
    none_forgot: bool = False
    shift: float | None = None
    has_attack: bool = False
    n_originals: int = MIN_ORIGINALS
    n_forgotten: int | None = None
    repeats: Repeats = Repeats.SEEDS
    proven: tuple[Verdict, ...] = ()

    @property
    def named(self) -> Verdict | None:
        """The method that came nearest to retraining, where the run can tell."""
        return self.nearest if self.kind in {Advised.USE, Advised.FALLS_SHORT, Advised.TOO_DEAR} else None

    @property
    def best(self) -> Verdict | None:
        """The method to use; None if nobody should be named, as after one or two originals."""
        is_named = self.kind in {Advised.USE, Advised.FALLS_SHORT} and self.n_originals >= MIN_ORIGINALS
        return self.nearest if is_named and self.among is not None else None

    @property
    def chances(self) -> Mapping[str, float]:
        """How likely each method is the nearest, over all originals that might have been drawn."""
        return self.among.chances if self.among is not None else {}


def advise(judged: Judged, references: References = References()) -> Advice:
    """What to do.

    Methods are ranked by their distance from retraining, over originals, and never by their verdicts: with few originals a test
    acquits everybody. What takes as long as retraining is not recommended, and nobody is where the original itself is among the ties.

    Args:
        judged: The verdicts.
        references: What is known of the original and of gold.
    """
    report = judged.report
    control = report.control

    def advice(kind: Advised, **facts: Any) -> Advice:
        has_attack = control is not None and any(d.column.tells == "attack" for d in control.differences)
        far = report.distances.of(ORIGINAL)
        known: dict[str, Any] = {
            "shift": report.shift,
            "has_attack": has_attack,
            "original": far if math.isfinite(far) else None,
            "is_original_told": control is not None and control.finding in ACCUSED,
            "proven": tuple(j for j in judged.verdicts if j.label in references.proven and not j.is_exact),
        }
        given = {name: getattr(references, name) for name in ("n_originals", "n_forgotten", "repeats")}
        return Advice(kind=kind, **given, **known, **facts)

    unfit = _unfit(references)
    if unfit is not None:
        return advice(unfit[0], reason=unfit[1])
    candidates = [j for j in judged.verdicts if not j.is_exact]
    if not candidates:
        return advice(Advised.NOTHING_TRIED)
    if all(j.finding == Finding.FAILED for j in candidates):
        return advice(Advised.METHODS_FAILED, reason=candidates[0].reasons[0] if candidates[0].reasons else "")
    if report.has_nothing_to_forget:
        return advice(Advised.NOTHING_TO_FORGET)
    undecided = [j for j in candidates if j.finding == Finding.UNDECIDED]
    tried = [j for j in candidates if j.finding in _GOOD | _SHORT]
    if not tried and undecided:
        return advice(Advised.UNDECIDED, nearest=undecided[0], reason=undecided[0].reasons[0])
    if not tried:
        return advice(Advised.UNUSABLE, nearest=candidates[0])
    affordable = [j for j in tried if not is_dear(j)]
    if not affordable:
        return advice(Advised.TOO_DEAR, nearest=tried[0])
    among = report.distances.nearest([*(j.label for j in affordable), ORIGINAL], level=report.level)
    if among is None:
        first = affordable[0]
        if first.distance >= report.distances.of(ORIGINAL):
            return advice(Advised.NO_NEARER, nearest=first)
        return advice(_kind(first), nearest=first)
    competing = {j.label: j for j in affordable if j.label in among.chances}
    rare = tuple(j.label for j in affordable if j.label not in competing)
    if ORIGINAL in among.ties:
        nearest = next(iter(competing.values()), affordable[0])
        none = all(j.finding == Finding.UNDER_FORGOTTEN for j in tried)
        ties = _others(among, nearest.label)
        return advice(Advised.NO_NEARER, nearest=nearest, among=among, ties=ties, left_out=rare, none_forgot=none)
    nearest = _chosen(competing, among)
    return advice(_kind(nearest), nearest=nearest, among=among, ties=_others(among, nearest.label), left_out=rare)


def _kind(nearest: Verdict) -> Advised:
    return Advised.USE if nearest.finding in _GOOD else Advised.FALLS_SHORT


def _others(among: Nearest, label: str) -> tuple[str, ...]:
    return tuple(tie for tie in among.ties if tie not in {label, ORIGINAL})


def _chosen(by_label: Mapping[str, Verdict], among: Nearest) -> Verdict:
    """The nearest, or of ties that are shown to be indistinguishable the cheapest."""
    same = [by_label[label] for label in among.ties if label != ORIGINAL and by_label[label].finding == Finding.INDISTINGUISHABLE]
    if not same:
        return by_label[among.label]
    return min(same, key=lambda j: (j.cost is None, j.cost or 0.0, j.distance))


def is_dear(verdict: Verdict) -> bool:
    """Whether a method takes as long as retraining, to the percent that people are shown."""
    return verdict.cost is not None and round(100 * verdict.cost) >= 100


def _unfit(references: References) -> tuple[Advised, str] | None:
    """Why no method can be judged by these references, the cause before its consequences."""
    if references.failed:
        return Advised.TRAINING_FAILED, references.failed
    if references.unmeasured:
        return Advised.NOTHING_MEASURED, references.unmeasured
    if references.untrained:
        return Advised.UNTRAINED, references.untrained
    if not references.has_gold:
        return Advised.NO_GOLD, ""
    return (Advised.USELESS_GOLD, references.useless) if references.useless else None


def references_of(
    rows: Sequence[Row], models: Iterable[ModelRecord], roles: RolePartitions, repeats: Repeats = Repeats.SEEDS
) -> References:
    """What rows and the kept facts of models tell of the original and of gold.

    Args:
        rows: Rows of all models.
        models: What the run kept of each model; empty for an older run.
        roles: What the partitions are.
        repeats: How more originals are had.
    """
    own = {role: [row for row in rows if row.model_role == role] for role in ("original", "gold")}
    models = list(models)
    forgotten = [size for name, size in roles.sizes.items() if name in roles.forget]
    return References(
        has_gold=any(row.gold is not None for row in rows) or any(model.role == "gold" for model in models),
        failed=next(filter(None, (_failure(models, role) for role in own)), ""),
        unmeasured=next(filter(None, (_unmeasured(own[role], role) for role in own)), ""),
        untrained=_useless(own["original"]),
        useless=_useless(own["gold"]),
        n_originals=max(1, len({original_of(row) for row in own["original"] or rows})),
        n_forgotten=min(forgotten, default=None),
        repeats=repeats,
        proven=_proven(rows),
    )


def _proven(rows: Iterable[Row]) -> frozenset[str]:
    promised: dict[str, set[str]] = {}
    for row in rows:
        if row.model_role == "unlearned":
            promised.setdefault(row.label, set()).add(row.guarantee)
    return frozenset(label for label, found in promised.items() if found == {"exact"})


def _failure(models: Iterable[ModelRecord], role: str) -> str:
    """Why a reference could not be trained; empty if it could, or if there is none of its kind."""
    failed = [model.failed for model in models if model.role == role]
    return f"{_REFERENCES[role]} has no values ({failed[0]})" if failed and all(failed) else ""


def _unmeasured(rows: Sequence[Row], role: str) -> str:
    """Why a reference has no value at all; empty if it has one, or if there is none of its kind."""
    if not rows or any(row.value is not None for row in rows):
        return ""
    reason = next((row.reason for row in rows if row.status in _BROKEN and row.reason), "")
    return f"{_REFERENCES[role]} has no values ({reason})" if reason else f"{_REFERENCES[role]} has no values"


def _useless(rows: Iterable[Row]) -> str:
    """Why a reference has learned nothing, if it has in most of the repetitions."""
    rows = list(rows)
    seeds = {original_of(row) for row in rows}
    found = {original_of(row): row.reason for row in rows if row.status == "collapsed"}
    return next(iter(found.values())) if 2 * len(found) > len(seeds) else ""
