"""How far a model's weights are from another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.weights import relative_distance
from erasure.measures.contract import Evaluation, Value
from erasure.measures.referenced import Referenced
from erasure.training.layer_outputs import name_of
from erasure.types import ANY_TASK, Source, Task

__all__ = ["WeightDistance"]


@dataclass(frozen=True, kw_only=True)
class WeightDistance(Referenced):
    r"""Distance of a model's weights from another's, relative to the size of those.

    Answers: how much of the model did unlearning change, and where?

    .. math:: \lVert \theta_u - \theta_{\text{ref}} \rVert_2 \,/\, \lVert \theta_{\text{ref}} \rVert_2

    over all parameters, and with ``by_layer`` also ``WeightDistance[layer]``, over those of each layer. At least 0; 0 for equal
    weights. It does not measure forgetting: two golds of different seeds are far apart, and so are two networks that compute the same
    with their units in another order. Weights on which no output depends count as well: a bias in front of BatchNorm, whose gradient is
    nothing but rounding, walks away under Adam. Read it next to the noise floor.

    Args:
        reference: The other model: ``gold`` or ``original``.
        by_layer: Whether each layer gets a value of its own.
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933",
        deviations=("Upstream averages the unnormalised norms of all tensors, in which a bias weighs as much as a kernel.",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK

    by_layer: bool = False

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The distance of the whole, then of each layer."""
        mine = {name: p.detach() for name, p in evaluation.subject.load().named_parameters()}
        other = {name: p.detach() for name, p in evaluation.model(self.reference).load().named_parameters()}
        if {name: p.shape for name, p in mine.items()} != {name: p.shape for name, p in other.items()}:
            raise RequirementNotMet(
                f"the model and the {self.reference} model have different parameters; their weights do not compare"
            )
        values = [self.value(self._distance(mine, other, "the model"))]
        if self.by_layer:
            layers: dict[str, dict[str, Tensor]] = {}
            for name, parameter in other.items():
                layers.setdefault(name.rpartition(".")[0], {})[name] = parameter
            for layer, parameters in layers.items():
                name = name_of(layer)
                values.append(self.value(self._distance(mine, parameters, name), name=f"{self.title}[{name}]"))
        return values

    def _distance(self, mine: Mapping[str, Tensor], other: Mapping[str, Tensor], what: str) -> float:
        distance = relative_distance(mine, other)
        if distance is None:
            raise RequirementNotMet(f"all weights of {what} are 0 in the {self.reference} model; nothing is relative to that")
        return distance
