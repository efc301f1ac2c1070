"""Answering a deletion request: plan, unlearn, judge, confirm or retrain, record and certify."""

from __future__ import annotations

import functools
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.analysis.judging import Finding, Tested, judge_report
from erasure.certificates.answer_page import answer_page
from erasure.certificates.digests import model_digest, person_digest
from erasure.certificates.signing import signer
from erasure.certificates.statement import CertifiedValue, Statement
from erasure.component import canonical
from erasure.durable import write_atomically
from erasure.engine.fits import Fit, Fits, recipe_fit
from erasure.engine.given_data import GivenData, given_data, positions, unlearner_of
from erasure.engine.given_models import GivenBlock, GivenModel, MeasuredModels, fitted_model, held_model, of_fits
from erasure.engine.given_unlearning import UnlearnedModel, Unlearnings
from erasure.engine.recording.provenance import versions
from erasure.errors import DataError, ErasureError, RequirementNotMet
from erasure.events import Listener, Said, silent
from erasure.records.requests import RequestEntry
from erasure.store import Store, default_base_path, default_store_path
from erasure.training.devices import resolve_device
from erasure.training.randomness import derive
from erasure.training.trial import deep_copy
from erasure.types import TaskKind
from erasure.unlearners.contract import Unlearner
from erasure.workflows.audit import Audit, audit_measures, gold_seed, golds_of, guarded, judged, roles_of, unfamiliar
from erasure.workflows.deletion_folder import (
    CERTIFICATE_FILE,
    EVIDENCE_FOLDER,
    MODEL_FOLDER,
    PAGE_FILE,
    DeletionFolder,
    check_folder,
    rows_digest,
    save_model,
)
from erasure.workflows.deletion_plan import (
    DeletionPlan,
    OfferedMethod,
    PlannedModels,
    candidate_prices,
    pass_seconds,
    retraining_price,
)

__all__ = ["METHODS", "Answer", "forget"]

METHODS: tuple[str | Mapping[str, Any], ...] = (
    "SSD",
    {"class": "NegGrad+", "parameters": {"epochs": 2}},
    {"class": "SCRUB", "parameters": {"epochs": 2, "max_epochs": 1}},
    {"class": "Finetuning", "parameters": {"epochs": 2}},
)
"""Methods that are tried if nobody says: cheap ones of different kinds."""

RETRAINING = "Retraining"
_NEAR = 1.5
"""Distance from retrained models, in their standard deviations, at which no further method is tried."""
_MOST = 10.0
_LEAST_ORIGINALS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """The answer to a request.

    Args:
        model: The model to use from now on, in eval mode.
        entry: Its line in the ledger.
        folder: Where model, evidence and certificate are.
        audit: The evidence; None if the request had been answered before.
        plan: What was planned.
    """

    model: nn.Module
    entry: RequestEntry
    folder: Path
    audit: Audit | None = None
    plan: DeletionPlan | None = None

    @property
    def certificate(self) -> Path | None:
        """The certificate's file; None where it was refused."""
        return self.folder / CERTIFICATE_FILE if self.entry.certificate else None

    def __str__(self) -> str:
        entry = self.entry
        share = f", {entry.cost_s / entry.retraining_s:.2f} of a retraining" if entry.retraining_s else ""
        proof = f"certificate {self.certificate}" if self.certificate else f"no certificate: {entry.refusal}"
        said = f"{entry.n_forgotten:,} forgotten by {entry.method} ({entry.verdict}), {entry.cost_s:.1f} s{share}; {proof}"
        return f"request {entry.number}: {said}"


@dataclass(frozen=True, kw_only=True)
class _Wishes:
    """How much evidence and what a request may cost."""

    n_originals: int
    n_golds: int
    max_seconds: float
    max_utility_loss: float
    fallback: bool
    price_per_hour: float


