"""Answering a deletion request: plan, unlearn, judge, confirm or retrain, record and certify."""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erasure.certificates.digests import model_digest, person_digest
from erasure.engine.fits import Fit, Fits, recipe_fit
from erasure.engine.given_checks import check_bounds, check_settings, positions
from erasure.engine.given_data import GivenData, given_data, unlearner_of
from erasure.engine.saved_estimators import is_saved_estimator, load_estimator
from erasure.engine.sharded_fits import OwnShards
from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.events import Listener, ignore_events
from erasure.records.requests import RequestEntry
from erasure.store import Store, default_base_path, default_store_path
from erasure.training.anatomy import load_state
from erasure.training.devices import resolve_device
from erasure.training.estimators import Estimator
from erasure.training.logistic import LogisticModel, NoisyLogisticModel
from erasure.training.trial import deep_copy
from erasure.types import Task
from erasure.unlearners.contract import Unlearner
from erasure.workflows.audit import Audit, unfamiliar
from erasure.workflows.deletion_folder import CERTIFICATE_FILE, MODEL_FOLDER, DeletionFolder, check_folder, save_model
from erasure.workflows.deletion_plan import NOTHING_TO_PREPARE, DeletionPlan
from erasure.workflows.deletion_request import DeletionRequest, Wishes
from erasure.workflows.deletion_statement import RETRAINING
from erasure.workflows.estimator_request import EstimatorData, EstimatorRequest, is_estimator

__all__ = ["METHODS", "Answer", "forget", "matching", "proving_methods"]

_ADAM = {"class": "Adam", "parameters": {"lr": 1e-3}}
METHODS: tuple[str | Mapping[str, Any], ...] = (
    "SSD",
    {"class": "NegGrad+", "parameters": {"epochs": 1, "alpha": 0.96, "optimizer": _ADAM}},
    {"class": "SuccessiveRandomLabels", "parameters": {"epochs": 2, "optimizer": _ADAM}},
)
"""Methods that are tried if nobody says, cheap ones of different kinds, beside the one that :func:`matching` gives."""

_PASSES, _LEAST_PASSES, _KEPT, _COST = 60, 20, 2.5, 10
"""Passes over the forgotten samples, and how few do; kept samples for each of them; what all may cost, in passes over the training set."""

