"""The stages ``data`` and ``split``: load a source, and split it into partitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from erasure.data.checks import read_as
from erasure.data.partitions import build_partitions
from erasure.data.progress import hearing
from erasure.data.storage import TOKENS, to_artifact
from erasure.events import SamplesRead
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.store import Writer
from erasure.types import Json

__all__ = ["LoadData", "SplitData"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadData(Stage):
    """Loads the source and stores its columns."""

    kind: ClassVar[str] = "data"

    name: str = "load data"

    def content(self) -> Json:
        return self.data.data_content

    def inputs(self) -> tuple[str, ...]:
        return ()

    def family(self) -> str:
        return f"data {short(self.data.source)}"

    def run(self, session: Session, writer: Writer) -> None:
        name = session.running_name
        with session.told(), hearing(lambda done, total: session.listener(SamplesRead(name=name, done=done, total=total))):
            dataset = read_as(self.data.source.load(), cast(Any, self.data.task))
        tensors, facts = to_artifact(dataset)
        writer.save_tensors("columns", tensors)
        writer.save_json("dataset", facts)
        if dataset.token_names:
            writer.save_json(TOKENS, list(dataset.token_names))


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitData(Stage):
    """Splits the data into partitions."""

    kind: ClassVar[str] = "split"

    name: str = "split the data"

    def content(self) -> Json:
        return self.data.split_content

    def inputs(self) -> tuple[str, ...]:
        return (self.data.data_address,)

    def family(self) -> str:
        return f"split {short(self.data.source)}"

    def run(self, session: Session, writer: Writer) -> None:
        with session.told():
            partitions = build_partitions(session.dataset(self.data.data_address), self.data.splitters, self.data.seed)
        writer.save_tensors("partitions", dict(partitions))
        writer.save_json("order", list(partitions))
        writer.facts["explains"] = dict(self.data.explains)
