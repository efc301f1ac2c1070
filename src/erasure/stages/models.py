"""The stage ``models``: a block of models that are made together, and how measures read those that they requested."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.component import Component
from erasure.errors import Diverged, RequirementNotMet
from erasure.measures.outputs import Outputs
from erasure.measures.requested_models import ModelRequest, Shadow, UnlearnedShadow
from erasure.stages.blocks import ModelStack, forgotten_ids, seen_ids, split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.inference import outputs_of
from erasure.stages.session import Session
from erasure.stages.side_by_side import made_side_by_side
from erasure.stages.stage import Stage, short
from erasure.stages.training import training_content
from erasure.stages.unlearning import task_of
from erasure.store import Writer
from erasure.training.devices import PeakMemory, synchronise
from erasure.training.ensemble import train_together, unsupported_reason
from erasure.training.predictor import Predictor, build_model
from erasure.training.shadow_graphs import has_edges
from erasure.types import Json
from erasure.unlearners.contract import PlainTraining, Unlearner, UnlearningContext, check_finite, plain_training

__all__ = ["MakeModels", "RequestedModels"]

_KEPT_IDS = 256
"""Sets of ids of shadow models kept in memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MakeModels(Stage):
    """Makes the models of a block and saves their weights, one tensor for each parameter with the model as its first axis.

    Args:
        block: What they are.
        unlearner: The method that makes them from others; None trains them.
        train_seed: Seed of the original's training, for methods that ask for other models.
        elsewhere: Equal models in blocks that were planned before, by number in this block. They are taken from there if they are
            there, unless such networks are trained in a stack, where the size of a block may show in the last digits.
    """

    kind: ClassVar[str] = "models"

    block: ModelStack
    unlearner: Unlearner | None = None
    train_seed: int = 0
    elsewhere: Mapping[int, str] = field(default_factory=dict)

    def content(self) -> Json:
        data, block, unlearner = self.data, self.block, self.unlearner
        content: dict[str, Json] = {"seeds": list(block.seeds), "numerics": data.numerics, "samples": self._samples()}
        if unlearner is None:
            return content | {"training": training_content(data, block.partition, 0)}
        names = sorted(unlearner.partition_names() | {unlearner.forget, unlearner.retain, unlearner.train})
        return content | {
            "unlearner": data.forms(unlearner),
            "origins": list(block.origins),
            "partitions": data.addresses_of(names),
            "batch_size": data.batch_size,
        }

    def _samples(self) -> Json:
        """What decides which samples each model of a block sees and forgets."""
        addresses, block = self.data.partition_addresses, self.block
        first = block.requests[0]
        shadow = first.shadow if isinstance(first, UnlearnedShadow) else first
        if not isinstance(shadow, Shadow):
            return addresses.get(block.partition)
        described: dict[str, Json] = {
            "pool": [addresses.get(name) for name in shadow.pool],
            "always": [addresses.get(name) for name in shadow.always],
            "share": shadow.share,
            "numbers": [request.number for request in block.requests],
            "root": block.root,
        }
        if isinstance(first, UnlearnedShadow):
            draws = [request.draw for request in block.requests if isinstance(request, UnlearnedShadow)]
            described |= {"forget_share": first.share, "draws": draws}
        return described

    def inputs(self) -> tuple[str, ...]:
        return (self.data.split_address, *(split_member(origin)[0] for origin in self.block.origins))

    def family(self) -> str:
        n = len(self.block.requests)
        if self.unlearner is None:
            return f"train {short(self.data.predictor.model)} x{n}"
        return f"unlearn {short(self.unlearner)} x{n}"

    def cost_factors(self) -> tuple[Component | None, str]:
        return self.unlearner, ""

    def run(self, session: Session, writer: Writer) -> None:
        start, peak = time.perf_counter(), PeakMemory(session.device)
        if self.unlearner is None:
            together, model_s = self._trained_together(session), session.training_s.get(self.data.similarity_key, 0.0)
        else:
            together, model_s = self._unlearned_together(session, self.unlearner), 0.0
        each = made_side_by_side(session, self, model_s) if together is None else (model.state_dict() for model in together)
        stacked = _stacked(each, self.n_pieces)
        synchronise(session.device)
        writer.save_tensors("models", stacked)
        elapsed_s = time.perf_counter() - start
        facts: dict[str, Json] = {"elapsed_s": elapsed_s, "peak_memory_mib": peak.mib(), "models": self.n_pieces}
        writer.facts |= facts

    @property
    def n_pieces(self) -> int:
        """How many models there are."""
        return len(self.block.requests)

    def piece(self, session: Session, number: int) -> dict[str, Tensor]:
        """Weights and buffers of one of the models, made by itself."""
        if self.unlearner is None:
            ids = _kept(self.block.requests[number], self.block, session.loaded(self.data).partitions)
            where = self.elsewhere.get(number)
            if where is not None and not self._is_stackable(session, ids) and session.store.contains(split_member(where)[0]):
                return session.model(self.data, where).state_dict()
            return session.trained(self.data, ids, self.block.seeds[number]).state_dict()
        original = session.model(self.data, self.block.origins[number])
        return self.unlearner.run(original, self._task(session, self.unlearner, number)).model.state_dict()

    def is_one_piece(self, session: Session) -> bool:
        """Whether one process is all that can work on the models: there is one, or they go through each step together."""
        if self.n_pieces == 1:
            return True
        if self.unlearner is not None:
            return self._as_training(session, self.unlearner) is not None
        return self._is_stackable(session, _kept(self.block.requests[0], self.block, session.loaded(self.data).partitions))

    def _is_stackable(self, session: Session, ids: Tensor) -> bool:
        """Whether several such networks are trained in a stack."""
        if has_edges(ids):  # shadow graphs differ in their inputs
            return False
        return unsupported_reason(session.blank(self.data), self.data.predictor, session.precision) is None

    def _task(self, session: Session, unlearner: Unlearner, number: int) -> UnlearningContext:
        """What the method is given of a model."""
        block = self.block
        return task_of(
            session,
            self.data,
            original=block.origins[number],
            seed=block.seeds[number],
            train_seed=self.train_seed,
            own=_own_partitions(session, self.data, unlearner, block, block.requests[number]),
        )

    def _trained_together(self, session: Session) -> list[nn.Module] | None:
        """The models, trained from scratch in one training of all; None where they are better taken one by one."""
        data, block, loaded = self.data, self.block, session.loaded(self.data)
        if self.n_pieces == 1 or not self._is_stackable(session, _kept(block.requests[0], block, loaded.partitions)):
            return None
        predictor = data.predictor
        try:
            return train_together(
                [build_model(predictor.model, loaded.model_input, seed, session.device) for seed in block.seeds],
                predictor,
                x=loaded.x,
                y=loaded.y,
                ids=[_kept(request, block, loaded.partitions).to(session.device) for request in block.requests],
                criterion=loaded.criterion,
                seeds=block.seeds,
                batch_size=data.batch_size,
                precision=session.precision,
                on_epoch=session.on_epoch(),
            )
        except Diverged:  # one by one, it is known which
            return None

    def _as_training(self, session: Session, unlearner: Unlearner) -> tuple[PlainTraining, Predictor] | None:
        """The method as training and its recipe, if it is nothing else and such networks are trained in a stack by it."""
        plain = plain_training(unlearner)
        if plain is None or not plain.epochs:
            return None
        recipe = self.data.predictor.replace(
            epochs=plain.epochs,
            optimizer=plain.optimizer,
            schedule=plain.schedule,
            max_grad_norm=plain.max_grad_norm,
            batch_size=None,
            patience=None,
            validation_set=None,
        )
        return (plain, recipe) if unsupported_reason(session.blank(self.data), recipe, session.precision) is None else None

    def _unlearned_together(self, session: Session, unlearner: Unlearner) -> list[nn.Module] | None:
        """The models after a method that is plain training, in one training of all; None where they are better taken one by one."""
        data, origins = self.data, self.block.origins
        training = self._as_training(session, unlearner) if len(origins) > 1 else None
        if training is None:
            return None
        plain, recipe = training
        seen = [self._task(session, unlearner, number).seen_by(unlearner) for number in range(self.n_pieces)]
        batches = [context.batches(plain.role) for context in seen]
        if not all(each.generator is not None and each.n_samples for each in batches):
            return None
        loaded, students = session.loaded(data), [session.model(data, origin) for origin in origins]
        try:
            if plain.prepare is not None:
                for student, context in zip(students, seen, strict=True):
                    plain.prepare(student, context)
            unlearned = train_together(
                students,
                recipe,
                x=loaded.x,
                y=loaded.y,
                ids=[each.ids for each in batches],
                criterion=loaded.criterion,
                generators=[each.generator for each in batches if each.generator is not None],
                batch_size=batches[0].batch_size,
                ascends=plain.ascends,
                precision=session.precision,
                on_epoch=session.on_epoch(),
            )
            for model in unlearned:
                check_finite(model, type(unlearner).__name__)
        except (Diverged, RequirementNotMet):  # one by one, it is known which
            return None
        return unlearned


