"""What to do after a run: use a method, retrain, or mend the run first. It is decided here, and put into words elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from erasure.analysis.gaps import EPSILON, Comparison, Roles, comparisons
from erasure.analysis.verdicts import Judgement
from erasure.records.evidence import ModelRecord
from erasure.records.rows import Row

__all__ = ["LEAST_ORIGINALS", "Advice", "Advised", "References", "advise", "references_of"]

LEAST_ORIGINALS = 3
"""Originals without which no method is named: methods that come nearest with one or two seldom do with others."""

_GOOD = frozenset({"indistinguishable", "not-told-apart", "close", "different"})
_SHORT = frozenset({"under-forgotten", "over-forgotten"})
_BROKEN = frozenset({"non-finite", "failed"})


class Advised(StrEnum):
    """What a run tells somebody who has to decide; the first that applies, in this order."""

    NO_GOLD = "no-gold"
    """No retrained model was asked for."""
    TRAINING_FAILED = "training-failed"
    """The original or the retrained model could not be trained, or has diverged."""
    UNTRAINED = "untrained"
    """The original has not learned its task, so there is nothing to forget."""
    USELESS_GOLD = "useless-gold"
    """The retrained model has not learned its task, so nearness to it means nothing."""
    NOTHING_TRIED = "nothing-tried"
    """There is no method except retraining itself."""
    METHODS_FAILED = "methods-failed"
    """No method has left a model that can be measured."""
    BLIND = "blind"
    """The measures cannot tell even the original from a retrained model."""
    USE = "use"
    """A method comes as near as one can tell, or differs harmlessly, and is cheaper than retraining."""
    FALLS_SHORT = "falls-short"
    """The nearest method still knows more or less of the forgotten samples than a retrained model does."""
    TOO_DEAR = "too-dear"
    """Retrain: what comes near takes as long as retraining, or longer."""
    UNDECIDED = "undecided"
    """The run cannot tell, for want of a value or of further retrained models."""
    NO_NEARER = "no-nearer"
    """Retrain: no method is nearer to retraining than the original, which has forgotten nothing."""
    UNUSABLE = "unusable"
    """Retrain: every method has damaged the model or changed nothing."""


@dataclass(frozen=True, kw_only=True)
class References:
    """What is known of the models that methods are compared with.

    Args:
        has_gold: Whether a retrained model was asked for.
        failed: Why the original or the retrained model has no values; empty if they have.
        untrained: Why the original has learned nothing; empty if it has.
        useless: Why the retrained model has learned nothing; empty if it has.
        original: The original, which has forgotten nothing, against gold.
        n_originals: How many originals were trained, each with a seed or a split of its own.
        n_forgotten: Samples to forget, or None if unknown.
    """

    has_gold: bool = True
    failed: str = ""
    untrained: str = ""
    useless: str = ""
    original: tuple[Comparison, ...] = ()
    n_originals: int = LEAST_ORIGINALS
    n_forgotten: int | None = None

    @property
    def sighted(self) -> tuple[Comparison, ...]:
        """What the original could show on the forgotten samples."""
        return tuple(c for c in self.original if c.question == "forgetting" and c.floor is not None)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What a run advises.

    Args:
        kind: What to do.
        nearest: The method that it is about, if it is about one.
        ties: Labels of further methods that serve as well, the cheapest first.
        reason: What was found, as the rows state it.
        blind: What cannot tell the original from gold.
        n_originals: How many originals it rests on.
        n_forgotten: Samples to forget, or None if unknown.
    """

    kind: Advised
    nearest: Judgement | None = None
    ties: tuple[str, ...] = ()
    reason: str = ""
    blind: tuple[Comparison, ...] = ()
    n_originals: int = LEAST_ORIGINALS
    n_forgotten: int | None = None

    @property
    def named(self) -> Judgement | None:
        """The method that came nearest to retraining, where the run can tell."""
        return self.nearest if self.kind in {Advised.USE, Advised.FALLS_SHORT, Advised.TOO_DEAR} else None

    @property
    def best(self) -> Judgement | None:
        """The method to use; None if nobody should be named, as after one or two originals."""
        is_named = self.kind in {Advised.USE, Advised.FALLS_SHORT} and self.n_originals >= LEAST_ORIGINALS
        return self.nearest if is_named else None


