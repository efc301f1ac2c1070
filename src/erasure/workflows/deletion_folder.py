"""The folder of deletion requests: who has been forgotten already, models, evidence, ledger and certificates, none without the others."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from erasure.certificates.digests import file_digest, model_digest, new_salt
from erasure.certificates.signing import new_key, sign, signer
from erasure.certificates.statement import Statement
from erasure.durable import fsync, locked, reported, write_atomically
from erasure.engine.saved_estimators import save_estimator
from erasure.errors import DataError, StoreError
from erasure.events import Listener, Message
from erasure.records.requests import CERTIFICATE_FILE, EVIDENCE_FOLDER, LEDGER_FILE, MODEL_FOLDER, Ledger, RequestEntry
from erasure.workflows.deletion_cost import SPENT_FILE

__all__ = [
    "CERTIFICATE_FILE",
    "EVIDENCE_FOLDER",
    "MODEL_FOLDER",
    "PAGE_FILE",
    "DeletionFolder",
    "check_folder",
    "rows_digest",
    "save_model",
]

PAGE_FILE = "answer.html"
_STATEMENT_FILE = "statement.json"
_REMOVED_FILE = "removed.json"
_SALT_FILE = "salt"
_KEY_FILE = "signing-key"


class DeletableSamples(Protocol):
    """Training data, as far as it matters for who is gone."""

    @property
    def partitions(self) -> Mapping[str, Tensor]:
        """Ids by partition; ``train`` is read."""
        ...

    def content_of(self, number: int) -> bytes:
        """What a sample consists of."""
        ...


@dataclass(frozen=True)
class DeletionFolder:
    """A folder of requests.

    An answer becomes visible in four steps: its folder, with model, evidence and the claim, is renamed to its place; the ledger gets its
    line; the samples are noted as removed; the certificate is signed into the folder. A certificate that exists therefore has its model
    and its entry, whatever interrupts this; :meth:`complete` takes the steps that are missing. Ed25519 signs the same claim with the same
    bytes, so that the entry can name the certificate before it is there.

    Args:
        root: The folder.
        key: Private key that signs; by default one in the folder, made when it is first needed.
        contact: Whom the page for the person who asked names for questions.
    """

    root: Path
    key: Path | None = None
    contact: str = ""

    @property
    def ledger(self) -> Ledger:
        """All answered requests."""
        return Ledger(self.root / LEDGER_FILE)

    def check(self) -> None:
        """That nothing of what earlier requests have left is missing, before anything is trained.

        Raises:
            DataError: If the end of the ledger, the salt, the record of removed samples or the key is gone, or a key cannot sign.
        """
        self.complete()
        if self.ledger.unlisted():
            with locked(self.root / ".lock"):  # somebody else may have been about to write
                cut = self.ledger.unlisted()
            if cut:
                raise DataError(
                    f"{self.ledger.path} lists {len(self.ledger):,} requests, and there is the answer {cut[0].name}: its end was cut "
                    "off; restore it from a backup"
                )
        if self.key is None and len(self.ledger) and not (self.root / "private" / _KEY_FILE).exists():
            raise DataError(
                f"there is no key at {self.root / 'private' / _KEY_FILE}, though earlier requests were signed; restore it from a backup, "
                "or name the key with --key"
            )
        _ = self.salt
        if self.key is not None:
            signer(self.key)

    @property
    def signing_key(self) -> Path:
        """The private key's file, made if there is none."""
        if self.key is not None:
            return self.key
        path = self.root / "private" / _KEY_FILE
        if not path.exists():
            with locked(self.root / ".lock"):
                if not path.exists():
                    new_key(path)
        return path

    @property
    def salt(self) -> str:
        """The secret that digests of people and samples are made with, made if nobody was forgotten yet.

        Raises:
            DataError: If it is gone.
        """
        path = self.root / "private" / _SALT_FILE
        with reported("read", path, option="--folder"):
            if not path.exists():
                if len(self.ledger):
                    raise DataError(
                        f"{path} is gone: without it nobody can tell who was forgotten, and removed samples would be learned from again; "
                        "restore it from a backup"
                    )
                with locked(self.root / ".lock"):
                    if not path.exists():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.parent.chmod(0o700)
                        write_atomically(path, new_salt().encode(), option="--folder")
                        path.chmod(0o600)
            return path.read_text(encoding="ascii").strip()

    def answering(self, listener: Listener) -> AbstractContextManager[None]:
        """While one request is answered others wait: the next one starts from what this one leaves.

        Args:
            listener: Receives the event that it waits.
        """
        return locked(
            self.root / ".answering.lock", lambda: listener(Message(f"another request of {self.root} is being answered; waiting"))
        )

    # Samples that are gone

    def present(self, data: DeletableSamples) -> Tensor:
        """Positions of the training samples that no earlier request has removed."""
        removed = self._removed()
        train = data.partitions["train"]
        if not removed:
            return train
        kept = []
        for position, digest in zip(train.tolist(), self._digests(data, train), strict=True):
            if removed[digest] > 0:
                removed[digest] -= 1
            else:
                kept.append(position)
        return train.new_tensor(kept)

    def _digests(self, data: DeletableSamples, ids: Tensor) -> list[str]:
        """A salted digest of each sample: what is kept of those that were removed."""
        salt = bytes.fromhex(self.salt)
        found = [hmac.new(salt, data.content_of(number), hashlib.sha256).hexdigest() for number in ids.tolist()]
        return found

    def _removed(self) -> Counter[str]:
        """Digests of removed samples; every request of the ledger has left its own."""
        n, record = len(self.ledger), self._removed_record()
        if not {*range(1, n + 1)} <= {*record["requests"]}:
            with locked(self.root / ".lock"):  # somebody else may have been about to write
                record = self._removed_record()
            if not {*range(1, n + 1)} <= {*record["requests"]}:
                raise DataError(
                    f"{self.root / 'private' / _REMOVED_FILE} lacks the samples of earlier requests, which would be learned from again; "
                    "restore it from a backup"
                )
        return Counter(record["samples"])

    def _removed_record(self) -> dict[str, Any]:
        path = self.root / "private" / _REMOVED_FILE
        with reported("read", path, option="--folder"):
            if not path.exists():
                return {"samples": {}, "requests": []}
            try:
                record: dict[str, Any] = json.loads(path.read_bytes())
                return {"samples": dict(record["samples"]), "requests": list(record["requests"])}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path} is damaged ({type(error).__name__}); restore it from a backup") from error

    # Answers

    def staging(self, request: str, original: str) -> Path:
        """Where the answer to a request is put together; the same place when it is asked again."""
        return self.root / f".making-{hashlib.sha256(f'{request} {original}'.encode()).hexdigest()[:20]}"

    def place(self, number: int) -> Path:
        """The folder of an answered request."""
        return self.root / f"{number:04d}"

    def removed_record(self, data: DeletableSamples, gone: Tensor) -> list[str]:
        """What is kept of the samples of a request."""
        return self._digests(data, gone)

    def publish(
        self, staging: Path, statement: Statement, entry: Mapping[str, Any], removed: Sequence[str], *, certify: bool
    ) -> RequestEntry:
        """Make a finished answer visible; see the class.

        Args:
            staging: The folder with model and evidence.
            statement: What is claimed.
            entry: Fields of the ledger's entry but those that follow from the statement.
            removed: Digests of the samples that are gone.
            certify: Whether a certificate is signed.
        """
        claim = {"entry": dict(entry), "removed": list(removed), "certify": certify}
        (staging / "private").mkdir(exist_ok=True)
        write_atomically(staging / _STATEMENT_FILE, statement.to_bytes(), option="--folder")
        write_atomically(staging / "private" / "claim.json", json.dumps(claim, sort_keys=True).encode(), option="--folder")
        _ = self.signing_key  # made before the lock is held
        with locked(self.root / ".lock"):
            self._complete()
            known = self.ledger.find(statement.request, statement.original)
            if known is not None:
                return known
            place = self.place(len(self.ledger) + 1)
            with reported("write", place, option="--folder"):
                staging.rename(place)
                fsync(self.root)
            return self._entered(place)

    def complete(self) -> None:
        """Take the steps of the last answer that an interruption has left out."""
        if any(self.root.glob("[0-9]*/private/claim.json")):
            _ = self.signing_key
            with locked(self.root / ".lock"):
                self._complete()

    def _complete(self) -> None:
        number = len(self.ledger)
        for place in (self.place(number), self.place(number + 1)):
            if (place / "private" / "claim.json").exists():
                self._entered(place)

    def _entered(self, place: Path) -> RequestEntry:
        statement = Statement.from_bytes((place / _STATEMENT_FILE).read_bytes())
        claim = json.loads((place / "private" / "claim.json").read_bytes())
        certificate = sign(statement, signer(self.signing_key)) if claim["certify"] else b""
        entry = self.ledger.append(
            **claim["entry"],
            request=statement.request,
            original=statement.original,
            unlearned=statement.unlearned,
            n_forgotten=statement.n_forgotten,
            method=statement.method,
            verdict=statement.verdict,
            guarantee=statement.guarantee.kind,
            finished=statement.finished,
            certificate=hashlib.sha256(certificate).hexdigest() if certificate else "",
        )
        if self.place(entry.number) == place:
            self._note_removed(claim["removed"], entry.number)
            if certificate:
                write_atomically(place / CERTIFICATE_FILE, certificate, option="--folder")
            (place / "private" / SPENT_FILE).unlink(missing_ok=True)
            (place / "private" / "claim.json").unlink()
            (place / "private").rmdir()
            (place / _STATEMENT_FILE).unlink()
        return entry

    def _note_removed(self, digests: Sequence[str], number: int) -> None:
        """Count each request once, however often this is done."""
        path, record = self.root / "private" / _REMOVED_FILE, self._removed_record()
        if number in record["requests"]:
            return
        counts = Counter(record["samples"])
        counts.update(digests)
        record = {"samples": dict(counts), "requests": [*record["requests"], number]}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(record, sort_keys=True).encode(), option="--folder")


