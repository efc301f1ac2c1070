"""The ledger of deletion requests: one line a request, each line bound to the one before it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from erasure.durable import fsync, locked, reported
from erasure.errors import DataError, StoreError

__all__ = ["CERTIFICATE_FILE", "EVIDENCE_FOLDER", "GENESIS", "LEDGER_FILE", "MODEL_FOLDER", "Ledger", "RequestEntry"]

LEDGER_FILE = "ledger.jsonl"
"""The ledger's name in the folder of requests."""
CERTIFICATE_FILE, MODEL_FOLDER, EVIDENCE_FOLDER = "certificate.json", "model", "evidence"
"""What the folder of an answered request holds."""
GENESIS = "0" * 64
"""What the first line has instead of the digest of the line before it."""

_FORMAT = 1
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class RequestEntry:
    """A request that has been answered. It holds no personal data: who asked is a salted digest.

    Args:
        number: 1 for the first request.
        request: Salted digest of the ids that are to be forgotten.
        received: When the request came, UTC, ISO 8601.
        finished: When it was answered.
        n_forgotten: Number of samples.
        original: SHA-256 of the saved model before.
        unlearned: SHA-256 of the saved model after.
        method: Name of the method; ``Retraining`` where none was good enough.
        verdict: Key of the verdict.
        guarantee: ``exact``, ``certified`` or ``none``.
        cost_s: Seconds that the answer took, evidence included.
        retraining_s: Seconds of one retraining, for comparison; 0 where unknown.
        drift: Distance of the model from retraining in standard deviations of retrained models; None where unknown.
        certificate: SHA-256 of the certificate; empty where it was refused.
        refusal: Why there is no certificate, one sentence; empty where there is one.
        previous: SHA-256 of the line before.
    """

    number: int
    request: str
    received: str
    finished: str
    n_forgotten: int
    original: str
    unlearned: str
    method: str
    verdict: str
    guarantee: str = "none"
    cost_s: float = 0.0
    retraining_s: float = 0.0
    drift: float | None = None
    certificate: str = ""
    refusal: str = ""
    previous: str = GENESIS

    def line(self) -> bytes:
        """The entry as a line of the ledger, the same bytes for the same entry."""
        record = {"format": _FORMAT, **asdict(self)}
        return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode() + b"\n"

    @property
    def digest(self) -> str:
        """What the next entry is bound to."""
        return hashlib.sha256(self.line()).hexdigest()


class Ledger:
    """An append-only file of requests.

    Each line holds the digest of the line before it, so that a change, a removal or an insertion anywhere but at the end shows. A file
    whose end was cut off is whole by itself: keep the digest of the last line (:attr:`head`, also in each certificate's folder)
    somewhere else to notice that.

    Args:
        path: The file, or the folder of requests that has it; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path / LEDGER_FILE if path.is_dir() else path

    def __iter__(self) -> Iterator[RequestEntry]:
        return iter(self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    @property
    def head(self) -> str:
        """Digest of the last line."""
        entries = self.entries()
        return entries[-1].digest if entries else GENESIS

    def entries(self) -> Sequence[RequestEntry]:
        """All requests, checked.

        A last line without its end was interrupted while it was written; it never counted and is left out.

        Raises:
            DataError: If a line was changed, removed or inserted; names the first that does not fit.
            StoreError: If the file cannot be read.
        """
        return tuple(self._checked(self._lines()))

    def find(self, request: str, original: str | None = None) -> RequestEntry | None:
        """The answer to a request, if it was answered.

        Args:
            request: Its salted digest.
            original: SHA-256 of the model that it is about; None finds the latest answer for any model.
        """
        fitting = (e for e in reversed(self.entries()) if e.request == request and (original is None or e.original == original))
        return next(fitting, None)

    def lineage(self, model: str) -> Sequence[RequestEntry]:
        """The requests that led to a model, from the first original on.

        Args:
            model: SHA-256 of a saved model.
        """
        made = {entry.unlearned: entry for entry in self.entries()}
        found: list[RequestEntry] = []
        while (entry := made.pop(model, None)) is not None:
            found.append(entry)
            model = entry.original
        return tuple(reversed(found))

    def unlisted(self) -> Sequence[Path]:
        """Folders of finished answers beside the file that no line lists: its end was cut off."""
        n = len(self)
        beyond = [each for each in sorted(self.path.parent.glob("[0-9]*")) if each.name.isdecimal() and int(each.name) > n]
        return [each for each in beyond if (each / "model").is_dir() and not (each / "private").exists()]

    def append(self, **values: Any) -> RequestEntry:
        """Add an answered request, or return the entry that it has already.

        Args:
            **values: Fields of :class:`RequestEntry` but ``number`` and ``previous``.

        Returns:
            The entry, on the disk.

        Raises:
            DataError: If the ledger was changed, or a digest is none.
            StoreError: If it cannot be written.
        """
        for name in ("request", "original", "unlearned"):
            if not _HEX.fullmatch(values[name]):
                raise DataError(f"{name} of a ledger entry is a SHA-256 digest, found {values[name]!r}")
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            entries = self.entries()
            for entry in entries:
                if (entry.request, entry.original) == (values["request"], values["original"]):
                    return entry
            previous = entries[-1].digest if entries else GENESIS
            entry = RequestEntry(number=len(entries) + 1, previous=previous, **values)
            self._write(entry.line())
            return entry

    def _write(self, line: bytes) -> None:
        with reported("write", self.path, option="--ledger"):
            whole = self._whole_bytes()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                file.truncate(whole)  # what an interrupted write left behind
                file.seek(whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            fsync(self.path.parent)

    def _bytes(self) -> bytes:
        with reported("read", self.path, option="--ledger"):
            return self.path.read_bytes() if self.path.exists() else b""

    def _whole_bytes(self) -> int:
        return self._bytes().rfind(b"\n") + 1

    def _lines(self) -> Iterator[bytes]:
        data = self._bytes()
        yield from data[: data.rfind(b"\n") + 1].splitlines(keepends=True)

    def _checked(self, lines: Iterator[bytes]) -> Iterator[RequestEntry]:
        known = {each.name for each in fields(RequestEntry)}
        previous = GENESIS
        for number, line in enumerate(lines, start=1):
            where = f"{self.path}, line {number}"
            try:
                record = json.loads(line)
                form = record.pop("format")
                entry = RequestEntry(**{name: value for name, value in record.items() if name in known})
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(f"{where}: this is no entry of a ledger, so it was changed ({type(error).__name__})") from error
            if form != _FORMAT:
                raise StoreError(f"{where} has format {form!r}, this version reads {_FORMAT}; use the version that wrote it")
            if entry.number != number or entry.previous != previous:
                raise DataError(
                    f"{where} does not follow the line before it: a line was changed, removed or inserted here or above"
                )
            if entry.line() != line:
                raise DataError(f"{where} was changed: it is not what was written")
            previous = entry.digest
            yield entry
