"""One verdict for each method, by one rule that a reader can check."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from erasure.store.rows import Row

__all__ = [
    "RULE",
    "TITLES",
    "Comparison",
    "Judgement",
    "Roles",
    "Verdict",
    "comparisons",
    "is_attack",
    "judge_all",
    "number",
    "recommend",
]

Verdict: TypeAlias = Literal[
    "indistinguishable", "close", "under-forgotten", "over-forgotten", "damaged", "no-op", "failed", "undecided"
]
Question: TypeAlias = Literal["forgetting", "utility", "other"]

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
    ("changed nothing", "Every weight is the original's."),
    (
        "damaged",
        "The weights or outputs are not finite, or the model predicts the retained samples no better than a constant, or it is worse "
        "than the retrained model on retained or held-out samples by more than three noise floors and by more than two percentage points.",
    ),
    (
        "over-forgotten",
        "It does worse on the forgotten samples than the retrained model, by more than the noise floor. Doing conspicuously badly can "
        "itself betray which samples were forgotten.",
    ),
    (
        "under-forgotten",
        "It does better on the forgotten samples than the retrained model, or an attack that looks for traces of them succeeds more "
        "often than on the retrained model, by more than the noise floor. Attacks no better than a coin count as a coin.",
    ),
    ("undecided", "There is no retrained model, no noise floor, or no value on the forgotten samples to compare."),
    (
        "close to retraining",
        "Nothing of the above, but some value differs from the retrained model's by more than the noise floor.",
    ),
    (
        "indistinguishable",
        "Every value on forgotten, retained and held-out samples is within the noise floor of the retrained model's. "
        "A floor is never taken to be smaller than one sample; over several repetitions, distances and floors are averaged.",
    ),
)
"""The rule in words; the first line that applies decides, and over- against under-forgotten the larger difference."""

_ATTACK = re.compile(r"(?<![a-z])(?:u?mia|r?lira|rmia)(?![a-z])|attack(?!\s*success)|membership|leakage", re.IGNORECASE)
_SHARE_DAMAGE = 0.02
_DAMAGE_FLOORS = 3.0
_SLIGHT_FLOORS = 2.0
_EPSILON = 1e-9
_FEW = 3
"""Pieces of evidence that are spelled out; the table has all of them."""
_FAR = 1e3
"""Ratio of a gap to a floor of zero."""
_SEVERE = frozenset({"collapsed", "non-finite"})


@dataclass(frozen=True)
class Roles:
    """Names of the partitions that were forgotten, kept, and never seen, and their sizes where known."""

    forget: frozenset[str] = frozenset({"forget"})
    retain: frozenset[str] = frozenset({"retain"})
    test: frozenset[str] = frozenset({"test"})
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One measure of a method against gold, over all repetitions.

    Args:
        measure: The measure.
        partition: What it was measured on.
        question: What it tells about.
        value: Mean value.
        gold: Mean value of gold.
        gap: Distance of the two, that of attacks after counting values below chance as chance; the mean over repetitions, so that a
            method that does too well with one seed and too badly with another is not taken for gold.
        signed: The same with a sign: positive where the method does better (or is easier attacked) than gold; None if unknown
            or neither on average.
        floor: Mean noise floor, or None.
        unit: Unit of the values.
        is_attack: Whether it is an attack's success.
        samples: What the partition holds, in words.
        is_scattered: Whether it is only seed by seed that the two differ by more than the floor, and not on average.
    """

    measure: str
    partition: str
    question: Question
    value: float
    gold: float
    gap: float
    signed: float | None
    floor: float | None
    unit: str = ""
    is_attack: bool = False
    samples: str = ""
    is_scattered: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the gap is not larger than the noise floor."""
        return self.floor is not None and self.gap <= self.floor + _EPSILON

    @property
    def ratio(self) -> float:
        """Gap in noise floors; 0 if there is no gap, and large where the floor is 0."""
        if self.gap <= _EPSILON:
            return 0.0
        return min(self.gap / self.floor, _FAR) if self.floor else _FAR


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


def comparisons(rows: Iterable[Row], roles: Roles) -> tuple[Comparison, ...]:
    """What a method's rows say against gold, one for each measure and partition.

    Retrained models may agree exactly; a floor of an accuracy is therefore never below one sample, where the sizes are known.
    """
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.value is not None and row.gold is not None and row.gap is not None:
            cells.setdefault((row.measure, row.partition), []).append(row)
    return tuple(_comparison(measure, partition, cell, roles) for (measure, partition), cell in cells.items())


def _comparison(measure: str, partition: str, cell: Sequence[Row], roles: Roles) -> Comparison:
    pairs = [(row.value, row.gold) for row in cell if row.value is not None and row.gold is not None]
    value, gold = (_mean(part) for part in zip(*pairs, strict=True))
    floors = [row.floor for row in cell if row.floor is not None]
    floor = _mean(floors) if floors else None
    attack = is_attack(measure) and (not partition or partition in roles.forget)
    counted = attack and cell[0].unit == ""
    if floor is not None and (counted or measure.casefold().startswith("accuracy")) and roles.sizes.get(partition):
        floor = max(floor, 1 / roles.sizes[partition])
    question: Question = "other"
    if partition in roles.forget or attack:
        question = "forgetting"
    elif partition in roles.retain or partition in roles.test:
        question = "utility"
    if counted and all(0 <= v <= 1 for pair in pairs for v in pair) and _has_chance(measure):
        pairs = [(max(found, 0.5), max(reference, 0.5)) for found, reference in pairs]
    differences = [found - reference for found, reference in pairs]
    gap, difference = _mean([abs(each) for each in differences]), _mean(differences)
    sign = 1 if attack else {"higher": 1, "lower": -1}.get(cell[0].direction, 0)
    is_scattered = floor is not None and abs(difference) <= floor + _EPSILON < gap
    return Comparison(
        measure=measure,
        partition=partition,
        question=question,
        value=value,
        gold=gold,
        gap=gap,
        signed=sign * difference if sign and not is_scattered else None,
        floor=floor,
        unit=cell[0].unit,
        is_attack=attack,
        samples=_samples(partition, roles),
        is_scattered=is_scattered,
    )


@functools.cache
def is_attack(measure: str) -> bool:
    """Whether a measure's name is that of an attack's success."""
    return bool(_ATTACK.search(measure))


def _samples(partition: str, roles: Roles) -> str:
    if partition in roles.forget:
        return "forgotten"
    return "retained" if partition in roles.retain else "unseen" if partition in roles.test else ""


@functools.cache
def _has_chance(measure: str) -> bool:
    """Whether one half is what a coin would reach: an accuracy or an area, not a rate at a fixed false-positive rate."""
    return not re.search(r"tpr|advantage|@", measure, re.IGNORECASE)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


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
    guard = _guard(rows, n, {"no-op"})
    if guard:
        return judged("no-op", guard, *some)
    guard = _guard(rows, n, _SEVERE)
    if guard:
        return judged("damaged", guard, *some)
    utility = [c for c in compared if c.question == "utility"]
    broken = [c for c in utility if _is_damage(c)]
    if broken:
        return judged("damaged", *_sentences(_worst_first(broken)), *some)
    guard = _guard(rows, n, {"over-forgotten"})
    if guard:
        return judged("over-forgotten", guard, *some)
    forgetting = [c for c in compared if c.question == "forgetting" and c.floor is not None]
    if not forgetting:
        what = "no value on the forgotten samples" if not any(c.question == "forgetting" for c in compared) else "no noise floor"
        if not compared:
            what = "no retrained model to compare with"
        return judged("undecided", f"There is {what}.", *some)
    outside = _worst_first(c for c in forgetting if not c.is_within)
    sided = [c for c in outside if c.signed is not None]
    if sided:
        verdict: Verdict = "under-forgotten" if (sided[0].signed or 0) > 0 else "over-forgotten"
        slight = sided[0].ratio <= _SLIGHT_FLOORS
        agreeing = [c for c in sided if ((c.signed or 0) > 0) == ((sided[0].signed or 0) > 0)]
        return judged(verdict, *_sentences(agreeing), *(_loss(utility)), *some, is_slight=slight)
    apart = outside + _worst_first(c for c in utility if c.floor is not None and not c.is_within)
    if apart:
        average = "On average as" if any(c.is_scattered for c in outside) else "As"
        return judged("close", f"{average} good as retraining on the forgotten samples.", *_sentences(apart), *some)
    within = _listed([*forgetting, *(c for c in utility if c.floor is not None)])
    return judged("indistinguishable", f"No difference beyond the noise floor in {within}.", *some)


def _listed(compared: Iterable[Comparison]) -> str:
    """Measures in words, each with all that it was measured on."""
    measured: dict[str, list[str]] = {}
    for c in compared:
        measured.setdefault(c.measure, []).append(c.samples or c.partition)
    parts = []
    for measure, where in measured.items():
        on = _and([each for each in dict.fromkeys(where) if each])
        parts.append(f"{measure} on {on} samples" if on else measure)
    more = len(parts) - _FEW
    return _and(parts if more <= 0 else [*parts[:_FEW], f"{more} further {'measure' if more == 1 else 'measures'}"])


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _guard(rows: Sequence[Row], n: int, wanted: Iterable[str]) -> str:
    found = [row for row in rows if row.status in set(wanted)]
    if not found:
        return ""
    n_found = len({(row.seed_split, row.seed_train, row.seed_unlearn) for row in found})
    reason = (found[0].reason or found[0].status).rstrip(".")
    times = f" (in {n_found} of {n} repetitions)" if n_found < n else ""
    return f"{reason[:1].upper()}{reason[1:]}{times}."


def _is_damage(c: Comparison) -> bool:
    if c.signed is None or c.signed >= 0 or c.floor is None:
        return False
    least = {"": _SHARE_DAMAGE, "%": 100 * _SHARE_DAMAGE, "pp": 100 * _SHARE_DAMAGE}.get(c.unit, 0.0)
    return c.gap > max(_DAMAGE_FLOORS * c.floor, least) + _EPSILON


def _worst_first(compared: Iterable[Comparison]) -> list[Comparison]:
    return sorted(compared, key=lambda c: -c.ratio)


def _loss(utility: Iterable[Comparison]) -> tuple[str, ...]:
    lost = _worst_first(c for c in utility if c.signed is not None and c.signed < 0 and c.floor is not None and not c.is_within)
    return tuple(_sentence(c) for c in lost[:1])


def _sentences(compared: Sequence[Comparison]) -> tuple[str, ...]:
    """The first few in words, of each attack the one that tells most, and how many more there are."""
    firsts: dict[str, Comparison] = {}
    for c in compared:
        firsts.setdefault(c.measure.split()[0] if c.is_attack else _name(c), c)
    shown = list(firsts.values())[:_FEW]
    more = len(compared) - len(shown)
    rest = (
        (f"{more} further {'value differs' if more == 1 else 'values differ'} by more than the noise floor.",) if more > 0 else ()
    )
    return (*(_sentence(c) for c in shown), *rest)


def _name(c: Comparison) -> str:
    return f"{c.measure} on {c.partition}" if c.partition else c.measure


def _sentence(c: Comparison) -> str:
    """The two values in words: shares of right answers and attacks as a layman would say them."""
    if c.is_attack:
        return _attack_sentence(c)
    if c.samples and c.unit == "" and c.measure.casefold().startswith("accuracy"):
        floor = f"\u00a0±\u00a0{100 * c.floor:.1f}" if c.floor is not None else ""
        value, gold = f"{100 * c.value:.1f}\u00a0%", f"{100 * c.gold:.1f}{floor}\u00a0%"
        if c.is_scattered:
            return (
                f"{value} right on {c.samples} samples on average, a retrained model {gold}; seed by seed they are "
                f"{100 * c.gap:.1f} points apart."
            )
        return f"{value} right on {c.samples} samples; a retrained model {gold}."
    floor = f" ± {number(c.floor, c.unit)}" if c.floor is not None else ""
    apart = f"; seed by seed they are {number(c.gap, c.unit)} apart" if c.is_scattered else ""
    return f"{_name(c)} is {number(c.value, c.unit)}; retraining has {number(c.gold, c.unit)}{floor}{apart}."


def _attack_sentence(c: Comparison) -> str:
    """What an attack reaches: a share of the forgotten samples, of pairs, or a number of its own."""
    if c.unit or min(c.value, c.gold) < 0 or max(c.value, c.gold) > 1:
        floor = f" ± {number(c.floor, c.unit)}" if c.floor is not None else ""
        return (
            f"An attack that looks for traces ({c.measure}) reaches {number(c.value, c.unit)}; on a retrained model "
            f"{number(c.gold, c.unit)}{floor}."
        )
    floor = f"\u00a0±\u00a0{100 * c.floor:.1f}" if c.floor is not None else ""
    value, gold = f"{100 * c.value:.1f}\u00a0%", f"{100 * c.gold:.1f}{floor}\u00a0%"
    attack, _, rate = c.measure.partition(" TPR at ")
    if rate:
        alarms = rate.removesuffix(" FPR").replace("%", "\u00a0%")
        return (
            f"An attack ({attack}) finds {value} of the forgotten samples at {alarms} false alarms; on a retrained model {gold}."
        )
    pairs = " of pairs" if attack.endswith("AUC") else ""
    return f"An attack that looks for traces ({c.measure}) is right in {value}{pairs}; on a retrained model in {gold}."


def number(value: float, unit: str = "") -> str:
    """A value to three digits, with its unit."""
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if value and abs(value) < 0.0005:
        text = f"{value:.1e}"
    return f"{text} {unit}".rstrip()


def recommend(judgements: Sequence[Judgement], *, has_gold: bool = True) -> tuple[str, Judgement | None]:
    """What to do, in sentences for somebody who never heard of unlearning, and the method it names."""
    if not has_gold:
        return (
            "There is no retrained model in this run, so nobody can say which method forgets best. Add a partition to retrain on.",
            None,
        )
    candidates = sorted((j for j in judgements if not j.is_exact), key=lambda j: j.rank)
    if not candidates:
        return "No method was tried beside retraining itself.", None
    best = candidates[0]
    if best.verdict in {"indistinguishable", "close"}:
        equal = [j for j in candidates if j.verdict == best.verdict == "indistinguishable" and j.cost is not None]
        best = min(equal, key=lambda j: (j.cost or 0.0, j.distance)) if equal else best
        how = "cannot be told from" if best.verdict == "indistinguishable" else "is closest to"
        among = f" and is the cheapest of the {len(equal)} that do so" if len(equal) > 1 else ""
        return f"Use {best.label}: its model {how} one retrained without the forgotten data{_at_cost(best)}{among}.", best
    if best.verdict in {"under-forgotten", "over-forgotten"}:
        more = "still knows more" if best.verdict == "under-forgotten" else "knows less"
        degree = "a little" if best.is_slight else "clearly"
        return (
            f"No method here forgets exactly as retraining does. {best.label} is the closest{_at_cost(best)}, but its model "
            f"{degree} {more} about the forgotten data than a retrained one would. Where that is not acceptable, retrain.",
            best,
        )
    return "No method here gives a usable model that has forgotten. Retrain without the data to be forgotten.", None


def _at_cost(judgement: Judgement) -> str:
    if judgement.cost is None:
        return ""
    percent = 100 * judgement.cost
    text = f"{percent:.0f}\u00a0%" if percent >= 2 else f"{percent:.1g}\u00a0%"
    return f", at {text} of the time that retraining takes"
