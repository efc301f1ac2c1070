"""What the stages of a run share: the store, the device, and what was read before. It knows no stage."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from erasure.data.dataset import Dataset
from erasure.data.on_disk import left_on_disk
from erasure.data.standardise import standardised
from erasure.data.storage import TOKENS, from_artifact
from erasure.events import EpochFinished, Listener, Message, StageWaits, ignore_events
from erasure.measures.contract import Outputs
from erasure.stages.blank import Blank
from erasure.stages.blocks import split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.numerics import Numerics
from erasure.store import Artifact, Store, Writer
from erasure.training.anatomy import load_state
from erasure.training.batches import Column, PartitionedColumn
from erasure.training.calls import Criterion
from erasure.training.devices import Precision
from erasure.training.loop import EpochListener
from erasure.training.predictor import Model, ModelInput, build_model, can_be_taken_up, train
from erasure.training.shadow_graphs import has_edges, shadow_graph
from erasure.types import Json

__all__ = ["LoadedData", "PieceMakers", "Session"]

_LARGEST_BLANK = 256 << 20
"""Bytes of a network that is kept to be copied; larger ones are built each time."""
_FACTS = 4096
"""Objects whose facts are kept."""
_BLANKS = 4
_OPEN_BLOCKS = 4
_FINDINGS = 64
"""What measures keep for the next model: so many small tensors for each data set and network."""
_CHECKPOINT_S = 60.0
"""A training that is stopped loses what it did since its last checkpoint: about this many seconds, and the epoch it was in."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedData:
    """The data of a specification on the device."""

    dataset: Dataset
    x: Column
    y: Tensor
    z: Tensor | None
    partitions: Mapping[str, Tensor]
    model_input: ModelInput
    criterion: Criterion


class PieceMakers(Protocol):
    """Processes that may join in."""

    def are_worth(self, seconds: float) -> bool:
        """Whether they are worth asking for so many seconds of work."""
        ...

    def invited(self, address: str, folder: Path) -> AbstractContextManager[None]:
        """They make pieces of the stage meanwhile, into the folder; at the end of the block none of them does any more."""
        ...


