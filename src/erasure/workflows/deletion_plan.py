"""What a deletion request will take: which models are trained, which methods are tried, and their price."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from erasure.accounting.guarantee import Guarantee
from erasure.engine.fits import Fits, passed
from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenModel
from erasure.engine.given_unlearning import Teachers, Unlearnings
from erasure.engine.sharded_fits import ShardedFit
from erasure.errors import ErasureError
from erasure.training.randomness import derive
from erasure.unlearners.contract import Unlearner

__all__ = [
    "NOTHING_TO_PREPARE",
    "DeletionPlan",
    "OfferedMethod",
    "PlannedModels",
    "candidate_prices",
    "pass_seconds",
    "retraining_price",
]

NOTHING_TO_PREPARE = "Nothing has to be prepared: the answer is exact or certified by proof, and compared with nothing."
_TRIAL = 0.1
"""Share of the data on which what nobody has timed yet is timed."""
_MIN_TRIAL = 8
_TRAINED, _MIN_TRAINED = 20, 64
"""One sample in so many is trained on to time a training, but a few batches at least."""
_PASSED = 2048
"""Samples of a partition that a pass is timed on."""
_REPORT_S, _ANSWER_S = 1.5, 0.5
"""Seconds that report, page and signature take, whatever the model, and those of page and signature alone."""


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
class DeletionPlan:
    """What a request will take.

    Args:
        n_forget: Samples to forget.
        n_train: Samples that the model was trained on.
        models: Models to train for evidence.
        candidates: Methods to try, the cheapest first.
        n_confirmed: Models that the best method is applied to, on seeds that did not choose it.
        chosen: The best method, where that is known already.
        n_applied: To how many of these models it was applied already.
        retraining_s: Seconds of one retraining.
        pass_s: Seconds in which a model is passed over everything that is measured.
        price_per_hour: What an hour costs.
        already: Number of the request that has answered this one; 0 if none has.
        way: What is done where no method is to be chosen, such as for estimators; empty otherwise.
        note: A last sentence; empty if there is nothing to add.
    """

    n_forget: int
    n_train: int
    models: Sequence[PlannedModels] = ()
    candidates: Sequence[OfferedMethod] = ()
    n_confirmed: int = 0
    chosen: OfferedMethod | None = None
    n_applied: int = 0
    retraining_s: float = 0.0
    pass_s: float = 0.0
    price_per_hour: float = 0.0
    already: int = 0
    way: str = ""
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
    def evidence_s(self) -> float:
        """Seconds of measuring and of the report."""
        if self.proving or not self.tried:
            return _ANSWER_S + 2 * self.pass_s
        measured = self.n_left + len(self.untried) + sum(each.n - each.n_cached for each in self.models)
        return _REPORT_S + self.pass_s * measured

    @property
    def unlearning_s(self) -> float:
        """Seconds of the cheapest method with a proof; else of trying every method once and confirming the costliest of them."""
        if self.proving:
            return self.proving[0].seconds
        best = [self.chosen] if self.chosen is not None else self.tried
        return sum(each.seconds for each in self.untried) + self.n_left * max((each.seconds for each in best), default=0.0)

    @property
    def total_s(self) -> float:
        """Seconds of the whole, if the method with a proof does what it promises or another is confirmed; else one more retraining."""
        if self.way:
            return self.retraining_s
        if not self.tried:
            return 0.0 if self.already else self.retraining_s + self.evidence_s
        training = 0.0 if self.proving else self.training_s
        return 0.0 if self.already else training + self.unlearning_s + self.evidence_s

    def __str__(self) -> str:
        if self.already:
            return f"Nothing is to be done: request {self.already} has answered this one."
        lines = [f"{self.n_forget:,} of {self.n_train:,} training samples are to be forgotten."]
        if self.way:
            return "\n".join([*lines, f"{self.way}: {_time(self.retraining_s)} at most.", *self._noted()])
        if self.retraining_s:
            lines.append(f"One retraining takes {_time(self.retraining_s)}.")
        lines += self._by_proof() if self.proving else self._by_comparison()
        share = f" ({self.total_s / self.retraining_s:.2g} retrainings)" if self.retraining_s else ""
        money = f", {self.price_per_hour * self.total_s / 3600:.2f} in money" if self.price_per_hour else ""
        training = f"{_time(self.training_s)} for models that evidence rests on, " if self.tried and not self.proving else ""
        again = not self.tried and self.retraining_s > 0
        making = f"{_time(self.retraining_s)} for retraining" if again else f"{_time(self.unlearning_s)} for unlearning"
        lines.append(
            f"In all {_time(self.total_s)}{share}{money}: {training}{making}, {_time(self.evidence_s)} for measuring and the report."
        )
        if self.tried and not self.proving:
            lines.append("If no method is good enough, one more retraining.")
        return "\n".join([*lines, *self._noted()])

    def _noted(self) -> list[str]:
        return [self.note] if self.note else []

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


def retraining_price(fits: Fits, data: GivenData, known: Sequence[tuple[object, int]], seed: int) -> float:
    """Seconds of one retraining: of a model that is there already, else a trial on a twentieth of the data, scaled.

    Args:
        fits: Trains models.
        data: The data.
        known: Ids and seeds of models that may be there.
        seed: Of the trial.
    """
    retain = data.partitions["retain"]
    for ids, number in known:
        if fits.has(ids, number):  # type: ignore[arg-type]
            return fits.model(ids, number).elapsed_s  # type: ignore[arg-type]
    pool = fits.fit.of_one_shard(retain) if isinstance(fits.fit, ShardedFit) else retain
    some = pool[:: max(1, min(_TRAINED, len(pool) // _MIN_TRAINED))]
    few = some[: max(_MIN_TRIAL, len(some) // 8)]
    fits.model(few, derive(seed, "trial", 0), "a model to warm up")
    took = fits.model(some, derive(seed, "trial", 1), "a model on a part of the data, to time it").elapsed_s
    return took * len(retain) / len(some)


def candidate_prices(
    methods: Sequence[tuple[str, Unlearner]], unlearnings: Unlearnings, original: GivenModel, seed: int
) -> list[OfferedMethod]:
    """What each method takes on all of the data, from a trial on a tenth of it; the cheapest first.

    Args:
        methods: Labels and methods.
        unlearnings: Applies them.
        original: The model.
        seed: Of the trial.
    """
    data = unlearnings.data
    parts = {}
    for name in ("forget", "retain"):
        ids = data.partitions[name]
        parts[name] = ids[:: max(1, min(round(1 / _TRIAL), len(ids) // _MIN_TRIAL))]
    parts["train"] = parts["forget"].new_tensor(sorted([*parts["forget"].tolist(), *parts["retain"].tolist()]))
    scale = len(data.partitions["train"]) / len(parts["train"])
    stand_in = (
        Teachers("the original, whose answers take as long", lambda _: original) if unlearnings.teachers is not None else None
    )
    small = Unlearnings(data.narrowed(**parts), unlearnings.like, unlearnings.store, unlearnings.fits, stand_in)
    found = []
    for label, unlearner in methods:
        reason = unlearner.unsupported_reason(data.model_input)
        missing = sorted({"validation", "test"} & set(unlearner.partition_names()) - set(data.partitions))
        if reason is None and missing:
            reason = f"it reads a {missing[0]} set"
        took, promise = 0.0, Guarantee()
        if reason is None:
            try:
                runs = [small.apply(unlearner, original, derive(seed, "trial", number)) for number in (0, 1)]
                took, promise = min(run.elapsed_s + run.precompute_s for run in runs), runs[0].guarantee
            except ErasureError as error:
                reason = str(error)
        found.append(OfferedMethod(label, unlearner, took * scale, reason or "", promise))
    return sorted(found, key=lambda each: each.seconds)


def pass_seconds(data: GivenData, original: GivenModel) -> float:
    """Seconds of one pass of the model over everything that is measured, from a part of it."""
    total = 0.0
    for name in {"forget", "retain", "test"} & set(data.partitions):
        some = data.partitions[name][:_PASSED]
        start = time.perf_counter()
        passed(original.load(), data, some)
        total += (time.perf_counter() - start) * len(data.partitions[name]) / max(1, len(some))
    return total


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
