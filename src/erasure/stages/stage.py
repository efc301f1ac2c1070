"""What every kind of stage is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.store import Artifact, Writer
from erasure.store.addresses import address
from erasure.types import Json

__all__ = ["Stage", "run_stage", "short"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One step of a plan; a kind of stage is a subclass, in one file, that the planner adds to the plan.

    Args:
        name: For people, such as ``unlearn SCRUB``.
        data: The data, the recipe and the numerics.
    """

    kind: ClassVar[str]
    """Name of the kind: part of the address, and what the store's index says."""
    trainings: ClassVar[float | None] = None
    """Seconds relative to the training of one model, before a stage like it was seen; None takes the median of its kind, or nothing."""

    prepares: ClassVar[bool] = False
    """Whether it runs before components are asked if they are defined for the data."""

    name: str
    data: DataSpec

    def content(self) -> Json:
        """What the address is made of: everything the result depends on, and nothing else."""
        raise NotImplementedError

    def inputs(self) -> tuple[str, ...]:
        """Addresses of the stages that must be there before."""
        raise NotImplementedError

    def family(self) -> str:
        """Stages of one family take comparable time, such as ``train MLP``."""
        return self.kind

    def cost_factors(self) -> tuple[Any, str]:
        """What the cost depends on besides data and recipe: a component, and the role of the model at hand."""
        return None, ""

    def run(self, session: Session, writer: Writer) -> None:
        """Compute the result and write it.

        Args:
            session: Reads what the stage requires.
            writer: Takes the result.
        """
        raise NotImplementedError

    @cached_property
    def address(self) -> str:
        """Where the result is in the store."""
        return address(self.kind, self.content())

    @cached_property
    def requires(self) -> tuple[str, ...]:
        """The inputs, each once."""
        return tuple(dict.fromkeys(self.inputs()))

    @property
    def reads(self) -> frozenset[str]:
        """Objects that must be at hand in the process that runs it."""
        return frozenset({*self.requires, self.data.data_address, self.data.split_address})

    @cached_property
    def signature(self) -> str:
        """The family, and a key of all that the cost depends on."""
        component, role = self.cost_factors()
        forms, similarity_key = self.data.forms, self.data.similarity_key

        def key() -> str:
            made_of = forms(component) if component is not None else None
            return address("like", [similarity_key, made_of, role])[:8]

        return f"{self.family()} #{forms.once((similarity_key, id(component), role), component, key)}"


def run_stage(session: Session, stage: Stage) -> Artifact:
    """The stage's object, computed if the store lacks it."""

    def computed(writer: Writer) -> None:
        writer.facts["signature"] = stage.signature
        with session.running(stage.name):
            stage.run(session, writer)

    return session.keep(stage.address, stage.kind, stage.content(), computed, stage.name)


def short(component: Any) -> str:
    """Name of its class."""
    return type(component).__name__
