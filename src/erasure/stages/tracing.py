"""The stages ``trace`` and ``selected``: measure after each epoch of unlearning, and keep the epoch that a rule prefers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from erasure.errors import RequirementNotMet
from erasure.experiment.configuration import Trace
from erasure.measures.contract import ModelUnderTest, Outputs
from erasure.stages.inference import forward
from erasure.stages.measuring import candidate, evaluation_of
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.stages.value_records import value_record
from erasure.store import Writer
from erasure.training.anatomy import load_state
from erasure.types import Json
from erasure.unlearners.contract import Unlearner

__all__ = ["SelectEpoch", "TraceEpochs", "best_epoch", "traced_partitions"]


def traced_partitions(trace: Trace, data_partitions: Mapping[str, str]) -> tuple[str, ...]:
    """The partitions that the measures of a trace look at, in their order."""
    return tuple(name for measure in trace.measures for name in measure.partitions() if name in data_partitions)


@dataclass(frozen=True, eq=False, kw_only=True)
class TraceEpochs(Stage):
    """Measures the original, every epoch's model and gold; epoch 0 is the original.

    Args:
        model: Address of the unlearned model, with every epoch's weights.
        unlearner: The method that made it.
        trace: What is measured.
        references: Addresses of the models it is compared with; ``original`` is the one it starts from.
        seed: Seed of the measures.
        passes: Addresses of the references' outputs.
    """

    kind: ClassVar[str] = "trace"

    model: str
    unlearner: Unlearner
    trace: Trace
    references: Mapping[str, str]
    seed: int
    passes: tuple[str, ...]

    def content(self) -> Json:
        return {
            "measures": self.data.forms(self.trace.measures),
            "model": self.model,
            "references": dict(self.references),
            "partitions": self.data.addresses_of(traced_partitions(self.trace, self.data.partition_addresses)),
            "view": self.data.inputs_address,
            "seed": self.seed,
            "numerics": self.data.numerics,
        }

    def inputs(self) -> tuple[str, ...]:
        return (self.data.split_address, self.model, *self.references.values(), *self.passes)

    def family(self) -> str:
        return f"trace {short(self.unlearner)}"

    def cost_factors(self) -> tuple[Any, str]:
        return self.trace.measures, ""

    def run(self, session: Session, writer: Writer) -> None:
        epochs = cast(int, session.store.open(self.model).facts["epochs"])
        models = {"gold": self.references["gold"]} if "gold" in self.references else {}
        subjects: dict[str, ModelUnderTest] = {
            "0": candidate(session, self.data, self.references["original"], "unlearned"),
            **{str(epoch): self._checkpoint(session, epoch) for epoch in range(1, epochs + 1)},
            **{role: candidate(session, self.data, where, "gold") for role, where in models.items()},
        }
        records = []
        for epoch, subject in subjects.items():
            for number, measure in enumerate(self.trace.measures):
                evaluation = evaluation_of(session, self.data, subject, self.references, self.seed, measure.stream)
                values = [value_record(measure, value) for value in measure.measure(evaluation)]
                records += [{"epoch": epoch, "number": number, **record} for record in values]
        writer.save_json("trace", records)

    def _checkpoint(self, session: Session, epoch: int) -> ModelUnderTest:
        artifact = session.store.open(self.model)

        @functools.cache
        def load() -> nn.Module:
            model = session.blank(self.data)
            load_state(model, artifact.tensors(f"epoch-{epoch:04d}"))
            return model.eval()

        @functools.cache
        def outputs(partition: str) -> Outputs:
            return forward(session, load(), self.data, partition)

        elapsed_s = cast("list[float]", artifact.facts["epoch_elapsed_s"])[epoch - 1]
        return ModelUnderTest(role="unlearned", load=load, outputs=outputs, elapsed_s=elapsed_s)


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectEpoch(Stage):
    """Keeps the weights of the epoch that the trace's rule prefers.

    Args:
        model: Address of the unlearned model, with every epoch's weights.
        traced: Address of the trace.
        rule: How an epoch is chosen.
    """

    kind: ClassVar[str] = "selected"

    model: str
    traced: str
    rule: str

    def content(self) -> Json:
        return {"model": self.model, "trace": self.traced, "select": self.rule}

    def inputs(self) -> tuple[str, ...]:
        return (self.model, self.traced)

    def family(self) -> str:
        return "select"

    def run(self, session: Session, writer: Writer) -> None:
        artifact = session.store.open(self.model)
        epoch = best_epoch(session.store.open(self.traced).json("trace"), self.rule)
        writer.save_tensors("model", artifact.tensors(f"epoch-{epoch:04d}" if epoch else "model"))
        costs = ("elapsed_s", "precompute_s", "peak_memory_mib", "kept_bytes")
        writer.facts |= {name: artifact.facts[name] for name in costs if name in artifact.facts} | {"epoch": epoch}


def best_epoch(records: Sequence[Mapping[str, Any]], select: str) -> int:
    """The epoch that a rule prefers by the first value of the first measure; 0 if the method has no epochs.

    Raises:
        RequirementNotMet: If the rule needs gold and there is none, or no value is a number.
    """
    first = next(iter(records))
    mine = [r for r in records if (r["number"], r["name"], r["partition"]) == (0, first["name"], first["partition"])]
    gold = next((r["value"] for r in mine if r["epoch"] == "gold"), None)
    values = {int(r["epoch"]): r["value"] for r in mine if r["epoch"] not in {"gold", "0"} and r["value"] is not None}
    if not values:
        return 0
    if select == "closest-to-gold":
        if gold is None:
            raise RequirementNotMet("an epoch can be selected by its gap to gold only if there is a gold model")
        return min(values, key=lambda epoch: (abs(values[epoch] - gold), epoch))
    sign = -1 if select == "highest" else 1
    return min(values, key=lambda epoch: (sign * values[epoch], epoch))
