"""Checks of a certificate, and what they do and do not prove."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from erasure.certificates.digests import file_digest, model_digest
from erasure.certificates.signing import PAYLOAD_TYPE, public_key
from erasure.certificates.statement import Statement
from erasure.durable import reported
from erasure.errors import DataError, ErasureError, StoreError
from erasure.records.requests import CERTIFICATE_FILE, EVIDENCE_FOLDER, MODEL_FOLDER, Ledger, RequestEntry
from erasure.records.rows import read_rows

__all__ = ["Check", "Verification", "opened", "verify", "verify_ledger"]

MAX_BYTES = 16 * 2**20
"""A larger file is no certificate."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: ``signature``, ``statement``, ``signer``, ``unlearned model``, ``original model``, ``evidence`` or ``ledger``; of a ledger
            ``chain``, ``end``, ``certificates`` or ``clock``.
        passed: Whether it holds.
        sentence: What was found.
    """

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verification:
    """The outcome of all checks.

    Args:
        statement: What the certificate claims; None where it cannot be read.
        checks: In the order in which they were made.
    """

    statement: Statement | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check that was made holds."""
        return self.statement is not None and all(check.passed for check in self.checks)

    @property
    def limits(self) -> tuple[str, ...]:
        """What the certificate does not prove, one sentence each."""
        made = {check.name for check in self.checks if check.passed}
        said = []
        if "signer" not in made:
            said.append(
                "Who signed is not shown: give the signer's public key with --key, obtained by another way than this file."
            )
        if "unlearned model" not in made:
            said.append("Which model is meant was not checked: give it with --model.")
        if "evidence" not in made:
            said.append("The numbers were not compared with the stored results: give their folder with --evidence.")
        said.append(
            "It does not show that the signer told the truth about data and training, nor that other copies of the model are gone."
        )
        if self.statement is not None and self.statement.guarantee.kind == "none":
            said.append(
                "The verdict rests on measurements, which can miss what they do not look at; the method gives no guarantee by proof."
            )
        return tuple(said)


def opened(data: bytes) -> tuple[Statement, dict[str, Any]]:
    """The statement of a certificate and its envelope, unchecked.

    Raises:
        DataError: If the bytes are no certificate.
    """
    payload, record = _enveloped(data)
    return Statement.from_bytes(payload), record


