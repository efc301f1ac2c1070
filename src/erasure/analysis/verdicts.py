"""One verdict for each method, by one rule that everything takes its verdicts from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from erasure.analysis.families import FORGETTING, UTILITY
from erasure.analysis.findings import Finding, Repeats, Tested, TestedReport
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.judging import judge_report
from erasure.analysis.nearest import Distances
from erasure.analysis.power import LEVEL
from erasure.analysis.verdict_words import evidence
from erasure.records.rows import Row

__all__ = ["RULE", "TITLES", "Judged", "Question", "Verdict", "judge_all"]

Question: TypeAlias = Literal["forgetting", "utility"]

TITLES: Mapping[Finding, str] = {
    Finding.INDISTINGUISHABLE: "indistinguishable",
    Finding.NOT_TOLD_APART: "not told apart",
    Finding.DIFFERENT: "differs from retraining",
    Finding.UNDER_FORGOTTEN: "under-forgotten",
    Finding.OVER_FORGOTTEN: "over-forgotten",
    Finding.DAMAGED: "damaged",
    Finding.NO_OP: "changed nothing",
    Finding.UNDECIDED: "undecided",
    Finding.FAILED: "failed",
}
"""What people read."""

RULE: tuple[tuple[str, str], ...] = (
    (TITLES[Finding.FAILED], "The method stopped with an error, or none of its values could be measured."),
    (TITLES[Finding.NO_OP], "Every weight is the original's, in most of the repetitions."),
    (
        TITLES[Finding.DAMAGED],
        "In some repetition the weights or outputs are not finite, or the model predicts the retained samples no better than a constant; "
        "or the test finds it worse than retrained models on retained or unseen samples, by more than two percentage points (ten of the "
        "probability of answers), and worse than the original where that is worse than retrained models too.",
    ),
    (
        TITLES[Finding.UNDER_FORGOTTEN],
        "The test finds that it knows more of the forgotten samples than retrained models: it does better on them, or an attack or a "
        "planted trace gives them away, or the harm that they did to the original is left. Of several differences the largest one, in "
        "standard deviations of a retrained model, decides; an attack that does not tell the original from retrained models only where "
        "nothing else does.",
    ),
    (
        TITLES[Finding.OVER_FORGOTTEN],
        "The test finds that it knows less of the forgotten samples than retrained models. Unusually poor predictions can themselves "
        "reveal which samples were forgotten.",
    ),
    (
        TITLES[Finding.DIFFERENT],
        "The test finds a difference that is harmless, or has no direction: a distance of outputs cannot indicate under- or "
        "over-forgetting, nor can a measure that tells many models of a method from as many retrained ones (KLoM, ForgettingQuality).",
    ),
    (
        TITLES[Finding.UNDECIDED],
        "There is no further retrained model or no value on the forgotten samples to compare, or there are so few models that nobody "
        "could be accused: three further retrained models of one original accuse nobody, five can by a t-test, 19 without assumptions "
        "(20 more for each further method). Or a value lies far off that the t-test cannot use, because retrained models hardly differ "
        "in it.",
    ),
    (
        TITLES[Finding.INDISTINGUISHABLE],
        "No difference was found, and it is shown that there is none that matters: over three originals or more, memory left is within "
        "20 % of the original's, accuracy on retained and unseen samples is not two points worse, and the same values do tell the "
        "original, which has forgotten nothing, from retrained models.",
    ),
    (
        TITLES[Finding.NOT_TOLD_APART],
        "No difference was found, but it is not shown that there is none: the sentence states what may still be different.",
    ),
)
"""The rule in words; the first line that applies decides."""

_SEVERE = frozenset({"collapsed", "non-finite"})
_LAST: Mapping[Finding, int] = {Finding.DAMAGED: 1, Finding.NO_OP: 2, Finding.FAILED: 4}
_CLAIMS = {"forgetting": FORGETTING, "utility": frozenset(UTILITY)}


@dataclass(frozen=True)
class Verdict:
    """The verdict on a method, and what it rests on.

    Args:
        label: The method.
        finding: The verdict.
        reasons: Sentences, the deciding one first.
        tested: What the test says; None for a method that guards have judged.
        distance: Distance from retraining in standard deviations of a gold; infinite if nothing was compared.
        cost: Share of retraining's time, precomputation included; None if unknown.
        is_exact: Whether the method is retraining itself.
        n: Repetitions.
    """

    label: str
    finding: Finding
    reasons: tuple[str, ...]
    tested: Tested | None = None
    distance: float = math.inf
    cost: float | None = None
    is_exact: bool = False
    n: int = 1

    @property
    def title(self) -> str:
        """The verdict in words."""
        return TITLES[self.finding]

    def worst(self, question: Question) -> float | None:
        """Largest difference of a question, in standard deviations of a retrained model; None if nothing is compared."""
        return self.tested.farthest(_CLAIMS[question]) if self.tested is not None else None

    def by_original(self, question: Question) -> list[float]:
        """The same for each original."""
        return self.tested.farthest_by_original(_CLAIMS[question]) if self.tested is not None else []

    @property
    def rank(self) -> tuple[int, float, float]:
        """Sorts what comes nearest to retraining first; what is damaged, did nothing or failed comes last."""
        last = _LAST.get(self.finding, 3 if math.isinf(self.distance) else 0)
        return last, self.distance, self.cost if self.cost is not None else math.inf


@dataclass(frozen=True, eq=False)
class Judged:
    """All verdicts of one problem.

    Args:
        verdicts: Of every method, what comes nearest to retraining first.
        report: The tests behind them.
    """

    verdicts: tuple[Verdict, ...] = ()
    report: TestedReport = field(default_factory=lambda: TestedReport({}, 0, LEVEL))

    def of(self, label: str) -> Verdict | None:
        """The verdict on one method."""
        return next((each for each in self.verdicts if each.label == label), None)


def judge_all(
    rows: Iterable[Row],
    roles: RolePartitions,
    costs: Mapping[str, float | None] = {},
    exact: Iterable[str] = (),
    *,
    failed: Mapping[str, str] = {},
    golds: Mapping[str, str] = {},
    level: float = LEVEL,
    repeats: Repeats = Repeats.SEEDS,
) -> Judged:
    """Judge every method of one problem.

    Args:
        rows: Rows of all models, those of further golds among them.
        roles: What the partitions are.
        costs: Share of retraining's time by label.
        exact: Labels of methods that are retraining.
        failed: Reasons by label of methods that have left no row.
        golds: Where models are compared with several golds, the label of each method's gold, and of each original's.
        level: Share of reports in which a retrained method may be accused.
        repeats: How more originals are had, for remedies.
    """
    rows = list(rows)
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        if row.model_role == "unlearned":
            by_label.setdefault(row.label, []).append(row)
    guarded = {label: _guarded(own) for label, own in by_label.items()}
    decided = {label for label, (verdict, _) in guarded.items() if verdict in {Finding.FAILED, Finding.NO_OP}}
    retraining = set(exact)
    report = _report(rows, roles, retraining, decided, golds, level, repeats)
    found = [
        _judgement(label, guarded[label], report, cost=costs.get(label), is_exact=label in retraining, n=_repetitions(own))
        for label, own in by_label.items()
    ]
    found += [
        Verdict(label, Finding.FAILED, (reason,), is_exact=label in retraining)
        for label, reason in failed.items()
        if label not in by_label
    ]
    return Judged(tuple(sorted(found, key=lambda each: each.rank)), report)


def _report(
    rows: Sequence[Row],
    roles: RolePartitions,
    exact: set[str],
    excluded: set[str],
    golds: Mapping[str, str],
    level: float,
    repeats: Repeats,
) -> TestedReport:
    """The tests; of models that were retrained on different samples each group by itself, sharing the level."""
    groups = list(dict.fromkeys(golds.values()))
    if len(groups) < 2:
        return judge_report(rows, roles, exact=exact, excluded=excluded, level=level, repeats=repeats)
    parts = [
        judge_report(
            [row for row in rows if (golds.get(row.label) or row.label) == group],
            roles,
            exact=exact,
            excluded=excluded,
            level=level / len(groups),
            repeats=repeats,
        )
        for group in groups
    ]
    # There was something to forget where the original of one of the groups is told from its golds, or cannot be judged. Elsewhere, as
    # beside a gold that is trained on all samples, whatever changes nothing is near: it is not compared with the others.
    telling = [Finding.UNDER_FORGOTTEN, Finding.UNDECIDED]
    ordered = sorted(
        (part for part in parts if part.control is not None),
        key=lambda part: (
            telling.index(part.control.finding) if part.control and part.control.finding in telling else len(telling)
        ),
    )
    told = [part for part in ordered if part.control is not None and part.control.finding in telling]
    logs = {label: each for part in reversed(told or parts) for label, each in part.distances.logs.items()}
    detections = [part.detection for part in parts if part.detection is not None]
    return TestedReport(
        {label: tested for part in parts for label, tested in part.methods.items()},
        sum(part.n_tested for part in parts),
        level / len(groups),
        ordered[0].control if ordered else None,
        Distances(logs),
        max(detections, key=lambda each: each.shift, default=None),
        list(dict.fromkeys(notice for part in parts for notice in part.notices)),
    )


def _judgement(
    label: str,
    guarded: tuple[Finding | None, tuple[str, ...]],
    report: TestedReport,
    *,
    cost: float | None,
    is_exact: bool,
    n: int,
) -> Verdict:
    verdict, said = guarded
    tested = report.methods.get(label)
    distance = report.distances.of(label)
    if verdict is not None or tested is None:
        return Verdict(label, verdict or Finding.UNDECIDED, said, tested, distance, cost, is_exact, n)
    return Verdict(label, tested.finding, (*evidence(tested, report), *said), tested, distance, cost, is_exact, n)


def _repetitions(rows: Sequence[Row]) -> int:
    return len({(row.seed_split, row.seed_train, row.seed_unlearn) for row in rows})


def _guarded(rows: Sequence[Row]) -> tuple[Finding | None, tuple[str, ...]]:
    """What guards say of a method, and everything about it that a reader must know."""
    n = _repetitions(rows)
    failures = list(dict.fromkeys(row.reason for row in rows if row.status == "failed" and row.reason))
    n_failed = _repetitions([row for row in rows if row.status == "failed"])
    times = f" in {n_failed} of {n} repetitions" if n > 1 else ""
    some = (f"Not everything could be measured{times}: {failures[0].rstrip('.')}.",) if failures else ()
    if all(row.value is None for row in rows):
        reason = failures[0] if failures else next((row.reason for row in rows if row.reason), "no value could be measured")
        return Finding.FAILED, (reason,)
    said, is_usual = _guard(rows, n, {"no-op"})
    if is_usual:
        return Finding.NO_OP, (said, *some)
    some = (*filter(None, [said]), *some)
    said, _ = _guard(rows, n, _SEVERE)
    return (Finding.DAMAGED, (said, *some)) if said else (None, some)


def _guard(rows: Sequence[Row], n: int, wanted: Collection[str]) -> tuple[str, bool]:
    """What a guard found in words, and whether it did in most repetitions."""
    found = [row for row in rows if row.status in wanted]
    if not found:
        return "", False
    n_found = _repetitions(found)
    reason = (found[0].reason or found[0].status).rstrip(".")
    times = f" (in {n_found} of {n} repetitions)" if n_found < n else ""
    return f"{reason[:1].upper()}{reason[1:]}{times}.", 2 * n_found > n
