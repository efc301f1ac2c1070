"""What a running method gets from the engine, and what the engine keeps of it epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from erasure.component import canonical
from erasure.errors import RequirementNotMet
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.stage import run_stage
from erasure.stages.training import TrainModel
from erasure.store import Writer
from erasure.store.addresses import address
from erasure.training.devices import give_back, synchronise
from erasure.training.history import StepListener
from erasure.training.loop import EpochListener
from erasure.training.predictor import build_model
from erasure.training.resuming import Recipe, Resumed, resumed
from erasure.unlearners.contract import UnlearningContext, model_digest

__all__ = ["EpochLog", "MethodModels"]


class EpochLog:
    """Keeps the weights of every epoch; the time for that is taken out of the method's clock."""

    def __init__(self, context: UnlearningContext, then: EpochListener) -> None:
        self.task: UnlearningContext = context
        self.then: EpochListener = then
        self.states: list[dict[str, Tensor]] = []
        self.elapsed_s: list[float] = []
        self.start: float = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The method's own time until now, earlier processes included."""
        return time.perf_counter() - self.start - self.task.ledger.measured_s + self.task.ledger.charged_s

    def go_on(self, states: Sequence[dict[str, Tensor]], elapsed_s: Sequence[float], seconds: float) -> None:
        """Take over the epochs of an earlier process, and its time."""
        self.states, self.elapsed_s = list(states), list(elapsed_s)
        self.start += self.seconds - seconds

    def __call__(self, epoch: int, epochs: int, model: nn.Module) -> None:
        """Keep the weights and the time so far."""
        synchronise(self.task.device)
        start = time.perf_counter()
        self.elapsed_s.append(self.seconds)
        self.states.append({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
        self.task.ledger.measured_s += time.perf_counter() - start
        self.then(epoch, epochs, model)


class MethodModels:
    """Other models for a method, from the store where it has them; ``stored`` false remakes them and leaves the store alone."""

    def __init__(
        self,
        session: Session,
        data: DataSpec,
        original: str,
        train_seed: int,
        partitions: Mapping[str, Tensor],
        *,
        stored: bool,
    ) -> None:
        self.session: Session = session
        self.data: DataSpec = data
        self.original: str = original
        self.train_seed: int = train_seed
        self.partitions: Mapping[str, Tensor] = partitions
        self.stored: bool = stored

    def fresh(self, seed: int) -> nn.Module:
        """A randomly initialised network of the same architecture, in eval mode."""
        loaded = self.session.loaded(self.data)
        return build_model(self.data.predictor.model, loaded.model_input, seed, self.session.device).eval()

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """A model trained on a partition with the original's recipe and seed, and the seconds that took."""
        if not self.stored:
            start = time.perf_counter()
            model = self.session.trained(self.data, self.partitions[partition], self.train_seed)
            return model, time.perf_counter() - start
        stage = TrainModel(name=f"train on {partition}", data=self.data, partition=partition, seed=self.train_seed)
        artifact = run_stage(self.session, stage)
        return self.session.model(self.data, stage.address), cast(float, artifact.facts["elapsed_s"])

    def replay(self, on_step: StepListener) -> float:
        """Train the original again and show every update; the seconds that took."""
        if self.session.options.devices > 1:
            raise RequirementNotMet(
                "the original was trained on several devices, and no single one can replay that; use --devices 1"
            )
        start = time.perf_counter()
        ids = self.partitions[self.data.predictor.training_set]
        replayed = self.session.trained(self.data, ids, self.train_seed, on_step=on_step)
        if model_digest(replayed) != model_digest(self.session.model(self.data, self.original)):
            raise RequirementNotMet(
                "replaying the original's training gave another model; use the device and options it was trained with "
                "(a shadow model that was trained together with others cannot be replayed)"
            )
        return time.perf_counter() - start

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """The original's training taken up with a partition."""
        if self.session.options.devices > 1:
            raise RequirementNotMet("a training on several devices cannot be taken up by one; use --devices 1")
        data, loaded = self.data, self.session.loaded(self.data)
        recipe = Recipe(
            build=lambda: build_model(data.predictor.model, loaded.model_input, self.train_seed, self.session.device),
            predictor=data.predictor,
            x=loaded.x,
            y=loaded.y,
            ids=self.partitions[data.predictor.training_set],
            criterion=loaded.criterion,
            seed=self.train_seed,
            batch_size=data.batch_size,
            precision=self.session.precision,
            digest=model_digest,
            cached=self.cached,
        )
        return resumed(recipe, original, self.partitions[partition], epochs)

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Tensors that depend on ``content`` alone, and the seconds they took to compute."""
        if not self.stored:
            start = time.perf_counter()
            return compute(), time.perf_counter() - start
        data = self.data
        described = {
            "name": name,
            "view": data.inputs_address,
            "loss": canonical(data.predictor.loss_fn),
            "numerics": self.session.numerics,
            "content": content,
        } | ({"request": data.request} if data.request else {})

        def computed(writer: Writer) -> None:
            start = time.perf_counter()
            writer.save_tensors("tensors", {key: value.detach().cpu().contiguous() for key, value in compute().items()})
            writer.facts["elapsed_s"] = time.perf_counter() - start
            give_back()  # importances need several times what they leave

        artifact = self.session.keep(address("precomputed", described), "precomputed", described, computed, f"compute {name}")
        return artifact.tensors("tensors"), cast(float, artifact.facts["elapsed_s"])