def forget(
    *,
    model: nn.Module,
    forget: Any,
    data: Any,
    test: Any = None,
    train: Fit | Mapping[str, Any] | None = None,
    who: Sequence[str | int] | None = None,
    methods: Sequence[str | Unlearner | Mapping[str, Any]] = METHODS,
    folder: Path | str = "requests",
    key: Path | str | None = None,
    max_seconds: float | None = None,
    max_money: float | None = None,
    price_per_hour: float = 0.0,
    max_utility_loss: float = 0.02,
    n_originals: int = 5,
    n_golds: int = 4,
    fallback: bool = True,
    check_data: bool = True,
    original: Path | str | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: TaskKind | None = None,
    batch_size: int = 64,
    seed: int = 0,
    version: str = "",
    store: Path | str | None = None,
    device: str = "auto",
    dry_run: bool = False,
    listener: Listener = silent,
) -> Answer | DeletionPlan:
    """Answer a request to forget some training samples of a model, and show that it was done.

    Several methods are tried on a model that only serves to choose; the best is applied to the model itself and to others of further seeds,
    all judged beside models that were retrained without the samples. If it cannot be told from these, its model is kept; if it can, or the
    evidence is too thin to tell, the model is retrained. Everything is written to ``folder``: the model, the evidence, a line in the
    ledger and a signed certificate. Interrupted, the same call goes on where it stopped; asked again, it gives the answer that there is.

    Args:
        model: The trained model. It is not changed.
        forget: Positions in ``data`` of the samples to forget: whole numbers, or a mask.
        data: Everything the model was first trained on; what earlier requests have removed may be in it still or not.
        test: Samples that no model has seen; without them nothing is certified.
        train: ``fit(indices, seed) -> model``, which trains from scratch on the samples at these positions, or a recipe.
        who: The ids of those who ask, of which the records keep a salted digest; by default the positions.
        methods: What to try: names, methods, or ``{"class": …, "parameters": …}``; none to retrain at once.
        folder: The folder of all requests for this model.
        key: Private key to sign with (``erasure keys new``); by default one in the folder.
        max_seconds: Methods that do not fit into this time are not tried.
        max_money: The same in money.
        price_per_hour: What an hour of computing costs.
        max_utility_loss: Accuracy on ``test`` that a model may lose against the one before.
        n_originals: Models on which the best method is confirmed, the one in use among them; at least 3.
        n_golds: Retrained models beside each of them.
        fallback: Whether to retrain when no method is good enough.
        check_data: Whether to refuse samples that the model seems never to have seen.
        original: Where the model was saved: the certificate then names these bytes.
        loss_fn: Loss of ``(logits, labels)``; by default the task's cross-entropy.
        task: How labels are read.
        batch_size: Samples per step.
        seed: Root of all random choices.
        version: What ``train`` depends on beyond its own code.
        store: Where trained models are kept; by default ``$ERASURE_STORE`` or ``.erasure/store``.
        device: Where to compute.
        dry_run: Give the plan with its price, and answer nothing.
        listener: Hears what happens.

    Returns:
        The answer; with ``dry_run`` the plan.

    Raises:
        DataError: If the samples cannot be used, or the model was not trained on them.
        RequirementNotMet: If something that is needed is missing, or the budget allows nothing.
    """
    root = Path(folder)
    check_folder(root)
    place = DeletionFolder(root, None if key is None else Path(key))
    place.complete()
    if place.key is not None:
        signer(place.key)  # a key that cannot sign is found before anything is trained
    if n_originals < _LEAST_ORIGINALS:
        raise RequirementNotMet(f"a method is confirmed on {_LEAST_ORIGINALS} models or more, found n_originals = {n_originals}")
    whole = given_data(
        model,
        forget=forget,
        data=data,
        test=test,
        loss_fn=loss_fn,
        task=task,
        batch_size=batch_size,
        device=resolve_device(device),
    )
    asked = positions(forget, len(whole.partitions["train"]), "forget")
    request = person_digest([*who] if who is not None else asked.tolist(), place.salt)
    present = place.present(whole)
    gone = present[torch.isin(present, asked.to(present.device))]
    known = place.ledger.find(request)
    if known is not None and (not len(gone) or known.original == _digest(model, original, place)):
        return _again(known, place, model, whole, dry_run=dry_run)
    if not len(gone):
        raise DataError(
            "earlier requests of other people have removed all of these samples already; erasure requests list shows them"
        )
    if len(gone) == len(present):
        raise DataError(f"all {len(present):,} samples that are left are to be forgotten: there is nothing left to learn from")
    kept = present[~torch.isin(present, gone)]
    given = whole.narrowed(train=present, forget=gone, retain=kept)
    limit = min(
        math.inf if max_seconds is None else max_seconds,
        math.inf if max_money is None or not price_per_hour else 3600 * max_money / price_per_hour,
    )
    wishes = _Wishes(
        n_originals=n_originals,
        n_golds=n_golds,
        max_seconds=limit,
        max_utility_loss=max_utility_loss,
        fallback=fallback,
        price_per_hour=price_per_hour,
    )
    stored = Store(store or default_store_path(), base=default_base_path())
    fit = recipe_fit(train, model, given) if isinstance(train, Mapping) else train
    fits = None if fit is None else Fits(fit, model, whole, stored, version=version, listener=listener)
    digest = _digest(model, original, place)
    work = _Request(given, model, fits, stored, place, wishes, request=request, digest=digest, seed=seed, listener=listener)
    if check_data:
        reason = unfamiliar(given, work.own)
        if reason:
            raise DataError(reason)
    plan = work.plan(_labelled(methods))
    return plan if dry_run else work.answer(plan)


