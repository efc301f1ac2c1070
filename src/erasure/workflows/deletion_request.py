"""One deletion request, from the plan to the published answer."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from erasure.accounting.guarantee import Guarantee
from erasure.analysis.equivalence import CERTAINTY
from erasure.analysis.findings import Tested
from erasure.certificates.answer_page import answer_page
from erasure.durable import write_atomically
from erasure.engine.fits import Fits, FittedModel
from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenBlock, GivenModel, MeasuredModels, fitted_model, held_model
from erasure.engine.given_unlearning import UnlearnedModel, Unlearnings
from erasure.engine.sharded_fits import OwnShards, ShardedFit
from erasure.errors import ErasureError, RequirementNotMet
from erasure.events import Listener, Message, ignore_events
from erasure.records.requests import RequestEntry
from erasure.records.rows import Row
from erasure.registry.lookup import Registry
from erasure.store import Store
from erasure.training.randomness import derive
from erasure.training.trial import deep_copy
from erasure.unlearners.contract import Unlearner
from erasure.workflows.audit import Audit, judged, written
from erasure.workflows.deletion_cost import SPENT_FILE, Spent, now
from erasure.workflows.deletion_evidence import Confirmed, DeletionEvidence, drift_of, remaining, together
from erasure.workflows.deletion_folder import EVIDENCE_FOLDER, MODEL_FOLDER, PAGE_FILE, DeletionFolder, save_model
from erasure.workflows.deletion_plan import DeletionPlan, OfferedMethod, StepPrices
from erasure.workflows.deletion_price import Rehearsal, candidate_prices, pass_seconds, retraining_price
from erasure.workflows.deletion_statement import RETRAINING, stated

__all__ = ["Answered", "DeletionRequest", "Wishes"]

_NOBODY = 64 * "0"
"""Digest that stands where a rehearsal names people and models."""
_ASSUMED = "The training function learns from the samples that it is given and from nothing that was made of the forgotten ones."
_ASSUMED_OF_SHARDS = (_ASSUMED, "The model was first trained by this function, on this data in this order and with these groups.")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How much evidence and what a request may cost.

    Args:
        n_originals: Models on which a method is confirmed, the one in use among them.
        n_golds: Retrained models beside each of them.
        n_attempts: Methods that are confirmed in turn until one holds.
        max_seconds: Methods that do not fit are not tried.
        max_utility_loss: Accuracy on test that may be lost.
        max_eps: Largest eps of a certified removal that is evidence enough.
        fallback: Whether to retrain when no method is good enough.
        price_per_hour: What an hour of computing costs.
    """

    n_originals: int
    n_golds: int
    n_attempts: int
    max_seconds: float
    max_utility_loss: float
    max_eps: float
    fallback: bool
    price_per_hour: float


@dataclass(frozen=True, eq=False)
class Answered:
    """A published answer.

    Args:
        model: The model to use from now on.
        entry: Its line in the ledger.
        folder: Where everything is.
        audit: The evidence.
    """

    model: nn.Module
    entry: RequestEntry
    folder: Path
    audit: Audit


@dataclass(frozen=True, eq=False, kw_only=True)
class _Outcome:
    """What is to be published.

    Args:
        label: The method, or retraining.
        model: The model.
        audit: The evidence.
        tested: The test; None without one.
        unlearner: The method; None for retraining.
        why: Why there is no certificate; empty if there is one.
        by_proof: Whether the method's guarantee is the evidence.
    """

    label: str
    model: UnlearnedModel
    audit: Audit
    tested: Tested | None = None
    unlearner: Unlearner | None = None
    why: str = ""
    by_proof: bool = False


