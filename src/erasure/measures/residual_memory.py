"""Memory left: how much of what the original knew about the forgotten samples a model still knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.membership import confidence_margin
from erasure.functional.residual_memory import memory_left
from erasure.intervals import student_quantile
from erasure.measures.contract import Evaluation, Measure, ModelRole, Outputs, Value
from erasure.measures.requested_models import FIRST_FITTED, ModelRequest, Original, Retrained
from erasure.measures.requirements import require_defined
from erasure.types import Indication, Partition, PositiveInt, Source, Statistic

__all__ = ["ResidualMemory"]

_MIN = 3


@dataclass(frozen=True, kw_only=True)
class ResidualMemory(Measure):
    r"""Share of what the original knew about the forgotten samples that is left: 0 as in retrained models, 1 as in the original.

    Answers: how much has been forgotten? The margins of a model (log-odds of the right label) on forgotten and unseen samples are
    explained by those of ``n_models`` retrained models and as many originals, all of seeds of their own and none of them judged:

    .. math:: t(m_i) - \bar t_i = f \cdot v_i \, 1[i \text{ forgotten}] + \text{what has changed on all samples alike}

    by least squares (:func:`~erasure.functional.residual_memory.memory_left`), with compressed margins t, their means over retrained models
    and what originals are above those, v. What adding a number to all margins or multiplying them does is taken out, so that more training
    alone is not taken for memory. Every sample speaks, those most on which originals and retrained models differ; that makes it far
    sharper than an accuracy. Below 0 the model is less sure of the forgotten samples than retrained ones.

    For multilabel tasks the margin is that of the whole vector of labels. Nodes and graphs are samples like any others.

    **Cost**: ``n_models`` retrainings and ``n_models`` originals, trained in blocks and shared by all methods; read once on both
    partitions.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        n_models: Golds, and as many originals, that are the ruler; at least 3, and 4 already do.
    """

    source: ClassVar[Source | None] = Source(
        paper="ERASURE, 2026; its margins are those of Carlini et al., IEEE S&P 2022, arXiv:2112.03570",
    )
    version: ClassVar[int] = 2
    indicates: ClassVar[Indication | None] = "knowledge"

    forget: Partition = "forget"
    test: Partition = "test"
    n_models: PositiveInt = 8

    def check(self) -> None:
        """Fewer rulers cannot be measured by one another."""
        if self.n_models < _MIN:
            message = f"found {self.n_models} models on either side; at least {_MIN} are needed"
            raise InvalidParameters([Diagnostic(message, path="n_models")])

    @property
    def title(self) -> str:
        """``memory left``."""
        return "memory left"

    @property
    def statistic(self) -> Statistic:
        """What is left of the original's memory."""
        return "memory"

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The rulers."""
        return [(request, self.partitions()) for request in (*self._golds, *self._originals)]

    @property
    def _golds(self) -> list[ModelRequest]:
        return [Retrained(number=FIRST_FITTED + k) for k in range(self.n_models)]

    @property
    def _originals(self) -> list[ModelRequest]:
        return [Original(number=FIRST_FITTED + k) for k in range(self.n_models)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share, with the interval in which 95 % of ruler golds are expected around it."""
        require_defined(self, evaluation)
        subject = [evaluation.outputs(partition) for partition in self.partitions()]
        models = evaluation.models()

        def rulers(requests: Sequence[ModelRequest]) -> Tensor:
            said = [[models.outputs(request, partition) for partition in self.partitions()] for request in requests]
            if any(outputs.diverged for each in said for outputs in each):
                raise RequirementNotMet("the margins of a ruler are not finite: its training diverged")
            return torch.stack([_margins(each) for each in said])

        forgotten = torch.cat(
            [torch.full((len(outputs.ids),), number == 0, dtype=torch.bool) for number, outputs in enumerate(subject)]
        )
        try:
            found = memory_left(_margins(subject), rulers(self._golds), rulers(self._originals), forgotten)
        except DataError as error:
            raise RequirementNotMet(f'memory left is not defined on "{self.forget}": {error}') from error
        half = student_quantile(self.n_models - 1, 0.975) * found.spread
        return [Value(value=found.share, partition=self.forget, low=found.share - half, high=found.share + half)]


def _margins(said: Sequence[Outputs]) -> Tensor:
    """Margins on the partitions, one after the other, in the partition's own order, on the CPU."""
    return torch.cat([confidence_margin(outputs.task, outputs.logits, outputs.labels).cpu() for outputs in said])
