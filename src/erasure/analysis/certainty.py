"""How sure a run's numbers are: intervals over seeds, tests against retraining and between methods, attacks' intervals.

Training seeds are what is repeated; seeds of unlearning and measuring inside one are averaged first, and their spread is given apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from erasure.analysis.findings import Difference
from erasure.analysis.run_comparison import GOLD, Duel, MeanRanks, RunComparison, compare_runs
from erasure.analysis.statistics import Interval, VarianceComponents, cluster_bootstrap, student_interval, variance_components
from erasure.analysis.verdicts import Judged
from erasure.records.evidence import RunRecord
from erasure.records.originals import by_original, mean_by_original
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder

__all__ = ["AttackInterval", "Certainty", "Estimate", "certainty_of"]

_MAX_METHODS = 40
_MAX_COLUMNS = 40
_RESAMPLES = 4000
_LOSS_ATTACK = "loss attack AUC"


@dataclass(frozen=True)
class Estimate:
    """One measure of one method over the repetitions.

    Args:
        label: The method.
        measure: The measure.
        partition: What it was measured on.
        unit: Unit of the values.
        mean: Mean over training seeds of the means over what is repeated inside them.
        student: Its Student-t interval over training seeds; None for one of them.
        bootstrap: Its bootstrap interval, training seeds drawn and then repetitions inside them; None for one training seed.
        spread: Variance between and within training seeds.
        difference: The difference from retrained models with its p-value, where it is compared with them.
        is_apart: Whether by this value the test tells the method from retrained models.
    """

    label: str
    measure: str
    partition: str
    unit: str
    mean: float
    student: Interval | None
    bootstrap: Interval | None
    spread: VarianceComponents
    difference: Difference | None
    is_apart: bool = False


@dataclass(frozen=True)
class AttackInterval:
    """How sure the success of an attack is.

    Args:
        label: The model.
        measure: The attack.
        value: Its success on the first repetition.
        samples: Interval over the attacked samples, the model being given; None if unknown.
        bank: Interval over the attack's own shadow models, if it was asked for.
        models: Interval over training seeds; None for one of them.
    """

    label: str
    measure: str
    value: float
    samples: tuple[float, float] | None
    bank: tuple[float, float] | None
    models: Interval | None


@dataclass(frozen=True, eq=False)
class Certainty:
    """What repetitions say.

    Args:
        n_originals: Training seeds (with their splits).
        n_inside: Most repetitions of unlearning and measuring that one of them has.
        sentences: What is repeated, in words, with commands in backticks.
        estimates: Every measure of every method, best method first; empty without repetitions.
        between: Tests between methods: the others against the one that is recommended.
        against: The method of those tests.
        ranking: Mean ranks by all measures that are compared with gold, if there are repetitions.
        attacks: Intervals of attacks.
    """

    n_originals: int
    n_inside: int
    sentences: Sequence[str]
    estimates: Sequence[Estimate] = ()
    between: Sequence[Duel] = ()
    against: str = ""
    ranking: MeanRanks | None = None
    attacks: Sequence[AttackInterval] = ()

    @property
    def is_repeated(self) -> bool:
        """Whether anything is repeated."""
        return self.n_originals > 1 or self.n_inside > 1

    @property
    def in_short(self) -> str:
        """How sure a named method is, in one sentence for the first screen: it takes several originals to name one."""
        return f"Repeated with {self.n_originals} training seeds; the values are means over them."

    @property
    def has_inner_spread(self) -> bool:
        """Whether seeds of unlearning or measuring are repeated inside a training seed."""
        return self.n_inside > 1


def certainty_of(folder: RunFolder, judged: Judged, best: str | None = None) -> Certainty:
    """What the repetitions of a run say.

    Args:
        folder: The run.
        judged: The verdicts, and the tests behind them.
        best: The method that the others are tested against.
    """
    kept = [each.label for each in judged.verdicts][:_MAX_METHODS]
    wanted = set(kept)
    rows = [row for row in folder.rows if row.model_role != "unlearned" or row.label in wanted]
    columns: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if row.model_role == "unlearned" and row.value is not None:
            columns.setdefault((row.measure, row.partition), {}).setdefault(row.label, []).append(row)
    clusters = [by_original(cell) for cells in columns.values() for cell in cells.values()]
    n_originals = max(map(len, clusters), default=1)
    n_inside = max((len(values) for found in clusters for values in found.values()), default=1)
    sentences = _sentences(n_originals, n_inside, is_run=not folder.record.is_of_given_models)
    settings = folder.record.sweep
    if len(settings) > 1:
        sentences.append(
            f"The best of {len(settings)} settings was chosen by the values that it is judged by, which flatters it: confirm it with "
            "seeds that had no part in the choice."
        )
    attacks = _attacks(folder, columns, ["original", "gold", *kept])
    if n_originals < 2 and n_inside < 2 and not any(each.basis for each in judged.report.methods.values()):
        return Certainty(n_originals, n_inside, sentences, attacks=attacks)
    estimates = [
        _estimate(label, measure, partition, cells[label], judged)
        for label in kept
        for (measure, partition), cells in list(columns.items())[:_MAX_COLUMNS]
        if label in cells
    ]
    between = None
    if best in wanted and n_originals > 1:
        # Retraining does not compete, and must not count among the tests that are corrected for.
        retraining = folder.retraining
        competing = [row for row in rows if row.model_role == "unlearned" and row.label not in retraining]
        between = _compared(RunFolder(competing), best)
    ranking = None
    if n_originals > 1 and any(row.gold is not None for row in rows):
        ranked = _compared(RunFolder(rows, RunRecord(models=tuple(folder.models))), GOLD)
        ranking = next((found for found in ranked.rankings if found.is_overall), None)
    return Certainty(
        n_originals,
        n_inside,
        sentences,
        estimates,
        [duel for duel in between.duels if duel.is_gapped and duel.label not in {GOLD, best}] if between is not None else (),
        best if between is not None and best is not None else "",
        ranking,
        attacks,
    )


def _compared(folder: RunFolder, against: str) -> RunComparison:
    return compare_runs([folder], ["run"], against=against)


def _sentences(n_originals: int, n_inside: int, *, is_run: bool) -> list[str]:
    if n_originals > 1:
        inside = f", each with {n_inside} repetitions of unlearning or measuring, which count as one" if n_inside > 1 else ""
        return [
            f"Everything was repeated with {n_originals} training seeds{inside}. Intervals are 95 % intervals of the mean over training "
            "seeds; tests compare each method with further models retrained from other seeds."
        ]
    if n_inside > 1:
        return [
            f"One training seed, with {n_inside} repetitions of unlearning or measuring. Intervals are over these alone: they say nothing "
            "of other originals. Run with `--train-seeds 0-4` to have them."
        ]
    remedy = "Run with `--seeds 0-4` to have them." if is_run else "Give several originals to have them."
    return [f"One repetition: there are no intervals over seeds, and another seed may order close methods differently. {remedy}"]


def _estimate(label: str, measure: str, partition: str, rows: Sequence[Row], judged: Judged) -> Estimate:
    clusters = by_original(rows)
    means = list(mean_by_original(clusters).values())
    student = student_interval(means)
    if student is None:
        student = student_interval(next(iter(clusters.values())))
    tested = judged.report.methods.get(label)
    difference = tested.difference(measure, partition) if tested is not None else None
    is_apart = tested is not None and difference is not None and tested.is_told_by(difference, judged.report.level)
    return Estimate(
        label,
        measure,
        partition,
        rows[0].unit,
        math.fsum(means) / len(means),
        student,
        cluster_bootstrap(clusters, n_resamples=_RESAMPLES),
        variance_components(clusters),
        difference,
        is_apart,
    )


# Attacks


def _attacks(
    folder: RunFolder, columns: Mapping[tuple[str, str], Mapping[str, Sequence[Row]]], labels: Sequence[str]
) -> list[AttackInterval]:
    """Intervals of attacks on the first repetition, over samples and over shadow models, and over training seeds."""
    found: dict[tuple[str, str], AttackInterval] = {}
    for group in folder.groups[:1]:
        for roc in group.rocs.series if group.rocs is not None else ():
            if roc.auc is not None and roc.auc_low is not None and roc.auc_high is not None:
                over_samples = (roc.auc_low, roc.auc_high)
                found[_LOSS_ATTACK, roc.label] = AttackInterval(roc.label, _LOSS_ATTACK, roc.auc, over_samples, None, None)
    gold_rows: dict[tuple[str, str], list[Row]] = {}
    for row in folder.rows:
        if row.model_role == "gold":
            gold_rows.setdefault((row.measure, row.partition), []).append(row)
    for each in folder.record.intervals:
        key, column = (each.measure, each.label), (each.measure, each.partition)
        rows = gold_rows.get(column, ()) if each.role == "gold" else columns.get(column, {}).get(each.label, ())
        if each.value is None or key in found or not any(row.indicates == "attack" for row in rows):
            continue
        means = [math.fsum(values) / len(values) for values in by_original(rows).values()]
        ends = (each.low, each.high)
        is_bank = each.over == "models"
        found[key] = AttackInterval(
            key[1], key[0], each.value, None if is_bank else ends, ends if is_bank else None, student_interval(means)
        )
    place = {label: number for number, label in enumerate(labels)}
    kept = [attack for attack in found.values() if attack.label in place]
    measures = {attack.measure: number for number, attack in reversed(list(enumerate(kept)))}
    return sorted(kept, key=lambda attack: (measures[attack.measure], place[attack.label]))
