"""What a worker needs to make a session of its own: no more than where the store is and how models run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from erasure.events import Listener, Message
from erasure.stages.numerics import Numerics
from erasure.stages.session import Session
from erasure.store import Store
from erasure.training.devices import warm_up

__all__ = ["WorkerSettings"]


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker.

    Args:
        store: Directory of the store.
        base: Directory of a store below it that is only read, if there is one.
        device: Where models run.
        numerics: Options that change the numbers.
    """

    store: Path
    base: Path | None
    device: str
    numerics: Numerics

    @classmethod
    def of(cls, session: Session) -> WorkerSettings:
        """The settings of a session."""
        base = session.store.base
        return cls(
            store=session.store.root,
            base=None if base is None else base.root,
            device=str(session.device),
            numerics=session.options,
        )

    def session(self, listener: Listener) -> Session:
        """A session in this process, with its share of the CPU."""
        torch.set_num_threads(self.numerics.threads)
        warm_up(torch.device(self.device))

        def report(address: str, reason: str) -> None:
            listener(Message(f"{reason} It is computed again.", level="warning"))

        store = Store(self.store, on_corrupt=report, base=self.base)
        return Session(store, torch.device(self.device), self.numerics, listener)