def _again(
    known: RequestEntry, place: DeletionFolder, model: nn.Module, data: GivenData, *, dry_run: bool
) -> Answer | DeletionPlan:
    """The answer that a request has had already."""
    if dry_run:
        return DeletionPlan(n_forget=known.n_forgotten, n_train=len(data.partitions["train"]), already=known.number)
    folder = place.place(known.number)
    return Answer(model=_loaded(folder / MODEL_FOLDER, model), entry=known, folder=folder)


def _loaded(folder: Path, like: nn.Module) -> nn.Module:
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    if not file.exists():
        raise DataError(f"the model of this request is not at {file} any more; its digest is in the ledger")
    model = deep_copy(like)
    model.load_state_dict(load_file(file), strict=False)
    return model.eval()


def _digest(model: nn.Module, original: Path | str | None, place: DeletionFolder) -> str:
    if original is not None:
        return model_digest(Path(original))
    saved = place.root / ".original"
    try:
        return save_model(model, saved)
    finally:
        shutil.rmtree(saved, ignore_errors=True)


def _labelled(methods: Sequence[str | Unlearner | Mapping[str, Any]]) -> list[tuple[str, Unlearner]]:
    found: list[tuple[str, Unlearner]] = []
    for each in methods:
        if isinstance(each, Unlearner):
            label, unlearner = type(each).__name__, each
        elif isinstance(each, Mapping):
            label = str(each.get("label", each["class"]))
            unlearner = unlearner_of(str(each["class"]), dict(each.get("parameters", {})))
        else:
            label, unlearner = each, unlearner_of(each, {})
        taken = {known for known, _ in found}
        found.append((label if label not in taken else f"{label} {len(found) + 1}", unlearner))
    return found


