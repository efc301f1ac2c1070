"""Measuring models that somebody brings along: rows of originals, golds and unlearned models, without a plan."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from erasure.component import canonical
from erasure.engine.fits import Fits, FittedModel, passed, remembered
from erasure.engine.given_checks import check_model
from erasure.engine.given_data import GivenData
from erasure.engine.recording.rows import value_row
from erasure.errors import DataError, ErasureError, RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, ModelRole, ModelUnderTest
from erasure.measures.guards import run_guards
from erasure.measures.outputs import Outputs
from erasure.measures.requested_models import ModelRequest, Original, Repeated, Retrained, Shadow, UnlearnedShadow
from erasure.records.rows import Row
from erasure.stages.blocks import ModelStack, seen_ids
from erasure.stages.value_records import value_record
from erasure.store import Store, Writer, address
from erasure.training.forward import logits_of
from erasure.training.randomness import Streams, derive, isolated
from erasure.types import Json
from erasure.unlearners.contract import model_digest

__all__ = ["GivenBlock", "GivenModel", "MeasuredModels", "fitted_model", "held_model", "knows_all", "of_fits"]


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenModel:
    """A model to measure.

    Args:
        load: Gives it, prepared, in eval mode; do not change it.
        outputs: What it says of samples by their ids.
        elapsed_s: Seconds it took to make, where known.
        precompute_s: Seconds of one-off work before.
        address: Its address in the store, where it has one.
    """

    load: Callable[[], nn.Module]
    outputs: Callable[[Tensor], Outputs]
    elapsed_s: float = 0.0
    precompute_s: float = 0.0
    address: str = ""

    @property
    def total_s(self) -> float:
        """Seconds that it took in all."""
        return self.elapsed_s + self.precompute_s


def held_model(model: nn.Module, data: GivenData, *, elapsed_s: float = 0.0, precompute_s: float = 0.0) -> GivenModel:
    """A model in memory; a private copy of it is measured.

    Raises:
        RequirementNotMet: If it is no network.
        DataError: If its outputs are not as many as the original's.
    """
    check_model(model, finite=False)
    private = data.prepared(model)
    with torch.no_grad(), isolated(0, data.device):
        found = logits_of(private(data.x.gather(torch.arange(min(2, len(data.x)), device=data.device)))).shape[1:]
    if found.numel() != data.model_input.n_outputs:
        raise DataError(
            f"a model gives {found.numel()} logits a sample, and the original {data.model_input.n_outputs}: they cannot be compared"
        )
    return GivenModel(
        load=lambda: private,
        outputs=remembered(lambda ids: passed(private, data, ids)),
        elapsed_s=elapsed_s,
        precompute_s=precompute_s,
    )


def fitted_model(model: FittedModel) -> GivenModel:
    """A model that somebody's own training has made."""
    return GivenModel(load=model.load, outputs=model.outputs, elapsed_s=model.elapsed_s, address=model.address)


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenBlock:
    """An original with everything that is judged beside it: models of one block may trade places if none has forgotten less.

    Args:
        original: The original.
        golds: Retrained models, each in one block only.
        unlearned: Label to unlearned model.
        number: Of the block; 0 is the original that was brought along.
    """

    original: GivenModel
    golds: Sequence[GivenModel] = ()
    unlearned: Mapping[str, GivenModel] = field(default_factory=dict)
    number: int = 0


def of_fits(fits: Fits, data: GivenData, seed: int, generation: int = 0) -> Callable[[ModelRequest], GivenModel]:
    """Models that measures ask for, trained by somebody's own function.

    Args:
        fits: Trains them.
        data: The data.
        seed: Root of their seeds.
        generation: How many requests the original has answered: what retrained models were then are the originals of the next request.
    """

    def made(request: ModelRequest) -> GivenModel:
        block = ModelStack(
            requests=(request,), seeds=(0,), way="train", partition=_training(request), root=derive(seed, "shadow")
        )
        ids = seen_ids(request, block, data.partitions)
        name = type(request).__name__.lower()
        kind, of = (name, generation) if name != "original" or not generation else ("retrained", generation - 1)
        path = (kind, request.number) if not of else (kind, request.number, of)
        return fitted_model(fits.model(ids, derive(seed, "asked", *path), f"{name} {request.number}"))

    return made