_MIN_ORIGINALS = 3
_TELLING_S = 0.5
"""Seconds of a retraining from which on a request is told as a share of it."""
_TAKEN = {"original", "gold", RETRAINING}
"""Labels that a method cannot have."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """The answer to a request.

    Args:
        model: The model to use from now on, in eval mode; an estimator where one was given.
        entry: Its line in the ledger.
        folder: Where model, evidence and certificate are.
        audit: The evidence; None if the request had been answered before.
        plan: What was planned.
    """

    model: Any
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
        share = f", {entry.cost_s / entry.retraining_s:.2f} of a retraining" if entry.retraining_s >= _TELLING_S else ""
        proof = f"certificate {self.certificate}" if self.certificate else f"no certificate: {entry.refusal}"
        said = f"{entry.n_forgotten:,} forgotten by {entry.method} ({entry.verdict}), {entry.cost_s:.1f} s{share}; {proof}"
        return f"request {entry.number}: {said}"


def forget(
    *,
    model: Any,
    forget: Any,
    data: Any,
    test: Any = None,
    train: Fit | Mapping[str, Any] | None = None,
    who: Sequence[str | int] | None = None,
    methods: Sequence[str | Unlearner | Mapping[str, Any]] = METHODS,
    folder: Path | str = "requests",
    key: Path | str | None = None,
    contact: str = "",
    max_seconds: float | None = None,
    max_money: float | None = None,
    price_per_hour: float = 0.0,
    max_utility_loss: float = 0.02,
    max_eps: float = 1.0,
    n_originals: int = 5,
    n_golds: int = 4,
    n_attempts: int = 1,
    fallback: bool = True,
    check_data: bool = True,
    original: Path | str | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    task: Task | None = None,
    batch_size: int = 64,
    seed: int = 0,
    version: str = "",
    store: Path | str | None = None,
    device: str = "auto",
    dry_run: bool = False,
    prepare: bool = False,
    listener: Listener = ignore_events,
) -> Answer | DeletionPlan:
    """Answer a request to forget some training samples of a model, and show that it was done.

    A method whose guarantee says by proof that the samples are gone needs no other evidence. Others are tried on a model that only serves
    to choose; the best is applied to the model itself and to others of further seeds, all judged beside models that were retrained
    without the samples. If it cannot be told from these, its model is kept; if it can, or the evidence is too thin to tell, the model is
    retrained. Everything is written to ``folder``: the model, the evidence, a line in the ledger and a signed certificate. Interrupted,
    the same call resumes where it stopped; asked again, it returns the existing answer.

    Args:
        model: The trained network, or a fitted estimator of scikit-learn, for which ``data`` and ``test`` are ``(X, y)`` and nothing has to
            be judged: it forgets exactly. It is not changed.
        forget: Positions in ``data`` of the samples to forget: whole numbers, or a mask.
        data: Everything the model was first trained on; what earlier requests have removed may be in it still or not.
        test: Samples that no model has seen; without them nothing is certified.
        train: ``fit(indices, seed) -> model``, which trains from scratch on the samples at these positions, or a recipe.
        who: The ids of those who ask, of which the records keep a salted digest; by default the positions.
        methods: What to try: names, methods, or ``{"class": …, "parameters": …}``; none to retrain at once. By
            default a few cheap ones, and the method that forgets by proof where the model has one.
        folder: The folder of all requests for this model.
        key: Private key to sign with (``erasure keys new``); by default one in the folder.
        contact: Whom the person who asked may turn to, such as a name and an address; their page shows it.
        max_seconds: Methods that do not fit into this time are not tried.
        max_money: The same in money.
        price_per_hour: What an hour of computing costs.
        max_utility_loss: Accuracy on ``test`` that a model may lose against the one before.
        max_eps: Largest eps of a certified removal whose guarantee is evidence enough, at its delta.
        n_originals: Models on which the best method is confirmed, the one in use among them; at least 3.
        n_golds: Retrained models beside each of them.
        n_attempts: How many methods are confirmed in turn until one holds. The more there may be, the stricter each is judged, so that
            all together err no more often than one.
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
        prepare: Make everything but the answer itself and give the plan, before somebody asks: models that methods are judged beside, the
            choice of a method and its trials on other models or, with no methods, the retrained model. The request then finds them.
        listener: Receives events.

    Returns:
        The answer; with ``dry_run`` or ``prepare`` the plan.

    Raises:
        DataError: If the samples cannot be used, or the model was not trained on them.
        RequirementNotMet: If something that is needed is missing, or the budget allows nothing.
    """
    check_settings(seed=seed, batch_size=batch_size)
    limits = {"max_seconds": (max_seconds, 0, math.inf), "max_money": (max_money, 0, math.inf)}
    check_bounds(
        whole=("n_originals", "n_golds", "n_attempts"),
        n_originals=(n_originals, _MIN_ORIGINALS, math.inf),
        n_golds=(n_golds, 1, math.inf),
        n_attempts=(n_attempts, 1, math.inf),
        price_per_hour=(price_per_hour, 0, math.inf),
        max_utility_loss=(max_utility_loss, 0, 1),
        max_eps=(max_eps, 0, math.inf),
        **{name: bounds for name, bounds in limits.items() if bounds[0] is not None},
    )
    if max_money is not None and not price_per_hour:
        raise InvalidParameters([Diagnostic("says nothing without price_per_hour, what an hour costs", path="max_money")])
    who = [who] if isinstance(who, str | int) else who
    methods = [methods] if isinstance(methods, str | Unlearner | Mapping) else methods
    if not isinstance(methods, Sequence):
        raise InvalidParameters([Diagnostic("expected a sequence of methods, or () to retrain at once", path="methods")])
    root, is_planned = Path(folder), dry_run or prepare
    check_folder(root)
    place = DeletionFolder(root, None if key is None else Path(key), str(contact))
    place.check()
    if data is None:
        raise DataError(
            "give what the model was trained on as data=, and as forget= the positions in it of the samples to forget"
        )
    if train is not None and not isinstance(train, Mapping) and not callable(train):
        raise RequirementNotMet(
            f"train is a {type(train).__name__}, expected a function fit(indices, seed) that gives a trained model, or a recipe"
        )
    whole = (
        EstimatorData.of(data, test)
        if is_estimator(model)
        else given_data(
            model,
            forget=forget,
            data=data,
            test=test,
            loss_fn=loss_fn,
            task=task,
            batch_size=batch_size,
            device=resolve_device(device),
        )
    )
    with nullcontext() if is_planned else place.answering(listener):
        digest = functools.cache(lambda: _digest(model, original, place))
        asked = _asked(whole, forget, who, place, digest)
        if isinstance(asked, RequestEntry):
            return _again(asked, place, model, len(whole.partitions["train"]), dry_run=is_planned)
        if isinstance(whole, EstimatorData):
            return _of_estimator(
                model,
                whole.narrowed(**asked.partitions),
                asked.request,
                digest(),
                place,
                price_per_hour,
                check_data,
                dry_run,
                prepare,
            )
        given = whole.narrowed(**asked.partitions)
        limit = min(
            math.inf if max_seconds is None else max_seconds,
            math.inf if max_money is None else 3600 * max_money / price_per_hour,
        )
        wishes = Wishes(
            n_originals=n_originals,
            n_golds=n_golds,
            n_attempts=n_attempts,
            max_seconds=limit,
            max_utility_loss=max_utility_loss,
            max_eps=max_eps,
            fallback=fallback,
            price_per_hour=price_per_hour,
        )
        stored = Store(store or default_store_path(), base=default_base_path())
        fit = recipe_fit(train, model, given) if isinstance(train, Mapping) else train
        fits = None if fit is None else Fits(fit, model, whole, stored, version=version, listener=listener)
        work = DeletionRequest(
            given, model, fits, stored, place, wishes, request=asked.request, digest=digest(), seed=seed, listener=listener
        )
        if check_data:
            reason = unfamiliar(given, work.own)
            if reason:
                raise DataError(reason)
        if not is_planned:
            work.begin()
        if methods is METHODS:
            sizes = (len(given.partitions[name]) for name in ("forget", "train"))
            methods = (*proving_methods(model), *METHODS, *(matching(*sizes) if fits is not None else ()))
        tried = _labelled(methods)
        if prepare:
            work.prepare(tried)
        plan = work.plan(tried, priced=is_planned)
        if is_planned:
            return replace(plan, note=NOTHING_TO_PREPARE) if prepare and plan.proving else plan
        done = work.answer(plan)
        return Answer(model=done.model, entry=done.entry, folder=done.folder, audit=done.audit, plan=plan)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request that nobody has answered yet: its digest, and which samples are there, are to go and stay."""

    request: str
    partitions: Mapping[str, Tensor]


