"""Runs side by side: mean ranks, wins, ties and losses against one method, and what changed between two runs.

A difference that is within the noise floor, or that repetitions cannot tell from chance, is a tie.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, cast

import numpy as np

from erasure.analysis.findings import Finding
from erasure.analysis.gaps import EPSILON, RolePartitions
from erasure.analysis.roles import roles_of
from erasure.analysis.run_changes import RunChanges, run_changes
from erasure.analysis.statistics import PairedTest, RankTest, holm, mean_ranks, paired_test, rank_test
from erasure.analysis.verdict_words import NOTHING_TO_FORGET, joined
from erasure.analysis.verdicts import Judged, judge_all
from erasure.errors import ConfigError, Diagnostic, nearest
from erasure.records.originals import Original, by_original, mean_by_original
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder

__all__ = ["GOLD", "RULE", "ComparedRun", "Duel", "MeanRanks", "RunComparison", "Tally", "compare_runs"]

Outcome: TypeAlias = Literal["win", "tie", "loss"]

GOLD = "GoldModel"
"""What the retrained model is called in comparisons: the columns of golds, and the method that retrains unless it has another label."""
RULE = (
    "Repetitions of one training seed are averaged; pairs are training seeds. A measure that is compared with gold is won by the "
    "smaller gap to gold, any other by the better value, costs by their ratio. Against gold itself a value can only be tied or lost: it is "
    "lost where the test of verdicts accuses the method by it, over all runs of one data set. "
    "Between methods a mean difference within the noise floor is a tie, and so is one whose paired t-test, after Holm's correction over "
    "the methods on that data set and measure, is above the level; where a spread cannot be estimated, Wilcoxon's signed-rank test decides."
)
_COST_UNITS = frozenset({"s", "MiB", "J", "Wh", "kWh", "FLOP", "GFLOP"})
_FEW_SEEDS = 5
_FAILED = frozenset({"failed", "non-finite"})
_Column: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class ComparedRun:
    """A run and what it is called here.

    Args:
        name: Short name, by default its directory's.
        folder: Its files.
        problem: The data and the training recipe, as readers call them; runs of one problem are repetitions of one another.
    """

    name: str
    folder: RunFolder
    problem: str = ""


@dataclass(frozen=True)
class Duel:
    """A method against another on one problem by one measure.

    Args:
        problem: Data set and training recipe.
        measure: The measure.
        partition: What it was measured on.
        label: The method.
        outcome: What it is for the method.
        difference: Mean difference; of gaps or values lower is better for the method, of costs it is the logarithm of the ratio.
        floor: The noise floor it must exceed, if there is one.
        p: P-value after Holm's correction; None without repetitions.
        n: Pairs.
        unit: Unit of the values.
        is_gapped: Whether the measure is compared with gold; others are costs and the like.
        reason: Why, in a sentence.
        low: Lower end of the Student-t interval of the mean difference; None for fewer than two pairs.
        high: Its upper end.
    """

    problem: str
    measure: str
    partition: str
    label: str
    outcome: Outcome
    difference: float | None
    floor: float | None
    p: float | None
    n: int
    unit: str = ""
    is_gapped: bool = True
    reason: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tally:
    """How often a method wins, ties and loses, by measures that are compared with gold, and how often it is better by any other."""

    label: str
    wins: int
    ties: int
    losses: int
    cheaper: int = 0
    costlier: int = 0


@dataclass(frozen=True)
class MeanRanks:
    """Mean ranks by one measure, or by all that are compared with gold.

    Args:
        title: What ranks are taken of.
        labels: The methods, best first.
        test: Their ranks in that order, with Friedman's and Nemenyi's tests.
        problems: How many problems the blocks come from.
        is_overall: Whether it is over all measures.
    """

    title: str
    labels: tuple[str, ...]
    test: RankTest
    problems: int
    is_overall: bool = False


@dataclass(frozen=True)
class RunComparison:
    """What several runs say together.

    Args:
        runs: The runs.
        against: The method that others are compared with.
        duels: Every comparison with it.
        rankings: Mean ranks, the overall one first; empty with fewer than two methods.
        changes: What changed from one run to the next of the same name and data set.
        level: Confidence level of the tests.
        notes: What a reader must know.
    """

    runs: tuple[ComparedRun, ...]
    against: str
    duels: tuple[Duel, ...]
    rankings: tuple[MeanRanks, ...]
    changes: tuple[RunChanges, ...]
    level: float = 0.95
    notes: tuple[str, ...] = ()

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """Wins, ties and losses of each method, the best balance first."""
        n = Counter((duel.label, duel.outcome, duel.is_gapped) for duel in self.duels)
        counted = [
            Tally(
                label,
                *(n[label, outcome, True] for outcome in ("win", "tie", "loss")),
                *(n[label, outcome, False] for outcome in ("win", "loss")),
            )
            for label in dict.fromkeys(duel.label for duel in self.duels)
        ]
        return tuple(sorted(counted, key=lambda tally: (tally.losses - tally.wins, tally.label)))


@dataclass
class _Series:
    """Values of one model by one measure on one problem, by training seed."""

    rows: list[Row] = field(default_factory=list)

    def by_original(self, name: str) -> dict[Original, float]:
        return mean_by_original(by_original(self.rows, lambda row: cast("float | None", getattr(row, name))))

    @property
    def is_gapped(self) -> bool:
        return any(row.gap is not None for row in self.rows)

    @property
    def has_failed(self) -> bool:
        return any(row.status in _FAILED for row in self.rows)

    @property
    def floor(self) -> float | None:
        floors = list(self.by_original("noise_floor").values())
        return math.fsum(floors) / len(floors) if floors else None

    def text(self, name: str) -> str:
        return next((str(getattr(row, name)) for row in self.rows if getattr(row, name)), "")


_Cells: TypeAlias = dict[_Column, dict[str, _Series]]


def compare_runs(
    folders: Sequence[RunFolder], names: Sequence[str], *, against: str = GOLD, level: float = 0.95
) -> RunComparison:
    """Compare runs, of any data sets and seeds.

    Args:
        folders: The runs' files.
        names: What each run is called.
        against: Label of the method that the others are compared with; ``GoldModel`` is the retrained model.
        level: Confidence level of the tests.

    Raises:
        ConfigError: If no run has the method.
    """
    runs = _with_problems([ComparedRun(name, folder) for name, folder in zip(names, folders, strict=True)])
    renamed, notes = _renamed(runs)
    problems: dict[str, _Cells] = {}
    exact: set[str] = set()
    for run in runs:
        cells = problems.setdefault(run.problem, {})
        retraining = run.folder.retraining
        for row in run.folder.rows:
            label = _name_of(row, renamed.get(run.name, {}))
            if label is None:
                continue
            if row.label in retraining:
                exact.add(label)
            cells.setdefault((row.measure, row.partition), {}).setdefault(label, _Series()).rows.append(row)
    reference = _reference(against, problems)
    duels = [duel for problem, cells in problems.items() for duel in _duels(problem, cells, reference, level)]
    judged = {problem: _judged_problem(problem, runs, renamed, exact, 1 - level) for problem in problems}
    notes += [f"{problem}: {NOTHING_TO_FORGET}" for problem, each in judged.items() if each.report.has_nothing_to_forget]
    if reference == GOLD:
        duels = [_by_verdict(duel, judged[duel.problem]) if duel.is_gapped else duel for duel in duels]
    most = max((duel.n for duel in duels), default=0)
    if 1 <= most < _FEW_SEEDS:
        seeds = "One training seed shows no" if most == 1 else f"{most} training seeds show only large"
        notes.append(f"{seeds} differences: a tie here is no proof of equality. Add runs with other seeds.")
    return RunComparison(
        runs=tuple(runs),
        against=reference,
        duels=tuple(duels),
        rankings=tuple(_rankings(problems, exact | {GOLD}, level)),
        changes=tuple(run_changes([(run.name, run.folder) for run in runs])),
        level=level,
        notes=tuple(notes),
    )


def _judged_problem(
    problem: str, runs: Iterable[ComparedRun], renamed: Mapping[str, Mapping[str, str]], exact: Iterable[str], level: float
) -> Judged:
    """The verdicts over all runs of one problem together."""
    rows: list[Row] = []
    roles = RolePartitions()
    for run in runs:
        if run.problem == problem:
            roles = roles_of(run.folder)
            names = renamed.get(run.name, {})
            rows += [replace(row, label=names.get(row.label, row.label)) for row in (*run.folder.rows, *run.folder.jury)]
    level = min([level, *(run.folder.record.level for run in runs)])
    return judge_all(rows, roles, exact=exact, level=level)


def _by_verdict(duel: Duel, judged: Judged) -> Duel:
    """A comparison with gold as the test of verdicts decides it: lost, or tied where nothing is found or nothing can be."""
    verdict = judged.of(duel.label)
    is_original = verdict is not None and verdict.finding == Finding.NO_OP
    tested = judged.report.control if is_original else verdict.tested if verdict is not None else None
    found = tested.difference(duel.measure, duel.partition) if tested is not None else None
    if duel.outcome == "loss" and duel.difference is None:  # it failed
        return duel
    if tested is None or found is None or found.p is None:
        reason = "not tested" if tested is None or tested.basis else f"undecided: {tested.reason}"
        return replace(duel, outcome="tie", p=None, reason=reason)
    if tested.is_told_by(found, judged.report.level):
        return replace(duel, outcome="loss", p=found.p, reason=f"{'the original ' * is_original}differs from retrained models")
    return replace(duel, outcome="tie", p=found.p, reason="not told apart from retrained models")


def _name_of(row: Row, renamed: Mapping[str, str]) -> str | None:
    """What a row's model is called here; gold and a method that retrains are one, the original is none."""
    if row.model_role == "original":
        return None
    if row.model_role == "gold":
        return GOLD
    return renamed.get(row.label, row.label)


