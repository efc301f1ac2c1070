"""A deletion request for an estimator of scikit-learn: closed form or fitting again, with ledger and certificate."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.certificates.answer_page import answer_page
from erasure.certificates.statement import CertifiedValue, Statement
from erasure.durable import write_atomically
from erasure.engine.forgetful_estimators import forget, is_made_of_counts
from erasure.engine.recording.provenance import versions
from erasure.errors import DataError, RequirementNotMet
from erasure.records.requests import RequestEntry
from erasure.records.rows import Row, write_rows
from erasure.workflows.deletion_cost import SPENT_FILE, Spent, now
from erasure.workflows.deletion_folder import EVIDENCE_FOLDER, MODEL_FOLDER, PAGE_FILE, DeletionFolder, rows_digest, save_model
from erasure.workflows.deletion_plan import DeletionPlan, StepPrices
from erasure.workflows.deletion_statement import RETRAINING
from erasure.workflows.estimator_price import fitting_seconds, scoring_seconds

__all__ = ["EstimatorData", "EstimatorRequest", "is_estimator"]

_NOBODY = "0" * 64
"""Digest that stands where a rehearsal names people and models."""
_RETRAINING = "retraining"
"""The way of an estimator that was fitted from scratch."""
_ASSUMED = {
    "closed form": "The samples were taken off the counts that the estimator is made of, which equals fitting without them up to rounding.",
    "retraining": "The estimator is fitted from scratch; features, scaling and parameters that the samples helped to make are not covered.",
}


def is_estimator(model: Any) -> bool:
    """Whether a model has scikit-learn's interface."""
    return not isinstance(model, nn.Module) and all(callable(getattr(model, name, None)) for name in ("fit", "get_params"))


