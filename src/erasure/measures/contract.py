"""What a measure is, and what it may look at."""

from __future__ import annotations

import html
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from erasure.component import Component, partition_fields
from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.tokens import PADDING, token_statistics
from erasure.measures.outputs import Outputs
from erasure.measures.requested_models import ModelProvider, ModelRequest
from erasure.renamed import formerly
from erasure.training.batches import Batches, Column
from erasure.training.calls import Criterion
from erasure.training.forward import features_of, logits_of
from erasure.training.links import reads_whole_graph
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams
from erasure.training.trial import inputs_kept
from erasure.training.twins import replaced, twins_of
from erasure.types import Indication, Json, ModelRole, Statistic, Task

__all__ = ["Evaluation", "Measure", "ModelRole", "ModelUnderTest", "Outputs", "Value", "forward_pass"]

Reference: TypeAlias = Literal["original", "gold"]

Sharing: TypeAlias = Callable[[nn.Module, Mapping[str, Any], Callable[[], Json]], Json]
"""What was found for a model and a description, computed if nobody has yet."""

_MAX_NUMBERS = 2**22
"""Numbers of a batch's inputs, at most: a network keeps several times as many between its layers."""
_MAX_ANSWERS = 32
"""Answers in one batch of a pass: their logits over a whole vocabulary are large."""


@formerly(tells="indicates", chance="chance_level", evidence="curve")
@dataclass(frozen=True, eq=False, kw_only=True)
class Value:
    """One number of a measure; what is None is taken from the measure's class data.

    Args:
        value: The number.
        name: What it measures, if not the measure itself.
        partition: What it was measured on; empty if on none in particular.
        low: Lower end of the measure's own 95 % interval.
        high: Its upper end.
        unit: Unit of the number.
        higher_is_better: Direction.
        ideal: ``gold``, or a number, or None if there is no such thing.
        indicates: What a larger value tells of forgotten samples.
        chance_level: What guessing reaches.
        curve: What a figure of it is drawn from, as JSON with a ``kind``: ``{"kind": "roc", "fpr": [...], "tpr": [...]}``, thinned to
            some hundred points. It is kept beside the row and does not become one.
    """

    value: float
    name: str | None = None
    partition: str = ""
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    higher_is_better: bool | None = None
    ideal: Literal["gold"] | float | None = None
    indicates: Indication | None = None
    chance_level: float | None = None
    curve: Mapping[str, Any] | None = None