def _with_problems(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Runs with the names of their problems: the data set, with what sets it apart from others of the same data."""
    keys = [_problem_key(run.folder) for run in runs]
    datasets = [next((row.dataset for row in run.folder.rows), "") for run in runs]
    named: dict[str, str] = {}
    for run, key, dataset in zip(runs, keys, datasets, strict=True):
        if key in named:
            continue
        several = len({k for k, d in zip(keys, datasets, strict=True) if d == dataset}) > 1
        name = base = f"{dataset} ({run.folder.name})" if several else dataset
        number = 2
        while name in named.values():
            name, number = f"{base} #{number}", number + 1
        named[key] = name
    return [replace(run, problem=named[key]) for run, key in zip(runs, keys, strict=True)]


def _problem_key(folder: RunFolder) -> str:
    canonical = folder.record.canonical
    if "data" not in canonical:
        return json.dumps([next((row.dataset for row in folder.rows), ""), folder.name])
    return json.dumps([canonical["data"], canonical.get("predictor")], sort_keys=True)


def _renamed(runs: Iterable[ComparedRun]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """New labels, by run, where one label stands for different parameters in runs of one problem.

    On other data a method may well have parameters of its own: it is one method still.
    """
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for run in runs:
        for model in run.folder.models:
            if model.role == "unlearned" and model.parameters is not None:
                form = json.dumps([model.key, model.parameters], sort_keys=True)
                sharing = found.setdefault(model.label, {}).setdefault(run.problem, {}).setdefault(form, [])
                sharing += [run.name] if run.name not in sharing else []
    renamed: dict[str, dict[str, str]] = {}
    notes, own = [], []
    for label, problems in found.items():
        for problem, forms in problems.items():
            if len(forms) > 1:
                notes.append(f"{label} has other parameters in different runs of {problem}; each is a method of its own here.")
                for names in forms.values():
                    for name in names:
                        renamed.setdefault(name, {})[label] = f"{label} ({names[0]})"
        if len({form for forms in problems.values() for form in forms}) > 1 and all(
            len(forms) == 1 for forms in problems.values()
        ):
            own.append(label)
    if own:
        notes.append(f"{joined(own)} {'have' if len(own) > 1 else 'has'} other parameters on other data or originals.")
    return renamed, notes


def _reference(against: str, problems: Mapping[str, _Cells]) -> str:
    labels = dict.fromkeys(label for cells in problems.values() for models in cells.values() for label in models)
    folded = {label.casefold(): label for label in labels}
    wanted = GOLD if against.casefold() in {"gold", GOLD.casefold()} else against
    if wanted.casefold() in folded:
        return folded[wanted.casefold()]
    every = (series for cells in problems.values() for models in cells.values() for series in models.values())
    if wanted == GOLD and any(series.is_gapped for series in every):
        return GOLD  # rows hold gold's values beside their own
    hint = nearest(against, labels) or f"there are {', '.join(list(labels)[:20])}"
    raise ConfigError([Diagnostic(f'no run has a method "{against}" to compare with', path="--against", hint=hint, kind="data")])


# Wins, ties and losses


def _duels(problem: str, cells: _Cells, reference: str, level: float) -> list[Duel]:
    found: list[Duel] = []
    for (measure, partition), models in cells.items():
        gapped = any(series.is_gapped for series in models.values())
        if reference not in models and not (reference == GOLD and gapped):
            continue
        other = models.get(reference, _Series())
        tested: list[tuple[Duel, PairedTest, float | None]] = []
        for label, series in models.items():
            if label == reference:
                continue
            duel = Duel(problem, measure, partition, label, "tie", None, None, None, 0, series.text("unit"), series.is_gapped)
            if series.has_failed and not other.has_failed:
                found.append(replace(duel, outcome="loss", reason="it failed, or its value is not finite"))
                continue
            pair = _pair(series, other, is_gold=reference == GOLD)
            if pair is None:
                continue
            first, second, floor = pair
            if not first:
                found.append(replace(duel, reason="no training seed in common"))
                continue
            test = paired_test(first, second, level=level)
            tested.append(
                (replace(duel, difference=test.mean, floor=floor, n=test.n, low=test.low, high=test.high), test, test.p)
            )
        corrected = iter(holm([p for _, _, p in tested if p is not None]))
        found += [_judged(duel, test, None if p is None else next(corrected), level) for duel, test, p in tested]
    return found


def _pair(series: _Series, other: _Series, *, is_gold: bool) -> tuple[list[float], list[float], float | None] | None:
    """Numbers of both at the training seeds they have in common, lower being better, and the floor; None if nothing is better."""
    if series.is_gapped:
        mine, theirs = (
            (series.by_original("value"), series.by_original("gold"))
            if is_gold
            else (series.by_original("gap"), other.by_original("gap"))
        )
        common = [cluster for cluster in mine if cluster in theirs]
        return [mine[c] for c in common], [theirs[c] for c in common], series.floor
    direction = series.text("direction")
    if direction not in {"higher", "lower"}:
        return None
    mine, theirs = series.by_original("value"), other.by_original("value")
    common = [cluster for cluster in mine if cluster in theirs]
    first, second = [mine[c] for c in common], [theirs[c] for c in common]
    sign = 1.0 if direction == "lower" else -1.0
    if series.text("unit") in _COST_UNITS and all(v > 0 for v in first + second):
        return [sign * math.log(v) for v in first], [sign * math.log(v) for v in second], None
    return [sign * v for v in first], [sign * v for v in second], None


def _judged(duel: Duel, test: PairedTest, p: float | None, level: float) -> Duel:
    if duel.floor is not None and abs(test.mean) <= duel.floor + EPSILON:
        return replace(duel, p=p if test.n > 1 else None, reason="within the noise floor")
    if test.mean == 0:
        return replace(duel, p=p if test.n > 1 else None, reason="equal")
    if test.n < 2:
        return replace(duel, reason="one training seed: nothing can be tested")
    if p is None:
        return replace(duel, reason="a distance to gold, and no noise floor to compare it with")
    if p > 1 - level:
        return replace(duel, p=p, reason=f"not significant over {test.n} training seeds")
    better = test.mean < 0
    return replace(duel, p=p, outcome="win" if better else "loss", reason="better" if better else "worse")


# Ranks


def _rankings(problems: Mapping[str, _Cells], exact: set[str], level: float) -> list[MeanRanks]:
    """Ranks by all measures that are compared with gold together, then by every measure."""
    labels = _competitors(problems, exact)
    if len(labels) < 2:
        return []
    columns = dict.fromkeys(column for cells in problems.values() for column in cells)
    overall: dict[tuple[str, Original], list[list[float]]] = {}
    single: list[MeanRanks] = []
    for column in columns:
        blocks: dict[tuple[str, Original], list[float]] = {}
        gapped = False
        for problem, cells in problems.items():
            models = {label: series for label, series in cells.get(column, {}).items() if label in labels}
            if len(models) == len(labels):
                gapped = gapped or any(series.is_gapped for series in models.values())
                blocks |= {(problem, cluster): scores for cluster, scores in _scores(models, labels).items()}
        if not blocks:
            continue
        title = f"{column[0]}, {column[1]}" if column[1] else column[0]
        single.append(_ranking(title, labels, list(blocks.values()), len({problem for problem, _ in blocks}), level))
        if gapped:
            for block, scores in blocks.items():
                overall.setdefault(block, []).append(scores)
    means = [[math.fsum(column) / len(lines) for column in zip(*map(_ranks, lines), strict=True)] for lines in overall.values()]
    if not means:
        return single
    n_problems = len({problem for problem, _ in overall})
    return [replace(_ranking("All measures compared with gold", labels, means, n_problems, level), is_overall=True), *single]


def _competitors(problems: Mapping[str, _Cells], exact: set[str]) -> list[str]:
    """Methods that every problem has, in their order; retraining itself does not compete."""
    sets = [{label for models in cells.values() for label in models} for cells in problems.values()]
    first = next(iter(problems.values()), {})
    ordered = dict.fromkeys(label for models in first.values() for label in models)
    return [label for label in ordered if label not in exact and all(label in present for present in sets)]


def _scores(models: Mapping[str, _Series], labels: Sequence[str]) -> dict[Original, list[float]]:
    """Lower is better: the gap, all within the floor being equal, or the value; infinite where a method failed."""
    some = list(models.values())
    gapped = any(series.is_gapped for series in some)
    sign = {"higher": -1.0, "lower": 1.0}.get(next((s.text("direction") for s in some if s.text("direction")), ""))
    if not gapped and sign is None:
        return {}
    found: dict[Original, list[float]] = {}
    values = {label: models[label].by_original("gap" if gapped else "value") for label in labels}
    floors: dict[Original, float] = {}
    for series in some:
        floors |= series.by_original("noise_floor")
    for cluster in dict.fromkeys(cluster for known in values.values() for cluster in known):
        line = []
        for label in labels:
            value = values[label].get(cluster)
            if value is None:
                line.append(math.inf)
            elif gapped:
                line.append(round(max(value, floors.get(cluster, 0.0)), 12))
            else:
                line.append((sign or 1.0) * value)
        found[cluster] = line
    return found


def _ranks(scores: Sequence[float]) -> list[float]:
    """Ranks of one block; ties share their mean."""
    ranks: list[float] = mean_ranks(np.array(scores)).tolist()
    return ranks


def _ranking(title: str, labels: Sequence[str], scores: Sequence[Sequence[float]], problems: int, level: float) -> MeanRanks:
    test = rank_test(scores, level=level)
    order = sorted(range(len(labels)), key=lambda i: (test.ranks[i], i))
    return MeanRanks(title, tuple(labels[i] for i in order), replace(test, ranks=tuple(test.ranks[i] for i in order)), problems)