def _enveloped(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """What an envelope holds, and the envelope."""
    from securesystemslib.dsse import Envelope

    try:
        record = json.loads(data)
        envelope = Envelope.from_dict(copy.deepcopy(record))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"this file is no certificate: expected a signed envelope in JSON ({type(error).__name__})") from error
    except Exception as error:  # the library's own errors share no base with ours
        raise DataError(f"this file is no certificate: {error}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise DataError(f"this envelope holds {envelope.payload_type!r}, expected {PAYLOAD_TYPE!r}")
    payload: bytes = envelope.payload
    return payload, record


def verify(
    certificate: Path,
    *,
    key: Path | None = None,
    model: Path | None = None,
    original: Path | None = None,
    evidence: Path | None = None,
    ledger: Path | None = None,
) -> Verification:
    """Check a certificate against everything that is at hand.

    Args:
        certificate: The file, or the folder of an answered request that holds it.
        key: Public key of the expected signer, in PEM form.
        model: The unlearned model, as it was saved: a file or a folder; that of an answered request means the model in it.
        original: The model before.
        evidence: The file of rows, or the run's folder that holds ``rows.parquet``; that of an answered request means the rows in it.
        ledger: The ledger of requests that should list the certificate, or its folder.

    Raises:
        DataError: If something that was given cannot be used, such as a private key.
        StoreError: If a file cannot be read.
    """
    if certificate.is_dir():
        if not (certificate / CERTIFICATE_FILE).is_file():
            raise DataError(f"there is no {CERTIFICATE_FILE} in {certificate}")
        certificate = certificate / CERTIFICATE_FILE
    model, original = _of_answer(model, MODEL_FOLDER), _of_answer(original, MODEL_FOLDER)
    evidence = _of_answer(evidence, EVIDENCE_FOLDER)
    with reported("read", certificate, option="CERTIFICATE"):
        if certificate.stat().st_size > MAX_BYTES:
            raise DataError(f"{certificate} is larger than {MAX_BYTES // 2**20} MiB, which no certificate is")
        data = certificate.read_bytes()
    try:
        payload, record = _enveloped(data)
    except DataError as error:
        return Verification(None, (Check("signature", False, str(error)),))
    checks = [_signature(record)]
    try:
        statement = Statement.from_bytes(payload)
    except DataError as error:  # what was changed after signing need not be read: the signature says so
        found = [Check("statement", False, str(error))] if checks[0].passed else []
        return Verification(None, (*checks, *found))
    if key is not None:
        checks.append(_signer(record, key))
    if model is not None:
        checks.append(_model("unlearned model", model, statement.unlearned, statement))
    if original is not None:
        checks.append(_model("original model", original, statement.original, statement))
    if evidence is not None:
        checks.append(_evidence(evidence, statement))
    if ledger is not None:
        checks.append(_listed(ledger, statement, file_digest(certificate)))
    return Verification(statement, tuple(checks))


def _of_answer(path: Path | None, part: str) -> Path | None:
    """A part of an answered request, where the folder of the whole is named."""
    return path / part if path is not None and (path / part).is_dir() and (path / CERTIFICATE_FILE).is_file() else path


def _signature(record: dict[str, Any]) -> Check:
    """Whether the envelope is signed by the key that it carries."""
    from securesystemslib.signer import Key

    try:
        carried = dict(record["publicKey"])
        embedded = Key.from_dict(str(carried.pop("keyid")), carried)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Check(
            "signature", False, f"The certificate carries no public key ({type(error).__name__}), so nothing can be checked."
        )
    if not _signed_by(record, embedded):
        return Check("signature", False, "The signature does not fit: the certificate was changed after it was signed.")
    return Check("signature", True, f"The certificate is unchanged since key {embedded.keyid[:16]} signed it.")


def _signer(record: dict[str, Any], path: Path) -> Check:
    expected = public_key(path)
    if _signed_by(record, expected):
        return Check("signer", True, f"It was signed with the key in {path}.")
    return Check("signer", False, f"It was not signed with the key in {path}.")


def _signed_by(record: dict[str, Any], key: Any) -> bool:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    envelope = Envelope.from_dict(copy.deepcopy(record))
    try:
        envelope.verify([key], 1)
    except (VerificationError, ValueError):
        return False
    return True


def _model(name: str, path: Path, expected: str, statement: Statement) -> Check:
    found = model_digest(path)
    if found == expected:
        return Check(name, True, f"{path} is the {name} that the certificate is about.")
    other = {statement.original: "the original model", statement.unlearned: "the unlearned model"}.get(found)
    why = f"it is {other}" if other else "it is another model, or was changed"
    return Check(name, False, f"{path} is not the {name} that the certificate is about: {why}.")


def _evidence(path: Path, statement: Statement) -> Check:
    file = path / "rows.parquet" if path.is_dir() else path
    if not statement.rows:
        return Check("evidence", False, "The certificate names no rows, so there is nothing to compare.")
    try:
        found = file_digest(file)
    except ErasureError as error:
        return Check("evidence", False, str(error))
    if found != statement.rows:
        return Check("evidence", False, f"{file} is not the file of results that the verdict was computed from.")
    wrong = _contradicted(file, statement)
    if wrong:
        return Check("evidence", False, f"{file} does not hold what the certificate claims: {wrong}.")
    return Check("evidence", True, f"{file} holds the results that the verdict was computed from.")


def _contradicted(file: Path, statement: Statement) -> str:
    """The first number of the certificate that the rows do not have; empty if they have all."""
    if file.name != "rows.parquet":
        return ""
    try:
        rows = read_rows(file.parent)
    except StoreError:  # of another version: the digest says that it is the file that was signed
        return ""
    for claim in statement.findings:
        mine = [
            row.value
            for row in rows
            if (row.label, row.measure, row.partition) == (statement.method, claim.measure, claim.partition)
            and row.value is not None
        ]
        mean = math.fsum(mine) / len(mine) if mine else math.nan
        if not math.isclose(mean, claim.unlearned, rel_tol=1e-6, abs_tol=1e-9):
            return f"{claim.measure} on {claim.partition} is {mean:.4g} there, and {claim.unlearned:.4g} in the certificate"
    return ""


def _listed(path: Path, statement: Statement, digest: str) -> Check:
    try:
        entry = next((each for each in Ledger(path) if each.certificate == digest), None)
    except ErasureError as error:
        return Check("ledger", False, str(error))
    if entry is None:
        return Check("ledger", False, f"{path} does not list this certificate.")
    odd = _contradiction(entry, statement)
    if odd:
        return Check("ledger", False, f"{path} lists this certificate as request {entry.number}, but was changed: {odd}.")
    return Check("ledger", True, f"It is the answer to request {entry.number} of {path}.")


def _contradiction(entry: RequestEntry, statement: Statement) -> str:
    """What a line of the ledger has otherwise than its certificate; empty if nothing."""
    for name in ("original", "unlearned", "request", "n_forgotten", "method", "verdict", "finished"):
        mine, signed = getattr(entry, name), getattr(statement, name)
        if mine != signed:
            return f"{name} is {mine} there, and {signed} in the certificate"
    return ""


def verify_ledger(path: Path) -> tuple[Check, ...]:
    """Check a ledger against the answers in the folders beside it, which its own chain of digests cannot: its last line and its end.

    Args:
        path: The ledger, or the folder of requests that has it.

    Raises:
        DataError: If a line was changed, removed or inserted.
        StoreError: If a file cannot be read.
    """
    ledger = Ledger(path)
    entries = ledger.entries()
    n = "1 request" if len(entries) == 1 else f"{len(entries)} requests"
    checks = [Check("chain", True, f"{n}, each bound to the one before; the last line has digest {ledger.head}.")]
    cut = ledger.unlisted()
    if cut:
        checks.append(Check("end", False, f"The answer {cut[0].name} is not listed: the end was cut off."))
    there = [(entry, ledger.path.parent / f"{entry.number:04d}" / CERTIFICATE_FILE) for entry in entries if entry.certificate]
    compared = [(entry, certificate) for entry, certificate in there if certificate.exists()]
    for entry, certificate in compared:
        odd = _contradicted_entry(entry, certificate)
        if odd:
            checks.append(Check("certificates", False, f"Request {entry.number}: {odd}."))
    if compared and all(check.name != "certificates" for check in checks):
        checks.append(Check("certificates", True, f"{len(compared)} of {len(there)} are here, and say what the ledger says."))
    checks += [Check("clock", True, sentence) for sentence in _backwards(entries)]
    return tuple(checks)


def _backwards(entries: Sequence[RequestEntry]) -> list[str]:
    """Times that run against the order of the lines: no fault of the ledger, whose chain tells the order, but no times to rely on."""
    said = [
        f"Request {entry.number} was finished at {entry.finished}, before it was received at {entry.received}"
        for entry in entries
        if entry.finished < entry.received
    ]
    said += [
        f"Request {later.number} was finished at {later.finished}, before request {earlier.number} at {earlier.finished}"
        for earlier, later in pairwise(entries)
        if later.finished < earlier.finished
    ]
    return [f"{each}: a clock was set back, and the order is that of the lines." for each in said]


def _contradicted_entry(entry: RequestEntry, certificate: Path) -> str:
    if file_digest(certificate) != entry.certificate:
        return f"{certificate} is not the certificate that was issued"
    try:
        return _contradiction(entry, opened(certificate.read_bytes())[0])
    except DataError as error:
        return str(error)
