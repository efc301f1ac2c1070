"""The stage ``model``: train one model by the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.stages.data_spec import DataSpec
from erasure.stages.kept_training import KeptTraining
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.store import Writer
from erasure.training.devices import PeakMemory, give_back, synchronise
from erasure.types import Json

__all__ = ["TrainModel", "save_model", "training_content"]


def training_content(data: DataSpec, partition: str, seed: int) -> dict[str, Json]:
    """What the address of a trained model is made of; names of partitions do not matter, their content does."""
    predictor = data.predictor
    validation = predictor.validation_set
    return {
        "predictor": data.recipe_json,
        "batch_size": predictor.batch_size or data.batch_size,
        "view": data.inputs_address,
        "train": data.partition_addresses[partition],
        "validation": data.partition_addresses[validation] if validation else None,
        "seed": seed,
        "numerics": data.numerics,
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainModel(Stage):
    """Trains a model from scratch: the original, gold, and whatever else is trained alone.

    Args:
        partition: Partition to train on.
        seed: Seed of initial weights, order and dropout.
    """

    kind: ClassVar[str] = "model"
    trainings: ClassVar[float | None] = 1.0

    partition: str
    seed: int

    def content(self) -> Json:
        return training_content(self.data, self.partition, self.seed)

    def inputs(self) -> tuple[str, ...]:
        return (self.data.split_address,)

    def family(self) -> str:
        return f"train {short(self.data.predictor.model)}"

    def run(self, session: Session, writer: Writer) -> None:
        if session.options.devices > 1:
            from erasure.stages.ranks import train_on_devices

            trained = train_on_devices(session, self.data, self.partition, self.seed, session.running_name)
            writer.save_tensors("model", trained.state)
            writer.facts |= {
                "elapsed_s": trained.elapsed_s,
                "precompute_s": 0.0,
                "peak_memory_mib": trained.peak_memory_mib,
            }
            return
        peak = PeakMemory(session.device)
        kept = KeptTraining(session=session, content=self.content())
        model = session.trained(
            self.data,
            session.loaded(self.data).partitions[self.partition],
            self.seed,
            taking_up=lambda: {"resume": kept.found(), "on_checkpoint": kept.keep, "is_wanted": kept.is_due},
        )
        synchronise(session.device)
        save_model(writer, model, elapsed_s=kept.elapsed_s, peak=peak)
        kept.ended()

    def trained(self, session: Session) -> nn.Module:
        """The model, trained now and in this process, whatever the store has."""
        return session.trained(self.data, session.loaded(self.data).partitions[self.partition], self.seed)


def save_model(writer: Writer, model: nn.Module, *, elapsed_s: float, peak: PeakMemory, precompute_s: float = 0.0) -> None:
    """Store weights and buffers, with time and memory as facts."""
    writer.save_tensors("model", {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    writer.facts |= {"elapsed_s": elapsed_s, "precompute_s": precompute_s, "peak_memory_mib": peak.mib()}
    give_back()  # stages that only read models follow
