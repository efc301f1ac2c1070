"""What a deletion request will take: which models are trained, which methods are tried, and their price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from erasure.accounting.guarantee import Guarantee
from erasure.unlearners.contract import Unlearner

__all__ = ["NOTHING_TO_PREPARE", "DeletionPlan", "OfferedMethod", "PlannedModels", "StepPrices"]

NOTHING_TO_PREPARE = "Nothing has to be prepared: the answer is exact or certified by proof, and compared with nothing."

_SHOWN_S = 0.1
"""Seconds below which a plan names no number."""


@dataclass(frozen=True)
class OfferedMethod:
    """A method that may be tried.

    Args:
        label: What it is called.
        unlearner: The method.
        seconds: What one application takes, predicted.
        refusal: Why it is not tried; empty if it may be.
        promise: What it guaranteed in the trial.
        is_proof: Whether that is evidence enough, so that nothing has to be trained to judge it.
        is_tried: Whether it was tried already on the model that serves to choose.
    """

    label: str
    unlearner: Unlearner
    seconds: float
    refusal: str = ""
    promise: Guarantee = Guarantee()  # noqa: RUF009 - it is frozen
    is_proof: bool = False
    is_tried: bool = False


@dataclass(frozen=True)
class PlannedModels:
    """Models of one kind that evidence rests on.

    Args:
        name: What they are.
        n: How many.
        n_cached: How many of them are trained already.
    """

    name: str
    n: int
    n_cached: int


@dataclass(frozen=True, kw_only=True)
class StepPrices:
    """Seconds of what is done beside training and unlearning; see :class:`~erasure.workflows.deletion_price.Rehearsal`.

    Args:
        pass_s: A pass of one model over everything that is measured.
        judging_s: Measures and attacks on one model, without the pass.
        report_s: Verdict, stored rows and report.
        answer_s: Saved model, page, ledger and certificate.
        planning_s: Looking up what is there, and choosing from it.
        start_s: What a new process takes more, until everything is loaded that the others use.
    """

    pass_s: float = 0.0
    judging_s: float = 0.0
    report_s: float = 0.0
    answer_s: float = 0.0
    planning_s: float = 0.0
    start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DeletionPlan:
    """What a request will take.

    Args:
        n_forget: Samples to forget.
        n_train: Samples that the model was trained on.
        models: Models to train for evidence.
        candidates: Methods to try, the cheapest first.
        n_confirmed: Models that the best method is applied to, on seeds that did not choose it.
        n_attempts: Methods that are confirmed in turn until one holds; the price is that of one.
        chosen: The best method, where that is known already.
        n_applied: To how many of these models it was applied already.
        retraining_s: Seconds of one retraining.
        steps: Seconds of measuring, judging and publishing.
        price_per_hour: What an hour costs.
        already: Number of the request that has answered this one; 0 if none has.
        way: What is done where no method is to be chosen, such as for estimators; empty otherwise.
        way_s: Seconds of that; None where nobody has timed it.
        note: A last sentence; empty if there is nothing to add.
    """

    n_forget: int
    n_train: int
    models: Sequence[PlannedModels] = ()
    candidates: Sequence[OfferedMethod] = ()
    n_confirmed: int = 0
    n_attempts: int = 1
    chosen: OfferedMethod | None = None
    n_applied: int = 0
    retraining_s: float = 0.0
    steps: StepPrices = StepPrices()
    price_per_hour: float = 0.0
    already: int = 0
    way: str = ""
    way_s: float | None = None
    note: str = ""

    @property
    def training_s(self) -> float:
        """Seconds of the models that are not trained yet and that evidence rests on."""
        return self.retraining_s * sum(each.n - each.n_cached for each in self.models)

    @property
    def tried(self) -> Sequence[OfferedMethod]:
        """Methods that are not refused."""
        return [each for each in self.candidates if not each.refusal]

    @property
    def proving(self) -> Sequence[OfferedMethod]:
        """Methods that are not refused and whose guarantee is the evidence."""
        return [each for each in self.tried if each.is_proof]

    @property
    def untried(self) -> Sequence[OfferedMethod]:
        """Methods that are still to be applied to the model that serves to choose."""
        return [] if self.chosen is not None else [each for each in self.tried if not each.is_tried]

    @property
    def n_left(self) -> int:
        """Models that the best method is still to be applied to."""
        return self.n_confirmed - self.n_applied

    def price_of(self, method: OfferedMethod) -> float:
        """Seconds of trying a method, if it was not tried, and of confirming it, if it is the best."""
        return method.seconds * (self.n_left + (self.chosen is None and not method.is_tried))

    @property
    def n_measured(self) -> int:
        """Models that are still to be measured; what those said that are there already is in the store."""
        if self.proving or not self.tried:
            return 2
        return self.n_confirmed + len(self.tried) + sum(each.n - each.n_cached for each in self.models)

    @property
    def measuring_s(self) -> float:
        """Seconds of asking models for their answers, and of measures and attacks on these."""
        known = self.n_applied + len(self.tried) - len(self.untried) if not self.proving else 0
        return self.steps.pass_s * max(1, self.n_measured - known) + self.steps.judging_s * self.n_measured

    @property
    def evidence_s(self) -> float:
        """Seconds of looking up and measuring, of verdict and report, and of page, ledger and certificate."""
        return self.steps.planning_s + self.measuring_s + self.steps.report_s + self.steps.answer_s

    @property
    def unlearning_s(self) -> float:
        """Seconds of the cheapest method with a proof; else of trying every method once and confirming the costliest of them."""
        if self.way:
            return self.way_s or 0.0
        if self.proving:
            return self.proving[0].seconds
        best = [self.chosen] if self.chosen is not None else self.tried
        return sum(each.seconds for each in self.untried) + self.n_left * max((each.seconds for each in best), default=0.0)

    @property
    def total_s(self) -> float:
        """Seconds of the whole, if the method with a proof does what it promises or another is confirmed; else one more retraining."""
        if self.way:
            return self.unlearning_s + self.evidence_s
        if not self.tried:
            return 0.0 if self.already else self.retraining_s + self.evidence_s
        training = 0.0 if self.proving else self.training_s
        return 0.0 if self.already else training + self.unlearning_s + self.evidence_s

    def __str__(self) -> str:
        if self.already:
            return f"Nothing is to be done: request {self.already} has answered this one."
        lines = [f"{self.n_forget:,} of {self.n_train:,} training samples are to be forgotten."]
        if self.way:
            return "\n".join([*lines, *self._by_one_way(), *self._noted()])
        if self.retraining_s:
            lines.append(f"One retraining takes {_time(self.retraining_s)}.")
        lines += self._by_proof() if self.proving else self._by_comparison()
        share = f" ({self.total_s / self.retraining_s:.2g} retrainings)" if self.retraining_s else ""
        money = f", {self.price_per_hour * self.total_s / 3600:.2f} in money" if self.price_per_hour else ""
        training = f"{_time(self.training_s)} for models that evidence rests on, " if self.tried and not self.proving else ""
        again = not self.tried and self.retraining_s > 0
        making = f"{_time(self.retraining_s)} for retraining" if again else f"{_time(self.unlearning_s)} for unlearning"
        steps = self.steps
        measuring = f"{_time(self.measuring_s)} for measures and attacks"
        evidence = f"{_time(steps.planning_s)} for finding what is there, {measuring}, {_time(steps.report_s)} for the report"
        lines.append(
            f"In all {_time(self.total_s)}{share}{money}: {training}{making}, {evidence}, {_time(steps.answer_s)} for page, ledger and "
            "certificate."
        )
        if steps.start_s:
            lines.append(f"A new process takes {_time(steps.start_s)} more, until libraries are loaded.")
        if self.tried and not self.proving:
            if self.n_attempts > 1:
                lines.append(
                    f"Where the best is refused, up to {self.n_attempts - 1} more are confirmed, each for about as much unlearning."
                )
            lines.append("If no method is good enough, one more retraining.")
        return "\n".join([*lines, *self._noted()])

    def _noted(self) -> list[str]:
        return [self.note] if self.note else []

    def _by_one_way(self) -> list[str]:
        if self.way_s is None:
            return [f"{self.way}."]
        money = f", {self.price_per_hour * self.total_s / 3600:.2f} in money" if self.price_per_hour else ""
        answering = _time(self.steps.report_s + self.steps.answer_s)
        parts = f"{_time(self.measuring_s)} for scores, {answering} for model, page, ledger and certificate"
        started = f"A new process takes {_time(self.steps.start_s)} more, until libraries are loaded."
        whole = f"In all {_time(self.total_s)}{money}: {_time(self.way_s)} for that, {parts}."
        return [f"{self.way}.", whole, *([started] if self.steps.start_s >= _SHOWN_S else [])]

    def _by_proof(self) -> list[str]:
        first = self.proving[0]
        return [
            f"apply {first.label}: {_time(first.seconds)}; its guarantee ({first.promise}) is the evidence, nothing else is trained"
        ]

    def _by_comparison(self) -> list[str]:
        lines = [
            f"train {each.n - each.n_cached} {each.name} ({each.n_cached} of {each.n} are there already)" for each in self.models
        ]
        lines += [
            f"not {one.label}: {one.refusal}" if one.refusal else f"try {one.label}: {_time(one.seconds)} a model"
            for one in self.candidates
        ]
        if self.chosen is not None:
            lines.append(
                f"{self.chosen.label} was the best; {self.n_applied} of {self.n_confirmed} models to confirm it on are there"
            )
        elif self.tried:
            lines.append(f"confirm the best on {self.n_confirmed} models that did not choose it")
        elif self.retraining_s:
            lines.append("retrain without the samples, which has to be compared with nothing")
        return lines


def _time(seconds: float) -> str:
    if 0 < seconds < _SHOWN_S:
        return f"less than {_SHOWN_S} s"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