def _stacked(models: Iterable[Mapping[str, Tensor]], n_models: int) -> dict[str, Tensor]:
    """The weights of all models; of those that come one by one, only one is there at a time."""
    stacked: dict[str, Tensor] = {}
    for number, model in enumerate(models):
        for name, value in model.items():
            if name not in stacked:
                stacked[name] = torch.empty((n_models, *value.shape), dtype=value.dtype)
            stacked[name][number] = value.detach()
    return stacked


def _kept(request: ModelRequest, block: ModelStack, partitions: Mapping[str, Tensor]) -> Tensor:
    seen = seen_ids(request, block, partitions)
    gone = forgotten_ids(request, block, partitions)
    return seen[~torch.isin(seen, gone)] if len(gone) else seen


def _own_partitions(
    session: Session, data: DataSpec, unlearner: Unlearner, block: ModelStack, request: ModelRequest
) -> dict[str, Tensor]:
    """Partitions of a request that are not those of the data."""
    if not isinstance(request, UnlearnedShadow):
        return {}
    partitions = session.loaded(data).partitions
    seen, gone = seen_ids(request, block, partitions), forgotten_ids(request, block, partitions)
    return {unlearner.train: seen, unlearner.forget: gone, unlearner.retain: seen[~torch.isin(seen, gone)]}


