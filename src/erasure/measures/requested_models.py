"""Models that measures ask for beside the subject and its references: shadows, further golds, the subject made again.

A measure says before the run which models it needs (:meth:`Measure.requests`), so that a plan shows them and every measure that asks
for the same model shares it. While measuring, it asks the :class:`ModelProvider` for what they say. It never trains anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from erasure.measures.outputs import Outputs

__all__ = ["FIRST_FITTED", "ModelProvider", "ModelRequest", "Original", "Repeated", "Retrained", "Shadow", "UnlearnedShadow"]

FIRST_FITTED = 1001
"""Number from which on measures take golds and originals that they are fitted on: smaller ones may be judged beside the methods, and a
model that a measure was fitted on says nothing of others."""


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model by recipe and ids; equal requests are one model.

    Args:
        number: Which of the models of this kind; each has random streams of its own.
    """

    number: int

    def numbered(self, number: int) -> ModelRequest:
        """The same kind of model, another one."""
        return replace(self, number=number)


@dataclass(frozen=True, kw_only=True)
class Retrained(ModelRequest):
    """A gold model of another training seed: trained on the subject's retain partition.

    Numbers start at 1; a measure that is fitted on golds takes those from :data:`FIRST_FITTED` on.
    """


@dataclass(frozen=True, kw_only=True)
class Original(ModelRequest):
    """A model trained on the training set with another training seed. Numbers start at 1."""


@dataclass(frozen=True, kw_only=True)
class Repeated(ModelRequest):
    """The subject made again, with other random streams.

    An unlearned subject: its method applied once more. A gold subject: retrained once more, with seeds that :class:`Retrained` does not
    use, so that the two can be compared with each other. An original: trained once more.

    Args:
        origin: 0 applies the method to the original itself; 1 and more to the original of that number (:class:`Original`).
    """

    origin: int = 0


@dataclass(frozen=True, kw_only=True)
class Shadow(ModelRequest):
    """A model trained by the predictor's recipe on a random part of some partitions.

    With ``share`` 0.5 the models ``2k`` and ``2k + 1`` have complementary halves, so that an even number of them has seen every sample
    of the pool equally often.

    Args:
        pool: Partitions, together, of which a random part is trained on.
        always: Partitions that every shadow is trained on as a whole.
        share: Share of the pool, in (0, 1).
    """

    pool: tuple[str, ...]
    always: tuple[str, ...] = ()
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class UnlearnedShadow(ModelRequest):
    """A shadow that has gone through what the subject has gone through.

    An unlearned subject: its method is applied to the shadow, with a random part of what the shadow has seen of the pool as the forget
    set and the rest of its training set as the retain set. A gold subject: the shadow is retrained without that part. An original: it is
    the shadow itself.

    Args:
        number: Number of the shadow.
        shadow: The kind of shadow; its own number does not matter.
        share: Share of the shadow's part of the pool that is forgotten, in (0, 1]; 1 forgets all of it.
        draw: Which of several forget sets of the same shadow.
    """

    shadow: Shadow
    share: float = 1.0
    draw: int = 0

    @property
    def origin(self) -> Shadow:
        """The shadow it starts from."""
        return replace(self.shadow, number=self.number)


class ModelProvider(Protocol):
    """Answers requests that the measure has declared; the engine has trained them by then."""

    def outputs(self, request: ModelRequest, partition: str) -> Outputs:
        """What the model says about a partition, in the partition's order; without features where it is a shadow."""
        ...

    def load(self, request: ModelRequest) -> nn.Module:
        """The model, in eval mode, on the device; do not change it."""
        ...

    def seen(self, request: ModelRequest) -> Tensor:
        """Sorted ids of the samples the model was trained on (for an unlearned shadow: before it forgot), int64 on the CPU."""
        ...

    def forgotten(self, request: ModelRequest) -> Tensor:
        """Sorted ids of the samples the model has unlearned; empty if it is not an unlearned one. int64 on the CPU."""
        ...
