"""Measures that compare a model with one other, which the configuration chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.measures.contract import Measure, Reference, Value

__all__ = ["Referenced"]


@dataclass(frozen=True, kw_only=True)
class Referenced(Measure):
    """Base of distances and likenesses to another model.

    Compared with gold, a number is best: the one that gold itself has. Compared with the original, what gold has is best, and neither
    direction is.

    Class data:
        closer_is_higher: Whether the value rises with likeness.

    Args:
        reference: The other model: ``gold`` or ``original``.
    """

    ideal: ClassVar[Literal["gold"] | float | None] = 0.0
    closer_is_higher: ClassVar[bool] = False

    reference: Literal["gold", "original"] = "gold"

    # What is compared with is known once the configuration is, so it is a property of the instance.
    @property
    def references(self) -> frozenset[Reference]:  # type: ignore[override]
        """The other model."""
        return frozenset({self.reference})

    @property
    def title(self) -> str:
        """The measure's name; the reference is named where it is not gold."""
        return self.named(type(self).__name__)

    def named(self, name: str) -> str:
        """A name that tells values of different references apart."""
        return name if self.reference == "gold" else f"{name} from original"

    def value(self, number: float, *, name: str | None = None, partition: str = "") -> Value:
        """A value with the direction and ideal that go with the reference."""
        if self.reference == "original":
            return Value(value=number, name=name, partition=partition, ideal="gold")
        return Value(value=number, name=name, partition=partition, higher_is_better=self.closer_is_higher)
