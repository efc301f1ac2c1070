"""What a worker needs to make a workbench of its own: no more than where the store is and how models run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from erasure.engine.session import Workbench
from erasure.events import Listener, Said
from erasure.planning.stages import Numerics
from erasure.store import Artifact, Store, Writer
from erasure.training.devices import warm_up
from erasure.types import Json

__all__ = ["Workplace", "WorkplaceBench"]


class WorkplaceBench(Workbench):
    """A workbench that knows which objects it was asked for."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.touched: set[str] = set()

    def keep(self, where: str, kind: str, content: Json, compute: Callable[[Writer], None], name: str) -> Artifact:
        """As a workbench does; the address is written down."""
        self.touched.add(where)
        return super().keep(where, kind, content, compute, name)


@dataclass(frozen=True, kw_only=True)
class Workplace:
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
    def of(cls, bench: Workbench) -> Workplace:
        """The settings of a workbench."""
        base = bench.store.base
        return cls(
            store=bench.store.root,
            base=None if base is None else base.root,
            device=str(bench.device),
            numerics=bench.options,
        )

    def bench(self, listener: Listener) -> WorkplaceBench:
        """A workbench in this process, with its share of the CPU."""
        torch.set_num_threads(self.numerics.threads)
        warm_up(torch.device(self.device))

        def report(address: str, reason: str) -> None:
            listener(Said(f"{reason} It is computed again.", level="warning"))

        store = Store(self.store, on_corrupt=report, base=self.base)
        return WorkplaceBench(store, torch.device(self.device), self.numerics, listener)