def save_model(model: Any, folder: Path) -> str:
    """Save a model into a folder, and its digest: as Hugging Face does it where the model can, else ``model.safetensors``.

    An estimator of scikit-learn is saved as plain files (:func:`~erasure.engine.saved_estimators.save_estimator`).

    Raises:
        StoreError: If it cannot be written.
        RequirementNotMet: If an estimator cannot be saved without pickle.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    if not isinstance(model, nn.Module):
        save_estimator(model, folder)
        return model_digest(folder)
    with reported("write", folder, option="--folder"):
        saver = getattr(model, "save_pretrained", None)
        if callable(saver) and hasattr(model, "config"):
            saver(folder, safe_serialization=True)
        else:
            from safetensors.torch import save

            state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
            write_atomically(folder / "model.safetensors", save(state), option="--folder")
        for path in folder.rglob("*"):
            if path.is_file():
                fsync(path)
    return model_digest(folder)


def check_folder(root: Path) -> None:
    """That there is a folder that can be written, or can be.

    Raises:
        DataError: If there is a file in its place.
        StoreError: If it cannot be made or written.
    """
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file; give a folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {root} ({os.strerror(error.errno or 0).lower()}); choose another one"
        ) from error
    effective = os.access in os.supports_effective_ids
    for folder in (root, root / "private"):
        with reported("read", folder, option="--folder"):
            exists = folder.exists()
        if exists and not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=effective):
            raise StoreError(f"the folder {folder} cannot be read and written; ask for the permission, or choose another one")


def rows_digest(folder: Path) -> str:
    """SHA-256 of the rows that a verdict was computed from."""
    return file_digest(folder / EVIDENCE_FOLDER / "rows.parquet")