def _asked(
    data: GivenData | EstimatorData,
    forget: Any,
    who: Sequence[str | int] | None,
    place: DeletionFolder,
    digest: Callable[[], str],
) -> _Asked | RequestEntry:
    """The request, or the entry of the ledger that has answered it."""
    wanted = positions(forget, len(data.partitions["train"]), "forget")
    if not len(wanted):
        raise DataError("there is nothing to forget: forget holds no samples")
    request = person_digest([*who] if who is not None else wanted.tolist(), place.salt)
    present = place.present(data)
    gone = present[torch.isin(present, wanted.to(present.device))]
    known = place.ledger.find(request)
    if known is not None and (not len(gone) or known.original == digest()):
        return known
    later = next((each for each in place.ledger if each.certificate and each.original == digest()), None)
    if later is not None:
        raise DataError(
            f"request {later.number} has made another model from this one, which remembers what was removed then; start from "
            f"{place.place(later.number) / MODEL_FOLDER}"
        )
    if not len(gone):
        raise DataError("earlier requests have removed all of these samples already; erasure requests list shows them")
    if len(gone) == len(present):
        raise DataError(f"all {len(present):,} samples that are left are to be forgotten: there is nothing left to learn from")
    return _Asked(request, {"train": present, "forget": gone, "retain": present[~torch.isin(present, gone)]})


def _of_estimator(
    estimator: Any,
    data: EstimatorData,
    request: str,
    digest: str,
    place: DeletionFolder,
    price_per_hour: float,
    check_data: bool,
    dry_run: bool,
    prepare: bool,
) -> Answer | DeletionPlan:
    work = EstimatorRequest(
        estimator=estimator,
        data=data,
        place=place,
        request=request,
        digest=digest,
        price_per_hour=price_per_hour,
        is_checked=check_data,
    )
    spent = work.begun()
    if check_data:
        work.check()
    plan = work.plan(priced=dry_run or prepare)
    if prepare:
        return replace(plan, note=NOTHING_TO_PREPARE)
    if dry_run:
        return plan
    made, entry, folder = work.answer(plan, spent)
    return Answer(model=made, entry=entry, folder=folder, plan=plan)


