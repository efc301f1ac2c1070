"""Plans the models that measures ask for: in blocks, and once for all measures that ask alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from erasure.experiment.configuration import LabelledUnlearner
from erasure.measures.contract import Measure, ModelKind
from erasure.measures.requested_models import Original, Repeated, Request, Retrained, Shadow, UnlearnedShadow
from erasure.planning.stages import Job, short, training_content
from erasure.stages.blocks import Block, chunks, family, member, split_member
from erasure.training.ensemble import BLOCK_SIZE
from erasure.types import Json
from erasure.unlearners.contract import Unlearner

if TYPE_CHECKING:
    from erasure.planning.planner import Planner

__all__ = ["JURY_SIZE", "BankPlanner"]

JURY_SIZE = 20
"""Further golds to train together: a jury of 19 is one block. More of them leave full blocks as they are."""


class BankPlanner:
    """Adds the models that measures ask for to the plan of one repetition.

    Args:
        planner: Plans the repetition.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner, self.scene = planner, planner.scene

    def requested(
        self, measure: Measure, role: ModelKind, entry: LabelledUnlearner | None, original: str
    ) -> tuple[dict[Request, str], list[str]]:
        """Where the models are that a measure asks for, and the stages that make and run them."""
        asked = measure.requests(role)
        bank = self._models([request for request, _ in asked], _Treatment.of(role, entry), original)
        looked: dict[str, dict[str, None]] = {}
        for request, partitions in asked:
            known = [name for name in partitions if name in self.scene.lineage]
            looked.setdefault(split_member(bank[request])[0], {}).update(dict.fromkeys(known))
        required = [
            stage for block, partitions in looked.items() for stage in (block, *self.planner.outputs([block], list(partitions)))
        ]
        return bank, required

    def golds(self, n_golds: int) -> tuple[str, ...]:
        """The further golds 1 to ``n_golds``, in blocks."""
        requests = [Retrained(number=number) for number in range(1, n_golds + 1)]
        blocks = [(chunk, self._block(chunk, _Treatment(way="retrain"), [])) for chunk in chunks(requests, JURY_SIZE)]
        return tuple(member(block, index) for chunk, block in blocks for index in range(len(chunk)))

    def _models(self, requests: Sequence[Request], treatment: _Treatment, original: str) -> dict[Request, str]:
        families: dict[Request, list[Request]] = {}
        for request in requests:
            families.setdefault(family(request), []).append(request)
        size = BLOCK_SIZE if self.scene.predictor.model.stackable else 1
        found: dict[Request, str] = {}
        for members in families.values():
            origins = self._origins(members, treatment, original)
            if isinstance(members[0], UnlearnedShadow) and treatment.way == "none":
                found |= {request: origins[request] for request in members}
                continue
            for chunk in chunks(members, size):
                block = self._block(chunk, treatment, [origins[request] for request in chunk if request in origins])
                found |= {request: member(block, index) for index, request in enumerate(chunk)}
        return found

    def _origins(self, requests: Sequence[Request], treatment: _Treatment, original: str) -> dict[Request, str]:
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

    def _block(self, requests: tuple[Request, ...], treatment: _Treatment, origins: Sequence[str]) -> str:
        scene, first = self.scene, requests[0]
        unlearner = treatment.unlearner if origins else None
        partition = scene.predictor.training_set
        if isinstance(first, Retrained) or (isinstance(first, Repeated) and treatment.way == "retrain"):
            partition = self.planner.retain
        block = Block(
            requests=requests,
            seeds=tuple(self._seed(request, unlearn=unlearner is not None) for request in requests),
            way="unlearn" if unlearner is not None else "train",
            partition=partition,
            origins=tuple(origins),
            root=self.planner.common.stream("train", "shadow"),
        )
        samples = self._samples(block)
        content: dict[str, Json] = {
            "seeds": list(block.seeds),
            "numerics": self.planner.plan_.numerics.json(),
            "samples": samples,
        }
        made_from = [split_member(origin)[0] for origin in origins]
        job = Job(scene=scene, block=block, unlearner=unlearner, train_seed=self.planner.common.stream("train"))
        n = len(requests)
        if unlearner is None:
            content["training"] = training_content(scene, partition, 0, self.planner.plan_.numerics.json())
            name, signature = f"train {block.title()}", f"train {short(scene.predictor.model)} x{n}"
        else:
            names = sorted(unlearner.partition_names() | {unlearner.forget, unlearner.retain, unlearner.train})
            content |= {
                "unlearner": self.planner.plan_.canonical(unlearner),
                "origins": list(origins),
                "partitions": {name: scene.lineage[name] for name in names if name in scene.lineage},
                "batch_size": scene.batch_size,
            }
            name, signature = f"unlearn {treatment.label} on {block.title()}", f"unlearn {short(unlearner)} x{n}"
        return self.planner.add("models", name, content, (scene.split, *made_from), job, signature, unlearner)

    def _samples(self, block: Block) -> Json:
        """What decides which samples each model of a block sees and forgets."""
        first = block.requests[0]
        shadow = first.shadow if isinstance(first, UnlearnedShadow) else first
        if not isinstance(shadow, Shadow):
            return self.scene.lineage.get(block.partition)
        described: dict[str, Json] = {
            "pool": [self.scene.lineage.get(name) for name in shadow.pool],
            "always": [self.scene.lineage.get(name) for name in shadow.always],
            "share": shadow.share,
            "numbers": [request.number for request in block.requests],
            "root": block.root,
        }
        if isinstance(first, UnlearnedShadow):
            draws = [request.draw for request in block.requests if isinstance(request, UnlearnedShadow)]
            described |= {"forget_share": first.share, "draws": draws}
        return described

    def _seed(self, request: Request, *, unlearn: bool) -> int:
        stream, number = self.planner.common.stream, request.number
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
    def of(cls, role: ModelKind, entry: LabelledUnlearner | None) -> _Treatment:
        """The original: nothing. Gold, and methods that retrain: retraining."""
        if role == "original":
            return cls(way="none")
        if entry is None or entry.unlearner.exact:
            return cls(way="retrain")
        return cls(way="unlearn", unlearner=entry.unlearner, label=entry.label)