@dataclass(frozen=True, eq=False)
class EstimatorData:
    """What an estimator was fitted on.

    Args:
        x: Array, sparse matrix, data frame or list.
        y: Labels; None where there are none.
        test: The same of samples that it has not seen; None if there are none.
        partitions: Positions of what is there (``train``), and of what is to go and stay.
    """

    x: Any
    y: Any
    test: tuple[Any, Any] | None
    partitions: Mapping[str, Tensor]

    @classmethod
    def of(cls, data: Any, test: Any) -> EstimatorData:
        """From ``(X, y)``, or X alone.

        Raises:
            DataError: If X and y are not of one length.
        """
        x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
        n = x.shape[0] if hasattr(x, "shape") else len(x)
        if y is not None and len(y) != n:
            raise DataError(f"data has {n:,} samples and {len(y):,} labels")
        pair = test if isinstance(test, tuple) and len(test) == 2 else None if test is None else (test, None)
        return cls(x, y, pair, {"train": torch.arange(n)})

    def narrowed(self, **ids: Tensor) -> EstimatorData:
        """The same data with other partitions."""
        return EstimatorData(self.x, self.y, self.test, {**self.partitions, **ids})

    def taken(self, ids: Tensor) -> tuple[Any, Any]:
        """Samples and labels at some positions."""
        from sklearn.utils import _safe_indexing

        places = ids.numpy()
        return _safe_indexing(self.x, places), None if self.y is None else _safe_indexing(self.y, places)

    def content_of(self, number: int) -> bytes:
        """A sample and its label, as bytes."""
        x, y = self.taken(torch.tensor([number]))
        return _bytes(x) + (b"" if y is None else _bytes(y))

    @functools.cache  # noqa: B019 - lives as long as a request
    def fingerprint(self) -> str:
        """SHA-256 of all samples that are there."""
        digest = hashlib.sha256()
        for part in self.taken(self.partitions["train"]):
            digest.update(b"" if part is None else _bytes(part))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class EstimatorRequest:
    """A request for an estimator; what it does is exact, so that nothing has to be trained to judge it.

    Args:
        estimator: The one in use.
        data: With the partitions ``train``, ``forget`` and ``retain``.
        place: The folder of all requests.
        request: Digest of who asks.
        digest: Of the saved estimator.
        price_per_hour: What an hour of computing costs.
        is_checked: Whether the estimator is asked if it has learned from the data.
    """

    estimator: Any
    data: EstimatorData
    place: DeletionFolder
    request: str
    digest: str
    price_per_hour: float = 0.0
    is_checked: bool = True

    def check(self) -> None:
        """That the estimator has learned from this data.

        Raises:
            DataError: If it does no better on it than a constant.
        """
        if self.data.y is None or not hasattr(self.estimator, "classes_"):
            return
        x, y = self.data.taken(self.data.partitions["train"])
        labels = np.asarray(y)
        if labels.ndim != 1:
            return
        constant = float(np.unique(labels, return_counts=True)[1].max()) / len(labels)
        try:
            found = float(self.estimator.score(x, y))
            if self.data.test is not None:
                self.estimator.predict(self.data.test[0])
        except (ValueError, TypeError) as problem:
            raise DataError(f"the estimator does not take this data: {str(problem).splitlines()[0]}") from problem
        error = (constant * (1 - constant) / len(labels)) ** 0.5
        if found <= constant + 3 * error:
            raise DataError(
                f"the estimator seems not to be trained on this data: its accuracy there is {100 * found:.1f} %, a constant answer has "
                f"{100 * constant:.1f} %; say that it is right with check_data=False"
            )

    def plan(self, *, priced: bool = True) -> DeletionPlan:
        """What will be done, and its price, from fits and scores on parts of the data and a rehearsed answer.

        Args:
            priced: Whether somebody wants to know the price; else only what the ledger names is timed.
        """
        is_counted = is_made_of_counts(self.estimator, *self._labels_and_gone())
        draft = DeletionPlan(
            n_forget=len(self.data.partitions["forget"]),
            n_train=len(self.data.partitions["train"]),
            price_per_hour=self.price_per_hour,
            way="take the samples off the counts that the estimator is made of"
            if is_counted
            else "fit the estimator from scratch",
        )
        if not priced and not is_counted:
            return draft
        draft = replace(draft, retraining_s=fitting_seconds(self.estimator, *self.data.taken(self.data.partitions["retain"])))
        if not priced:
            return draft
        way_s = self._forgotten().unlearning_.elapsed_s if is_counted else draft.retraining_s
        first, steps = self._step_prices(), self._step_prices()
        steps = replace(steps, pass_s=self._scoring_s(), start_s=max(0.0, first.report_s - steps.report_s))
        return replace(draft, way_s=way_s, steps=steps)

    def _step_prices(self) -> StepPrices:
        """Seconds of writing and publishing, rehearsed in a folder where nothing else is."""
        with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
            place = DeletionFolder(Path(folder), contact=self.place.contact)
            stand_in = replace(self, place=place, request=_NOBODY, digest=_NOBODY, data=self.data.narrowed())
            _ = place.signing_key
            rows = [self._row(role, "rehearsal", name, 0.5) for role in ("original", "unlearned") for name in self._parts()]
            start = time.perf_counter()
            save_model(self.estimator, Path(folder) / MODEL_FOLDER)  # the one in use is saved too, for its digest
            stand_in._published(self.estimator, _RETRAINING, rows, Spent(Path(folder) / SPENT_FILE), 0.0)
            return StepPrices(report_s=time.perf_counter() - start)

    def _scoring_s(self) -> float:
        """Seconds that one model's scores take, and half of what it takes to check that the estimator has learned from the data."""
        if self.data.y is None or not hasattr(self.estimator, "score"):
            return 0.0
        x, y = self.data.taken(self.data.partitions["train"])
        n_scored = len(self.data.partitions["train"]) + (0 if self.data.test is None else len(self.data.test[1]))
        n_checked = n_scored if self.is_checked and hasattr(self.estimator, "classes_") else 0
        return scoring_seconds(self.estimator.score, x, y, n_scored + n_checked // 2)

    def _labels_and_gone(self) -> tuple[Any, Any]:
        present, gone = self.data.partitions["train"], self.data.partitions["forget"]
        return self.data.taken(present)[1], torch.isin(present, gone).numpy()

    def _forgotten(self) -> Any:
        """The estimator without the samples."""
        x, y = self.data.taken(self.data.partitions["train"])
        return forget(self.estimator, x, y, forget=self._labels_and_gone()[1], may_start_warm=False)

    def begun(self) -> Spent:
        """What it takes from now on."""
        return Spent(self._staging / "private" / SPENT_FILE)

    def answer(self, plan: DeletionPlan, spent: Spent) -> tuple[Any, RequestEntry, Path]:
        """Forget, write, record, certify.

        Args:
            plan: What is known beforehand.
            spent: From when the request was begun.
        """
        spent.note()
        made = self._forgotten()
        way = made.unlearning_.way
        rows = [*self._rows(self.estimator, "original", ""), *self._rows(made, "unlearned", _label(way))]
        retraining_s = made.unlearning_.elapsed_s if way == _RETRAINING else plan.retraining_s
        entry = self._published(made, way, rows, spent, retraining_s)
        return made, entry, self.place.place(entry.number)

    @property
    def _staging(self) -> Path:
        return self.place.staging(self.request, self.digest)

    def _published(self, made: Any, way: str, rows: list[Row], spent: Spent, retraining_s: float) -> RequestEntry:
        """Write the answer, and make it visible."""
        staging = self._staging
        unlearned = save_model(made, staging / MODEL_FOLDER)
        if unlearned == self.digest:
            raise RequirementNotMet(
                "fitted without these samples the estimator is the same to the last bit: it holds nothing of them, and no other model is "
                "needed"
            )
        (staging / EVIDENCE_FOLDER).mkdir(parents=True, exist_ok=True)
        write_rows(rows, staging / EVIDENCE_FOLDER)
        statement = self._statement(way, unlearned, rows, staging)
        page = answer_page(statement, contact=self.place.contact)
        write_atomically(staging / PAGE_FILE, page.encode(), option="--folder")
        removed = self.place.removed_record(self.data, self.data.partitions["forget"])
        facts = {
            "received": spent.received,
            "cost_s": round(spent.seconds, 3),
            "retraining_s": round(retraining_s, 3),
            "drift": None,
            "refusal": "",
        }
        return self.place.publish(staging, statement, facts, removed, certify=True)

    def _statement(self, way: str, unlearned: str, rows: list[Row], staging: Path) -> Statement:
        found = versions()
        is_retrained = way == _RETRAINING
        sentence = "The model was trained from scratch without the samples."
        return Statement(
            original=self.digest,
            unlearned=unlearned,
            request=self.request,
            n_forgotten=len(self.data.partitions["forget"]),
            method=_label(way),
            method_version=str(found["erasure"]),
            verdict="retrained" if is_retrained else "exact",
            verdict_sentence=sentence if is_retrained else "Provably, the model is one that training without the samples gives.",
            findings=tuple(
                CertifiedValue(measure=row.measure, partition=row.partition, unlearned=row.value)
                for row in rows
                if row.model_role == "unlearned" and row.value is not None
            ),
            guarantee=Guarantee(kind="exact", assumptions=(_ASSUMED[way],)),
            data=self.data.fingerprint(),
            rows=rows_digest(staging),
            versions={name: str(value) for name, value in found.items()},
            finished=now(),
        )

    def _parts(self) -> dict[str, tuple[Any, Any]]:
        """What an estimator is scored on."""
        parts = {name: self.data.taken(self.data.partitions[name]) for name in ("forget", "retain")}
        if self.data.test is not None:
            parts["test"] = self.data.test
        return {name: (x, y) for name, (x, y) in parts.items() if y is not None and hasattr(self.estimator, "score")}

    def _rows(self, estimator: Any, role: Any, label: str) -> list[Row]:
        """The estimator's own score on each part."""
        return [self._row(role, label, name, float(estimator.score(x, y))) for name, (x, y) in self._parts().items()]

    def _row(self, role: Any, label: str, partition: str, score: float) -> Row:
        return Row(
            experiment="deletion request",
            dataset="given data",
            unlearner="",
            label=label or role,
            model_role=role,
            measure="accuracy" if hasattr(self.estimator, "classes_") else "score",
            partition=partition,
            value=score,
            seed_split=0,
            seed_train=0,
            seed_unlearn=None if role == "original" else 0,
            seed_evaluate=0,
            n=1,
        )


def _label(way: str) -> str:
    return RETRAINING if way == _RETRAINING else "closed form"


def _bytes(value: Any) -> bytes:
    """Content of some samples, in whatever they are kept."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    values = np.asarray(value)
    if values.dtype.kind in "OU":
        return "\x1f".join(map(str, values.reshape(-1).tolist())).encode()
    return str(values.dtype).encode() + np.ascontiguousarray(values).tobytes()
