"""How well forgotten links are told from kept ones by the scores of a model of links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.membership import auc, auc_interval
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.training.links import LinkColumn
from erasure.types import Indication, Partition, Source, Task

__all__ = ["DeletedLinkAUC"]


@dataclass(frozen=True, kw_only=True)
class DeletedLinkAUC(Measure):
    r"""The area under the ROC curve by which the model's own scores tell kept links from forgotten ones.

    .. math:: \Pr[s(\text{kept}) > s(\text{forgotten})] + \tfrac12 \Pr[=]

    In [0, 1]. Exact over all pairs, of which the usual average over random draws is an estimate. The ideal is gold's value and not 1: gold
    has never seen the forgotten links as links, but their ends are alike. Whoever overshoots gold has pushed them apart, which tells an
    attacker just as much.

    Args:
        forgotten: The forgotten links on the graph on which they are compared: ``SeenIn`` of the forget set in the graph ``after``.
        kept: Links that stay, on the same graph.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cheng et al., ICLR 2023, arXiv:2302.13406 (GNNDelete)",
        code="mims-harvard/GNNDelete at d5a79da",
        tested="every pair by a loop (tests/unit/measures/test_deleted_links.py)",
        deviations=(
            "All kept links are compared with, not draws of as many as there are forgotten ones.",
            "The ideal is gold's value; the paper prefers higher ones.",
        ),
    )
    defined_for: ClassVar[frozenset[Task]] = frozenset({"binary"})
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = ""

    forgotten: Partition = "forget_after"
    kept: Partition = "kept_links"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The area."""
        kept, forgotten = (self._scores(evaluation, name) for name in (self.kept, self.forgotten))
        low, high = auc_interval(kept, forgotten)
        return [Value(value=auc(kept, forgotten), partition=self.forgotten, low=low, high=high)]

    def _scores(self, evaluation: Evaluation, name: str) -> Tensor:
        if not isinstance(evaluation.x, LinkColumn):
            raise RequirementNotMet("DeletedLinkAUC looks at links, and the samples are none; take the source Links")
        outputs = evaluation.outputs(name)
        if bool((outputs.labels == 0).any()):
            raise RequirementNotMet(f'"{name}" has pairs without an edge; cut the class "edge" off')
        return outputs.logits.reshape(-1)
