"""What a deletion request is judged by: further originals, retrained models, the choice of a method and its confirmation."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from erasure.analysis.equivalence import CERTAINTY
from erasure.analysis.findings import Difference, Finding, Tested
from erasure.analysis.judging import judge_report
from erasure.engine.fits import Fits
from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenBlock, GivenModel, MeasuredModels, fitted_model, of_fits
from erasure.engine.given_unlearning import Teachers, UnlearnedModel, Unlearnings
from erasure.errors import ErasureError
from erasure.events import Listener, Message
from erasure.measures.contract import Measure
from erasure.training.randomness import derive
from erasure.workflows.audit import Audit, audit_measures, gold_seed, golds_of, guarded, judged, roles_of, written
from erasure.workflows.deletion_plan import OfferedMethod, PlannedModels

__all__ = ["Confirmed", "DeletionEvidence", "drift_of", "remaining", "together"]

_NAME = "deletion request"
_NEAR = 1.0
"""Distance from retrained models, in their standard deviations, at which no further method is tried."""
_MAX = 10.0


@dataclass(frozen=True, eq=False)
class Confirmed:
    """A method on models that did not choose it.

    Args:
        model: What it made of the model in use.
        blocks: The models that it was confirmed on.
        audit: What was measured.
        tested: The test; None where there was nothing to test, or a guard stopped the method.
        why: Why the evidence carries no certificate; empty if it does.
    """

    model: UnlearnedModel
    blocks: Sequence[GivenBlock]
    audit: Audit
    tested: Tested | None
    why: str


class DeletionEvidence:
    """The models that a method is chosen and confirmed on, and those that it is judged beside.

    Block 0 is the model in use, the last one serves to choose alone, and those between are further originals for the confirmation.

    Args:
        data: The data.
        own: The model in use.
        fits: Trains models; None if nothing can be trained.
        unlearnings: Applies methods.
        n_originals: Blocks of the confirmation.
        n_golds: Retrained models of each block.
        max_utility_loss: Accuracy that may be lost.
        seed: Root of all random choices.
        generation: How many requests the model in use has answered.
        listener: Receives events.
    """

    def __init__(
        self,
        data: GivenData,
        own: GivenModel,
        fits: Fits | None,
        unlearnings: Unlearnings,
        *,
        n_originals: int,
        n_golds: int,
        max_utility_loss: float,
        seed: int,
        generation: int,
        listener: Listener,
    ) -> None:
        self.data: GivenData = data
        self.own: GivenModel = own
        self.fits: Fits | None = fits
        self.unlearnings: Unlearnings = unlearnings
        self.n_originals: int = n_originals
        self.n_golds: int = n_golds
        self.max_utility_loss: float = max_utility_loss
        self.seed: int = seed
        self.generation: int = generation
        self.listener: Listener = listener
        self.remarks: list[str] = []
        """What was found of each method that was tried."""
        self.measures: list[Measure] = audit_measures(None, data, fits is not None)
        made = None if fits is None else functools.cache(of_fits(fits, data, seed, generation))
        self.measured: MeasuredModels = MeasuredModels(
            data=data,
            measures=self.measures,
            name=_NAME,
            seed=seed,
            made=made,
            store=unlearnings.store if fits is not None else None,
            identity=dict(fits.identity) if fits is not None else None,
        )
        if fits is not None:
            unlearnings.teachers = Teachers(f"of {n_golds} golds, generation {generation}", self._teacher)

    # Models

    @property
    def _blocks(self) -> range:
        return range(self.n_originals + 1)

    def _sibling_seed(self, block: int) -> int:
        """What was retrained for the last request is an original of this one."""
        if self.generation > 0:
            return gold_seed(self.seed, block, 0, self.generation - 1)
        return derive(self.seed, "original", block)

    def wanted_golds(self) -> list[tuple[Tensor, int]]:
        """Ids and seeds of all retrained models."""
        retain = self.data.partitions["retain"]
        return [(retain, gold_seed(self.seed, b, n, self.generation)) for b in self._blocks for n in range(self.n_golds)]

    def planned(self) -> list[PlannedModels]:
        """What has to be trained, and what is there."""
        if self.fits is None:
            return []
        train = self.data.partitions["train"]
        siblings = [(train, self._sibling_seed(block)) for block in self._blocks if block]
        models = []
        for name, wanted in (("retrained models", self.wanted_golds()), ("further originals", siblings)):
            models.append(PlannedModels(name, len(wanted), sum(self.fits.has(ids, seed) for ids, seed in wanted)))
        return models + self._rulers()

    def prepare(self, candidates: Sequence[OfferedMethod], n_attempts: int = 1) -> Sequence[OfferedMethod]:
        """Make all evidence that does not depend on the model in use, so that a request finds it.

        Models that methods are judged beside are trained and measured, the best method is chosen, and applied to the further originals.

        Args:
            candidates: Methods to try.
            n_attempts: How many of them a request may try to confirm.

        Returns:
            The chosen methods, the best first; none if none was good enough.
        """
        fits = cast(Fits, self.fits)
        made, asked = of_fits(fits, self.data, self.seed, self.generation), []
        for measure in self.measures:
            asked += [made(request) for request, _ in measure.requests("unlearned")]
        golds = [gold for block in self._blocks for gold in self.golds(block)]
        for model in (*golds, *(self._sibling(block) for block in self._blocks if block), *asked):
            self._measure(model)
        chosen: list[OfferedMethod] = []
        for number in self._blocks:
            original = self._sibling(number) if number else self.own
            self.measured.rows([GivenBlock(original=original, golds=self.golds(number), number=number)])
        while len(chosen) < n_attempts and (best := self.choose(remaining(candidates, chosen))) is not None:
            chosen.append(best)
            for block in self._blocks[1:-1]:
                self._measure(self._applied(best, block))
        return chosen

    def _measure(self, model: GivenModel) -> None:
        """Have the store keep what a model says."""
        for name in {"forget", "retain", "test"} & set(self.data.partitions):
            model.outputs(self.data.partitions[name])

    def _rulers(self) -> list[PlannedModels]:
        maker = _Counting(cast(Fits, self.fits))
        count = of_fits(cast(Fits, maker), self.data, self.seed, self.generation)
        for measure in self.measures:
            for request, _ in measure.requests("unlearned"):
                count(request)
        return [PlannedModels("models that memory is measured by", maker.n, maker.n_cached)] if maker.n else []

    @functools.cache  # noqa: B019 - lives as long as a request
    def _sibling(self, block: int) -> GivenModel:
        ids = self.data.partitions["train"]
        return fitted_model(cast(Fits, self.fits).model(ids, self._sibling_seed(block), f"further original {block}"))

    @functools.cache  # noqa: B019 - lives as long as a request
    def golds(self, block: int) -> Sequence[GivenModel]:
        """The retrained models of a block."""
        fits = cast(Fits, self.fits)
        return [golds_of(fits, self.data, block, n, self.seed, self.generation) for n in range(self.n_golds)]

    def _teacher(self, seed: int) -> GivenModel:
        """For methods that learn from a retrained model: one of those that serve to choose, so that none judges what it has taught."""
        numbers = {derive(self.seed, "unlearn", block): block for block in self._blocks}
        return self.golds(self._blocks[-1])[numbers[seed] % self.n_golds]

    # Choosing and confirming

    def _applied(self, method: OfferedMethod, block: int) -> UnlearnedModel:
        original = self._sibling(block) if block else self.own
        return self.unlearnings.apply(method.unlearner, original, derive(self.seed, "unlearn", block))

    def _is_applied(self, method: OfferedMethod, block: int) -> bool:
        original = self._sibling(block) if block else self.own
        return self.unlearnings.has(method.unlearner, original, derive(self.seed, "unlearn", block))

    def foreseen(self, candidates: Sequence[OfferedMethod]) -> tuple[list[OfferedMethod], OfferedMethod | None, int]:
        """What is known of a choice before it is made.

        Args:
            candidates: Methods to try, in their order.

        Returns:
            The candidates with the seconds that those took which were tried already; the chosen one, if all were that are needed; and to
            how many models of the confirmation it was applied already.
        """
        if any(each.n_cached < each.n for each in self.planned()):
            return list(candidates), None, 0
        told, last = [], self._blocks[-1]
        for each in candidates:
            is_tried = not each.refusal and self._is_applied(each, last)
            told.append(replace(each, is_tried=True, seconds=self._applied(each, last).total_s) if is_tried else each)
        chosen = self.choose([each for each in told if not each.refusal], only_tried=True)
        return told, chosen, sum(self._is_applied(chosen, block) for block in self._blocks[:-1]) if chosen is not None else 0

    def choose(self, candidates: Sequence[OfferedMethod], *, only_tried: bool = False) -> OfferedMethod | None:
        """The method nearest to retrained models on an original that serves for nothing else; the first that is near is taken.

        Args:
            candidates: Methods, in the order in which they are tried.
            only_tried: Whether to give up as soon as a method would have to be applied.
        """
        block = self._blocks[-1]
        best: tuple[float, OfferedMethod] | None = None
        self.remarks.clear()
        for candidate in candidates:
            if only_tried and not candidate.is_tried:
                return None
            try:
                made = self._applied(candidate, block)
            except ErasureError as error:
                self._say(f"{candidate.label} was left out: {error}")
                self.remarks.append(f"{candidate.label}: {error}")
                continue
            distance, remark = self._distance(candidate.label, made, block)
            if not only_tried:
                self._say(f"{candidate.label}: {remark}")
            self.remarks.append(f"{candidate.label}: {remark}")
            if math.isfinite(distance) and (best is None or distance < best[0]):
                best = distance, candidate
            if distance <= _NEAR:
                break
        return best[1] if best is not None else None

    def _distance(self, label: str, made: GivenModel, block: int) -> tuple[float, str]:
        given = GivenBlock(original=self._sibling(block), golds=self.golds(block), unlearned={label: made}, number=block)
        rows = self.measured.rows([given])
        guard = guarded(rows).get(label)
        if guard is not None:
            return math.inf, f"{guard[0]}, {guard[1]}"
        differences = judge_report(rows, roles_of(self.data)).methods[label].differences
        for each in differences:
            is_use = each.column.claim in {"retained", "held-out"} and each.column.is_share
            if is_use and -each.amount > self.max_utility_loss:
                return math.inf, f"loses {100 * -each.amount:.1f} points of {each.column.measure} on {each.column.partition}"
        distance = _root_mean_square([each for each in differences if not each.is_negligible], len(differences))
        return distance, f"{distance:.2f} standard deviations from retrained models"

    def confirm(self, chosen: OfferedMethod, certainty: float = CERTAINTY) -> Confirmed:
        """Apply the method to the model in use and to further originals, none of which chose it, and judge it there.

        Args:
            chosen: The method.
            certainty: Level of each limit that it has to keep within.
        """
        blocks, made = [], []
        for number in self._blocks[:-1]:
            original = self._sibling(number) if number else self.own
            made.append(self._applied(chosen, number))
            unlearned = {chosen.label: made[-1]}
            blocks.append(GivenBlock(original=original, golds=self.golds(number), unlearned=unlearned, number=number))
        audit = self.judged(blocks, certainty=certainty)
        guard = guarded(audit.rows).get(chosen.label)
        if guard is not None:
            return Confirmed(made[0], blocks, audit, None, f"{chosen.label} is refused: {guard[1]}")
        tested = audit.tested.methods[chosen.label] if audit.tested is not None else None
        return Confirmed(made[0], blocks, audit, tested, self._thin(chosen.label, tested, made[0]))

    def _thin(self, label: str, tested: Tested | None, made: UnlearnedModel) -> str:
        """Why the evidence does not carry a certificate; empty if it does."""
        lost = self.useless(label, made)
        if lost:
            return lost
        if tested is None:
            return "there is no retrained model to compare with"
        if tested.finding == Finding.INDISTINGUISHABLE:
            return ""
        reason = f" ({tested.reason})" if tested.reason else ""
        if tested.finding in {Finding.NOT_TOLD_APART, Finding.UNDECIDED}:
            return f"the evidence for {label} is too thin{reason}"
        return f"{label} differs from retraining: {tested.finding.value}{reason}"

    def useless(self, label: str, made: GivenModel) -> str:
        """Why a model is not known to be of use still; empty if it is."""
        if "test" not in self.data.partitions:
            return "without test data, nobody can tell whether the model still works"
        before, after = (each.outputs(self.data.partitions["test"]).accuracy for each in (self.own, made))
        loss, most = before - after, self.max_utility_loss
        if loss <= most:
            return ""
        return f"{label} loses {100 * loss:.1f} points of accuracy on test, and {100 * most:.1f} are allowed"

    def judged(self, blocks: Sequence[GivenBlock], exact: Sequence[str] = (), certainty: float = CERTAINTY) -> Audit:
        """The audit of some blocks."""
        return judged(self.data, blocks, self.measured.rows(blocks), exact=exact, certainty=certainty)

    def written(self, audit: Audit, blocks: Sequence[GivenBlock], output: Path, exact: Sequence[str] = ()) -> Audit:
        """The audit with its files: rows, evidence and report."""
        keys = {label: "" if label in exact else label for block in blocks for label in block.unlearned}
        return written(audit, self.data, blocks, self.measured.by_name, output, name=_NAME, keys=keys, exact=exact)

    def _say(self, text: str) -> None:
        self.listener(Message(text))


def together(judged: Sequence[Sequence[GivenBlock]]) -> list[GivenBlock]:
    """Blocks with the same originals and golds as one list of blocks, in which all their unlearned models stand side by side."""
    return [
        replace(same[0], unlearned={label: model for block in same for label, model in block.unlearned.items()})
        for same in zip(*judged, strict=True)
    ]


def remaining(candidates: Iterable[OfferedMethod], done: Iterable[OfferedMethod]) -> list[OfferedMethod]:
    """The candidates that are not among those whose turn has come."""
    labels = {each.label for each in done}
    return [each for each in candidates if each.label not in labels]


class _Counting:
    """Stands in for training where models are only counted."""

    def __init__(self, fits: Fits) -> None:
        self.fits, self.n, self.n_cached = fits, 0, 0

    def model(self, ids: Tensor, seed: int, name: str = "") -> GivenModel:
        self.n += 1
        self.n_cached += self.fits.has(ids, seed)
        return GivenModel(load=lambda: self.fits.like, outputs=lambda _: cast(Any, None))


def drift_of(tested: Tested | None) -> float | None:
    """Distance of an answer from retrained models, over all values, in their standard deviations."""
    if tested is None or not tested.differences:
        return None
    return round(_root_mean_square(tested.differences, len(tested.differences)), 4)


def _root_mean_square(differences: Sequence[Difference], n: int) -> float:
    return math.sqrt(math.fsum(min(each.deviations, _MAX) ** 2 for each in differences) / max(1, n))