@dataclass(frozen=True, eq=False, kw_only=True)
class RequestedModels:
    """Answers a measure's requests from the store.

    Args:
        session: Reads and runs models.
        data: The data.
        models: Where each requested model is.
        blocks: The blocks they are in, by address; None for a model that is in none.
    """

    session: Session
    data: DataSpec
    models: Mapping[ModelRequest, str]
    blocks: Mapping[str, ModelStack | None]

    def _where(self, request: ModelRequest) -> str:
        if request not in self.models:
            raise RequirementNotMet(f"{request} was not declared: name it in the requests() of the measure")
        return self.models[request]

    def _block(self, request: ModelRequest) -> ModelStack:
        where, _ = split_member(self._where(request))
        block = self.blocks.get(where)
        if block is None:
            raise RequirementNotMet(f"{request} is not one of a block of models")
        return block

    def outputs(self, request: ModelRequest, partition: str) -> Outputs:
        """The model's outputs on a partition, in the partition's order."""
        return outputs_of(self.session, self.data, self._where(request), partition, was_requested=True)

    def load(self, request: ModelRequest) -> nn.Module:
        """The model, in eval mode, on the device."""
        return self.session.model(self.data, self._where(request))

    def seen(self, request: ModelRequest) -> Tensor:
        """Ids of what the model was trained on."""
        return self._ids("seen", request, lambda *of: seen_ids(*of).cpu().sort().values)

    def forgotten(self, request: ModelRequest) -> Tensor:
        """Ids of what the model has unlearned."""
        return self._ids("forgotten", request, lambda *of: forgotten_ids(*of).cpu())

    def _ids(
        self, what: str, request: ModelRequest, drawn: Callable[[ModelRequest, ModelStack, Mapping[str, Tensor]], Tensor]
    ) -> Tensor:
        """Ids that are drawn once for all methods and measures that ask for them."""
        block, kept = self._block(request), self.session.kept_ids
        key = (what, self.data.split_address, request, block.root, block.partition)
        if key not in kept:
            kept[key] = drawn(request, block, self.session.loaded(self.data).partitions)
            while len(kept) > _KEPT_IDS:
                kept.popitem(last=False)
        return kept[key]
