"""What a running method gets from the engine, and what the engine keeps of it epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from erasure.component import canonical
from erasure.errors import RequirementNotMet
from erasure.planning.stages import Job, training_content
from erasure.stages.session import Session
from erasure.stages.training import train_model
from erasure.store import Writer
from erasure.store.addresses import address
from erasure.training.devices import synchronise
from erasure.training.history import StepListener
from erasure.training.loop import EpochListener
from erasure.training.predictor import build_model
from erasure.training.resuming import Recipe, Resumed, resumed
from erasure.unlearners.contract import UnlearningTask, model_digest

__all__ = ["EpochLog", "MethodBank"]


class EpochLog:
    """Keeps the weights of every epoch; the time for that is taken out of the method's clock."""

    def __init__(self, task: UnlearningTask, then: EpochListener) -> None:
        self.task, self.then = task, then
        self.states: list[dict[str, Tensor]] = []
        self.elapsed_s: list[float] = []
        self.start = time.perf_counter()

    def __call__(self, epoch: int, epochs: int, model: nn.Module) -> None:
        """Keep the weights and the time so far."""
        synchronise(self.task.device)
        start, ledger = time.perf_counter(), self.task.ledger
        self.elapsed_s.append(start - self.start - ledger.measured_s + ledger.charged_s)
        self.states.append({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
        ledger.measured_s += time.perf_counter() - start
        self.then(epoch, epochs, model)


class MethodBank:
    """Other models for a method, from the store where it has them; ``stored`` false remakes them and leaves the store alone."""

    def __init__(self, session: Session, job: Job, partitions: Mapping[str, Tensor], *, stored: bool) -> None:
        self.session, self.job, self.partitions, self.stored = session, job, partitions, stored

    def fresh(self, seed: int) -> nn.Module:
        """A randomly initialised network of the same architecture, in eval mode."""
        scene = self.job.scene
        return build_model(scene.predictor.model, self.session.material(scene).model_input, seed, self.session.device).eval()

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """A model trained on a partition with the original's recipe and seed, and the seconds that took."""
        scene = self.job.scene
        if not self.stored:
            start = time.perf_counter()
            model = self.session.trained(scene, self.partitions[partition], self.job.train_seed)
            return model, time.perf_counter() - start
        content = training_content(scene, partition, self.job.train_seed, self.session.numerics)
        where = address("model", content)
        job = Job(scene=scene, seed=self.job.train_seed, partition=partition)
        artifact = self.session.keep(
            where, "model", content, lambda w: train_model(self.session, job, w), f"train on {partition}"
        )
        return self.session.model(scene, where), cast(float, artifact.facts["elapsed_s"])

    def replay(self, on_step: StepListener) -> float:
        """Train the original again and show every update; the seconds that took."""
        if self.session.options.devices > 1:
            raise RequirementNotMet(
                "the original was trained on several devices, and no single one can replay that; use --devices 1"
            )
        scene, start = self.job.scene, time.perf_counter()
        ids = self.partitions[scene.predictor.training_set]
        replayed = self.session.trained(scene, ids, self.job.train_seed, on_step=on_step)
        if model_digest(replayed) != model_digest(self.session.model(scene, self.job.model)):
            raise RequirementNotMet(
                "replaying the original's training gave another model; use the device and options it was trained with "
                "(a shadow model that was trained together with others cannot be replayed)"
            )
        return time.perf_counter() - start

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """The original's training taken up with a partition."""
        if self.session.options.devices > 1:
            raise RequirementNotMet("a training on several devices cannot be taken up by one; use --devices 1")
        scene, material = self.job.scene, self.session.material(self.job.scene)
        recipe = Recipe(
            build=lambda: build_model(scene.predictor.model, material.model_input, self.job.train_seed, self.session.device),
            predictor=scene.predictor,
            x=material.x,
            y=material.y,
            ids=self.partitions[scene.predictor.training_set],
            criterion=material.criterion,
            seed=self.job.train_seed,
            batch_size=scene.batch_size,
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
        scene = self.job.scene
        described = {
            "name": name,
            "view": scene.view,
            "loss": canonical(scene.predictor.loss_fn),
            "numerics": self.session.numerics,
            "content": content,
        } | ({"request": scene.request} if scene.request else {})

        def computed(writer: Writer) -> None:
            start = time.perf_counter()
            writer.save_tensors("tensors", {key: value.detach().cpu().contiguous() for key, value in compute().items()})
            writer.facts["elapsed_s"] = time.perf_counter() - start

        artifact = self.session.keep(address("precomputed", described), "precomputed", described, computed, f"compute {name}")
        return artifact.tensors("tensors"), cast(float, artifact.facts["elapsed_s"])
