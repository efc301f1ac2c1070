"""A deletion request for an estimator of scikit-learn: closed form or fitting again, with ledger and certificate."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.certificates.answer_page import answer_page
from erasure.certificates.statement import CertifiedValue, Statement
from erasure.durable import write_atomically
from erasure.engine.forgetful_estimators import forget
from erasure.engine.recording.provenance import versions
from erasure.errors import DataError, RequirementNotMet
from erasure.records.requests import RequestEntry
from erasure.records.rows import Row, write_rows
from erasure.workflows.deletion_cost import SPENT_FILE, Spent, now
from erasure.workflows.deletion_folder import EVIDENCE_FOLDER, MODEL_FOLDER, PAGE_FILE, DeletionFolder, rows_digest, save_model
from erasure.workflows.deletion_plan import DeletionPlan
from erasure.workflows.deletion_statement import RETRAINING

__all__ = ["EstimatorData", "EstimatorRequest", "is_estimator"]

_TRIAL = 10
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
    """

    estimator: Any
    data: EstimatorData
    place: DeletionFolder
    request: str
    digest: str
    price_per_hour: float = 0.0

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

    def plan(self) -> DeletionPlan:
        """What will be done, and what fitting again takes, from fitting to a tenth of the data."""
        from sklearn.base import clone

        retain = self.data.partitions["retain"]
        some = retain[:: max(1, min(_TRIAL, len(retain) // 64))]
        x, y = self.data.taken(some)
        start = time.perf_counter()
        try:
            clone(self.estimator).fit(x) if y is None else clone(self.estimator).fit(x, y)
        except ValueError:  # a class may be missing in a part
            start = time.perf_counter()
        retraining_s = (time.perf_counter() - start) * len(retain) / len(some)
        return DeletionPlan(
            n_forget=len(self.data.partitions["forget"]),
            n_train=len(self.data.partitions["train"]),
            retraining_s=retraining_s,
            price_per_hour=self.price_per_hour,
            way="take the samples off the counts where the estimator is made of counts, else fit it from scratch; both are exact",
        )

    def answer(self, plan: DeletionPlan) -> tuple[Any, RequestEntry, Path]:
        """Forget, write, record, certify."""
        staging = self.place.staging(self.request, self.digest)
        spent = Spent(staging / "private" / SPENT_FILE)
        spent.note()
        present, gone = self.data.partitions["train"], self.data.partitions["forget"]
        x, y = self.data.taken(present)
        made = forget(self.estimator, x, y, forget=torch.isin(present, gone).numpy(), may_start_warm=False)
        way = made.unlearning_.way
        unlearned = save_model(made, staging / MODEL_FOLDER)
        if unlearned == self.digest:
            raise RequirementNotMet("the estimator is the same without the samples: it has learned nothing from them")
        rows = [*self._rows(self.estimator, "original"), *self._rows(made, "unlearned")]
        (staging / EVIDENCE_FOLDER).mkdir(parents=True, exist_ok=True)
        write_rows(rows, staging / EVIDENCE_FOLDER)
        statement = self._statement(way, unlearned, rows, staging)
        page = answer_page(statement, contact=self.place.contact)
        write_atomically(staging / PAGE_FILE, page.encode(), option="--folder")
        facts = {
            "received": spent.received,
            "cost_s": round(spent.seconds, 3),
            "retraining_s": round(made.unlearning_.elapsed_s if way == "retraining" else plan.retraining_s, 3),
            "drift": None,
            "refusal": "",
        }
        removed = self.place.removed_record(self.data, gone)
        entry = self.place.publish(staging, statement, facts, removed, certify=True)
        return made, entry, self.place.place(entry.number)

    def _statement(self, way: str, unlearned: str, rows: list[Row], staging: Path) -> Statement:
        found = versions()
        is_retrained = way == "retraining"
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

    def _rows(self, estimator: Any, role: Any) -> list[Row]:
        """The estimator's own score on each part."""
        parts = {name: self.data.taken(self.data.partitions[name]) for name in ("forget", "retain")}
        if self.data.test is not None:
            parts["test"] = self.data.test
        is_classifier = hasattr(estimator, "classes_")
        rows = []
        for partition, (x, y) in parts.items():
            if y is None or not hasattr(estimator, "score"):
                continue
            rows.append(
                Row(
                    experiment="deletion request",
                    dataset="given data",
                    unlearner="",
                    label=role if role == "original" else _label(estimator.unlearning_.way),
                    model_role=role,
                    measure="accuracy" if is_classifier else "score",
                    partition=partition,
                    value=float(estimator.score(x, y)),
                    seed_split=0,
                    seed_train=0,
                    seed_unlearn=None if role == "original" else 0,
                    seed_evaluate=0,
                    n=1,
                )
            )
        return rows


def _label(way: str) -> str:
    return RETRAINING if way == "retraining" else "closed form"


def _bytes(value: Any) -> bytes:
    """Content of some samples, in whatever they are kept."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    values = np.asarray(value)
    if values.dtype.kind in "OU":
        return "\x1f".join(map(str, values.reshape(-1).tolist())).encode()
    return str(values.dtype).encode() + np.ascontiguousarray(values).tobytes()
