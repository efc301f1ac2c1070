"""Distances between what two models compute for the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.functional.losses import probabilities
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference, Value
from erasure.measures.legacy_activations import mean_activation_distance
from erasure.measures.referenced import Referenced
from erasure.measures.requirements import require_defined
from erasure.types import Partition, Source, Task

__all__ = ["ActivationDistance", "LegacyActivationDistance"]


@dataclass(frozen=True, kw_only=True)
class ActivationDistance(Referenced):
    r"""Mean distance between the predicted probabilities of a model and of gold.

    Answers: how differently from a retrained model does it see the forgotten samples?

    .. math:: \frac{1}{|D_f|} \sum_{x \in D_f} \lVert p_u(x) - p_r(x) \rVert_2

    In [0, √2], or in [0, 2] with the L1 norm; 0 for equal outputs. Read it next to the noise floor.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
        norm: ``l2`` (Chundawat et al.) or ``l1`` (Golatkar et al., Goel et al.).
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933; Chundawat et al., AAAI 2023, arXiv:2205.08096",
        deviations=("Upstream compares the original with the unlearned model over all modules (see LegacyActivationDistance).",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "forget"
    norm: Literal["l2", "l1"] = "l2"

    @property
    def title(self) -> str:
        """``ActivationDistance``, or ``L1 ActivationDistance``."""
        return self.named("ActivationDistance" if self.norm == "l2" else "L1 ActivationDistance")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean distance."""
        require_defined(self, evaluation)
        mine, other = evaluation.outputs(self.partition), evaluation.outputs(self.partition, self.reference)
        p, q = (probabilities(outputs.task, outputs.logits.double()) for outputs in (mine, other))
        distance = float((p - q).norm(p=2 if self.norm == "l2" else 1, dim=1).mean())
        return [self.value(distance, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class LegacyActivationDistance(Measure):
    r"""Mean distance of all module outputs from the original's, by the reference implementation's formula.

    .. math:: \frac{1}{|D_f|} \sum_{x \in D_f} \frac1M \sum_m \lVert a_m^u(x) - a_m^o(x) \rVert_2

    over the outputs of all :math:`M` modules, the whole model and its blocks included, so that a layer counts once for itself and once
    for each block that ends with it. Where a layer writes over its input (``inplace=True``) the outputs of both are the later one. Wide
    layers weigh more than narrow ones. At least 0; 0 for the original. Use :class:`ActivationDistance`.

    **Cost**: one pass over the partition for each of the two models.

    Args:
        partition: Where outputs are compared.
    """

    source: ClassVar[Source | None] = Source(
        paper="None: the reference implementation's own",
        code="aiim-research/ERASURE at d5bbbe5 (ActivationDistance)",
        tested="upstream's formula, module by module (tests/unit/measures/test_model_distances.py)",
        deviations=("Whole batches are run at once, in eval mode (upstream runs one sample at a time).",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"gold", "unlearned"})

    partition: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean distance."""
        return [Value(value=mean_activation_distance(evaluation, self.partition, "l2norm"), partition=self.partition)]
