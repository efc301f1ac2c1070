"""Methods applied to models that somebody brings along, each result kept in the store."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.component import canonical
from erasure.engine.fits import Fits, remembered, stored_outputs
from erasure.engine.given_data import GivenData, OwnModels, with_names
from erasure.engine.given_models import GivenModel
from erasure.engine.sharded_fits import OwnShards, ShardedFit
from erasure.store import Store, Writer, address
from erasure.training.anatomy import load_state
from erasure.training.randomness import Streams, derive
from erasure.training.resuming import Resumed
from erasure.training.trial import deep_copy
from erasure.types import Json
from erasure.unlearners.contract import Unlearner, UnlearningContext, model_digest

__all__ = ["Teachers", "UnlearnedModel", "Unlearnings"]


@dataclass(frozen=True, eq=False, kw_only=True)
class UnlearnedModel(GivenModel):
    """A model that a method has made.

    Args:
        guarantee: What the method promises of it.
        was_stored: Whether it was in the store already.
    """

    guarantee: Guarantee
    was_stored: bool = False


@dataclass(frozen=True)
class Teachers:
    """Retrained models that are there anyway, for methods that learn from one.

    Args:
        name: What tells them from others.
        of: Gives the one for an application with a seed.
    """

    name: str
    of: Callable[[int], GivenModel]


class Unlearnings:
    """Applies methods to given models, each once.

    Args:
        data: The data.
        like: A model of the architecture.
        store: Where results are kept.
        fits: Retrains where a method asks for it; None if nothing can be trained.
        teachers: Retrained models that a method gets instead, at no charge.
        is_part: Whether the data is a part of what models were trained on, to time methods by.
    """

    def __init__(
        self,
        data: GivenData,
        like: nn.Module,
        store: Store,
        fits: Fits | None,
        teachers: Teachers | None = None,
        *,
        is_part: bool = False,
    ) -> None:
        self.data: GivenData = data
        self.like: nn.Module = like
        self.store: Store = store
        self.fits: Fits | None = fits
        self.teachers: Teachers | None = teachers
        self.is_part: bool = is_part

    def apply(self, unlearner: Unlearner, original: GivenModel, seed: int) -> UnlearnedModel:
        """The method's result on one original.

        Raises:
            RequirementNotMet: If the method is not defined for the model or the data.
            Diverged: If what it gives is not finite.
        """
        before = original.load()
        content = self._content(unlearner, before, seed)
        where = address("given-unlearned", content)
        stored = self.store.contains(where)
        artifact = self.store.get_or_compute(
            where, "given-unlearned", content, lambda writer: self._make(writer, unlearner, before, seed)
        )

        @functools.cache
        def load() -> nn.Module:
            model = self.data.prepared(self.like)
            load_state(model, artifact.tensors("model"))
            return model

        facts = artifact.facts
        promised = cast(dict[str, Any], facts["guarantee"])
        return UnlearnedModel(
            load=load,
            outputs=remembered(lambda ids: stored_outputs(self.store, where, load, self.data, ids)),
            elapsed_s=cast(float, facts["elapsed_s"]),
            precompute_s=cast(float, facts["precompute_s"]),
            address=where,
            guarantee=Guarantee(**{**promised, "assumptions": tuple(promised["assumptions"])}),
            was_stored=stored,
        )

    def has(self, unlearner: Unlearner, original: GivenModel, seed: int) -> bool:
        """Whether it was applied before."""
        return self.store.contains(address("given-unlearned", self._content(unlearner, original.load(), seed)))

    def _content(self, unlearner: Unlearner, before: nn.Module, seed: int) -> dict[str, Json]:
        parts: dict[str, Json] = {name: self._samples(ids) for name, ids in self.data.partitions.items() if name != "test"}
        return {
            "method": canonical(unlearner),
            "original": model_digest(before),
            "samples": parts,
            "seed": seed,
            "batch_size": self.data.batch_size,
            "device": self.data.device.type,
            "fit": dict(self.fits.identity) if self.fits is not None else None,
            "teachers": teachers.name if (teachers := self._teachers_of(unlearner)) is not None else "",
        }

    def _teachers_of(self, unlearner: Unlearner) -> Teachers | None:
        """None for a method whose result is the retrained model: it has to be one of its own."""
        return self.teachers if unlearner.learns_from_retrained else None

    @functools.cache  # noqa: B019 - lives as long as a request
    def _fingerprint(self) -> str:
        return self.data.fingerprint()

    def _samples(self, ids: Tensor) -> str:
        return hashlib.sha256(self._fingerprint().encode() + ids.cpu().numpy().astype("<i8").tobytes()).hexdigest()

    def _make(self, writer: Writer, unlearner: Unlearner, before: nn.Module, seed: int) -> None:
        context = UnlearningContext(
            x=self.data.x,
            y=self.data.y,
            partitions=dict(self.data.partitions),
            model_input=self.data.model_input,
            criterion=self.data.criterion,
            streams=Streams(seed),
            batch_size=self.data.batch_size,
            is_part=self.is_part,
            models=_FittedModels(before, self.data, self.fits, seed, self._teachers_of(unlearner)),
        )
        found = unlearner.run(before, with_names(context, unlearner))
        state = self.data.released(found.model).state_dict()
        writer.save_tensors("model", {name: value.detach().cpu().contiguous() for name, value in state.items()})
        promised = {**asdict(found.guarantee), "assumptions": list(found.guarantee.assumptions)}
        writer.facts |= {"elapsed_s": found.elapsed_s, "precompute_s": found.precompute_s, "guarantee": promised}


class _FittedModels(OwnModels):
    """Other models: retrained ones by somebody's own function, where there is one."""

    def __init__(self, model: nn.Module, data: GivenData, fits: Fits | None, seed: int, teachers: Teachers | None) -> None:
        super().__init__(model)
        self.data, self.fits, self.seed, self.teachers = data, fits, seed, teachers

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """Trained on the partition by somebody's own function; one that is there anyway is not charged."""
        if self.teachers is not None and partition == "retain":
            return deep_copy(self.teachers.of(self.seed).load()), 0.0
        if self.fits is None:
            return super().retrained(partition)
        made = self.fits.model(self.data.partitions[partition], derive(self.seed, "retrained"), f"a model on {partition}")
        return deep_copy(made.load()), made.elapsed_s

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """From the members of shards that saw none of what is missing; nothing is kept of other trainings."""
        fit = self.fits.fit if self.fits is not None else None
        if isinstance(original, OwnShards) and isinstance(fit, ShardedFit):
            return fit.resumed(original, self.data.partitions["train"], self.data.partitions[partition])
        return super().resumed(original, partition, epochs)
