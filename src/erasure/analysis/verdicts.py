"""One verdict for each method, by one rule that a reader can check."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from erasure.analysis.gaps import EPSILON, Comparison, Question, Roles, comparisons
from erasure.analysis.verdict_words import listed, sentence, sentences
from erasure.records.rows import Row

__all__ = ["RULE", "TITLES", "Judgement", "Verdict", "judge_all"]

Verdict: TypeAlias = Literal[
    "indistinguishable", "close", "under-forgotten", "over-forgotten", "damaged", "no-op", "failed", "undecided"
]

TITLES: Mapping[str, str] = {
    "indistinguishable": "indistinguishable",
    "close": "close to retraining",
    "under-forgotten": "under-forgotten",
    "over-forgotten": "over-forgotten",
    "damaged": "damaged",
    "no-op": "changed nothing",
    "failed": "failed",
    "undecided": "undecided",
}
"""What people read, best first."""

_ORDER: tuple[Verdict, ...] = (
    "indistinguishable",
    "close",
    "under-forgotten",
    "over-forgotten",
    "damaged",
    "no-op",
    "undecided",
    "failed",
)

RULE: tuple[tuple[str, str], ...] = (
    ("failed", "The method stopped with an error, or none of its values could be measured."),
    ("changed nothing", "Every weight is the original's, in most of the repetitions."),
    (
        "damaged",
        "In some repetition the weights or outputs are not finite, or the model predicts the retained samples no better than a constant; "
        "or it is worse than the retrained model on retained or held-out samples by more than three noise floors and by more than two "
        "percentage points.",
    ),
    (
        "over-forgotten",
        "It does worse on the forgotten samples than the retrained model, by more than the noise floor. Doing conspicuously badly can "
        "itself betray which samples were forgotten.",
    ),
    (
        "under-forgotten",
        "It does better on the forgotten samples than the retrained model, or an attack that looks for traces of them succeeds more "
        "often than on the retrained model, or a backdoor or a confusion that they planted is there more often, by more than the noise "
        "floor. Attacks no better than guessing count as guessing.",
    ),
    ("undecided", "There is no retrained model, no noise floor, or no value on the forgotten samples to compare."),
    (
        "close to retraining",
        "Nothing of the above, but some value differs from the retrained model's by more than the noise floor. A distance of outputs from "
        "the retrained model's has no side: by itself it tells neither under- nor over-forgetting.",
    ),
    (
        "indistinguishable",
        "Every value on forgotten, retained and held-out samples is within the noise floor of the retrained model's. "
        "A floor is never taken to be smaller than one sample; over several repetitions, distances and floors are averaged. Of k further "
        "golds and a model that is retrained too, each is as likely the farthest from gold: with one further gold such a model is within "
        "the floor of one value every other time, with three in three of four. Of many values some are then beyond it by chance: the more "
        "are compared, the more golds and repetitions it takes to accuse a method.",
    ),
)
"""The rule in words; the first line that applies decides, and over- against under-forgotten the larger difference."""

_SHARE_DAMAGE = 0.02
_DAMAGE_FLOORS = 3.0
_SLIGHT_FLOORS = 2.0
_SEVERE = frozenset({"collapsed", "non-finite"})


@dataclass(frozen=True)
class Judgement:
    """The verdict on a method, and what it rests on.

    Args:
        label: The method.
        verdict: The verdict.
        evidence: Sentences, the deciding one first.
        comparisons: Everything compared with gold.
        is_slight: Whether the deciding gap is within two noise floors.
        cost: Share of retraining's time, precomputation included; None if unknown.
        is_exact: Whether the method is retraining itself.
        n: Repetitions.
    """

    label: str
    verdict: Verdict
    evidence: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()
    is_slight: bool = False
    cost: float | None = None
    is_exact: bool = False
    n: int = 1

    @property
    def title(self) -> str:
        """The verdict in words."""
        slight = "slightly " if self.is_slight and self.verdict in {"under-forgotten", "over-forgotten"} else ""
        return slight + TITLES[self.verdict]

    def worst(self, question: Question) -> float | None:
        """Largest gap of a question, in noise floors."""
        return self._worst.get(question)

    @functools.cached_property
    def _worst(self) -> Mapping[Question, float]:
        found: dict[Question, float] = {}
        for c in self.comparisons:
            if c.floor is not None:
                found[c.question] = max(found.get(c.question, 0.0), c.ratio)
        return found

    @property
    def distance(self) -> float:
        """Largest gap on forgotten, retained and held-out samples, in noise floors; infinite if nothing was compared."""
        worst = [w for w in (self.worst("forgetting"), self.worst("utility")) if w is not None]
        return max(worst, default=math.inf)

    @property
    def mean_gap(self) -> float:
        """Mean gap of the shares (accuracies, attacks) on forgotten samples; infinite if nothing was compared.

        Methods of one verdict are sorted by it: in noise floors, a floor that happens to be small would decide alone.
        """
        gaps = [c.gap for c in self.comparisons if c.question == "forgetting" and c.unit == ""]
        return math.fsum(gaps) / len(gaps) if gaps else self.distance

    @property
    def rank(self) -> tuple[int, float, float]:
        """Sorts the best first."""
        return _ORDER.index(self.verdict), self.mean_gap, self.cost if self.cost is not None else math.inf


def judge_all(rows: Iterable[Row], roles: Roles, costs: Mapping[str, float | None], exact: Iterable[str] = ()) -> list[Judgement]:
    """The verdict on every method, in the order of the rows.

    Args:
        rows: Rows of all models.
        roles: What the partitions are.
        costs: Share of retraining's time of each label, where known.
        exact: Labels of methods that retrain.
    """
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        if row.model == "unlearned":
            by_label.setdefault(row.label, []).append(row)
    retraining = set(exact)
    return [
        _judge(label, own, comparisons(own, roles), cost=costs.get(label), is_exact=label in retraining)
        for label, own in by_label.items()
    ]


def _judge(label: str, rows: Sequence[Row], compared: tuple[Comparison, ...], *, cost: float | None, is_exact: bool) -> Judgement:
    n = len({(row.seed_split, row.seed_train, row.seed_unlearn) for row in rows})

    def judged(verdict: Verdict, *evidence: str, is_slight: bool = False) -> Judgement:
        return Judgement(label, verdict, tuple(evidence), compared, is_slight, cost, is_exact, n)

    valued = [row for row in rows if row.value is not None]
    failures = list(dict.fromkeys(row.reason for row in rows if row.status == "failed" and row.reason))
    some = (f"Not everything could be measured: {failures[0]}",) if failures else ()
    if not valued:
        return judged(
            "failed", failures[0] if failures else next((r.reason for r in rows if r.reason), "no value could be measured")
        )
    guard, is_usual = _guard(rows, n, {"no-op"})
    if is_usual:
        return judged("no-op", guard, *some)
    some = (*filter(None, [guard]), *some)
    guard, _ = _guard(rows, n, _SEVERE)
    if guard:
        return judged("damaged", guard, *some)
    utility = [c for c in compared if c.question == "utility"]
    broken = [c for c in utility if _is_damage(c)]
    if broken:
        return judged("damaged", *sentences(worst_first(broken)), *some)
    guard, is_usual = _guard(rows, n, {"over-forgotten"})
    if is_usual:
        return judged("over-forgotten", guard, *some)
    some = (*filter(None, [guard]), *some)
    forgetting = [c for c in compared if c.question == "forgetting" and c.floor is not None]
    if not forgetting:
        what = "no value on the forgotten samples" if not any(c.question == "forgetting" for c in compared) else "no noise floor"
        if not compared:
            what = "no retrained model to compare with"
        return judged("undecided", f"There is {what}.", *some)
    outside = worst_first(c for c in forgetting if not c.is_within)
    sided = [c for c in outside if c.signed is not None]
    if sided:
        verdict: Verdict = "under-forgotten" if (sided[0].signed or 0) > 0 else "over-forgotten"
        slight = sided[0].ratio <= _SLIGHT_FLOORS
        agreeing = [c for c in sided if ((c.signed or 0) > 0) == ((sided[0].signed or 0) > 0)]
        return judged(verdict, *sentences(agreeing), *(_loss(utility)), *some, is_slight=slight)
    apart = outside + worst_first(c for c in utility if c.floor is not None and not c.is_within)
    if apart:
        average = "On average as" if any(c.is_scattered for c in outside) else "As"
        said = f"{average} good as retraining on the forgotten samples."
        if not all(c.is_scattered for c in outside):
            said = "It differs from retraining on the forgotten samples, and no accuracy or attack says in which direction."
        return judged("close", said, *sentences(apart), *some)
    within = listed([*forgetting, *(c for c in utility if c.floor is not None)])
    return judged("indistinguishable", f"No difference beyond the noise floor in {within}.", *some)


def _guard(rows: Sequence[Row], n: int, wanted: Iterable[str]) -> tuple[str, bool]:
    """What a guard found in words, and whether it did in most repetitions."""
    found = [row for row in rows if row.status in set(wanted)]
    if not found:
        return "", False
    n_found = len({(row.seed_split, row.seed_train, row.seed_unlearn) for row in found})
    reason = (found[0].reason or found[0].status).rstrip(".")
    times = f" (in {n_found} of {n} repetitions)" if n_found < n else ""
    return f"{reason[:1].upper()}{reason[1:]}{times}.", 2 * n_found > n


def _is_damage(c: Comparison) -> bool:
    if c.signed is None or c.signed >= 0 or c.floor is None:
        return False
    least = {"": _SHARE_DAMAGE, "%": 100 * _SHARE_DAMAGE, "pp": 100 * _SHARE_DAMAGE}.get(c.unit, 0.0)
    return c.gap > max(_DAMAGE_FLOORS * c.floor, least) + EPSILON


def worst_first(compared: Iterable[Comparison]) -> list[Comparison]:
    return sorted(compared, key=lambda c: -c.ratio)


def _loss(utility: Iterable[Comparison]) -> tuple[str, ...]:
    lost = worst_first(c for c in utility if c.signed is not None and c.signed < 0 and c.floor is not None and not c.is_within)
    return tuple(sentence(c) for c in lost[:1])