@formerly(tells="indicates", chance="chance_level", judges="applies_to", refuse="unsupported_reason")
@dataclass(frozen=True, kw_only=True)
class Measure(Component):
    """Something that is measured on a model.

    Class data:
        higher_is_better: Direction; None if neither (a gap to gold decides).
        value_range: Smallest and largest possible value.
        unit: Unit of the value; empty for a share or a score.
        ideal: ``gold``: what a retrained model has is best; a number: that is best; None: there is no best.
        indicates: What a larger value on forgotten samples tells; None: knowledge of them where higher is better, ignorance where lower is.
            Verdicts rest on it. What compares with another ideal than gold tells of neither.
        chance_level: What guessing reaches: an attack that does worse is no better. An attack without it is a share of the forgotten
            samples that are taken for members.
        references: Models it compares with, besides the one it judges.
        applies_to: Kinds of model it makes sense for.
        on_jury: Whether it is measured on further golds too, beside which methods are judged. Costs are not; nor is, without being told,
            what asks for the subject made again: it judges populations.
    """

    kind: ClassVar[str] = "measure"
    higher_is_better: ClassVar[bool | None] = None
    value_range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    unit: ClassVar[str] = ""
    ideal: ClassVar[Literal["gold"] | float | None] = "gold"
    indicates: ClassVar[Indication | None] = None
    chance_level: ClassVar[float | None] = None
    references: ClassVar[frozenset[Reference]] = frozenset()
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"original", "gold", "unlearned"})
    on_jury: ClassVar[bool] = True
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})

    @property
    def title(self) -> str:
        """The name of the measure in results."""
        return type(self).__name__

    @property
    def stream(self) -> str:
        """Name of its random stream: measures that share results draw from one."""
        return self.title

    @property
    def statistic(self) -> Statistic:
        """What kind of number its values are, where verdicts treat it apart."""
        return ""

    def targets(self) -> frozenset[ModelRole]:
        """Kinds of model it is measured on."""
        return self.applies_to

    def partitions(self) -> tuple[str, ...]:
        """Partitions it looks at, each once."""
        names: list[str] = []
        for name in partition_fields(type(self)):
            value = getattr(self, name)
            names += [value] if isinstance(value, str) else list(value or ())
        return tuple(dict.fromkeys(names))

    def of_edges(self) -> tuple[str, ...]:
        """Those of :meth:`partitions` that are of edges of a graph, and not of samples."""
        return ()

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """Models it needs beside the subject and the references, each with the partitions it looks at them on.

        Args:
            subject: Kind of the model that is judged.
        """
        return ()

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Why the measure is not defined for this kind of data, or None."""
        if data.task not in self.defined_for:
            return f"{self.title} is not defined for {data.task} tasks (only {', '.join(sorted(self.defined_for))})"
        return None

    def remark(self, labels: Mapping[str, Tensor], data: ModelInput) -> str | None:
        """What a reader must know of the values, by the labels they rest on; it is said before the run. None if nothing.

        Args:
            labels: Labels of the samples of each of its partitions.
            data: Shape of the data.
        """
        return None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Measure ``evaluation.subject``.

        Raises:
            RequirementNotMet: If it cannot be computed; the reason goes into the row.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelUnderTest:
    """A model under measurement, loaded and run only when a measure asks.

    Args:
        role: Which of the three models it is.
        load: Gives the model, in eval mode, on the device; do not change it.
        outputs: Gives what it says about a partition; computed once for all measures.
        elapsed_s: Seconds it took to make.
        precompute_s: Seconds of one-off work before.
        peak_memory_mib: Largest memory of the process while it was made, in MiB; None if unknown.
        remake: Makes the model once more, the same way and from the same seeds, without the store; for what can only be observed
            meanwhile, such as operations or energy.
        epoch: If the model is the result of epochs of identical steps: what makes one epoch, and their number.
    """

    role: ModelRole
    load: Callable[[], nn.Module]
    outputs: Callable[[str], Outputs]
    elapsed_s: float
    precompute_s: float = 0.0
    peak_memory_mib: float | None = None
    remake: Callable[[], object] | None = None
    epoch: tuple[Callable[[], object], int] | None = None


@formerly(candidate="model", bank="models")
@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """One model, its references and the data, as a measure sees them.

    Args:
        subject: The model to judge.
        references: The original and the gold model, where the measure declares that it compares with them.
        partition_ids: Ids of each partition by name.
        x: Inputs of the whole data set, on the device.
        y: Labels of the whole data set, on the device.
        model_input: Shape of the data.
        criterion: The predictor's loss.
        streams: Random streams of this measure alone; the same for every model it judges.
        batch_size: The data's batch size.
        z: Groups, if the data has them.
        facts: Names of classes and groups, if known.
        fresh: A randomly initialised network of the same architecture.
        provider: Other models, those that :meth:`Measure.requests` names.
        sharing: Keeps what several measures find in the same way.
        kept: What measures found that does not depend on the subject: a run hands it on to the models that it measures next.
        notes: What a measure leaves beside its values in the store, by name. It gets into no row and no page by itself: texts may be
            personal data.
    """

    subject: ModelUnderTest
    references: Mapping[str, ModelUnderTest]
    partition_ids: Mapping[str, Tensor]
    x: Column
    y: Tensor
    model_input: ModelInput
    criterion: Criterion
    streams: Streams
    batch_size: int = 64
    z: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    fresh: Callable[[int], nn.Module] | None = None
    provider: ModelProvider | None = None
    sharing: Sharing | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict)
    notes: dict[str, Json] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Which model is measured and on what, in a notebook."""
        largest = max((len(ids) for ids in self.partition_ids.values()), default=0) or 1
        lines = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{len(ids)}</td>"
            f'<td><div style="background:#0a6fb0;height:.7em;width:{100 * len(ids) / largest:.0f}px"></div></td></tr>'
            for name, ids in self.partition_ids.items()
        )
        beside = f", beside {' and '.join(sorted(self.references))}" if self.references else ""
        caption = f"{self.subject.role} model{beside}; {self.task}, {self.model_input.n_classes} classes"
        head = "<tr><th>partition</th><th>samples</th><th></th></tr>"
        return f"<table><caption>{html.escape(caption)}</caption><thead>{head}</thead><tbody>{lines}</tbody></table>"

    @property
    def task(self) -> Task:
        """How labels are read."""
        return self.model_input.task

    def outputs(self, partition: str, model: Literal["subject", "original", "gold"] = "subject") -> Outputs:
        """What a model says about a partition; shared by all measures.

        Raises:
            PartitionError: If there is no such partition, or it is empty.
            RequirementNotMet: If the measure did not declare that it compares with the model, or what it says has diverged: the
                largest of numbers that are none is the first, and would pass for a prediction.
        """
        if not len(self.ids(partition)):
            raise PartitionError(f'the partition "{partition}" is empty')
        candidate = self.model(model)
        outputs = candidate.outputs(partition)
        if outputs.diverged:
            raise RequirementNotMet(
                f'what the {candidate.role} model says of "{partition}" is not finite or runs away: its training or unlearning diverged'
            )
        return outputs

    def model(self, model: Literal["subject", "original", "gold"]) -> ModelUnderTest:
        """The subject or a declared reference."""
        if model == "subject":
            return self.subject
        if model not in self.references:
            raise RequirementNotMet(f"this measure compares with the {model} model, but there is none, or it does not declare so")
        return self.references[model]

    def shared(
        self,
        name: str,
        model: nn.Module,
        partitions: Sequence[str],
        compute: Callable[[], Json],
        *,
        draws: bool = True,
        **parameters: Any,
    ) -> Json:
        """A result that is computed once for equal weights, whichever measures ask for it and of whom.

        Args:
            name: What it is, such as ``relearning``; results of one name and equal arguments must be equal.
            model: The model that it is about.
            partitions: The partitions it depends on.
            compute: Computes it, with random numbers of a stream that all who ask have in common.
            draws: Whether random numbers are drawn; without them it is the same for measures with other streams too.
            parameters: What else it depends on, as JSON or components.
        """
        if self.sharing is None:
            return compute()
        return self.sharing(model, {"name": name, "partitions": list(partitions), "draws": draws, **parameters}, compute)

    def models(self) -> ModelProvider:
        """The provider of other models.

        Raises:
            RequirementNotMet: If there is none.
        """
        if self.provider is None:
            raise RequirementNotMet("this measure trains other models, which needs an experiment run")
        return self.provider

    def ids(self, partition: str) -> Tensor:
        """Ids of a partition."""
        if partition not in self.partition_ids:
            raise PartitionError(f'there is no partition "{partition}"; there are {", ".join(self.partition_ids)}')
        return self.partition_ids[partition]