def _training(request: ModelRequest) -> str:
    if isinstance(request, Retrained):
        return "retain"
    if isinstance(request, Original):
        return "train"
    if isinstance(request, Shadow):
        return ""
    raise RequirementNotMet("this measure makes further models as the unlearned one was made: give train= and unlearn=")


def knows_all(request: ModelRequest) -> bool:
    """Whether the model that a measure asks for has learned from the whole training set."""
    return isinstance(request, Original)


class Treated(Protocol):
    """Makes models as a subject was made; see :class:`~erasure.engine.given_treatments.Treatments`."""

    def made(self, request: ModelRequest, kind: ModelRole, label: str, original: GivenModel, number: int) -> GivenModel:
        """The model of a request."""
        ...

    def forgotten(self, request: ModelRequest) -> Tensor:
        """What it has forgotten."""
        ...


class _Provider:
    """Answers measures from somebody's own training."""

    def __init__(
        self, data: GivenData, seed: int, made: Callable[[ModelRequest], GivenModel], treated: Treated | None, subject: _Subject
    ) -> None:
        self.data, self.seed, self.treated, self.subject, self._plain = data, seed, treated, subject, functools.cache(made)

    def made(self, request: ModelRequest) -> GivenModel:
        if self.treated is None or not isinstance(request, UnlearnedShadow | Repeated):
            return self._plain(request)
        subject = self.subject
        return self.treated.made(request, subject.kind, subject.label, subject.block.original, subject.block.number)

    def outputs(self, request: ModelRequest, partition: str) -> Outputs:
        return self.made(request).outputs(self.data.partitions[partition])

    def load(self, request: ModelRequest) -> nn.Module:
        return self.made(request).load()

    def seen(self, request: ModelRequest) -> Tensor:
        partition = "" if isinstance(request, UnlearnedShadow) else _training(request)
        block = ModelStack(requests=(request,), seeds=(0,), way="train", partition=partition, root=derive(self.seed, "shadow"))
        return seen_ids(request, block, self.data.partitions)

    def forgotten(self, request: ModelRequest) -> Tensor:
        return torch.empty(0, dtype=torch.int64) if self.treated is None else self.treated.forgotten(request)


@dataclass(frozen=True, eq=False)
class _Subject:
    kind: ModelRole
    label: str
    block: GivenBlock


