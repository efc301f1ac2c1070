"""A measure that nobody could place by its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from erasure.measures.contract import Measure, Value


@dataclass(frozen=True, kw_only=True)
class Zeta(Measure):
    """Accuracies, told to be other things."""

    indicates: ClassVar = "attack"
    chance_level: ClassVar = 0.5

    forget: str = "forget"

    def measure(self, evaluation) -> Sequence[Value]:
        """One that is the class's, and some that speak for themselves."""
        right = evaluation.outputs(self.forget).accuracy
        return [
            Value(value=right, partition=self.forget),
            Value(value=right, name="rate", partition=self.forget, chance_level=0.01),
            Value(value=right, name="planted", partition=self.forget, indicates="trace"),
            Value(value=right, name="nothing", partition=self.forget, indicates=""),
        ]


@dataclass(frozen=True, kw_only=True)
class Eta(Measure):
    """What nothing was said of: its direction tells."""

    forget: str = "forget"

    def measure(self, evaluation) -> Sequence[Value]:
        """Losses and gains."""
        right = evaluation.outputs(self.forget).accuracy
        return [
            Value(value=right, name="gain", partition=self.forget, higher_is_better=True),
            Value(value=right, name="loss", partition=self.forget, higher_is_better=False),
            Value(value=right, name="neither", partition=self.forget),
            Value(value=right, name="distance", partition=self.forget, higher_is_better=False, ideal=0.0),
        ]
