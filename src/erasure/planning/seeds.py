"""One seed for each axis of randomness; each can be swept on its own."""

from __future__ import annotations

from dataclasses import dataclass

from erasure.training.randomness import derive

__all__ = ["Seeds"]


@dataclass(frozen=True, order=True)
class Seeds:
    """Seeds of one repetition.

    Args:
        split: Which samples go where.
        train: Initial weights, order and dropout of the original and of the gold model (they are paired).
        unlearn: Every random choice of an unlearner.
        evaluate: Every random choice of a measure.
    """

    split: int
    train: int
    unlearn: int
    evaluate: int

    @classmethod
    def all(cls, seed: int) -> Seeds:
        """The same root for every axis."""
        return cls(split=seed, train=seed, unlearn=seed, evaluate=seed)

    def stream(self, axis: str, *names: str | int) -> int:
        """Seed of the stream ``names`` on an axis."""
        return derive(getattr(self, axis), axis, *names)
