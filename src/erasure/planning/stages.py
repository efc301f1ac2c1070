"""What a plan is made of: stages with addresses, the data they share, and the models whose rows are wanted."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from erasure.component import canonical
from erasure.data.contract import DataSource
from erasure.experiment.configuration import Experiment, LabelledUnlearner, Trace
from erasure.measures.contract import Measure, ModelKind
from erasure.measures.requested_models import Request
from erasure.planning.flow import flow_svg
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import Block
from erasure.training.predictor import Predictor
from erasure.types import Json
from erasure.unlearners.contract import Unlearner

__all__ = ["Group", "Job", "Numerics", "Plan", "Scene", "Stage", "Subject", "outputs_content", "short", "training_content"]


@dataclass(frozen=True)
class Numerics:
    """Run options that change the numbers, and therefore every address behind the data.

    Args:
        device: Type of the device, such as ``cpu``.
        precision: ``fp32`` or ``bf16``.
        threads: Threads of one operation on the CPU.
        devices: Devices that train a model together.
        strategy: How they do it, ``ddp`` or ``fsdp``.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def json(self) -> Json:
        """For an address; threads matter on the CPU alone."""
        threads = {"threads": self.threads} if self.device == "cpu" else {}
        together: dict[str, Json] = {"devices": self.devices, "strategy": self.strategy} if self.devices > 1 else {}
        return {"device": self.device, "precision": self.precision} | threads | together


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """The data of an experiment under one split seed.

    Args:
        source: Where it comes from.
        data: Address of the loaded data.
        split: Address of the partitions.
        splitters: How they are made.
        seed: Seed of the splits.
        task: How labels are read, if the configuration says.
        standardize: Partition whose statistics tables are scaled by, or None.
        batch_size: Samples per step.
        predictor: The training recipe; its loss is used everywhere.
        lineage: Address of each partition.
        view: Address of the inputs as models see them.
        recipe: The training recipe as JSON, without the names of its partitions.
        request: Address of what is forgotten of a graph beside samples; empty if nothing is.
        memory_cap_gib: GiB of inputs that may be in memory; larger ones stay in their file.
        explains: What the addresses of partitions and view are made of, by address; ``erasure explain`` reads it.
    """

    source: DataSource
    data: str
    split: str
    splitters: tuple[Any, ...]
    seed: int
    task: str | None
    standardize: str | None
    batch_size: int
    predictor: Predictor
    lineage: Mapping[str, str]
    view: str
    recipe: Json
    request: str = ""
    memory_cap_gib: float | None = None
    explains: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """What a stage does; which fields are set depends on its kind.

    Args:
        scene: The data.
        seed: Seed of the stage.
        partition: Partition to train or run on.
        model: Address of the model it starts from or looks at.
        unlearner: The method.
        measure: The measure; None judges.
        references: Addresses of the models it is compared with.
        role: What the model is.
        train_seed: Seed of the original's training, for methods that ask for other models.
        floors: Addresses of golds of other seeds.
        trace: What is measured after each epoch; the unlearned model is then stored with every epoch's weights.
        traced: Address of the trace that an epoch is selected by.
        block: The models of a bank that are made together.
        bank: Models that the measure has asked for: request to model.
        blocks: The blocks they are in, by address.
        maker: The stage that made the model, so that it can be made again.
    """

    scene: Scene
    seed: int = 0
    partition: str = ""
    model: str = ""
    unlearner: Unlearner | None = None
    measure: Measure | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    role: ModelKind = "original"
    train_seed: int = 0
    floors: tuple[str, ...] = ()
    trace: Trace | None = None
    traced: str = ""
    block: Block | None = None
    bank: Mapping[Request, str] = field(default_factory=dict)
    blocks: Mapping[str, Block | None] = field(default_factory=dict)
    maker: Stage | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One step of the plan.

    Args:
        kind: ``data``, ``split``, ``model``, ``models`` (a block), ``unlearned``, ``trace``, ``selected``,
            ``outputs``, ``values`` or ``verdict``.
        name: For people, such as ``unlearn SCRUB``.
        address: Where its result is in the store.
        content: What the address is made of.
        requires: Addresses of the stages that must be there before.
        job: What to do.
        signature: Stages of one signature take similar time.
    """

    kind: str
    name: str
    address: str
    content: Json
    requires: tuple[str, ...]
    job: Job
    signature: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A model whose rows are wanted.

    Args:
        role: Which of the three kinds it is.
        entry: The unlearner, for an unlearned model.
        model: Address of the model.
        values: Address of each measure's values, in the order of the measures; None where it does not apply.
        verdict: Address of the verdict, for an unlearned model.
        trace: Address of the trace, for an unlearned model, if one was asked for.
        jury: Of each further gold the address of the values that are calibrated on models treated like this one; None for other measures.
    """

    role: ModelKind
    entry: LabelledUnlearner | None
    model: str
    values: tuple[str | None, ...]
    verdict: str = ""
    trace: str = ""
    jury: tuple[tuple[str | None, ...], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Models that are compared with one another: one repetition, one gold.

    Args:
        seeds: The repetition.
        retain: Partition gold is trained on.
        original: The original.
        gold: The gold model, if there is a retain partition.
        floors: Golds of other seeds.
        unlearned: The unlearned models.
        shares_jury: Whether other groups of the split have the same further golds.
    """

    seeds: Seeds
    retain: str
    original: Subject
    gold: Subject | None
    floors: tuple[Subject, ...]
    unlearned: tuple[Subject, ...]
    shares_jury: bool = False


@dataclass(eq=False, kw_only=True)
class Plan:
    """The stages of an experiment, each after what it requires, and the models whose rows are wanted.

    Args:
        experiment: What is planned.
        numerics: Options that change the numbers.
        stages: Stage by address.
        groups: What becomes of them.
        scenes: The data, one for each split seed.
    """

    experiment: Experiment
    numerics: Numerics
    stages: dict[str, Stage] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    _known: dict[Any, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def canonical(self, component: Any) -> Json:
        """The canonical form of a component, found once."""
        return self.once(("canonical", id(component)), component, lambda: canonical(component))

    def once(self, key: Any, owner: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for ``key`` the first time; ``owner``, whose identity is in the key, is kept alive."""
        if key not in self._known:
            self._known[key] = (owner, make())
        return self._known[key][1]

    def _repr_html_(self) -> str:
        """The stages, in a notebook: which kinds wait for which, and a line for each."""
        kinds = {stage.kind: 0 for stage in self.stages.values()}
        for stage in self.stages.values():
            kinds[stage.kind] += 1
        follows = {(self.stages[a].kind, s.kind) for s in self.stages.values() for a in s.requires if a in self.stages}
        cells = (
            f"<tr><td>{html.escape(s.name)}</td><td>{s.kind}</td><td><code>{a[:12]}</code></td></tr>"
            for a, s in self.stages.items()
        )
        head = "<tr><th>stage</th><th>kind</th><th>address</th></tr>"
        table = f"<table><caption>{len(self.stages)} stages</caption><thead>{head}</thead><tbody>{''.join(cells)}</tbody></table>"
        return f"{flow_svg(kinds, follows)}<details{' open' if len(self.stages) <= 30 else ''}><summary>stages</summary>{table}</details>"


def training_content(scene: Scene, partition: str, seed: int, numerics: Json) -> Json:
    """What the address of a model trained by the scene's recipe is made of; names of partitions do not matter, their content does."""
    predictor = scene.predictor
    validation = predictor.validation_set
    return {
        "predictor": scene.recipe,
        "batch_size": predictor.batch_size or scene.batch_size,
        "view": scene.view,
        "train": scene.lineage[partition],
        "validation": scene.lineage[validation] if validation else None,
        "seed": seed,
        "numerics": numerics,
    }


def outputs_content(scene: Scene, model: str, partition: str, numerics: Json) -> Json:
    """What the address of a model's outputs on a partition is made of."""
    return {"model": model, "partition": scene.lineage[partition], "view": scene.view, "numerics": numerics}


def short(component: Any) -> str:
    """Name of its class."""
    return type(component).__name__