def _again(known: RequestEntry, place: DeletionFolder, model: Any, n_train: int, *, dry_run: bool) -> Answer | DeletionPlan:
    """The answer that a request has had already."""
    if dry_run:
        return DeletionPlan(n_forget=known.n_forgotten, n_train=n_train, already=known.number)
    folder = place.place(known.number)
    return Answer(model=_loaded(folder / MODEL_FOLDER, model), entry=known, folder=folder)


def _loaded(folder: Path, like: Any) -> Any:
    from safetensors.torch import load_file

    if is_saved_estimator(folder):
        return load_estimator(folder)

    file = folder / "model.safetensors"
    if not file.exists():
        raise DataError(f"the model of this request is not at {file} any more; its digest is in the ledger")
    model = deep_copy(like)
    load_state(model, load_file(file), strict=False)
    return model.eval()


def _digest(model: Any, original: Path | str | None, place: DeletionFolder) -> str:
    if original is not None:
        return model_digest(Path(original))
    saved = place.root / ".original"
    try:
        return save_model(model, saved)
    finally:
        shutil.rmtree(saved, ignore_errors=True)


def proving_methods(model: nn.Module) -> tuple[str, ...]:
    """The methods that forget by proof what a model of this kind has learned; none for most networks."""
    if isinstance(model, OwnShards):
        return ("SISA",)
    if isinstance(model, NoisyLogisticModel):
        return ("LangevinUnlearning",)
    if isinstance(model, LogisticModel):
        return ("NewtonRemoval",) if model.perturbation else ()
    return ("ExactDeletion",) if isinstance(model, Estimator) and model.exactness != "none" else ()


def matching(n_forget: int, n_train: int) -> tuple[Mapping[str, Any], ...]:
    """The method that learns, on the forgotten samples, what a retrained model says of them; none where it would cost too much.

    The retrained model is one of those that serve to choose, so that it costs nothing and judges nothing.

    Args:
        n_forget: Samples to forget.
        n_train: Samples that the model was trained on.
    """
    passes = min(_PASSES, int(_COST * n_train / ((1 + _KEPT) * n_forget)))
    if passes < _LEAST_PASSES:
        return ()
    optimizer = {"class": "Adam", "parameters": {"lr": 3e-3}}
    share = min(1.0, _KEPT * n_forget / (n_train - n_forget))
    parameters = {"targets": "gold", "kept": "labels", "subset": "anew", "epochs": passes, "retain_fraction": round(share, 4)}
    return ({"class": "DMM", "parameters": {**parameters, "optimizer": optimizer}},)


def _labelled(methods: Sequence[str | Unlearner | Mapping[str, Any]]) -> list[tuple[str, Unlearner]]:
    found: list[tuple[str, Unlearner]] = []
    for number, each in enumerate(methods):
        if isinstance(each, Unlearner):
            label, unlearner = type(each).__name__, each
        elif isinstance(each, Mapping):
            label, unlearner = _described(each, f"methods[{number}]")
        else:
            label, unlearner = each, unlearner_of(each, {})
        taken = {known for known, _ in found}
        found.append((label if label not in taken else f"{label} {len(found) + 1}", unlearner))
    return found


def _described(method: Mapping[str, Any], path: str) -> tuple[str, Unlearner]:
    """Label and method of ``{"class": …, "parameters": …, "label": …}``."""
    unknown = sorted(str(name) for name in {*method} - {"class", "parameters", "label"})
    name, parameters = method.get("class"), method.get("parameters", {})
    label = str(method.get("label", name))
    problem = ""
    if unknown:
        problem = f'"{unknown[0]}" is not read there; a method has "class", "label" and "parameters", by their names'
    elif not isinstance(name, str):
        problem = 'expected the method\'s name as "class", such as {"class": "SSD", "parameters": {}}'
    elif not isinstance(parameters, Mapping):
        problem = f'expected "parameters" by name, such as {{"epochs": 1}}, found a {type(parameters).__name__}'
    elif label in _TAKEN:
        problem = f'"{label}" is what another model of the report is called; choose another label'
    if problem:
        raise InvalidParameters([Diagnostic(problem, path=path)])
    return label, unlearner_of(name, dict(parameters))