@dataclass(eq=False, kw_only=True)
class MeasuredModels:
    """Measures models and makes rows of what is found.

    Args:
        data: The data.
        measures: What to measure.
        name: Name of the whole.
        dataset: Name of the data.
        seed: Root of all random choices.
        made: Trains models that measures ask for; None if nothing can be trained.
        treated: Makes models as the subject was made; None if nobody knows how.
        on_measured: Called after each block of models.
        store: Where what is found of originals and golds is kept, so that it is measured once; None to keep nothing.
        identity: What else tells these models from others of the store, such as the function that trains them.
    """

    data: GivenData
    measures: Sequence[Measure]
    name: str = "audit"
    dataset: str = "given data"
    seed: int = 0
    made: Callable[[ModelRequest], GivenModel] | None = None
    treated: Treated | None = None
    on_measured: Callable[[str], None] | None = None
    store: Store | None = None
    identity: Json = None
    by_name: dict[str, Measure] = field(default_factory=dict, init=False)
    """The measure behind each name that rows have."""

    def rows(self, blocks: Sequence[GivenBlock], keys: Mapping[str, str] | None = None) -> list[Row]:
        """Rows of all blocks, those of further golds among them.

        Args:
            blocks: Originals with their golds and unlearned models.
            keys: Label to registered name of the method.
        """
        return [row for block in blocks for row in self._of_block(block, keys or {})]

    def _of_block(self, block: GivenBlock, keys: Mapping[str, str]) -> list[Row]:
        golds = [self._values(gold, "gold", block) for gold in block.golds]
        shown = golds[0] if golds else {}
        rows = self._as_rows(self._values(block.original, "original", block), "original", "original", block, shown, golds)
        for number, values in enumerate([*golds[:1], *golds]):
            # The first gold is shown and sits in the jury too: being shown changes nothing about it.
            rows += self._as_rows(values, "gold", "gold", block, shown, golds, number=number)
        for label, model in block.unlearned.items():
            status, reason = self._guard(model, block, golds)
            values = self._values(model, "unlearned", block, label)
            found = self._as_rows(values, "unlearned", label, block, shown, golds, key=keys.get(label, ""))
            rows += [row if row.status != "ok" or status == "ok" else replace(row, status=status, reason=reason) for row in found]
        if self.on_measured is not None:
            self.on_measured(f"block {block.number}")
        return rows

    def _evaluation(self, model: GivenModel, kind: ModelRole, block: GivenBlock, stream: str, label: str) -> Evaluation:
        references = {"original": block.original} | ({"gold": block.golds[0]} if block.golds else {})
        return Evaluation(
            subject=self._candidate(model, kind),
            references={role: self._candidate(each, role) for role, each in references.items()},  # type: ignore[arg-type]
            partition_ids=self.data.partitions,
            x=self.data.x,
            y=self.data.y,
            model_input=self.data.model_input,
            criterion=self.data.criterion,
            streams=Streams(self.seed).child(stream),
            batch_size=self.data.batch_size,
            facts={"class_names": self.data.class_names},
            provider=None
            if self.made is None
            else _Provider(self.data, self.seed, self.made, self.treated, _Subject(kind, label, block)),
        )

    def _candidate(self, model: GivenModel, kind: ModelRole) -> ModelUnderTest:
        @functools.cache
        def outputs(partition: str) -> Outputs:
            return self._said(model, partition)

        return ModelUnderTest(
            role=kind, load=model.load, outputs=outputs, elapsed_s=model.elapsed_s, precompute_s=model.precompute_s
        )

    def _said(self, model: GivenModel, partition: str) -> Outputs:
        key = (id(model), partition)
        if key not in self._outputs:
            self._outputs[key] = (model, model.outputs(self.data.partitions[partition]))
        return self._outputs[key][1]

    @functools.cached_property
    def _outputs(self) -> dict[tuple[int, str], tuple[GivenModel, Outputs]]:
        """One pass of each model and partition, whoever asks; the model is kept so that its number stays its own."""
        return {}

    def _values(self, model: GivenModel, kind: ModelRole, block: GivenBlock, label: str = "") -> dict[int, Any]:
        """What each measure found, by its place: records, or the reason why there are none, and seconds.

        Originals and golds are measured once, however many methods are judged beside them.
        """
        if kind == "unlearned":
            return self._measured(model, kind, block, label)
        held = (model, block.original, *block.golds[:1])  # a number of an object stays its own as long as the object is kept
        key = (kind, block.number, *map(id, held))
        if key not in self._known:
            self._known[key] = held, self._kept(model, kind, block, label)
        return self._known[key][1]

    def _kept(self, model: GivenModel, kind: ModelRole, block: GivenBlock, label: str) -> dict[int, Any]:
        """What each measure found, from the store where it is kept; what a measure could not do is tried anew."""
        if self.store is None:
            return self._measured(model, kind, block, label)
        content: dict[str, Json] = {
            "models": [self._digest_of(each) for each in (model, block.original, *block.golds[:1])],
            "role": kind,
            "measures": [canonical(measure) for measure in self.measures],
            "samples": {name: self._samples(name) for name in sorted(self.data.partitions)},
            "seed": self.seed,
            "identity": self.identity,
        }
        where = address("given-values", content)
        found: dict[int, Any] = {}

        def compute(writer: Writer) -> None:
            found.update(self._measured(model, kind, block, label))
            writer.facts["values"] = [[place, *each] for place, each in found.items() if not isinstance(each[0], str)]

        values = self.store.get_or_compute(where, "given-values", content, compute).facts["values"]
        read = {place: (records, elapsed_s) for place, records, elapsed_s in cast(list[Any], values)}
        if len(read) < sum(kind in measure.targets() for measure in self.measures):
            return found or self._measured(model, kind, block, label)
        return read

    def _digest_of(self, model: GivenModel) -> str:
        return model.address or model_digest(model.load())

    def _samples(self, partition: str) -> str:
        ids = self.data.partitions[partition]
        return hashlib.sha256(self.data.fingerprint_of(ids).encode() + ids.cpu().numpy().astype("<i8").tobytes()).hexdigest()

    @functools.cached_property
    def _known(self) -> dict[tuple[Any, ...], tuple[Any, dict[int, Any]]]:
        return {}

    def _measured(self, model: GivenModel, kind: ModelRole, block: GivenBlock, label: str) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for place, measure in enumerate(self.measures):
            if kind not in measure.targets():
                continue
            start = time.perf_counter()
            evaluation = self._evaluation(model, kind, block, measure.stream, label)
            try:
                missing = sorted(measure.references - set(evaluation.references))
                if missing:
                    raise RequirementNotMet(f"{measure.title} compares with the {missing[0]} model, and there is none")
                records: Any = [value_record(measure, value) for value in measure.measure(evaluation)]
            except ErasureError as error:
                records = str(error)
            found[place] = (records, time.perf_counter() - start)
        return found

    def _guard(self, model: GivenModel, block: GivenBlock, golds: Sequence[Any]) -> tuple[Any, str]:
        evaluation = self._evaluation(model, "unlearned", block, "judge", "")
        floor = 0.0
        if len(block.golds) > 1:
            accuracies = [self._said(gold, "forget").accuracy for gold in block.golds]
            floor = max(abs(each - accuracies[0]) for each in accuracies)
        verdict = run_guards(evaluation, forget="forget", retain="retain", floor=floor)
        return verdict.status, verdict.reason

    def _as_rows(
        self,
        values: Mapping[int, Any],
        role: ModelRole,
        label: str,
        block: GivenBlock,
        shown: Mapping[int, Any],
        golds: Sequence[Mapping[int, Any]],
        *,
        key: str = "",
        number: int | None = None,
    ) -> list[Row]:
        rows = []
        for place, (records, elapsed_s) in values.items():
            measure = self.measures[place]
            base = Row(
                experiment=self.name,
                dataset=self.dataset,
                unlearner=key,
                label=label,
                model_role=role,
                measure=measure.title,
                seed_split=0,
                seed_train=block.number,
                seed_unlearn=block.number if role == "unlearned" else None,
                seed_evaluate=self.seed,
                elapsed_s=elapsed_s,
                number=number,
            )
            if isinstance(records, str):
                if number in {None, 0}:
                    rows.append(replace(base, status="failed", reason=records))
                continue
            for record in records:
                of = (record["name"], record["partition"])
                self.by_name.setdefault(record["name"], measure)
                gold = _value_of(shown, place, of) if not number else None  # further golds are compared with nothing
                others = [_value_of(other, place, of) for other in golds[1:]]
                rows.append(value_row(base, record, measure, gold=gold, others=others))
        return rows


def _value_of(values: Mapping[int, Any], place: int, key: tuple[str, str]) -> float | None:
    records = values.get(place, ("", 0.0))[0]
    if isinstance(records, str):
        return None
    return next((record["value"] for record in records if (record["name"], record["partition"]) == key), None)
