"""The stages ``data``, ``scores`` and ``split``: load a source, score samples for splitters that need it, and split into partitions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from erasure.data.checks import read_as
from erasure.data.contract import Scores, Training
from erasure.data.dataset import Dataset
from erasure.data.partitions import build_partitions, scores_at
from erasure.data.progress import reporting_to
from erasure.data.storage import TOKENS, to_artifact
from erasure.errors import DataError
from erasure.events import SamplesRead
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.store import Writer
from erasure.types import Json

__all__ = ["LoadData", "ScoreSamples", "SplitData"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadData(Stage):
    """Loads the source and stores its columns."""

    kind: ClassVar[str] = "data"
    prepares: ClassVar[bool] = True

    name: str = "load data"

    def content(self) -> Json:
        return self.data.data_content

    def inputs(self) -> tuple[str, ...]:
        return ()

    def family(self) -> str:
        return f"data {short(self.data.source)}"

    def run(self, session: Session, writer: Writer) -> None:
        name = session.running_name
        with session.told(), reporting_to(lambda done, total: session.listener(SamplesRead(name=name, done=done, total=total))):
            loaded = self.data.source.load()
            if not isinstance(loaded, Dataset):
                raise DataError(f"{short(self.data.source)}.load() returned {type(loaded).__name__}; it must return a Dataset")
            dataset = read_as(loaded, cast(Any, self.data.task))
        tensors, facts = to_artifact(dataset)
        writer.save_tensors("columns", tensors)
        writer.save_json("dataset", facts)
        if dataset.token_names:
            writer.save_json(TOKENS, list(dataset.token_names))


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreSamples(Stage):
    """Scores samples for a splitter, mostly by models that it trains.

    Args:
        place: Which of the splitters.
    """

    kind: ClassVar[str] = "scores"
    prepares: ClassVar[bool] = True

    place: int

    def content(self) -> Json:
        return self.data.scores[self.place][1]

    def inputs(self) -> tuple[str, ...]:
        return (self.data.data_address, *(where for place, (where, _) in self.data.scores.items() if place < self.place))

    def family(self) -> str:
        return f"score {short(self.data.splitters[self.place])}"

    def cost_factors(self) -> tuple[Any, str]:
        return self.data.splitters[self.place], ""

    def run(self, session: Session, writer: Writer) -> None:
        start, data = time.perf_counter(), self.data
        training = Training(device=session.device, precision=session.precision, on_epoch=session.on_epoch())
        earlier = _scores(session, data, (place for place in data.scores if place < self.place))
        with session.told():
            scores = scores_at(
                session.dataset(data.data_address), data.splitters, data.seed, self.place, training, scores=earlier
            )
        writer.save_tensors("scores", {f"{number:02d}": score.cpu().contiguous() for number, score in enumerate(scores)})
        writer.facts["elapsed_s"] = time.perf_counter() - start


def _scores(session: Session, data: DataSpec, places: Iterable[int]) -> dict[int, Scores]:
    stored = {place: session.store.open(data.scores[place][0]).tensors("scores") for place in places}
    return {place: tuple(scores[name] for name in sorted(scores)) for place, scores in stored.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitData(Stage):
    """Splits the data into partitions."""

    kind: ClassVar[str] = "split"
    prepares: ClassVar[bool] = True

    name: str = "split the data"

    def content(self) -> Json:
        return self.data.split_content

    def inputs(self) -> tuple[str, ...]:
        return (self.data.data_address, *(where for where, _ in self.data.scores.values()))

    def family(self) -> str:
        return f"split {short(self.data.source)}"

    def run(self, session: Session, writer: Writer) -> None:
        with session.told():
            partitions = build_partitions(
                session.dataset(self.data.data_address),
                self.data.splitters,
                self.data.seed,
                scores=_scores(session, self.data, self.data.scores),
            )
        writer.save_tensors("partitions", dict(partitions))
        writer.save_json("order", list(partitions))
        writer.facts["explains"] = dict(self.data.explains)