class Session:
    """The store and the device of a run, with what was read from the store kept in memory.

    Args:
        store: Where results are kept.
        device: Where models run.
        numerics: Options that are part of addresses; the caller has set the number of threads.
        listener: Receives events.
        cores: Processes that may compute for it at a time, itself included.
    """

    def __init__(
        self, store: Store, device: torch.device, numerics: Numerics, listener: Listener = ignore_events, *, cores: int = 1
    ) -> None:
        self.store: Store = store
        self.device: torch.device = device
        self.listener: Listener = listener
        self.precision: Precision = cast(Precision, numerics.precision)
        self.options: Numerics = numerics
        self.numerics: Json = numerics.json()
        self.n_passes: int = 0
        self.cores: int = cores
        self.others: PieceMakers | None = None
        self.training_s: dict[str, float] = {}
        self.checkpoint_s: float = _CHECKPOINT_S
        self._datasets: dict[str, Dataset] = {}
        self._loaded: dict[tuple[str, str], LoadedData] = {}
        self._facts: OrderedDict[str, Mapping[str, Json]] = OrderedDict()
        self._blanks: OrderedDict[tuple[str, str, int], tuple[Model, Blank]] = OrderedDict()
        self._blocks: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self.kept_outputs: OrderedDict[str, Outputs] = OrderedDict()
        self.kept_members: dict[str, dict[int, Outputs]] = {}
        self._findings: OrderedDict[tuple[str, str, int], tuple[Model, dict[Hashable, Any]]] = OrderedDict()
        self.kept_ids: OrderedDict[Hashable, Tensor] = OrderedDict()
        self.running_name: str = ""
        self.touched: set[str] = set()

    def facts(self, where: str) -> Mapping[str, Json]:
        """What the writer of an object of the store said of it, read once in a session: each measure asks for those of its models."""
        if where not in self._facts:
            self._facts[where] = self.store.open(where).facts
            if len(self._facts) > _FACTS:
                self._facts.popitem(last=False)
        return self._facts[where]

    def keep(self, where: str, kind: str, content: Json, compute: Callable[[Writer], None], name: str) -> Artifact:
        """An object of the store, computed if it is not there; ``touched`` has the address afterwards."""
        self.touched.add(where)

        def wait(_: str) -> None:
            self.listener(StageWaits(name=name, address=where))

        return self.store.get_or_compute(where, kind, content, compute, on_wait=wait)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Events name the stage that runs; one that it computes on the way is part of it."""
        outer = self.running_name
        self.running_name = outer or name
        try:
            yield
        finally:
            self.running_name = outer

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the listener what sources and splitters warn of."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            yield
        for message in dict.fromkeys(str(each.message) for each in said):
            self.listener(Message(message, level="warning"))

    def dataset(self, where: str) -> Dataset:
        """The loaded data at an address, mapped from the store."""
        if where not in self._datasets:
            artifact = self.store.open(where)
            self._datasets[where] = from_artifact(artifact.tensors("columns"), artifact.json("dataset"))
        return self._datasets[where]

    def loaded(self, data: DataSpec) -> LoadedData:
        """The data on the device, with tables standardised."""
        key = (data.split_address, data.inputs_address)
        if key not in self._loaded:
            artifact = self.store.open(data.split_address)
            found = artifact.tensors("partitions")
            partitions = {name: found[name] for name in artifact.json("order")}
            file = self.store.open(data.data_address).path("columns.safetensors")
            dataset = left_on_disk(self.dataset(data.data_address), file, data.memory_cap_gib)
            for splitter in data.splitters:
                dataset = splitter.prepared(dataset, partitions)
            x = standardised(dataset, partitions[data.standardize]) if data.standardize else dataset.x
            if isinstance(x, PartitionedColumn):
                x = x.trained_on(partitions[data.predictor.training_set])
            self._loaded[key] = LoadedData(
                dataset=dataset,
                x=x.to(self.device),
                y=dataset.y.to(self.device),
                z=None if dataset.z is None else dataset.z.to(self.device),
                partitions={name: ids.to(self.device) for name, ids in partitions.items()},
                model_input=ModelInput(
                    dataset.x_shape,
                    dataset.n_classes,
                    dataset.task,
                    dataset.modality,
                    dataset.class_names,
                    self.token_names(data.data_address) if dataset.task == "generation" else (),
                ),
                criterion=Criterion(dataset.task, data.predictor.loss_fn).to(self.device),
            )
        return self._loaded[key]

    def trained(
        self, data: DataSpec, ids: Tensor, seed: int, taking_up: Callable[[], dict[str, Any]] | None = None, **listeners: Any
    ) -> nn.Module:
        """Train a model by the recipe on the samples ``ids``, now.

        Args:
            data: The data and the recipe.
            ids: Samples to train on.
            seed: Of weights, order and dropout.
            taking_up: Further options of :func:`~erasure.training.predictor.train`, where the training can be taken up.
            listeners: Options of it.
        """
        loaded = self.loaded(data)
        predictor = data.predictor
        validation = loaded.partitions[predictor.validation_set] if predictor.validation_set else None
        x, ids = shadow_graph(loaded.x, ids.to(self.device)) if has_edges(ids) else (loaded.x, ids.to(self.device))
        model = build_model(predictor.model, loaded.model_input, seed, self.device)
        if taking_up is not None and can_be_taken_up(model, predictor):
            listeners |= taking_up()
        start = time.perf_counter()
        trained = train(
            model,
            predictor,
            x=x,
            y=loaded.y,
            ids=ids,
            criterion=loaded.criterion,
            seed=seed,
            batch_size=data.batch_size,
            validation_ids=validation,
            precision=self.precision,
            on_epoch=self.on_epoch(),
            **listeners,
        )
        known_s = self.training_s.get(data.similarity_key, 0.0)
        self.training_s[data.similarity_key] = max(known_s, time.perf_counter() - start)
        return trained

    def on_epoch(self) -> EpochListener:
        """Indication the listener of each epoch of the stage that is running."""
        name = self.running_name

        def emit(epoch: int, epochs: int, model: nn.Module) -> None:
            self.listener(EpochFinished(name=name, epoch=epoch, epochs=epochs))

        return emit

    def model(self, data: DataSpec, where: str) -> nn.Module:
        """The model at an address, or one of the block there, in eval mode, on the device."""
        model = self.blank(data)
        place, index = split_member(where)
        if index is None:
            load_state(model, self.store.open(place).tensors("model"))
        else:
            load_state(model, {name: values[index] for name, values in self._block(place).items()})
        return model.eval()

    def _block(self, place: str) -> dict[str, Tensor]:
        """The weights of a block, mapped from the store once for those of its models that are asked for one after the other."""
        if place not in self._blocks:
            self._blocks[place] = self.store.open(place).tensors("models")
            while len(self._blocks) > _OPEN_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[place]

    def blank(self, data: DataSpec) -> nn.Module:
        """A network whose weights are about to be replaced: a copy of one that was built once, since drawing weights takes long."""
        key = (data.split_address, data.inputs_address, id(data.predictor.model))
        if key not in self._blanks:
            built = build_model(data.predictor.model, self.loaded(data).model_input, 0, self.device)
            if sum(tensor.nbytes for tensor in (*built.parameters(), *built.buffers())) > _LARGEST_BLANK:
                return built
            self._blanks[key] = (data.predictor.model, Blank(built))
            while len(self._blanks) > _BLANKS:
                self._blanks.popitem(last=False)
            return built
        return self._blanks[key][1].copy()

    def findings(self, data: DataSpec) -> dict[Hashable, Any]:
        """What measures found of the data and the network that does not depend on the model they measured, for the next one."""
        key = (data.split_address, data.inputs_address, id(data.predictor.model))
        _, found = self._findings.setdefault(key, (data.predictor.model, {}))
        while len(self._findings) > _BLANKS:
            self._findings.popitem(last=False)
        if len(found) > _FINDINGS:
            found.clear()
        return found

    def token_names(self, where: str) -> tuple[str, ...]:
        """How the tokens of a stored data set read; empty if it does not say."""
        artifact = self.store.open(where)
        return tuple(artifact.json(TOKENS)) if f"{TOKENS}.json" in artifact.files else ()
