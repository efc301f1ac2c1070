"""Several methods, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import nn

from erasure.training.predictor import ModelInput
from erasure.types import PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext

__all__ = ["Cascade"]


@dataclass(frozen=True, kw_only=True)
class Cascade(Unlearner):
    """Applies methods in order to one model, each with random streams of its own.

    **Cost**: the sum of its steps.

    Args:
        steps: The methods; each uses the partitions that it names itself.
    """

    source: ClassVar[Source | None] = Source(paper="Composition")
    cost: ClassVar[str] = "the sum of its steps"

    steps: Annotated[tuple[Unlearner, ...], MinLen(1)]

    def partitions(self) -> dict[PartitionRole, str]:
        """The partitions of all steps."""
        return {role: name for step in self.steps for role, name in step.partitions().items()}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The first step's reason that there is."""
        return next(filter(None, (step.unsupported_reason(data) for step in self.steps)), None)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """One step after another."""
        for number, step in enumerate(self.steps):
            model = step.unlearn(model.eval(), context.step(number).seen_by(step).handed(self, step, number))
            context.confine(model)
        return model
