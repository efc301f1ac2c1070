"""What stages cost, judged by earlier stages that were alike, and when a run will be done."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from erasure.events import Event, Listener, RunStarted, StageFailed, StageFinished, TimeLeft
from erasure.stages.models import MakeModels
from erasure.stages.stage import Stage
from erasure.stages.training import TrainModel
from erasure.stages.unlearning import UnlearnModel
from erasure.store import Store

__all__ = ["Cost", "Forecast", "costs", "estimate", "forecasting"]

_TRAINED_TOGETHER = 0.3
"""Seconds of a model that is trained in a block, relative to one that is trained alone; ``benchmarks/ensemble.py`` measures it."""
_SETTLED_S = 1.0
"""How long a run must have computed before its own pace counts."""
_EVERY_S = 0.5
"""How often the time left is told."""


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Args:
        elapsed_s: Median seconds of the earlier ones.
        peak_memory_mib: Most memory that one of them took, or None if none of them says.
        n: How many earlier ones there are.
    """

    elapsed_s: float
    peak_memory_mib: float | None
    n: int


def costs(store: Store) -> dict[str, Cost]:
    """Cost of each signature that the store has stages of, and of each family of signatures; damaged objects do not count."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for entry in store.entries():
        for name in {entry.signature, _family(entry.signature)} - {""}:
            seconds.setdefault(name, []).append(entry.elapsed_s)
            if entry.peak_memory_mib is not None:
                memory[name] = max(memory.get(name, 0.0), entry.peak_memory_mib)
    return {
        signature: Cost(statistics.median(values), memory.get(signature), len(values)) for signature, values in seconds.items()
    }


def estimate(past: Mapping[str, Cost], signature: str) -> Cost | None:
    """What a stage will take: what its like took before, else what its family did, with other parameters or data; None if neither.

    A block of models of which none of the size is known is judged by another size, or by one model that was trained alone.
    """
    return past.get(signature) or past.get(_family(signature)) or _block_like(past, _family(signature))


def _block_like(past: Mapping[str, Cost], family: str) -> Cost | None:
    alone, mark, number = family.rpartition(" x")
    if not mark or not number.isdigit():
        return None
    sizes = [int(size) for name in past if name.startswith(f"{alone} x") and (size := name[len(alone) + 2 :]).isdigit()]
    if sizes:
        nearest = min(sizes, key=lambda size: (abs(size - int(number)), size))
        found = past[f"{alone} x{nearest}"]
        return replace(found, elapsed_s=found.elapsed_s * int(number) / nearest)
    if alone not in past:
        return None
    each = _TRAINED_TOGETHER if alone.startswith("train ") and int(number) > 1 else 1.0
    return replace(past[alone], elapsed_s=past[alone].elapsed_s * int(number) * each)


def _family(signature: str) -> str:
    return signature.partition(" #")[0]


class Forecast:
    """How long a run still takes.

    Stages take what their like took, in this run or before; what nobody has seen is judged by the stages of its kind, and training by the
    first model that is trained. The sum is scaled by the pace of the run so far: by how many stages run at a time, and what happens
    between them.

    Args:
        stages: What is still to be computed.
        past: What earlier stages took.
        clock: Seconds that go by.
    """

    def __init__(self, stages: Iterable[Stage], past: Mapping[str, Cost], clock: Callable[[], float] = time.monotonic) -> None:
        self._left = {stage.address: stage for stage in stages}
        self._past, self._clock = past, clock
        self._start = clock()
        self._spent = 0.0
        self._seen: dict[str, list[float]] = {}

    def failed(self, address: str) -> None:
        """The stage will not be done; how long its like takes is not known from it."""
        self._left.pop(address, None)

    def finished(self, address: str, elapsed_s: float) -> None:
        """The stage is done."""
        stage = self._left.pop(address, None)
        if stage is None:
            return
        self._spent += elapsed_s
        for name in {stage.signature, _family(stage.signature), f"kind {stage.kind}"}:
            self._seen.setdefault(name, []).append(elapsed_s)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the last stage is done; None before anything is known about how long training takes."""
        guesses = {signature: self._guess(stage) for signature, stage in {s.signature: s for s in self._left.values()}.items()}
        total = 0.0
        for stage in self._left.values():
            guess = guesses[stage.signature]
            if guess is None:
                return None
            total += guess
        passed = self._clock() - self._start
        return total * (passed / self._spent if passed > _SETTLED_S and self._spent > 0 else 1.0)

    def _guess(self, stage: Stage) -> float | None:
        mine, before = self._seen.get(stage.signature), self._past.get(stage.signature)
        if mine:
            return statistics.fmean(mine)
        if before is not None:
            return before.elapsed_s
        known = self._family(_family(stage.signature))
        if known is None and isinstance(stage, MakeModels):
            return self._block(stage)
        if known is None and stage.trainings is not None:
            training = self._median(TrainModel.kind)
            return None if training is None else training * stage.trainings
        # Measures differ too much for a mean: one that trains models would stand for all that only look at outputs.
        return known if known is not None else self._median(stage.kind) or 0.0

    def _block(self, stage: Stage) -> float | None:
        """Seconds of models that are made together, none of which were made before: as many times one of them."""
        family, _, number = _family(stage.signature).rpartition(" x")
        alone, training = self._family(family), self._median("model")
        if family.startswith("train "):
            if training is None:
                like = _block_like(self._past, _family(stage.signature))
                return None if like is None else like.elapsed_s
            return training * int(number) * (_TRAINED_TOGETHER if int(number) > 1 else 1.0)
        if alone is None and training is not None:
            alone = training * (UnlearnModel.trainings or 1.0)
        return None if alone is None else alone * int(number)

    def _family(self, name: str) -> float | None:
        if name in self._seen:
            return statistics.fmean(self._seen[name])
        return self._past[name].elapsed_s if name in self._past else None

    def _median(self, kind: str) -> float | None:
        return statistics.median(self._seen[f"kind {kind}"]) if f"kind {kind}" in self._seen else None


def forecasting(listener: Listener, stages: Mapping[str, Stage], store: Store) -> Listener:
    """A listener that also tells ``listener``, every now and then, how long the run still takes.

    Args:
        listener: Who is told everything.
        stages: The stages of the run.
        store: Where earlier stages are; asked once, when the run starts.
    """
    forecast: Forecast | None = None
    told = 0.0

    def emit(event: Event) -> None:
        nonlocal forecast, told
        listener(event)
        match event:
            case RunStarted(total=total, cached=cached) if cached < total:
                there = store.contains_many(stages)
                forecast = Forecast([stage for address, stage in stages.items() if address not in there], costs(store))
            case StageFinished(address=address, cached=False, elapsed_s=elapsed_s) if forecast is not None:
                forecast.finished(address, elapsed_s)
            case StageFailed(address=address) if forecast is not None:
                forecast.failed(address)
            case _:
                return
        now = time.monotonic()
        if forecast is not None and now - told >= _EVERY_S:
            remaining_s = forecast.remaining_s
            if remaining_s is not None:
                told = now
                listener(TimeLeft(remaining_s))

    return emit
