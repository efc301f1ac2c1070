"""What the models of a run said about each sample, read from the store as arrays, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erasure.errors import StoreError
from erasure.kernels import predicted
from erasure.records.evidence import DatasetRecord
from erasure.records.figure_records import RepetitionRecord
from erasure.records.run_folder import ROLE_PARTITIONS, RunFolder
from erasure.store import Artifact, Store

__all__ = ["ROLE_NAMES", "Models", "PartitionOutputs", "RunModels"]

ROLE_NAMES: Mapping[str, str] = {"forget": "forgotten", "retain": "retained", "test": "held out"}
"""What people call the samples of each role."""

_FILE = "outputs.safetensors"


@dataclass(frozen=True, eq=False)
class PartitionOutputs:
    """What one model said about the samples of one partition.

    Args:
        label: The model.
        role: ``forget``, ``retain`` or ``test``.
        task: How logits are read: ``classification``, ``binary`` or ``multilabel``.
        artifact: The stored object.
        n: Number of samples.
    """

    label: str
    role: str
    task: str
    artifact: Artifact
    n: int

    @property
    def ids(self) -> NDArray[Any]:
        """Position of each sample in the data set."""
        return self._column("ids")

    @property
    def labels(self) -> NDArray[Any]:
        """Label of each sample, ``(n,)``; ``(n, C)`` for several labels a sample."""
        return self._column("labels")

    @property
    def losses(self) -> NDArray[Any]:
        """Loss of each sample."""
        return self._column("losses").astype(np.float64)

    @property
    def logits(self) -> NDArray[Any]:
        """Logits of each sample, one row each; a single logit of two classes becomes the logits of both."""
        return self.logits_of(self._column("logits"))

    @property
    def predictions(self) -> NDArray[Any]:
        """Class that the model names for each sample.

        Raises:
            StoreError: If samples have several labels.
        """
        if self.task == "multilabel":
            raise StoreError("Samples of this data have several labels each, so there is no one class that a model names.")
        return np.asarray(predicted("classification", self.logits))

    def logits_of(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Raw logits as one column a class."""
        values = logits.astype(np.float64).reshape(len(logits), -1)
        return np.hstack([np.zeros_like(values), values]) if self.task == "binary" and values.shape[1] == 1 else values

    def rows(self, name: str, chosen: NDArray[Any]) -> NDArray[Any] | None:
        """Some rows of a stored tensor, such as ``features``; None if there is no such tensor.

        Raises:
            StoreError: If the object cannot be read.
        """
        with self._opened() as file:
            if name not in file.keys():  # noqa: SIM118 - no mapping
                return None
            part = file.get_slice(name)
            found = [part[int(i) : int(i) + 1] for i in chosen]
        empty = np.zeros((0, *part.get_shape()[1:]), np.float32)
        return np.concatenate(found).reshape(len(found), -1).astype(np.float64) if found else empty

    def _column(self, name: str) -> NDArray[Any]:
        from safetensors import SafetensorError

        with self._opened() as file:
            try:
                return np.asarray(file.get_tensor(name))
            except SafetensorError as error:
                raise StoreError(
                    f"{self.artifact} does not hold what a model said ({error}); run the experiment again."
                ) from error

    def _opened(self) -> Any:
        from safetensors import SafetensorError, safe_open

        path = self.artifact.path(_FILE)
        try:
            return safe_open(path, framework="numpy")
        except (SafetensorError, OSError) as error:
            raise StoreError(f"{path} cannot be read ({error}); run the experiment again.") from error


class Models:
    """Opens what models said; keeps what was opened, so that checksums are computed once.

    Args:
        store: Where the outputs are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._opened: dict[str, Artifact] = {}

    def of(self, folder: RunFolder, group: int = 0) -> RunModels:
        """The models of a group of a run.

        Raises:
            StoreError: If there is no such group, or the run does not say where its outputs are.
        """
        if not 0 <= group < len(folder.groups):
            raise StoreError(f"This run has no group {group} of models.")
        return RunModels(self, folder, folder.groups[group])

    def open(self, address: str) -> Artifact:
        """A stored object.

        Raises:
            StoreError: If it is not there or damaged.
        """
        if address not in self._opened:
            if not self.store.contains(address):
                raise StoreError(
                    f"What this model said is not in the store {self.store.root}; start erasure ui with --store and the store of the "
                    "run, or run the experiment again."
                )
            if len(self._opened) >= 256:
                self._opened.clear()
            self._opened[address] = self.store.open(address)
        return self._opened[address]


class RunModels:
    """Models of one group of a run: the original, gold and those that unlearned.

    Args:
        models: Opens what they said.
        folder: The run.
        group: What the run kept of the group.
    """

    def __init__(self, models: Models, folder: RunFolder, group: RepetitionRecord) -> None:
        if not group.outputs:
            raise StoreError(
                "This run does not say where its models' outputs are: it is of an older version. Run its configuration again, which "
                "costs nothing while its objects are in the store."
            )
        self._models, self._group = models, group
        described = folder.record.dataset or DatasetRecord()
        self.task: str = described.task or "classification"
        self.n_classes: int = described.n_classes
        self.class_names: tuple[str, ...] = described.class_names
        self.seed: int | None = group.seed
        partitions = {"forget": group.forget, "retain": group.retain, "test": group.heldout}
        self.partitions: dict[str, str] = {role: partitions[role] for role in ROLE_PARTITIONS if partitions[role]}
        self._places = {(each.label, each.partition): each.address for each in group.outputs}
        self.labels: list[str] = list(dict.fromkeys(label for label, _ in self._places))
        known = {model.label: model.role for model in folder.models}
        self.gold: str | None = next((label for label in self.labels if known.get(label) == "gold"), None)
        self.roles: list[str] = [role for role, name in self.partitions.items() if any(p == name for _, p in self._places)]

    def class_name(self, k: int) -> str:
        """What a class is called."""
        return self.class_names[k] if 0 <= k < len(self.class_names) else str(k)

    def has(self, label: str, role: str) -> bool:
        """Whether a model was run on the samples of a role."""
        return (label, self.partitions.get(role, "")) in self._places

    def outputs(self, label: str, role: str) -> PartitionOutputs:
        """What a model said about the samples of a role.

        Raises:
            StoreError: If it is not known, not in the store, or damaged.
        """
        place = self._places.get((label, self.partitions.get(role, "")))
        if label not in self.labels:
            raise StoreError(
                f"There is no model {label[:200]!r} whose outputs were kept; there are {', '.join(self.labels[:20])}."
            )
        if place is None:
            raise StoreError(f"{label} was not run on the {ROLE_NAMES.get(role, role)} samples.")
        artifact = self._models.open(place)
        found = PartitionOutputs(label, role, self.task, artifact, 0)
        return PartitionOutputs(label, role, self.task, artifact, len(found.ids))

    def pair(self, a: str, b: str, role: str) -> tuple[PartitionOutputs, PartitionOutputs]:
        """Two models on the same samples.

        Raises:
            StoreError: If one is not known, or they were run on other samples.
        """
        first, second = self.outputs(a, role), self.outputs(b, role)
        if not np.array_equal(first.ids, second.ids):
            raise StoreError(f"{a} and {b} were run on different samples.")
        return first, second
