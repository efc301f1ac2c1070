"""What a model of an audit has gone through, for other models: shadows that forget, and the subject made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from erasure.engine.fits import Fits, positions_explained
from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenModel, fitted_model, held_model, of_fits
from erasure.errors import RequirementNotMet
from erasure.measures.contract import ModelRole
from erasure.measures.requested_models import ModelRequest, Original, Repeated, UnlearnedShadow
from erasure.stages.blocks import ModelStack, forgotten_ids, seen_ids
from erasure.training.randomness import derive, isolated
from erasure.training.trial import deep_copy

__all__ = ["Treatments", "Unlearn"]

Unlearn: TypeAlias = Callable[[nn.Module, Any, Any, int], nn.Module]
"""Unlearns: a trained model, positions in data of the samples to forget and to keep (those of test follow on), and a seed."""


class Treatments:
    """Makes the models that a measure asks for of the subject's own kind.

    Args:
        fits: Trains models.
        data: The data.
        seed: Root of all random choices.
        unlearn: Label of a method to the function that applies it.
    """

    def __init__(self, fits: Fits, data: GivenData, seed: int, unlearn: Mapping[str, Unlearn]) -> None:
        self.fits: Fits = fits
        self.data: GivenData = data
        self.seed: int = seed
        self.unlearn: Mapping[str, Unlearn] = unlearn
        self._plain = of_fits(fits, data, seed)
        self._made: dict[tuple[str, str, int, ModelRequest], GivenModel] = {}

    def made(self, request: ModelRequest, kind: ModelRole, label: str, original: GivenModel, number: int) -> GivenModel:
        """The model of a request, each made once.

        Args:
            request: A shadow that has forgotten, or a repetition.
            kind: What the subject is.
            label: The subject's method.
            original: What it started from.
            number: Of its block.

        Raises:
            RequirementNotMet: If nobody knows how the subject has forgotten.
        """
        key = (kind, label, number if isinstance(request, Repeated) else 0, request)
        if key not in self._made:
            make = self._shadow if isinstance(request, UnlearnedShadow) else self._repeated
            self._made[key] = make(request, kind, label, original)  # type: ignore[arg-type]
        return self._made[key]

    def forgotten(self, request: ModelRequest) -> Tensor:
        """Sorted ids of what a shadow has forgotten; empty for other models."""
        return forgotten_ids(request, self._block(request), self.data.partitions)

    def _block(self, request: ModelRequest) -> ModelStack:
        return ModelStack(requests=(request,), seeds=(0,), way="train", root=derive(self.seed, "shadow"))

    def _shadow(self, request: UnlearnedShadow, kind: ModelRole, label: str, original: GivenModel) -> GivenModel:
        if kind == "original":
            return self._plain(request.origin)
        seen, gone = seen_ids(request, self._block(request), self.data.partitions), self.forgotten(request)
        kept = seen[~torch.isin(seen, gone)]
        seed = derive(self.seed, "asked", "unlearned shadow", request.number, request.draw)
        if kind == "gold":
            return fitted_model(self.fits.model(kept, seed, f"shadow {request.number} without what it is to forget"))
        return self._applied(label, self._plain(request.origin), gone, kept, seed)

    def _repeated(self, request: Repeated, kind: ModelRole, label: str, original: GivenModel) -> GivenModel:
        forget, retain = (self.data.partitions[name] for name in ("forget", "retain"))
        seed = derive(self.seed, "asked", "repeated", request.number)
        if kind != "unlearned":
            ids = retain if kind == "gold" else self.data.partitions["train"]
            return fitted_model(self.fits.model(ids, seed, f"{kind} {request.number} once more"))
        start = self._plain(Original(number=request.origin)) if request.origin else original
        return self._applied(label, start, forget, retain, seed)

    def _applied(self, label: str, start: GivenModel, forget: Tensor, retain: Tensor, seed: int) -> GivenModel:
        function = self.unlearn.get(label)
        if function is None:
            raise RequirementNotMet(
                f"this measure applies what {label} has done to other models: give unlearn=, a function of (model, forget, retain, seed)"
            )
        private = self.data.released(deep_copy(start.load()))
        with isolated(seed, self.data.device), positions_explained(self.data, torch.cat([forget, retain]), "unlearn"):
            found = function(private, forget.cpu().numpy(), retain.cpu().numpy(), seed)
        if not isinstance(found, nn.Module):
            raise RequirementNotMet(f"unlearn gave a {type(found).__name__} for {label}, expected the unlearned torch.nn.Module")
        return held_model(found, self.data)