@torch.no_grad()
def forward_pass(
    model: nn.Module,
    *,
    x: Column,
    y: Tensor,
    ids: Tensor,
    criterion: Criterion,
    task: Task,
    batch_size: int = 1024,
    keeps_features: bool = True,
) -> Outputs:
    """One pass of a model in eval mode over the samples ``ids``; everything comes back on the CPU, in their order.

    Prompts and answers go through the model in the order of their lengths, so that batches have little padding. Nodes of a graph go
    through it at once: each batch of them would read the whole graph. Of large pictures fewer go through it at a time.
    """
    modes, twins = {module: module.training for module in model.modules()}, twins_of(model)
    model.eval()
    logits, features, losses = [], [], []
    order: Tensor | None = None
    if task == "generation":
        batch_size = min(batch_size, _MAX_ANSWERS)
        order = (x.gather(ids)[:, 1] != PADDING).sum(1).argsort(stable=True).to(ids.device)
    if reads_whole_graph(x):
        batch_size = max(batch_size, len(ids))
    elif len(ids) and isinstance(first := x.gather(ids[:1]), Tensor):
        batch_size = min(batch_size, max(1, _MAX_NUMBERS // max(1, first.numel())))
    for batch in Batches(x, y, ids if order is None else ids[order], batch_size):
        with inputs_kept(model), replaced(twins):
            output = model(batch.x)
        each, found = logits_of(output).float(), features_of(output)
        losses.append(criterion.per_sample(each, batch.y).float())
        logits.append(token_statistics(each, batch.y) if task == "generation" else each)
        if found is not None and keeps_features:
            features.append(found.flatten(1).float())
    for module, training in modes.items():
        module.training = training

    def whole(parts: list[Tensor]) -> Tensor:
        values = torch.cat(parts)
        return (values if order is None else values[order.argsort()]).cpu()

    return Outputs(
        ids=ids.cpu(),
        logits=whole(logits),
        losses=whole(losses),
        labels=y.index_select(0, ids).cpu(),
        features=whole(features) if features else None,
        task=task,
    )
