"""Plans the models that measures ask for: in blocks, and once for all measures that ask alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from erasure.experiment.configuration import LabelledUnlearner
from erasure.measures.contract import Measure, ModelRole
from erasure.measures.requested_models import ModelRequest, Original, Repeated, Retrained, Shadow, UnlearnedShadow
from erasure.planning.plan_builder import PlanBuilder
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import ModelStack, chunks, family, member, split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.models import MakeModels
from erasure.training.ensemble import BLOCK_SIZE
from erasure.unlearners.contract import Unlearner

__all__ = ["JURY_SIZE", "RequestPlanner"]

JURY_SIZE = 20
"""Further golds to train together: a jury of 19 is one block. More of them leave full blocks as they are."""


class RequestPlanner:
    """Plans the models that measures request in one repetition, for one retain partition.

    Args:
        builder: Takes the stages.
        seeds: Seeds of all that models are compared with.
        retain: The partition that gold is trained on.
    """

    def __init__(self, builder: PlanBuilder, seeds: Seeds, retain: str) -> None:
        self.builder: PlanBuilder = builder
        self.seeds: Seeds = seeds
        self.retain: str = retain
        self.data: DataSpec = builder.data
        self._trained: dict[tuple[ModelRequest, str], str] = {}

    def requested(
        self, measure: Measure, role: ModelRole, entry: LabelledUnlearner | None, original: str
    ) -> tuple[dict[ModelRequest, str], list[str]]:
        """Where the models are that a measure requests, and the stages that make and run them."""
        asked = measure.requests(role)
        models = self._models([request for request, _ in asked], _Treatment.of(role, entry), original)
        looked: dict[str, dict[str, None]] = {}
        for request, partitions in asked:
            known = [name for name in partitions if name in self.data.partition_addresses]
            looked.setdefault(split_member(models[request])[0], {}).update(dict.fromkeys(known))
        required = [
            stage for block, partitions in looked.items() for stage in (block, *self.builder.outputs([block], list(partitions)))
        ]
        return models, required

    def golds(self, n_golds: int) -> tuple[str, ...]:
        """The further golds 1 to ``n_golds``, in blocks."""
        requests = [Retrained(number=number) for number in range(1, n_golds + 1)]
        blocks = [(chunk, self._block(chunk, _Treatment(way="retrain"), [])) for chunk in chunks(requests, JURY_SIZE)]
        return tuple(member(block, index) for chunk, block in blocks for index in range(len(chunk)))

    def _models(self, requests: Sequence[ModelRequest], treatment: _Treatment, original: str) -> dict[ModelRequest, str]:
        families: dict[ModelRequest, list[ModelRequest]] = {}
        for request in requests:
            families.setdefault(family(request), []).append(request)
        size = BLOCK_SIZE if self.data.predictor.model.stackable else 1
        found: dict[ModelRequest, str] = {}
        for members in families.values():
            origins = self._origins(members, treatment, original)
            if isinstance(members[0], UnlearnedShadow) and treatment.way == "none":
                found |= {request: origins[request] for request in members}
                continue
            for chunk in chunks(members, size):
                block = self._block(chunk, treatment, [origins[request] for request in chunk if request in origins])
                found |= {request: member(block, index) for index, request in enumerate(chunk)}
        return found

    def _origins(self, requests: Sequence[ModelRequest], treatment: _Treatment, original: str) -> dict[ModelRequest, str]:
        """The model that each request starts from, if it starts from one."""
        if isinstance(requests[0], UnlearnedShadow) and treatment.way != "retrain":
            shadows = {request: request.origin for request in requests if isinstance(request, UnlearnedShadow)}
            models = self._models(list(shadows.values()), treatment, original)
            return {request: models[shadow] for request, shadow in shadows.items()}
        if isinstance(requests[0], Repeated) and treatment.way == "unlearn":
            origins = {request: request.origin for request in requests if isinstance(request, Repeated)}
            others = [Original(number=number) for number in sorted(set(origins.values()) - {0})]
            models = self._models(others, treatment, original)
            return {request: models[Original(number=number)] if number else original for request, number in origins.items()}
        return {}

    def _block(self, requests: tuple[ModelRequest, ...], treatment: _Treatment, origins: Sequence[str]) -> str:
        first = requests[0]
        unlearner = treatment.unlearner if origins else None
        is_retrained = isinstance(first, Retrained) or (isinstance(first, Repeated) and treatment.way == "retrain")
        block = ModelStack(
            requests=requests,
            seeds=tuple(self._seed(request, unlearn=unlearner is not None) for request in requests),
            way="unlearn" if unlearner is not None else "train",
            partition=self.retain if is_retrained else self.data.predictor.training_set,
            origins=tuple(origins),
            root=self.seeds.stream("train", "shadow"),
        )
        title = block.title()
        made = [(request, block.partition) for request in requests] if unlearner is None else []
        stage = MakeModels(
            name=f"train {title}" if unlearner is None else f"unlearn {treatment.label} on {title}",
            data=self.data,
            block=block,
            unlearner=unlearner,
            train_seed=self.seeds.stream("train"),
            elsewhere={number: self._trained[each] for number, each in enumerate(made) if each in self._trained},
        )
        address = self.builder.add(stage)
        for number, each in enumerate(made):
            self._trained.setdefault(each, member(address, number))
        return address

    def _seed(self, request: ModelRequest, *, unlearn: bool) -> int:
        stream, number = self.seeds.stream, request.number
        match request:
            case Retrained():
                return stream("train", "gold", number)
            case Original():
                return stream("train", "original", number)
            case Shadow():
                return stream("train", "shadow", number)
            case Repeated():
                return stream("unlearn", "again", number) if unlearn else stream("train", "again", number)
            case UnlearnedShadow():
                return stream("unlearn" if unlearn else "train", "unlearned shadow", number, request.draw)
            case _:
                raise TypeError(f"no model is known by {type(request).__name__}")


@dataclass(frozen=True, kw_only=True)
class _Treatment:
    """What has been done to the subject, and would be done to a model that is treated like it."""

    way: Literal["none", "retrain", "unlearn"]
    unlearner: Unlearner | None = None
    label: str = ""

    @classmethod
    def of(cls, role: ModelRole, entry: LabelledUnlearner | None) -> _Treatment:
        """The original: nothing. Gold, and methods that retrain: retraining."""
        if role == "original":
            return cls(way="none")
        if entry is None or entry.unlearner.exact:
            return cls(way="retrain")
        return cls(way="unlearn", unlearner=entry.unlearner, label=entry.label)
