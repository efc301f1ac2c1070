"""The stage ``unlearned``: run a method on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.component import Component
from erasure.stages.data_spec import DataSpec
from erasure.stages.kept_training import KeptEpochs, KeptTraining
from erasure.stages.method_models import EpochLog, MethodModels
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.stages.training import save_model
from erasure.store import Writer
from erasure.training.devices import PeakMemory
from erasure.training.randomness import Streams
from erasure.types import Json
from erasure.unlearners.contract import Unlearner, UnlearningContext

__all__ = ["UnlearnModel", "task_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class UnlearnModel(Stage):
    """Runs a method on the original and stores the unlearned model.

    Args:
        original: Address of the model that the method starts from.
        unlearner: The method.
        seed: Seed of the method's random choices.
        train_seed: Seed of the original's training, for methods that ask for other models.
        is_traced: Whether every epoch's weights are stored too.
        gold: Address of the gold model; an exact method takes it from the store.
    """

    kind: ClassVar[str] = "unlearned"
    trainings: ClassVar[float | None] = 0.1

    original: str
    unlearner: Unlearner
    seed: int
    train_seed: int
    is_traced: bool = False
    gold: str = ""

    def content(self) -> Json:
        content: dict[str, Json] = {
            "unlearner": self.data.forms(self.unlearner),
            "original": self.original,
            "partitions": self.data.addresses_of(sorted(self.unlearner.partition_names())),
            "batch_size": self.data.batch_size,
            "seed": self.seed,
            "numerics": self.data.numerics,
        }
        return content | ({"checkpoints": True} if self.is_traced else {})

    def inputs(self) -> tuple[str, ...]:
        gold = (self.gold,) if self.gold and self.unlearner.exact else ()
        return (self.data.split_address, self.original, *gold)

    def family(self) -> str:
        return f"unlearn {short(self.unlearner)}"

    def cost_factors(self) -> tuple[Component, str]:
        return self.unlearner, ""

    def run(self, session: Session, writer: Writer) -> None:
        originals, context = [session.model(self.data, self.original)], self._task(session)
        log = EpochLog(context, session.on_epoch()) if self.is_traced else None
        peak = PeakMemory(session.device)
        content = self.content()
        epochs = None if log is None else KeptEpochs(session=session, content=content, log=log)
        kept = KeptTraining(session=session, content=content, epochs=epochs)
        context = replace(context, on_epoch=log or session.on_epoch(), checkpoints=(self.unlearner, kept))
        unlearned = self.unlearner.run(originals.pop(), context)  # which is then free to let go of it
        elapsed_s = kept.earlier_s + unlearned.elapsed_s
        save_model(writer, unlearned.model, elapsed_s=elapsed_s, peak=peak, precompute_s=unlearned.precompute_s)
        kept.ended()
        writer.facts |= {"kept_bytes": unlearned.kept_bytes, "guarantee": _promise(unlearned.guarantee)}
        for number, state in enumerate(log.states if log is not None else (), start=1):
            writer.save_tensors(f"epoch-{number:04d}", state)
        writer.facts["epochs"] = len(log.states) if log is not None else 0
        writer.facts["epoch_elapsed_s"] = list(log.elapsed_s) if log is not None else []

    def unlearned(self, session: Session) -> nn.Module:
        """The model, unlearned now and in this process, whatever the store has."""
        return self.unlearner.run(session.model(self.data, self.original), self._task(session, stored=False)).model

    def _task(self, session: Session, *, stored: bool = True) -> UnlearningContext:
        return task_of(
            session, self.data, original=self.original, seed=self.seed, train_seed=self.train_seed, own={}, stored=stored
        )


def task_of(
    session: Session,
    data: DataSpec,
    *,
    original: str,
    seed: int,
    train_seed: int,
    own: Mapping[str, Tensor],
    stored: bool = True,
) -> UnlearningContext:
    """What a method is given.

    Args:
        session: Has the data and the models.
        data: The data.
        original: Address of the model to unlearn from.
        seed: Seed of the method.
        train_seed: Seed of the original's training.
        own: Partitions that replace those of the data.
        stored: Whether other models and one-off work may come from the store.
    """
    loaded = session.loaded(data)
    partitions = {**loaded.partitions, **{name: ids.to(session.device) for name, ids in own.items()}}
    return UnlearningContext(
        x=loaded.x,
        y=loaded.y,
        z=loaded.z,
        partitions=partitions,
        model_input=loaded.model_input,
        criterion=loaded.criterion,
        streams=Streams(seed),
        batch_size=data.batch_size,
        models=MethodModels(session, data, original, train_seed, partitions, stored=stored and not own),
        precision=session.precision,
    )


def _promise(guarantee: Guarantee) -> dict[str, Json]:
    return {"text": str(guarantee), **asdict(guarantee), "assumptions": list(guarantee.assumptions)}
