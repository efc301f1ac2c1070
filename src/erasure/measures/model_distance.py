"""Distances between two models by the reference implementation's formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.distances import DISTANCES
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference, Value
from erasure.measures.legacy_activations import mean_activation_distance
from erasure.types import Partition, Source

__all__ = ["ModelDistance"]


def _last_part(value: Any) -> Any:
    """The function's name in upstream's spellings: a dotted path, or a node with one."""
    if isinstance(value, Mapping) and not value.get("parameters"):
        value = value.get("class", value)
    return value.rpartition(".")[2] if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True)
class ModelDistance(Measure):
    """Distance of a model from the original, over its weights or its activations, by the reference implementation's formulas.

    ``l2norm`` is the mean norm of the difference of each tensor; ``hausdorff`` the mean directed Hausdorff distance of the tensors'
    rows; ``kldivergence`` and ``jsdistance`` compare softmaxes over all entries of each tensor, which are distributions of nothing.
    At least 0; 0 for the original. Numbers depend on the sizes of the tensors and compare only within one architecture. Kept so that
    published numbers can be read; :class:`WeightDistance` and :class:`ActivationDistance` are relative.

    **Cost**: with ``activations`` one pass over the partition for each of the two models; ``hausdorff`` takes time quadratic in rows.

    Args:
        function: ``l2norm``, ``hausdorff``, ``kldivergence`` or ``jsdistance``.
        block_diag: Whether the tensors are taken as one block-diagonal matrix.
        activations: Compare the outputs of all modules, sample by sample, instead of the weights.
        partition: The samples, where activations are compared.
    """

    source: ClassVar[Source | None] = Source(
        paper="None: the reference implementation's own",
        code="aiim-research/ERASURE at d5bbbe5 (distances.ModelDistance)",
        tested="upstream's formulas with numpy and scipy (tests/unit/measures/test_model_distances.py)",
        deviations=(
            "Computed in double precision and in whole batches; the block-diagonal matrix is never built.",
            "weights.ModelDistance of older versions takes the mean instead of the sum inside its KL, without clamping.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"gold", "unlearned"})

    function: Annotated[Literal["l2norm", "hausdorff", "kldivergence", "jsdistance"], BeforeValidator(_last_part)] = "l2norm"
    block_diag: bool = False
    activations: bool = False
    partition: Partition = "forget"

    @property
    def title(self) -> str:
        """Function and what is compared, such as ``l2norm of weights``."""
        return f"{self.function} of {'activations' if self.activations else 'weights'}"

    def partitions(self) -> tuple[str, ...]:
        """The partition only where activations are compared."""
        return (self.partition,) if self.activations else ()

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The distance."""
        if self.activations:
            distance = mean_activation_distance(evaluation, self.partition, self.function, block_diagonal=self.block_diag)
            return [Value(value=distance, partition=self.partition)]
        mine, original = _matrices(evaluation.subject.load()), _matrices(evaluation.model("original").load())
        if [m.shape for m in mine] != [m.shape for m in original]:
            raise RequirementNotMet("the model and the original have different parameters; their weights do not compare")
        return [Value(value=float(DISTANCES[self.function](mine, original, block_diagonal=self.block_diag)))]


def _matrices(model: Any) -> list[Tensor]:
    """Each parameter as a matrix of its first dimension by the rest, ``(1, r, c)``."""
    tensors = [parameter.detach() for parameter in model.parameters()]
    return [t.reshape(1, len(t) if t.ndim else 1, -1) for t in tensors if t.numel()]
