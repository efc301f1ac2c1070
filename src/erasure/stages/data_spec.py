"""The data, the recipe and the numerics that the stages of one split seed share, and the addresses of all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from erasure.component import canonical, partition_fields
from erasure.data.contract import DataSource, ScoredSplitter
from erasure.experiment.configuration import Experiment
from erasure.stages.forms import Forms
from erasure.stages.numerics import Numerics
from erasure.store.addresses import address
from erasure.training.predictor import Predictor
from erasure.types import Json

__all__ = ["DataSpec", "data_spec"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSpec:
    """The data of an experiment under one split seed, as planned; ``Session.loaded`` has it as tensors.

    Args:
        source: Where it comes from.
        data_content: What the address of the loaded data is made of.
        data_address: Address of the loaded data.
        split_content: What the address of the partitions is made of.
        split_address: Address of the partitions.
        splitters: How they are made.
        seed: Seed of the splits.
        task: How labels are read, if the configuration says.
        standardize: Partition whose statistics tables are scaled by, or None.
        batch_size: Samples per step.
        predictor: The training recipe; its loss is used everywhere.
        partition_addresses: Address of each partition.
        inputs_address: Address of the inputs as models see them.
        recipe_json: The training recipe as JSON, without the names of its partitions.
        numerics: Options that change the numbers, as addresses have them.
        similarity_key: What stages of the same data and recipe have in common; their costs are compared.
        request: Address of what is forgotten of a graph besides samples; empty if nothing is.
        memory_cap_gib: GiB of inputs that may be in memory; larger ones stay in their file.
        scores: Address and content of the scores that splitters need, by the splitter's place.
        explains: What the addresses of partitions and inputs are made of, by address; ``erasure explain`` reads it.
        forms: Canonical forms of components, shared by the plan.
    """

    source: DataSource
    data_content: Json
    data_address: str
    split_content: Json
    split_address: str
    splitters: tuple[Any, ...]
    seed: int
    task: str | None
    standardize: str | None
    batch_size: int
    predictor: Predictor
    partition_addresses: Mapping[str, str]
    inputs_address: str
    recipe_json: Json
    numerics: Json
    similarity_key: str
    request: str = ""
    memory_cap_gib: float | None = None
    scores: Mapping[int, tuple[str, Json]] = field(default_factory=dict)
    explains: Mapping[str, Json] = field(default_factory=dict)
    forms: Forms = field(default_factory=Forms, repr=False)

    def addresses_of(self, names: Any) -> dict[str, Json]:
        """Address of each of the partitions that exists, in the order of the names."""
        return {name: self.partition_addresses[name] for name in names if name in self.partition_addresses}


def data_spec(experiment: Experiment, seed: int, fingerprint: Json, numerics: Numerics, forms: Forms) -> DataSpec:
    """The data of an experiment under a split seed; nothing is loaded.

    A partition's address is its lineage: the splitters that lead to it, not those next to it.

    Args:
        experiment: The validated configuration.
        seed: Seed of the splits.
        fingerprint: Of the source.
        numerics: Options that change the numbers.
        forms: Canonical forms of components, shared by the plan.
    """
    section, predictor = experiment.data, experiment.predictor
    data_content = {"source": forms(section.data_source), "fingerprint": fingerprint, "task": section.task}
    data = address("data", data_content)
    explains: dict[str, Json] = {}

    def named(kind: str, made_of: Json) -> str:
        where = address(kind, made_of)
        explains[where] = {"kind": kind, "content": made_of}
        return where

    lineage, request = {"all": named("partition", {"of": data})}, ""
    scores: dict[int, tuple[str, Json]] = {}
    for place, splitter in enumerate(section.partitions):
        above = {name: lineage[name] for name in _referred(splitter)}
        parts = {"splitter": forms(splitter), "above": above, "seed": seed}
        # What comes after it sees other data than before, whatever it is cut from.
        parts |= {"request": request} if request else {}
        if isinstance(splitter, ScoredSplitter) and splitter.needs_scores():
            # Models are trained by one thread, so that on a CPU nothing else decides.
            elsewhere = {"device": numerics.device, "precision": numerics.precision}
            trained = {} if elsewhere == {"device": "cpu", "precision": "fp32"} else {"numerics": elsewhere}
            parts |= trained
            made_of = {"samples": lineage[splitter.scored()], "of": splitter.scores_content(seed), **trained}
            beside = {name: lineage[name] for name in splitter.scored_with()}
            made_of |= {"with": beside} if beside else {}
            made_of |= {"request": request} if request else {}
            scores[place] = (address("scores", made_of), made_of)
        lineage |= {
            name: named("partition", {**parts, "part": number}) for number, name in enumerate(splitter.parts) if name != "-"
        }
        if splitter.settles():
            request = named("request", parts)
    standardize = _standardised_by(section.standardize, predictor.training_set)
    scaling = lineage[standardize] if standardize is not None else None
    recipe = forms.once(("recipe", id(predictor)), predictor, lambda: _recipe(predictor))
    split_content = {"data": data, "partitions": dict(lineage), "order": list(lineage)}
    return DataSpec(
        source=section.data_source,
        data_content=data_content,
        data_address=data,
        split_content=split_content,
        split_address=address("split", split_content),
        splitters=section.partitions,
        seed=seed,
        task=section.task,
        standardize=standardize,
        batch_size=section.batch_size,
        predictor=predictor,
        partition_addresses=lineage,
        inputs_address=named("view", {"data": data, "standardize": scaling, "trained": lineage[predictor.training_set]}),
        recipe_json=recipe,
        numerics=numerics.json(),
        similarity_key=address("like", {"data": data, "recipe": recipe, "batch_size": section.batch_size}),
        request=request,
        memory_cap_gib=experiment.globals.memory_cap_gib,
        scores=scores,
        explains=explains,
        forms=forms,
    )


def _referred(splitter: Any) -> tuple[str, ...]:
    names: list[str] = []
    for name in partition_fields(type(splitter)):
        value = getattr(splitter, name)
        names += [value] if isinstance(value, str) else list(value or ())
    return tuple(dict.fromkeys(names))


def _standardised_by(standardize: bool | str, training_set: str) -> str | None:
    if isinstance(standardize, str):
        return standardize
    return training_set if standardize else None


def _recipe(predictor: Predictor) -> Json:
    """A recipe as addresses have it: which partitions it names does not matter, their content does."""
    return canonical(predictor.replace(training_set="train", validation_set="validation" if predictor.validation_set else None))