class DeletionRequest:
    """One request; everything slow goes through the store, so that it is done once.

    Args:
        data: The data, without what earlier requests have removed.
        model: The model in use.
        fits: Trains models; None if nothing can be trained.
        store: Where models are kept.
        place: The folder of all requests.
        wishes: How much evidence and cost.
        request: Digest of who asks.
        digest: Of the saved model in use.
        seed: Root of all random choices.
        listener: Receives events.
    """

    def __init__(
        self,
        data: GivenData,
        model: nn.Module,
        fits: Fits | None,
        store: Store,
        place: DeletionFolder,
        wishes: Wishes,
        *,
        request: str,
        digest: str,
        seed: int,
        listener: Listener,
    ) -> None:
        self.data: GivenData = data
        self.model: nn.Module = model
        self.fits: Fits | None = fits
        self.place: DeletionFolder = place
        self.wishes: Wishes = wishes
        self.request: str = request
        self.digest: str = digest
        self.seed: int = seed
        self.spent: Spent = Spent(self._staging / "private" / SPENT_FILE)
        self.listener: Listener = listener
        self.own: GivenModel = held_model(model, data)
        self.unlearnings: Unlearnings = Unlearnings(data, model, store, fits)
        self.generation: int = len(place.ledger.lineage(digest))
        self.evidence: DeletionEvidence = self._evidence(fits)
        self._left_out: list[str] = []

    def _evidence(self, fits: Fits | None) -> DeletionEvidence:
        return DeletionEvidence(
            self.data,
            self.own,
            fits,
            self.unlearnings,
            n_originals=self.wishes.n_originals,
            n_golds=self.wishes.n_golds,
            max_utility_loss=self.wishes.max_utility_loss,
            seed=self.seed,
            generation=self.generation,
            listener=lambda event: self.listener(event),
        )

    @property
    def _staging(self) -> Path:
        return self.place.staging(self.request, self.digest)

    # Planning

    def plan(self, methods: Sequence[tuple[str, Unlearner]], *, priced: bool = True) -> DeletionPlan:
        """What is to be done, and its price.

        Args:
            methods: Labels and methods.
            priced: Whether somebody wants to know the price even where it changes nothing about what is done.
        """
        is_priced = priced or math.isfinite(self.wishes.max_seconds)
        draft = self._drafted(methods, is_priced)
        if not is_priced:
            return self._within(draft)
        steps = self._step_prices(draft)
        if priced:
            start = time.perf_counter()
            asked = self._again(self.place, self.fits, request=self.request, digest=self.digest)
            asked._drafted(methods, is_priced=False)  # as the request will
            steps = replace(steps, planning_s=time.perf_counter() - start)
        return self._within(replace(draft, steps=steps))

    def _drafted(self, methods: Sequence[tuple[str, Unlearner]], is_priced: bool) -> DeletionPlan:
        """What is known of models and methods; what was not timed yet is tried on parts of the data."""
        data, wishes = self.data, self.wishes
        proving = self._of_shards(methods)
        price = 0.0
        if self.fits is not None and (is_priced or (methods and not proving)):
            price = retraining_price(self.fits, data, self.evidence.wanted_golds(), self.seed)
        if proving:
            candidates = [replace(each, seconds=each.seconds * price) for each in proving]
        else:
            candidates = [self._judgeable(each) for each in candidate_prices(methods, self.unlearnings, self.own, self.seed)]
        chosen, n_applied = None, 0
        if not proving and self.fits is not None:
            candidates, chosen, n_applied = self.evidence.foreseen(candidates)
        return DeletionPlan(
            n_forget=len(data.partitions["forget"]),
            n_train=len(data.partitions["train"]),
            models=self.evidence.planned() if any(not each.refusal for each in candidates) else (),
            candidates=candidates,
            n_confirmed=wishes.n_originals,
            n_attempts=min(wishes.n_attempts, max(1, len([each for each in candidates if not each.refusal]))),
            chosen=chosen,
            n_applied=n_applied,
            retraining_s=price,
            price_per_hour=wishes.price_per_hour,
        )

    def _step_prices(self, draft: DeletionPlan) -> StepPrices:
        """Seconds of measuring, judging and publishing, which are rehearsed."""
        is_compared = self.fits is not None and any(not each.refusal for each in draft.candidates) and not draft.proving
        evidence = self.evidence if is_compared else self._evidence(None)

        def write(blocks: Sequence[GivenBlock], rows: Sequence[Row], measured: MeasuredModels, folder: Path) -> Audit:
            stand_in = self._stand_in(folder)
            output, name = stand_in._staging / EVIDENCE_FOLDER, measured.name
            return written(judged(self.data, blocks, rows), self.data, blocks, measured.by_name, output, name=name)

        def publish(audit: object, folder: Path) -> None:
            made = UnlearnedModel(load=self.own.load, outputs=self.own.outputs, guarantee=Guarantee())
            outcome = _Outcome(label="rehearsal", model=made, audit=cast(Audit, audit))
            self._stand_in(folder)._publish(DeletionPlan(n_forget=0, n_train=0), outcome)

        rehearsal = Rehearsal(
            data=self.data,
            own=self.own,
            measures=evidence.measures,
            n_originals=self.wishes.n_originals if is_compared else 1,
            n_golds=self.wishes.n_golds if is_compared else 0,
            write=write,
            publish=publish,
        )
        return replace(rehearsal.timed(), pass_s=pass_seconds(self.data, self.own))

    def _stand_in(self, folder: Path) -> DeletionRequest:
        """A request of nobody in a folder where nothing else is."""
        return self._again(DeletionFolder(folder), None, request=_NOBODY, digest=_NOBODY)

    def _again(self, place: DeletionFolder, fits: Fits | None, **names: str) -> DeletionRequest:
        """The same request, which has looked up nothing yet."""
        store, more = self.unlearnings.store, {"seed": self.seed, "listener": ignore_events}
        return DeletionRequest(self.data, self.model, fits, store, place, self.wishes, **names, **more)  # type: ignore[arg-type]

    def _of_shards(self, methods: Sequence[tuple[str, Unlearner]]) -> list[OfferedMethod]:
        """The method that trains shards again, with its share of a training; it needs no trial, and nothing else is tried."""
        if not isinstance(self.model, OwnShards) or self.fits is None or not isinstance(self.fits.fit, ShardedFit):
            return []
        share = self.fits.fit.share_of(self.data.partitions["train"], self.data.partitions["retain"])
        promise, kind = Guarantee(kind="exact"), Registry().resolve("SISA", Unlearner).cls
        return [OfferedMethod(label, each, share, promise=promise) for label, each in methods if isinstance(each, kind)]

    def _judgeable(self, candidate: OfferedMethod) -> OfferedMethod:
        """The method with a refusal, if there is neither proof nor anything to judge it beside."""
        if self.fits is not None or candidate.refusal or self._is_enough(candidate.promise):
            return candidate
        return replace(candidate, refusal="it promises nothing by proof, and without train= there is nothing to judge it beside")

    def _is_enough(self, promise: Guarantee) -> bool:
        """Whether a guarantee is evidence by itself."""
        return promise.kind == "exact" or (promise.eps is not None and promise.eps <= self.wishes.max_eps)

    def _within(self, draft: DeletionPlan) -> DeletionPlan:
        """The plan with proofs first, and without the methods that the budget does not allow."""
        proving = [each for each in draft.candidates if not each.refusal and self._is_enough(each.promise)]
        others = [each for each in draft.candidates if each not in proving]
        limit, allowed = self.wishes.max_seconds, []
        spent = draft.training_s + draft.evidence_s
        for each in proving:
            is_dear = each.seconds > limit
            allowed.append(replace(each, refusal=_too_dear(limit)) if is_dear else replace(each, is_proof=True))
        for each in others:
            is_dear = spent + draft.price_of(each) > limit
            if not each.refusal and is_dear:
                each = replace(each, refusal=_too_dear(limit))
            elif not each.refusal and each in draft.untried:
                spent += each.seconds
            allowed.append(each)
        is_compared = any(not each.refusal and not each.is_proof for each in allowed)
        return replace(draft, candidates=allowed, models=draft.models if is_compared else ())

    def prepare(self, methods: Sequence[tuple[str, Unlearner]]) -> None:
        """Make everything that does not depend on the model in use, and answer nothing.

        That is the evidence for the best method or, where none is good enough or none is to be tried, the retrained model that will answer.
        Where a guarantee is the evidence nothing is made.

        Args:
            methods: Labels and methods.

        Raises:
            RequirementNotMet: If nothing can be trained.
        """
        plan = self.plan(methods, priced=False)
        if plan.proving:
            return
        if self.fits is None:
            raise RequirementNotMet("prepare=True trains the models that methods are judged beside: give train=")
        chosen = self.evidence.prepare(plan.tried, self.wishes.n_attempts) if plan.tried else ()
        if not chosen and self.wishes.fallback:
            self._answering(self.fits)

    def _answering(self, fits: Fits) -> FittedModel:
        """A model trained from scratch without the samples, which is none of those that others are judged beside."""
        seed = derive(self.seed, "answer", self.generation)
        return fits.model(self.data.partitions["retain"], seed, "the model that answers")

    # Answering

    def begin(self) -> None:
        """Note that the request was received, and from now on what it takes."""
        self.spent.note()
        self.listener = self.spent.heard(self.listener)
        if self.fits is not None:
            self.fits.listener = self.listener

    def answer(self, plan: DeletionPlan) -> Answered:
        """Carry the plan out."""
        found = self._proved(plan.proving) or self._judged(plan)
        return self._publish(plan, found)

    def _proved(self, candidates: Sequence[OfferedMethod]) -> _Outcome | None:
        """The first method whose guarantee is evidence enough; None if there is none."""
        for each in candidates:
            try:
                made = self.unlearnings.apply(each.unlearner, self.own, derive(self.seed, "unlearn", 0))
            except ErasureError as error:
                self._leave_out(each.label, str(error))
                continue
            promise = made.guarantee
            lost = self.evidence.useless(each.label, made) if promise.kind != "exact" else ""
            if not self._is_enough(promise) or lost:
                self._leave_out(each.label, lost or f"its guarantee is {promise.told()}")
                continue
            if isinstance(self.model, OwnShards):
                made = replace(made, guarantee=replace(promise, assumptions=(*promise.assumptions, *_ASSUMED_OF_SHARDS)))
            block = GivenBlock(original=self.own, unlearned={each.label: made})
            alone = self._evidence(None)
            audit = alone.written(alone.judged([block]), [block], self._staging / EVIDENCE_FOLDER)
            return _Outcome(label=each.label, model=made, audit=audit, unlearner=each.unlearner, by_proof=True)
        return None

    def _judged(self, plan: DeletionPlan) -> _Outcome:
        """The best method that holds beside retrained models, or retraining."""
        output = self._staging / EVIDENCE_FOLDER
        refused, certainty = list[tuple[OfferedMethod, Confirmed]](), CERTAINTY
        for chosen, certainty in self._attempts(plan):
            confirmed = self.evidence.confirm(chosen, certainty)
            if not confirmed.why:
                return self._kept(chosen, confirmed, output)
            refused.append((chosen, confirmed))
        why = "; ".join(confirmed.why for _, confirmed in refused) or self._nothing_tried(plan)
        if self.fits is not None and self.wishes.fallback:
            self._say(f"{why}; retraining")
            return self._retrained(self.fits, [confirmed for _, confirmed in refused], certainty, output)
        if not refused:
            advice = "other methods" if self.evidence.remarks else "train=, or another budget"
            raise RequirementNotMet(f"{why}, and nothing may be retrained: give {advice}")
        return self._kept(*refused[0], output, why)

    def _attempts(self, plan: DeletionPlan) -> Iterator[tuple[OfferedMethod, float]]:
        """Methods to confirm, the best first, and the level of the limits that each has to keep within.

        All are confirmed on the same models. Their order is known from other models, and how many there may be was said beforehand, so that
        limits which share the usual error among the attempts keep it for all together, however much their results have in common.
        """
        compared = [each for each in plan.tried if not each.is_proof]
        n = min(self.wishes.n_attempts, len(compared))
        done: list[OfferedMethod] = []
        while self.fits is not None and len(done) < n:
            foreseen = plan.chosen.label if plan.chosen is not None and not done else None
            chosen = next((each for each in compared if each.label == foreseen), None)
            if chosen is None:
                chosen = self.evidence.choose(remaining(compared, done))
            if chosen is None or (
                done and self.spent.seconds + self.wishes.n_originals * chosen.seconds > self.wishes.max_seconds
            ):
                return
            done.append(chosen)
            yield chosen, 1 - (1 - CERTAINTY) / n

    def _kept(self, chosen: OfferedMethod, confirmed: Confirmed, output: Path, why: str = "") -> _Outcome:
        """The model that a method has made."""
        return _Outcome(
            label=chosen.label,
            model=confirmed.model,
            audit=self.evidence.written(confirmed.audit, confirmed.blocks, output),
            tested=confirmed.tested,
            unlearner=chosen.unlearner,
            why=why,
        )

    def _nothing_tried(self, plan: DeletionPlan) -> str:
        if self.evidence.remarks:
            return f"no method was good enough on the model that serves to choose ({'; '.join(self.evidence.remarks)})"
        refused = [f"{each.label}: {each.refusal}" for each in plan.candidates if each.refusal] + self._left_out
        if not plan.candidates and not refused:
            return "no method is to be tried"
        return "no method can be tried" + (f" ({'; '.join(refused)})" if refused else "")

    def _retrained(self, fits: Fits, refused: Sequence[Confirmed], certainty: float, output: Path) -> _Outcome:
        """The answer that is a retrained model, with the evidence against the methods that were refused before."""
        fitted = fitted_model(self._answering(fits))
        model = UnlearnedModel(
            load=fitted.load,
            outputs=fitted.outputs,
            elapsed_s=fitted.elapsed_s,
            address=fitted.address,
            guarantee=Guarantee(kind="exact", assumptions=(_ASSUMED,)),
        )
        # How it was made is the evidence; models to compare with are shown where methods were judged beside them, and trained for nothing.
        evidence = self.evidence if refused else self._evidence(None)
        own, *others = together([each.blocks for each in refused]) if refused else [GivenBlock(original=self.own)]
        blocks = [replace(own, unlearned={RETRAINING: model, **own.unlearned}), *others]
        audit = evidence.written(evidence.judged(blocks, [RETRAINING], certainty), blocks, output, [RETRAINING])
        tested = audit.tested.methods.get(RETRAINING) if audit.tested is not None else None
        return _Outcome(label=RETRAINING, model=model, audit=audit, tested=tested)

    # Publishing

    def _publish(self, plan: DeletionPlan, found: _Outcome) -> Answered:
        staging, data = self._staging, self.data
        model = data.released(deep_copy(found.model.load())).cpu()
        unlearned = save_model(model, staging / MODEL_FOLDER)
        if unlearned == self.digest:
            raise RequirementNotMet(f"{found.label} gave the model back unchanged: nothing has been forgotten")
        statement = stated(
            original=self.digest,
            unlearned=unlearned,
            request=self.request,
            n_forgotten=len(data.partitions["forget"]),
            label=found.label,
            unlearner=found.unlearner,
            guarantee=found.model.guarantee,
            audit=found.audit,
            tested=found.tested,
            by_proof=found.by_proof,
            data=data.fingerprint(),
            folder=staging,
            finished=now(),
        )
        page = answer_page(
            None if found.why else statement,
            refusal=found.why,
            n_forgotten=statement.n_forgotten,
            contact=self.place.contact,
        )
        write_atomically(staging / PAGE_FILE, page.encode(), option="--folder")
        facts = {
            "received": self.spent.received,
            "cost_s": round(self.spent.seconds, 3),
            "retraining_s": round(self._retraining_s(plan, found), 3),
            "drift": drift_of(found.tested),
            "refusal": found.why,
        }
        removed = self.place.removed_record(data, data.partitions["forget"])
        entry = self.place.publish(staging, statement, facts, removed, certify=not found.why)
        folder = self.place.place(entry.number)
        home = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        return Answered(model.to(home).eval(), entry, folder, replace(found.audit, output=folder / EVIDENCE_FOLDER))

    def _retraining_s(self, plan: DeletionPlan, found: _Outcome) -> float:
        """Seconds of one retraining: what those beside the model took, where there are any."""
        if self.fits is not None and found.by_proof and isinstance(self.fits.fit, ShardedFit):
            share = self.fits.fit.share_of(self.data.partitions["train"], self.data.partitions["retain"])
            return found.model.elapsed_s / share
        if self.fits is None or found.by_proof:
            return plan.retraining_s
        if found.label == RETRAINING and found.tested is None:
            return found.model.elapsed_s
        return statistics.median(gold.elapsed_s for gold in self.evidence.golds(0))

    def _leave_out(self, label: str, reason: str) -> None:
        self._left_out.append(f"{label}: {reason}")
        self._say(f"{label} was left out: {reason}")

    def _say(self, text: str) -> None:
        self.listener(Message(text))


def _too_dear(limit: float) -> str:
    return f"it does not fit into {limit:.0f} s"
