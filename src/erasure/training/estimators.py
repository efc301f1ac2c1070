"""Models that are fitted in one go and not by gradient steps, as networks to everything else: predictions, storage, measures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Column

__all__ = ["FIXED_POINT", "Estimator", "fixed_point", "hashed", "require_finite", "rows_of", "samples_of"]

FIXED_POINT = 20
"""Bits after the point of inputs whose sums have to be exact: sums of whole numbers do not depend on their order."""

_MAX = 2.0**20


class Estimator(nn.Module):
    """A model that is fitted to samples in one go, and from which samples may be deleted.

    Its whole state is in buffers, whose shapes may depend on the samples; weights it has none, so that methods that train refuse it.

    Class data:
        exactness: Whether a model after :meth:`delete` has the bits of one fitted without the samples, or equals it up to rounding;
            ``none`` if it cannot delete.
    """

    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "none"

    def fit(self, samples: Batch, seed: int) -> None:
        """Learn from samples, which come sorted by id.

        Args:
            samples: All of them.
            seed: Seeds whatever is random; part of the state, since deleting has to make the same choices.
        """
        raise NotImplementedError

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Forget samples that the model was fitted to.

        Args:
            gone: The samples to forget, sorted by id.
            left: The others, sorted by id; reading them costs a pass, so that only models ask that need them.

        Raises:
            RequirementNotMet: If it cannot.
        """
        raise RequirementNotMet(f"{type(self).__name__} cannot delete samples; retrain it")

    def exchange(self, gone: Batch, come: Batch) -> None:
        """Forget samples that the model was fitted to and learn others, as when a graph changes and with it what nodes see of it.

        Args:
            gone: Samples as the model was fitted to them, sorted by id.
            come: What takes their place, sorted by id.

        Raises:
            RequirementNotMet: If it cannot.
        """
        raise RequirementNotMet(
            f"{type(self).__name__.strip('_')} cannot exchange samples, and a GraphRequest changes those that stay, too; use Ridge"
        )

    def n_fitted(self) -> int | None:
        """Samples that the model's state comes from, or None if it does not tell."""
        return None

    def statistics(self) -> list[Tensor]:
        """What is kept for deleting alone, beside what predicting needs."""
        return []

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities of the classes, shape ``(B, K)``, of rows ``x`` as :meth:`forward` takes them."""
        logits: Tensor = self(x)
        if logits.ndim == 1 or logits.shape[1] == 1:
            yes = torch.sigmoid(logits.reshape(-1))
            return torch.stack([1 - yes, yes], 1)
        return torch.softmax(logits, 1)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self._buffers.items():
            stored = state_dict.get(prefix + name)
            if buffer is not None and isinstance(stored, Tensor) and stored.shape != buffer.shape:
                self._buffers[name] = torch.empty(stored.shape, dtype=buffer.dtype, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def samples_of(x: Column, y: Tensor, ids: Tensor) -> Batch:
    """Samples of a data set sorted by id: what is fitted to them must not depend on the order of a partition."""
    ids = ids.sort().values
    return Batch(x.gather(ids), y.index_select(0, ids), ids)


def rows_of(x: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    """Inputs as the rows of a matrix, shape ``(n, d)``.

    Raises:
        RequirementNotMet: If they are not numbers in one tensor.
    """
    if not isinstance(x, Tensor):
        raise RequirementNotMet(f"this model takes rows of numbers, and the inputs are {type(x).__name__}")
    rows = x[:, None] if x.ndim == 1 else x.flatten(1)
    return rows.to(dtype)


def require_finite(rows: Tensor, name: str) -> None:
    """Refuse rows that a model of sums cannot take.

    Args:
        rows: ``(n, d)``.
        name: Of the model, for the error.

    Raises:
        RequirementNotMet: If a number is missing (NaN) or infinite.
    """
    n_broken = int((~torch.isfinite(rows)).any(1).sum())
    if n_broken:
        raise RequirementNotMet(f"{name} takes finite numbers, and {n_broken} of {len(rows)} rows have others; fill or drop them")


def fixed_point(rows: Tensor) -> Tensor:
    """Rows rounded to multiples of ``2 ** -20``, as whole numbers (int64) of that unit.

    Raises:
        RequirementNotMet: If a number is not finite or beyond a million.
    """
    if not bool((rows.abs() < _MAX).all()):
        raise RequirementNotMet("inputs of this model are finite and below a million; scale the table (standardize)")
    found: Tensor = (rows.to(torch.float64) * 2**FIXED_POINT).round().to(torch.int64)
    return found


def hashed(*parts: str | int) -> int:
    """A number in ``[0, 2**63)`` that looks random and depends on ``parts`` alone."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1