def advise(judgements: Sequence[Judgement], references: References = References()) -> Advice:
    """What to do.

    A method is advised only if it takes less time than retraining and is nearer to retraining, on the forgotten samples and by more than
    the noise floor, than a model that has forgotten nothing.

    Args:
        judgements: The verdicts.
        references: What is known of the original and of gold.
    """

    def advice(kind: Advised, **facts: Any) -> Advice:
        return Advice(kind=kind, n_originals=references.n_originals, n_forgotten=references.n_forgotten, **facts)

    unfit = _unfit(references)
    if unfit is not None:
        return advice(unfit[0], reason=unfit[1])
    candidates = sorted((j for j in judgements if not j.is_exact), key=lambda j: j.rank)
    if not candidates:
        return advice(Advised.NOTHING_TRIED)
    if all(j.verdict == "failed" for j in candidates):
        return advice(Advised.METHODS_FAILED, reason=candidates[0].evidence[0] if candidates[0].evidence else "")
    sighted = references.sighted
    if sighted and all(c.is_within for c in sighted):
        return advice(Advised.BLIND, blind=sighted)
    tried = [j for j in candidates if j.verdict in _GOOD | _SHORT]
    nearer = [j for j in tried if _is_nearer(j, sighted)]
    affordable = [j for j in nearer if not is_dear(j)]
    if affordable:
        nearest, ties = _nearest(affordable)
        return advice(Advised.USE if nearest.verdict in _GOOD else Advised.FALLS_SHORT, nearest=nearest, ties=ties)
    if nearer:
        return advice(Advised.TOO_DEAR, nearest=nearer[0])
    undecided = next((j for j in candidates if j.verdict == "undecided"), None)
    if undecided is not None:
        return advice(Advised.UNDECIDED, nearest=undecided, reason=undecided.evidence[0])
    if tried:
        return advice(Advised.NO_NEARER, nearest=tried[0])
    return advice(Advised.UNUSABLE, nearest=candidates[0])


def is_dear(judgement: Judgement) -> bool:
    """Whether a method takes as long as retraining, to the percent that people are shown."""
    return judgement.cost is not None and round(100 * judgement.cost) >= 100


def _unfit(references: References) -> tuple[Advised, str] | None:
    """Why no method can be judged by these references, the cause before its consequences."""
    if references.failed:
        return Advised.TRAINING_FAILED, references.failed
    if references.untrained:
        return Advised.UNTRAINED, references.untrained
    if not references.has_gold:
        return Advised.NO_GOLD, ""
    return (Advised.USELESS_GOLD, references.useless) if references.useless else None


def _nearest(ranked: Sequence[Judgement]) -> tuple[Judgement, tuple[str, ...]]:
    """The nearest method, of several that cannot be told from retraining the cheapest, and those that tie with it."""
    first = ranked[0]
    equal = [j for j in ranked if j.verdict == first.verdict == "indistinguishable" and j.cost is not None]
    if len(equal) < 2:
        return first, ()
    cheapest, *others = sorted(equal, key=lambda j: (j.cost or 0.0, j.distance))
    return cheapest, tuple(j.label for j in others)


def _is_nearer(judgement: Judgement, original: Iterable[Comparison]) -> bool:
    """Whether some value on the forgotten samples has come nearer to gold than the original's by more than the noise floor.

    Only values by which the original differs from gold can show that; where there is none to compare, nothing is held against a method.
    """
    own = {(c.measure, c.partition): c for c in judgement.comparisons}
    pairs = [(c, own[c.measure, c.partition]) for c in original if not c.is_within and (c.measure, c.partition) in own]
    return not pairs or any(c.gap - mine.gap > (c.floor or 0.0) + EPSILON for c, mine in pairs)


def references_of(rows: Sequence[Row], models: Iterable[ModelRecord], roles: Roles) -> References:
    """What rows and the kept facts of models tell of the original and of gold.

    Args:
        rows: Rows of all models.
        models: What the run kept of each model; empty for an older run.
        roles: What the partitions are.
    """
    own = {role: [row for row in rows if row.model == role] for role in ("original", "gold")}
    models = list(models)
    failed = next(filter(None, (_failure(own[role], models, role) for role in own)), "")
    forgotten = [size for name, size in roles.sizes.items() if name in roles.forget]
    return References(
        has_gold=any(row.gold is not None for row in rows) or any(model.role == "gold" for model in models),
        failed=failed,
        untrained=_useless(own["original"]),
        useless=_useless(own["gold"]),
        original=comparisons(own["original"], roles),
        n_originals=max(1, len({(row.seed_split, row.seed_train) for row in own["original"] or rows})),
        n_forgotten=min(forgotten, default=None),
    )


def _failure(rows: Sequence[Row], models: Iterable[ModelRecord], role: str) -> str:
    """Why a reference has no value at all; empty if it has one, or if there is none of its kind."""
    failed = [model.failed for model in models if model.role == role and model.failed]
    if any(row.value is not None for row in rows) or not (rows or failed):
        return ""
    name = "the retrained model" if role == "gold" else "the original model"
    reason = next(iter(failed), "") or next((row.reason for row in rows if row.status in _BROKEN and row.reason), "")
    return f"{name} has no values ({reason})" if reason else f"{name} has no values"


def _useless(rows: Iterable[Row]) -> str:
    """Why a reference has learned nothing, if it has in most of the repetitions."""
    rows = list(rows)
    seeds = {(row.seed_split, row.seed_train) for row in rows}
    found = {(row.seed_split, row.seed_train): row.reason for row in rows if row.status == "collapsed"}
    return next(iter(found.values())) if 2 * len(found) > len(seeds) else ""
