"""One method, asked again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen
from torch import nn

from erasure.component import field_types
from erasure.errors import Diagnostic, InvalidParameters
from erasure.training.predictor import ModelInput
from erasure.types import Partition, PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext

__all__ = ["Sequential", "renamed"]


@dataclass(frozen=True, kw_only=True)
class Sequential(Unlearner):
    """Applies one method to a stream of requests to forget, each time to the model that the request before has left.

    Request t is forgotten with what is left to retain after it; nothing that was forgotten earlier is looked at again. With a trace
    (``evaluator.trace``) every request is an epoch: its values show how far the model drifts, whether earlier requests stay forgotten, and,
    by ``RunTime``, what they cost together so far. A ``Sequential`` of ``GoldModel`` retrains after every request, for comparison.

    **Cost**: that of the method, for each request.

    Args:
        method: What is applied; the partitions that it and its steps call ``forget``, ``retain`` and ``train`` are those of the request.
        requests: The forget sets, in order, as the splitter ``Requests`` makes them.
        remaining: What is left to retain after each of them.
        forget: The forget set that the result is judged on, such as the last one.
        retain: The retain set that gold is trained on: the last one.
    """

    source: ClassVar[Source | None] = Source(
        paper="Sequential requests: Gupta, Jung, Neel, Roth, Sharifi-Malvajerdi, Waites, NeurIPS 2021, arXiv:2106.04378"
    )
    cost: ClassVar[str] = "that of the method, for each request"

    method: Unlearner
    requests: Annotated[tuple[Partition, ...], MinLen(1)]
    remaining: Annotated[tuple[Partition, ...], MinLen(1)]

    def check(self) -> None:
        """One retain set for each forget set."""
        n, left = len(self.requests), len(self.remaining)
        if n != left:
            raise InvalidParameters(
                [Diagnostic(f"{n} requests need as many remaining sets; found {left}", path="Sequential.remaining")]
            )

    @property
    def steps(self) -> tuple[Unlearner, ...]:
        """The method as it is applied to each request."""
        trains = (self.train, *self.remaining)
        return tuple(
            renamed(self.method, {"forget": forget, "retain": retain, "train": train})
            for forget, retain, train in zip(self.requests, self.remaining, trains, strict=False)
        )

    def partitions(self) -> dict[PartitionRole, str]:
        """The partitions of the last request."""
        return self.steps[-1].partitions()

    def forgotten(self) -> tuple[str, ...]:
        """The forget sets of all requests."""
        return self.requests

    def partition_names(self) -> frozenset[str]:
        """The partitions of all requests."""
        return frozenset().union(*(step.partition_names() for step in self.steps))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The method's reason, if it has one."""
        return self.method.unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Request after request."""
        steps = self.steps
        for number, step in enumerate(steps):
            request = replace(context.step(number).seen_by(step).handed(self, step, number), on_epoch=None)
            model = step.unlearn(model.eval(), request)
            context.confine(model)
            if context.on_epoch is not None:
                context.on_epoch(number + 1, len(steps), model)
        return model


def renamed(unlearner: Unlearner, names: dict[str, str]) -> Unlearner:
    """The method with other partitions, and the methods inside it too."""
    changed: dict[str, Any] = dict(names)
    for name in field_types(type(unlearner)):
        value = getattr(unlearner, name)
        if isinstance(value, Unlearner):
            changed[name] = renamed(value, names)
        elif isinstance(value, tuple) and any(isinstance(part, Unlearner) for part in value):
            changed[name] = tuple(renamed(part, names) if isinstance(part, Unlearner) else part for part in value)
    return unlearner.replace(**changed)