class _Request:
    """One request, from the plan to the published answer; everything slow goes through the store, so that it is done once."""

    def __init__(
        self,
        data: GivenData,
        model: nn.Module,
        fits: Fits | None,
        store: Store,
        place: DeletionFolder,
        wishes: _Wishes,
        *,
        request: str,
        digest: str,
        seed: int,
        listener: Listener,
    ) -> None:
        self.data, self.model, self.fits, self.place, self.wishes = data, model, fits, place, wishes
        self.request, self.digest, self.seed, self.listener = request, digest, seed, listener
        self.own = held_model(model, data)
        self.unlearnings = Unlearnings(data, model, store, fits)
        self.generation: int = len(place.ledger.lineage(digest))
        self.received, self.start = _now(), time.perf_counter()
        maker = None if fits is None else of_fits(fits, data, seed, self.generation)
        self.measures = audit_measures(None, data, fits is not None)
        self.measured = MeasuredModels(data=data, measures=self.measures, name="deletion request", seed=seed, made=maker)

    # Planning

    def plan(self, methods: Sequence[tuple[str, Unlearner]]) -> DeletionPlan:
        """What is to be done, and its price."""
        data, wishes = self.data, self.wishes
        models: list[PlannedModels] = []
        price = 0.0
        if self.fits is not None:
            golds = [
                (data.partitions["retain"], gold_seed(self.seed, b, n, self.generation))
                for b in self._blocks
                for n in self._numbers
            ]
            siblings = [(data.partitions["train"], self._sibling_seed(block)) for block in self._blocks if block]
            price = retraining_price(self.fits, data, golds, self.seed)
            for name, wanted in (("retrained models", golds), ("further originals", siblings)):
                models.append(PlannedModels(name, len(wanted), sum(self.fits.has(ids, seed) for ids, seed in wanted)))
            models += self._rulers()
        candidates = candidate_prices(methods, self.unlearnings, self.own, self.seed) if self.fits is not None else []
        n_measured = len(candidates) + wishes.n_originals + sum(each.n - each.n_cached for each in models)
        draft = DeletionPlan(
            n_forget=len(data.partitions["forget"]),
            n_train=len(data.partitions["train"]),
            models=models,
            candidates=candidates,
            n_confirmed=wishes.n_originals,
            retraining_s=price,
            evidence_s=pass_seconds(data, self.own) * n_measured,
            price_per_hour=wishes.price_per_hour,
        )
        return self._within(draft)

    def _within(self, draft: DeletionPlan) -> DeletionPlan:
        """The plan without the methods that the budget does not allow."""
        spent = draft.training_s + draft.evidence_s
        allowed = []
        for each in draft.candidates:
            dear = spent + (1 + draft.n_confirmed) * each.seconds > self.wishes.max_seconds
            if not each.refusal and dear:
                each = replace(each, refusal=f"it does not fit into {self.wishes.max_seconds:.0f} s")
            elif not each.refusal:
                spent += each.seconds
            allowed.append(each)
        return replace(draft, candidates=allowed)

    @property
    def _blocks(self) -> range:
        """The model in use, further originals, and last the one that serves to choose."""
        return range(self.wishes.n_originals + 1)

    @property
    def _numbers(self) -> range:
        return range(self.wishes.n_golds)

    def _sibling_seed(self, block: int) -> int:
        """What was retrained for the last request is an original of this one."""
        if self.generation > 0:
            return gold_seed(self.seed, block, 0, self.generation - 1)
        return derive(self.seed, "original", block)

    def _rulers(self) -> list[PlannedModels]:
        maker = _Counting(cast(Fits, self.fits))
        count = of_fits(cast(Fits, maker), self.data, self.seed, self.generation)
        for measure in self.measures:
            for request, _ in measure.requests("unlearned"):
                count(request)
        return [PlannedModels("models that memory is measured by", maker.n, maker.n_cached)] if maker.n else []

    # Answering

    def answer(self, plan: DeletionPlan) -> Answer:
        """Carry the plan out."""
        chosen = self._choose(plan.tried) if self.fits is not None else None
        confirmed, audit, tested, why = None, None, None, ""
        if chosen is None:
            why = self._nothing_tried(plan)
        else:
            confirmed, audit, tested, why = self._confirm(chosen)
        if why and self.fits is not None and self.wishes.fallback:
            self._say(f"{why}; retraining")
            return self._publish(plan, RETRAINING, *self._retrained(confirmed, chosen), why="")
        if confirmed is None or chosen is None:
            raise RequirementNotMet(f"{why}, and nothing may be retrained: give train=, or another budget")
        return self._publish(plan, chosen.label, confirmed, cast(Audit, audit), tested, chosen.unlearner, why=why)

    def _nothing_tried(self, plan: DeletionPlan) -> str:
        refused = [f"{each.label}: {each.refusal}" for each in plan.candidates if each.refusal]
        return "no method can be tried" + (f" ({'; '.join(refused)})" if refused else "")

    @functools.cache  # noqa: B019 - lives as long as a request
    def _sibling(self, block: int) -> GivenModel:
        assert self.fits is not None  # noqa: S101 - narrows the type
        ids = self.data.partitions["train"]
        return fitted_model(self.fits.model(ids, self._sibling_seed(block), f"further original {block}"))

    def _golds(self, block: int) -> list[GivenModel]:
        assert self.fits is not None  # noqa: S101 - narrows the type
        return [golds_of(self.fits, self.data, block, number, self.seed, self.generation) for number in self._numbers]

    def _choose(self, candidates: Sequence[OfferedMethod]) -> OfferedMethod | None:
        """The method nearest to retrained models on an original that serves for nothing else; the first that is near is taken."""
        block = self._blocks[-1]
        best: tuple[float, OfferedMethod] | None = None
        for candidate in candidates:
            try:
                made = self.unlearnings.apply(candidate.unlearner, self._sibling(block), derive(self.seed, "unlearn", block))
            except ErasureError as error:
                self._say(f"{candidate.label} was left out: {error}")
                continue
            distance, remark = self._distance(candidate.label, made, block)
            self._say(f"{candidate.label}: {remark}")
            if math.isfinite(distance) and (best is None or distance < best[0]):
                best = distance, candidate
            if distance <= _NEAR:
                break
        return best[1] if best is not None else None

    def _distance(self, label: str, made: GivenModel, block: int) -> tuple[float, str]:
        given = GivenBlock(original=self._sibling(block), golds=self._golds(block), unlearned={label: made}, number=block)
        rows = self.measured.rows([given])
        guard = guarded(rows).get(label)
        if guard is not None:
            return math.inf, f"{guard[0]}, {guard[1]}"
        differences = judge_report(rows, roles_of(self.data)).methods[label].differences
        for each in differences:
            if (
                each.column.claim in {"retained", "held-out"}
                and each.column.is_share
                and -each.amount > self.wishes.max_utility_loss
            ):
                return math.inf, f"loses {100 * -each.amount:.1f} points of {each.column.measure} on {each.column.partition}"
        squares = [min(each.deviations, _MOST) ** 2 for each in differences if not each.is_negligible]
        distance = math.sqrt(math.fsum(squares) / max(1, len(differences)))
        return distance, f"{distance:.2f} standard deviations from retrained models"

    def _confirm(self, chosen: OfferedMethod) -> tuple[UnlearnedModel, Audit, Tested | None, str]:
        """Apply the method to the model in use and to further originals, none of which chose it, and judge it there."""
        blocks, own = [], None
        for number in self._blocks[:-1]:
            original = self._sibling(number) if number else self.own
            made = self.unlearnings.apply(chosen.unlearner, original, derive(self.seed, "unlearn", number))
            own = own or made
            blocks.append(GivenBlock(original=original, golds=self._golds(number), unlearned={chosen.label: made}, number=number))
        audit = self._judged(blocks, {chosen.label: chosen.label})
        assert own is not None  # noqa: S101 - there is always the model in use
        guard = guarded(audit.rows).get(chosen.label)
        if guard is not None:
            return own, audit, None, f"{chosen.label} is refused: {guard[1]}"
        tested = audit.tested.methods[chosen.label] if audit.tested is not None else None
        return own, audit, tested, self._thin(chosen.label, tested, own)

    def _thin(self, label: str, tested: Tested | None, made: UnlearnedModel) -> str:
        """Why the evidence does not carry a certificate; empty if it does."""
        if "test" not in self.data.partitions:
            return "without test data nobody can see whether the model is still of use"
        if tested is None:
            return "there is no retrained model to compare with"
        loss = self._accuracy(self.own) - self._accuracy(made)
        if loss > self.wishes.max_utility_loss:
            return f"{label} loses {100 * loss:.1f} points of accuracy on test, and {100 * self.wishes.max_utility_loss:.1f} are allowed"
        if tested.finding == Finding.INDISTINGUISHABLE:
            return ""
        reason = f" ({tested.reason})" if tested.reason else ""
        if tested.finding in {Finding.NOT_TOLD_APART, Finding.UNDECIDED}:
            return f"the evidence for {label} is too thin{reason}"
        return f"{label} is not as retraining: {tested.finding.value}{reason}"

    def _accuracy(self, model: GivenModel) -> float:
        return model.outputs(self.data.partitions["test"]).accuracy

    def _judged(self, blocks: Sequence[GivenBlock], keys: Mapping[str, str], exact: Sequence[str] = ()) -> Audit:
        rows = self.measured.rows(blocks)
        staging = self.place.staging(self.request, self.digest)
        return judged(
            self.data,
            blocks,
            rows,
            self.measures,
            name="deletion request",
            exact=exact,
            keys=keys,
            output=staging / EVIDENCE_FOLDER,
            listener=lambda event: None,
        )

    def _retrained(
        self, confirmed: UnlearnedModel | None, chosen: OfferedMethod | None
    ) -> tuple[UnlearnedModel, Audit, Tested | None, None]:
        """A model trained from scratch without the samples, which is none of those that others are judged beside."""
        assert self.fits is not None  # noqa: S101 - narrows the type
        seed = derive(self.seed, "answer", self.generation)
        fitted = fitted_model(self.fits.model(self.data.partitions["retain"], seed, "the model that answers"))
        model = UnlearnedModel(
            load=fitted.load,
            outputs=fitted.outputs,
            elapsed_s=fitted.elapsed_s,
            address=fitted.address,
            guarantee=Guarantee(
                kind="exact",
                assumptions=(
                    "The training function learns from the samples that it is given and from nothing that was made of the forgotten ones.",
                ),
            ),
        )
        unlearned: dict[str, GivenModel] = {RETRAINING: model}
        if confirmed is not None and chosen is not None:
            unlearned[chosen.label] = confirmed
        block = GivenBlock(original=self.own, golds=self._golds(0), unlearned=unlearned)
        audit = self._judged([block], dict.fromkeys(unlearned, ""), exact=[RETRAINING])
        tested = audit.tested.methods.get(RETRAINING) if audit.tested is not None else None
        return model, audit, tested, None

    def _publish(
        self,
        plan: DeletionPlan,
        label: str,
        made: UnlearnedModel,
        audit: Audit,
        tested: Tested | None,
        unlearner: Unlearner | None,
        *,
        why: str,
    ) -> Answer:
        staging = self.place.staging(self.request, self.digest)
        model = self.data.released(deep_copy(made.load())).cpu()
        unlearned = save_model(model, staging / MODEL_FOLDER)
        if unlearned == self.digest:
            raise RequirementNotMet(f"{label} gave the model back unchanged: nothing has been forgotten")
        statement = self._statement(label, made, audit, tested, unlearner, unlearned, staging)
        page = answer_page(None if why else statement, refusal=why, n_forgotten=statement.n_forgotten)
        write_atomically(staging / PAGE_FILE, page.encode(), option="--folder")
        entry = self.place.publish(
            staging,
            statement,
            {
                "received": self.received,
                "cost_s": round(time.perf_counter() - self.start, 3),
                "retraining_s": round(self._retraining_s(plan), 3),
                "drift": self._drift(tested),
                "refusal": why,
            },
            self.place.removed_record(self.data, self.data.partitions["forget"]),
            certify=not why,
        )
        folder = self.place.place(entry.number)
        home = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        return Answer(
            model=model.to(home).eval(),
            entry=entry,
            folder=folder,
            audit=replace(audit, output=folder / EVIDENCE_FOLDER),
            plan=plan,
        )

    def _retraining_s(self, plan: DeletionPlan) -> float:
        """Seconds of one retraining: what those beside the model took, where there are any."""
        if self.fits is None:
            return plan.retraining_s
        return statistics.median(gold.elapsed_s for gold in self._golds(0))

    def _statement(
        self,
        label: str,
        made: UnlearnedModel,
        audit: Audit,
        tested: Tested | None,
        unlearner: Unlearner | None,
        unlearned: str,
        staging: Path,
    ) -> Statement:
        found = versions()
        verdict = "retrained" if label == RETRAINING else tested.finding.value if tested is not None else "undecided"
        values = [
            CertifiedValue(
                measure=each.column.measure,
                partition=each.column.partition,
                unlearned=each.value,
                gold=each.gold,
                gold_sd=each.gold_sd,
                p=None if label == RETRAINING else each.p,
            )
            for each in (tested.differences if tested is not None else ())
        ]
        golds = {(row.seed_train, row.number) for row in audit.jury}
        return Statement(
            original=self.digest,
            unlearned=unlearned,
            request=self.request,
            n_forgotten=len(self.data.partitions["forget"]),
            method=label,
            method_version=str(found["erasure"]),
            parameters=cast(dict[str, Any], canonical(unlearner)).get("parameters", {}) if unlearner is not None else {},
            verdict=verdict,
            verdict_sentence=_sentence(verdict, tested, len(golds)),
            findings=tuple(values),
            n_golds=len(golds),
            guarantee=made.guarantee,
            data=self.data.fingerprint(),
            rows=rows_digest(staging),
            versions={name: str(value) for name, value in found.items()},
            finished=_now(),
        )

    def _drift(self, tested: Tested | None) -> float | None:
        """Distance of the answer from retrained models, over all values, in their standard deviations."""
        if tested is None or not tested.differences:
            return None
        squares = [min(each.deviations, _MOST) ** 2 for each in tested.differences]
        return round(math.sqrt(math.fsum(squares) / len(squares)), 4)

    def _say(self, text: str) -> None:
        self.listener(Said(text))


class _Counting:
    """Stands in for training where models are only counted."""

    def __init__(self, fits: Fits) -> None:
        self.fits, self.n, self.n_cached = fits, 0, 0

    def model(self, ids: Tensor, seed: int, name: str = "") -> GivenModel:
        self.n += 1
        self.n_cached += self.fits.has(ids, seed)
        return GivenModel(load=lambda: self.fits.like, outputs=lambda _: cast(Any, None))


def _sentence(verdict: str, tested: Tested | None, n_golds: int) -> str:
    if verdict == "retrained":
        return "The model was trained from scratch without the samples."
    if tested is None:
        return "Nothing could be compared."
    p = "" if tested.adjusted is None else f" (p = {tested.adjusted:.3g})"
    left = ""
    if tested.memory is not None:
        left = f" Of what the original knew {100 * tested.memory.low:.0f} to {100 * tested.memory.high:.0f} % is left."
    return f"Beside {n_golds} retrained models, over {tested.n_originals} originals, no difference was found{p}.{left}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
