"""The models of a bank: makes a block of them, and answers the measures that asked for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from erasure.errors import Diverged, RequirementNotMet
from erasure.experiment.blocks import Block, forgotten_ids, seen_ids, split_member
from erasure.experiment.stages import Job, Scene
from erasure.measures.bank import Request, UnlearnedShadow
from erasure.measures.outputs import Outputs
from erasure.store import Writer
from erasure.training.devices import PeakMemory, synchronise
from erasure.training.ensemble import refuse, train_together
from erasure.training.predictor import build_model
from erasure.types import Json

if TYPE_CHECKING:
    from erasure.experiment.bench import Workbench

__all__ = ["Population", "make_block"]


def make_block(bench: Workbench, job: Job, writer: Writer) -> None:
    """Make the models of a block and save their weights, one tensor for each parameter with the model as its first axis."""
    assert job.block is not None  # noqa: S101 - narrows the type
    start, peak = time.perf_counter(), PeakMemory(bench.device)
    models = _trained(bench, job.scene, job.block) if job.block.way == "train" else _unlearned(bench, job, job.block)
    synchronise(bench.device)
    states = [model.state_dict() for model in models]
    stacked = {name: torch.stack([state[name].detach().cpu() for state in states]) for name in states[0]}
    writer.save_tensors("models", stacked)
    elapsed_s = time.perf_counter() - start
    facts: dict[str, Json] = {"elapsed_s": elapsed_s, "peak_memory_mib": peak.mib(), "models": len(models)}
    writer.facts |= facts


def _trained(bench: Workbench, scene: Scene, block: Block) -> list[nn.Module]:
    material, predictor = bench.material(scene), scene.predictor
    ids = [_kept(request, block, material.partitions) for request in block.requests]

    def fresh() -> list[nn.Module]:
        return [build_model(predictor.model, material.model_input, seed, bench.device) for seed in block.seeds]

    models = fresh()
    if len(models) > 1 and refuse(models[0], predictor, bench.precision) is None:
        try:
            return train_together(
                models,
                predictor,
                x=material.x,
                y=material.y,
                ids=[chosen.to(bench.device) for chosen in ids],
                criterion=material.criterion,
                seeds=block.seeds,
                batch_size=scene.batch_size,
                precision=bench.precision,
                on_epoch=bench.on_epoch(),
            )
        except Diverged:  # one by one, it is known which
            pass
    return [bench.trained(scene, chosen, seed) for chosen, seed in zip(ids, block.seeds, strict=True)]


def _kept(request: Request, block: Block, partitions: Mapping[str, Tensor]) -> Tensor:
    seen = seen_ids(request, block, partitions)
    gone = forgotten_ids(request, block, partitions)
    return seen[~torch.isin(seen, gone)] if len(gone) else seen


def _unlearned(bench: Workbench, job: Job, block: Block) -> list[nn.Module]:
    """The job's method applied to the model that each request starts from."""
    assert job.unlearner is not None  # noqa: S101 - narrows the type
    unlearner, partitions = job.unlearner, bench.material(job.scene).partitions
    models = []
    for request, seed, origin in zip(block.requests, block.seeds, block.origins, strict=True):
        own = {}
        if isinstance(request, UnlearnedShadow):
            seen, gone = seen_ids(request, block, partitions), forgotten_ids(request, block, partitions)
            own = {unlearner.train: seen, unlearner.forget: gone, unlearner.retain: seen[~torch.isin(seen, gone)]}
        task = bench.task(replace(job, seed=seed, model=origin), own)
        models.append(unlearner.run(bench.model(job.scene, origin), task).model)
    return models


class Population:
    """Answers a measure's requests from the store.

    Args:
        bench: Reads and runs models.
        job: The measurement; its bank says where each model is.
    """

    def __init__(self, bench: Workbench, job: Job) -> None:
        self.bench, self.job = bench, job

    def _where(self, request: Request) -> str:
        if request not in self.job.bank:
            raise RequirementNotMet(f"{request} was not declared: name it in the requests() of the measure")
        return self.job.bank[request]

    def _block(self, request: Request) -> Block:
        where, _ = split_member(self._where(request))
        block = self.job.blocks.get(where)
        if block is None:
            raise RequirementNotMet(f"{request} is not one of a bank of models")
        return block

    def outputs(self, request: Request, partition: str) -> Outputs:
        """What the model says about a partition, in the partition's order."""
        return self.bench.outputs(self.job.scene, self._where(request), partition)

    def load(self, request: Request) -> nn.Module:
        """The model, in eval mode, on the device."""
        return self.bench.model(self.job.scene, self._where(request))

    def seen(self, request: Request) -> Tensor:
        """Ids of what the model was trained on."""
        partitions = self.bench.material(self.job.scene).partitions
        return seen_ids(request, self._block(request), partitions).cpu().sort().values

    def forgotten(self, request: Request) -> Tensor:
        """Ids of what the model has unlearned."""
        partitions = self.bench.material(self.job.scene).partitions
        return forgotten_ids(request, self._block(request), partitions).cpu()
