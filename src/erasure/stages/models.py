"""The models of a bank: makes a block of them, and answers the measures that asked for them."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from erasure.errors import Diverged, RequirementNotMet
from erasure.measures.outputs import Outputs
from erasure.measures.requested_models import Request, UnlearnedShadow
from erasure.planning.stages import Job, Scene
from erasure.stages.blocks import Block, forgotten_ids, seen_ids, split_member
from erasure.stages.inference import outputs_of
from erasure.stages.session import Session
from erasure.stages.unlearning import task_of
from erasure.store import Writer
from erasure.training.devices import PeakMemory, synchronise
from erasure.training.ensemble import refuse, train_together
from erasure.training.predictor import build_model
from erasure.types import Json
from erasure.unlearners.contract import Unlearner, UnlearningTask, check_finite, plain_training

__all__ = ["Population", "make_block"]


def make_block(session: Session, job: Job, writer: Writer) -> None:
    """Make the models of a block and save their weights, one tensor for each parameter with the model as its first axis."""
    assert job.block is not None  # noqa: S101 - narrows the type
    start, peak = time.perf_counter(), PeakMemory(session.device)
    models = _trained(session, job.scene, job.block) if job.block.way == "train" else _unlearned(session, job, job.block)
    synchronise(session.device)
    states = [model.state_dict() for model in models]
    stacked = {name: torch.stack([state[name].detach().cpu() for state in states]) for name in states[0]}
    writer.save_tensors("models", stacked)
    elapsed_s = time.perf_counter() - start
    facts: dict[str, Json] = {"elapsed_s": elapsed_s, "peak_memory_mib": peak.mib(), "models": len(models)}
    writer.facts |= facts


def _trained(session: Session, scene: Scene, block: Block) -> list[nn.Module]:
    material, predictor = session.material(scene), scene.predictor
    ids = [_kept(request, block, material.partitions) for request in block.requests]

    def fresh() -> list[nn.Module]:
        return [build_model(predictor.model, material.model_input, seed, session.device) for seed in block.seeds]

    models = fresh()
    if len(models) > 1 and refuse(models[0], predictor, session.precision) is None:
        try:
            return train_together(
                models,
                predictor,
                x=material.x,
                y=material.y,
                ids=[chosen.to(session.device) for chosen in ids],
                criterion=material.criterion,
                seeds=block.seeds,
                batch_size=scene.batch_size,
                precision=session.precision,
                on_epoch=session.on_epoch(),
            )
        except Diverged:  # one by one, it is known which
            pass
    return [session.trained(scene, chosen, seed) for chosen, seed in zip(ids, block.seeds, strict=True)]


def _kept(request: Request, block: Block, partitions: Mapping[str, Tensor]) -> Tensor:
    seen = seen_ids(request, block, partitions)
    gone = forgotten_ids(request, block, partitions)
    return seen[~torch.isin(seen, gone)] if len(gone) else seen


def _unlearned(session: Session, job: Job, block: Block) -> list[nn.Module]:
    """The job's method applied to the model that each request starts from."""
    unlearner = job.unlearner
    assert unlearner is not None  # noqa: S101 - narrows the type
    models = [session.model(job.scene, origin) for origin in block.origins]
    tasks = [
        task_of(session, replace(job, seed=seed, model=origin), _own(session, job, block, request))
        for request, seed, origin in zip(block.requests, block.seeds, block.origins, strict=True)
    ]
    together = _unlearned_together(session, job.scene, unlearner, models, tasks)
    if together is not None:
        return together
    return [unlearner.run(model, task).model for model, task in zip(models, tasks, strict=True)]


def _own(session: Session, job: Job, block: Block, request: Request) -> dict[str, Tensor]:
    """Partitions of a request that are not those of the data."""
    unlearner, partitions = job.unlearner, session.material(job.scene).partitions
    if unlearner is None or not isinstance(request, UnlearnedShadow):
        return {}
    seen, gone = seen_ids(request, block, partitions), forgotten_ids(request, block, partitions)
    return {unlearner.train: seen, unlearner.forget: gone, unlearner.retain: seen[~torch.isin(seen, gone)]}


def _unlearned_together(
    session: Session, scene: Scene, unlearner: Unlearner, models: list[nn.Module], tasks: list[UnlearningTask]
) -> list[nn.Module] | None:
    """The models after a method that is plain training, in one training of all; None where they are better taken one by one."""
    plain = plain_training(unlearner)
    if plain is None or len(models) < 2 or not plain.epochs:
        return None
    recipe = scene.predictor.replace(
        epochs=plain.epochs,
        optimizer=plain.optimizer,
        schedule=plain.schedule,
        max_grad_norm=plain.max_grad_norm,
        batch_size=None,
        patience=None,
        validation_set=None,
    )
    seen = [task.seen_by(unlearner) for task in tasks]
    batches = [task.batches(plain.role) for task in seen]
    is_each = all(each.generator is not None and each.n_samples for each in batches)
    if not is_each or refuse(models[0], recipe, session.precision) is not None:
        return None
    material = session.material(scene)
    copies = [copy.deepcopy(model) for model in models]
    try:
        unlearned = train_together(
            copies,
            recipe,
            x=material.x,
            y=material.y,
            ids=[each.ids for each in batches],
            criterion=material.criterion,
            generators=[each.generator for each in batches if each.generator is not None],
            batch_size=batches[0].batch_size,
            ascends=plain.ascends,
            precision=session.precision,
            on_epoch=session.on_epoch(),
        )
        for model in unlearned:
            check_finite(model, type(unlearner).__name__)
    except Diverged:  # one by one, it is known which
        return None
    return unlearned


class Population:
    """Answers a measure's requests from the store.

    Args:
        session: Reads and runs models.
        job: The measurement; its bank says where each model is.
    """

    def __init__(self, session: Session, job: Job) -> None:
        self.session, self.job = session, job

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
        return outputs_of(self.session, self.job.scene, self._where(request), partition, of_bank=True)

    def load(self, request: Request) -> nn.Module:
        """The model, in eval mode, on the device."""
        return self.session.model(self.job.scene, self._where(request))

    def seen(self, request: Request) -> Tensor:
        """Ids of what the model was trained on."""
        partitions = self.session.material(self.job.scene).partitions
        return seen_ids(request, self._block(request), partitions).cpu().sort().values

    def forgotten(self, request: Request) -> Tensor:
        """Ids of what the model has unlearned."""
        partitions = self.session.material(self.job.scene).partitions
        return forgotten_ids(request, self._block(request), partitions).cpu()
