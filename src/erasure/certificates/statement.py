"""What a certificate claims: an in-toto statement about two models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from erasure.accounting.guarantee import Guarantee
from erasure.errors import DataError

__all__ = ["PREDICATE_TYPE", "STATEMENT_TYPE", "CertifiedValue", "Guarantee", "Statement"]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:erasure:unlearning:v1"
"""Raise the number when a field's meaning changes; statements of older numbers stay readable."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class CertifiedValue:
    """One number that the verdict rests on.

    Args:
        measure: Its name, such as ``accuracy``.
        partition: Which samples, such as ``forget``.
        unlearned: The unlearned model's value.
        gold: Mean over the retrained models.
        gold_sd: Their standard deviation; None for fewer than two.
        p: Adjusted p-value of the difference; None where none was tested.
    """

    measure: str
    partition: str
    unlearned: float
    gold: float | None = None
    gold_sd: float | None = None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An unlearning, as it is signed.

    Args:
        original: SHA-256 of the saved model before.
        unlearned: SHA-256 of the saved model after.
        request: Salted digest of who asked (:func:`~erasure.certificates.digests.person_digest`).
        n_forgotten: Number of samples.
        method: Name of the method, or ``Retraining``.
        method_version: Version of its implementation.
        parameters: The method's parameters.
        verdict: Key of the verdict, such as ``indistinguishable``.
        verdict_sentence: The verdict in words.
        findings: The numbers behind it.
        n_golds: Retrained models that it was judged beside.
        guarantee: What holds by proof.
        data: Fingerprint of the training data.
        rows: SHA-256 of the file of rows that the findings come from.
        versions: Of the libraries that made the model, ``erasure`` among them.
        finished: When, UTC, ISO 8601.
    """

    original: str
    unlearned: str
    request: str
    n_forgotten: int
    method: str
    method_version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    verdict: str
    verdict_sentence: str
    findings: tuple[CertifiedValue, ...] = ()
    n_golds: int = 0
    guarantee: Guarantee = field(default_factory=Guarantee)
    data: str = ""
    rows: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    finished: str = ""

    def __post_init__(self) -> None:
        for name in ("original", "unlearned", "request"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise DataError(
                    f"{name} of a statement is a SHA-256 digest of 64 hexadecimal digits, found {getattr(self, name)!r}"
                )
        if self.n_forgotten < 1:
            raise DataError(f"a statement is about at least one forgotten sample, found {self.n_forgotten}")

    def to_bytes(self) -> bytes:
        """The statement as JSON, the same bytes for the same claim."""
        predicate = {name: value for name, value in asdict(self).items() if name not in {"original", "unlearned"}}
        record = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": getattr(self, name)}} for name in ("original", "unlearned")],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """The statement that some bytes hold.

        Raises:
            DataError: If they are no statement of this kind; says what was found.
        """
        try:
            record = json.loads(data)
            kinds = (record["_type"], record["predicateType"])
            subjects = {subject["name"]: subject["digest"]["sha256"] for subject in record["subject"]}
            predicate = dict(record["predicate"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"this is no statement about an unlearning: {type(error).__name__} at {error}") from error
        if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
            found, expected = next(
                pair for pair in zip(kinds, (STATEMENT_TYPE, PREDICATE_TYPE), strict=True) if pair[0] != pair[1]
            )
            raise DataError(f"this statement is of the kind {found!r}, expected {expected!r}")
        unknown = sorted(set(predicate) - {each.name for each in fields(cls)})
        if unknown or set(subjects) != {"original", "unlearned"}:
            raise DataError(f"this statement has unexpected parts: {', '.join(unknown or sorted(subjects))}")
        try:
            findings = tuple(CertifiedValue(**each) for each in predicate.pop("findings", ()))
            promised = predicate.pop("guarantee", {})
            guarantee = Guarantee(**{**promised, "assumptions": tuple(promised.get("assumptions", ()))})
            return cls(**predicate, **subjects, findings=findings, guarantee=guarantee)
        except (TypeError, AttributeError) as error:
            raise DataError(f"this statement is not complete: {error}") from error
