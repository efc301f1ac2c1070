"""What planners share: the plan under construction, the data of the repetition, and one pass for each model and partition."""

from __future__ import annotations

from collections.abc import Iterable

from erasure.measures.requested_models import Shadow, UnlearnedShadow
from erasure.planning.plan import Plan
from erasure.stages.blocks import ModelStack, split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.inference import RunModel
from erasure.stages.models import MakeModels
from erasure.stages.stage import Stage

__all__ = ["PlanBuilder"]


class PlanBuilder:
    """Adds the stages of one repetition to a plan.

    Args:
        plan: The plan.
        data: The data of the repetition.
    """

    def __init__(self, plan: Plan, data: DataSpec) -> None:
        self.plan: Plan = plan
        self.data: DataSpec = data
        self._passes: dict[tuple[str, str], str] = {}

    def add(self, stage: Stage) -> str:
        """Plan a stage, unless an equal one is planned; its address."""
        return self.plan.add(stage)

    def block(self, address: str) -> ModelStack | None:
        """The block that a stage makes, if it makes one."""
        stage = self.plan.stages[address]
        return stage.block if isinstance(stage, MakeModels) else None

    def outputs(self, models: Iterable[str], partitions: Iterable[str]) -> list[str]:
        """One pass for each model (or block of models) and partition, whoever asks for it."""
        names = list(partitions)
        return [self._pass(model, name) for model in sorted({split_member(model)[0] for model in models}) for name in names]

    def _pass(self, model: str, partition: str) -> str:
        if (model, partition) not in self._passes:
            block, title = self.block(model), self.plan.stages[model].name.removeprefix("train ").removeprefix("unlearn ")
            stage = RunModel(
                name=f"run {title} on {partition}",
                data=self.data,
                model=model,
                partition=partition,
                block_size=None if block is None else len(block.requests),
                keeps_features=block is None or not isinstance(block.requests[0], Shadow | UnlearnedShadow),
            )
            self._passes[model, partition] = self.add(stage)
        return self._passes[model, partition]
