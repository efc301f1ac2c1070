"""Several methods, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import nn

from erasure.training.predictor import ModelInput
from erasure.types import Role, Source
from erasure.unlearners.contract import Unlearner, UnlearningTask

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

    def partitions(self) -> dict[Role, str]:
        """The partitions of all steps."""
        return {role: name for step in self.steps for role, name in step.partitions().items()}

    def refuse(self, data: ModelInput) -> str | None:
        """The first step's reason that there is."""
        return next(filter(None, (step.refuse(data) for step in self.steps)), None)

    def unlearn(self, model: nn.Module, task: UnlearningTask) -> nn.Module:
        """One step after another."""
        for number, step in enumerate(self.steps):
            model = step.unlearn(model.eval(), task.step(number).seen_by(step))
            task.confine(model)
        return model
